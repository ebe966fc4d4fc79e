//! The command that alerts are handed to: found, examined, made ready to start.
//!
//! It runs as the gateway's user, never with more rights than that, and gets none of the gateway's keys: what it needs
//! is set as `CLAWKEEPER_ALERT_*`. When memory runs out it is the first that the kernel kills.
#![allow(
    clippy::disallowed_methods,
    reason = "this module looks for a program and waits for it"
)]

use super::clock;
use super::gateway_call::null;
use super::launch::{Launch, on_path};
use super::spawn::{self, Credentials, SignalSetup, Spec};
use super::validator::{Late, wait_for};
use crate::core::alert::{Alert, News};
use crate::gateway::{self, Mask};
use crate::render::{self, Whereabouts};
use crate::settings::{OnEvent, Settings};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::Signal;
use nix::sys::wait::WaitStatus;
use std::ffi::OsString;
use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the image has its poster.
pub const POSTER: &str = "/usr/local/lib/clawkeeper/post-alert.mjs";

/// From the start of the command to its SIGKILL: a Node start on a busy machine, and a service that wants to be asked again.
pub const TIMEOUT: Duration = Duration::from_secs(20);

/// What the command gets of the environment beside its own variables.
const PASSED_ON: [&str; 18] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "TMPDIR",
    "TZ",
    "LANG",
    "LC_ALL",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "NODE_EXTRA_CA_CERTS",
    "NODE_USE_ENV_PROXY",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];

/// A command that alerts can be handed to.
#[derive(Debug)]
pub struct Hook {
    program: PathBuf,
    args: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    credentials: Option<Credentials>,
    mask: Mask,
    place: Whereabouts,
}

/// Why alerts cannot go out. The gateway is none the worse for it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HookError {
    /// The setting means more than its words.
    #[error(
        "CLAWKEEPER_ON_EVENT is a command line for a shell; put it into a script and name that"
    )]
    NotWords,
    /// There is no such program.
    #[error("{} is not found; set CLAWKEEPER_ON_EVENT to a program that is, or to off", .0.display())]
    NotFound(PathBuf),
    /// Nobody may execute it.
    #[error("{} cannot be executed; chmod +x", .0.display())]
    NotExecutable(PathBuf),
    /// Variables for the poster are set where there is none.
    #[error("CLAWKEEPER_ALERT_… is set, but there is no {POSTER} here; set CLAWKEEPER_ON_EVENT")]
    NoPoster,
}

impl Hook {
    /// The command that the settings name; `None` when nobody is to be told.
    pub fn find(settings: &Settings, launch: &Launch) -> Result<Option<Self>, HookError> {
        let words = match &settings.on_event {
            OnEvent::Off => return Ok(None),
            OnEvent::Auto if launch.alert_variables.is_empty() => return Ok(None),
            OnEvent::Auto if !Path::new(POSTER).is_file() => return Err(HookError::NoPoster),
            OnEvent::Auto => vec!["node".into(), POSTER.into()],
            OnEvent::Command(line) => gateway::words(line).ok_or(HookError::NotWords)?,
        };
        let mut words = words.into_iter();
        let name = words.next().ok_or(HookError::NotWords)?;
        let mut environment = launch.environment.clone();
        environment.retain(|(name, _)| PASSED_ON.iter().any(|known| name == known));
        let program = on_path(&name, &environment)
            .filter(|path| path.is_file())
            .ok_or_else(|| HookError::NotFound(name.into()))?;
        let mode = program.metadata().map_or(0, |it| it.permissions().mode());
        if mode & 0o111 == 0 {
            return Err(HookError::NotExecutable(program));
        }
        environment.extend(launch.alert_variables.iter().cloned());
        let secrets = launch.alert_variables.iter();
        let secrets = secrets.filter_map(|(_, value)| Some(value.to_str()?.to_owned()));
        Ok(Some(Self {
            program,
            args: words.collect(),
            environment,
            credentials: launch.account.credentials(),
            mask: Mask::of(secrets),
            place: whereabouts(launch),
        }))
    }

    /// What it is called, for people.
    #[must_use]
    pub fn name(&self) -> String {
        let args = self.args.iter().map(|it| it.to_string_lossy().into_owned());
        let program = self.program.display().to_string();
        let words: Vec<_> = std::iter::once(program).chain(args).collect();
        // Somebody may have put a URL with a token into it.
        self.mask.line(&words.join(" "))
    }

    /// What it says of itself, without what must not be seen.
    #[must_use]
    pub fn masked(&self, line: &str) -> String {
        self.mask.line(line)
    }

    /// What to start for an alert; its errors go where they are wanted, or where ours go.
    pub fn spec(&self, alert: &Alert, stderr: Option<OwnedFd>) -> Result<Spec, String> {
        // A file in memory: whoever does not read it holds up nobody, and it needs no room in a pipe.
        let failed =
            |error: std::io::Error| format!("failed to write the alert into memory: {error}");
        let mut stdin = memfd_create(c"alert", MFdFlags::MFD_CLOEXEC)
            .map(File::from)
            .map_err(|errno| failed(errno.into()))?;
        let mut text = render::alert(alert, &self.place);
        text.push('\n');
        stdin
            .write_all(text.as_bytes())
            .and_then(|()| stdin.rewind())
            .map_err(failed)?;
        Ok(Spec {
            program: self.program.clone().into_os_string(),
            args: self.args.clone(),
            env: Some(self.environment.clone()),
            cwd: None,
            stdin: Some(stdin.into()),
            stdout: Some(null()?),
            stderr,
            process_group: true,
            foreground: None,
            credentials: self.credentials.clone(),
            parent_death_signal: Some(Signal::SIGKILL),
            no_new_privs: true,
            oom_score_adj: Some(1000),
            signals: SignalSetup::Default,
        })
    }

    /// Hands it a test and waits for its end, for a command that has nothing else to do. `Err` says what went wrong.
    pub fn test(&self) -> Result<(), String> {
        let alert = Alert {
            at: clock::wall(),
            news: News::Test,
            quiet_until: None,
        };
        let pid = spawn::spawn(self.spec(&alert, None)?)
            .map_err(|error| super::config_file::chain(&error))?;
        match wait_for(pid, TIMEOUT) {
            Ok(Some(WaitStatus::Exited(_, 0)) | None) => Ok(()),
            Ok(Some(WaitStatus::Exited(_, code))) => Err(format!("it ended with {code}")),
            Ok(Some(WaitStatus::Signaled(_, signal, _))) => Err(format!("{signal} ended it")),
            Ok(Some(other)) => Err(format!("it ended as {other:?}")),
            Err(Late) => Err(too_late()),
        }
    }
}

/// It had its time.
#[must_use]
pub fn too_late() -> String {
    format!(
        "it did not end within {} s and was killed",
        TIMEOUT.as_secs()
    )
}

fn whereabouts(launch: &Launch) -> Whereabouts {
    let fly = |name| {
        let value = launch.value_of(name)?.into_string().ok()?;
        (!value.is_empty()).then_some(value)
    };
    let host = nix::unistd::gethostname().unwrap_or_default();
    Whereabouts {
        host: host.to_string_lossy().into_owned(),
        app: fly("FLY_APP_NAME"),
        machine: fly("FLY_MACHINE_ID"),
        region: fly("FLY_REGION"),
        gateway: launch.version.map(|version| version.to_string()),
    }
}
