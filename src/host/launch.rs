//! What is going to be started: command, version, environment, folders, user. Found out once, at the beginning.
#![allow(
    clippy::disallowed_methods,
    reason = "this module reads package.json and the user database"
)]

mod in_time;

use super::folder::FileOwner;
use super::spawn::Credentials;
use crate::gateway::{self, Bind, Env, GatewayCommand, PathFacts, Version};
use crate::settings::{ALERT_PREFIX, MARK, PREFIX, Settings, User};
use nix::unistd::{Gid, Uid};
use std::ffi::{OsStr, OsString};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// A `package.json` larger than this is not one.
const PACKAGE_MAX_BYTES: usize = 1 << 20;

/// Everything a start of the gateway needs, and everything that follows from it.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The command line as it will be executed.
    pub argv: Vec<OsString>,
    /// The same, taken apart.
    pub command: GatewayCommand,
    /// From the package beside the entry file; `None` when there is none to be found.
    pub version: Option<Version>,
    /// The whole environment of the gateway, without the mark of an attempt.
    pub environment: Vec<(OsString, OsString)>,
    /// What is set for the command that alerts are handed to, and is none of the gateway's business.
    pub alert_variables: Vec<(OsString, OsString)>,
    /// Where the gateway keeps its state.
    pub state_dir: PathBuf,
    /// Where it looks for its config.
    pub config_path: PathBuf,
    /// Its `$TMPDIR`.
    pub temp_dir: PathBuf,
    /// Whom it runs as.
    pub account: Account,
    /// What the gateway takes for being in a container.
    pub in_container: bool,
}

/// The user the gateway runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Numeric user.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// True when clawkeeper is root and the gateway is not: ids are changed at its start.
    pub is_switch: bool,
    home: Option<PathBuf>,
    name: Option<String>,
    groups: Vec<u32>,
}

/// Why the launch cannot be prepared.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LaunchError {
    /// The user of the settings does not exist.
    #[error("user {0:?} is not in /etc/passwd; set --user to one that is, or to UID:GID")]
    NoSuchUser(String),
    /// Only root may run the gateway as somebody else.
    #[error(
        "only root can run the gateway as another user; drop --user or start clawkeeper as root"
    )]
    NotRoot,
}

impl Launch {
    /// Works out what a command means in this environment. Looks at the volume, which may hang.
    pub fn prepare(
        argv: Vec<OsString>,
        command: GatewayCommand,
        environment: Vec<(OsString, OsString)>,
        settings: &Settings,
    ) -> Result<Self, LaunchError> {
        Self::prepare_by(Volume::Answers, argv, command, environment, settings)
    }

    fn prepare_by(
        volume: Volume,
        argv: Vec<OsString>,
        command: GatewayCommand,
        environment: Vec<(OsString, OsString)>,
        settings: &Settings,
    ) -> Result<Self, LaunchError> {
        let version = find_version(&argv, &command, &environment);
        let working_dir = std::env::current_dir().unwrap_or_else(|_| "/".into());
        let is_for_alerts = |name: &OsStr| {
            name.to_str()
                .is_some_and(|name| name.starts_with(ALERT_PREFIX))
        };
        // What is left empty counts as not set, as Docker and Fly pass variables on.
        let for_alerts = environment
            .iter()
            .filter(|(name, value)| is_for_alerts(name) && !value.is_empty());
        let alert_variables = for_alerts.cloned().collect();
        let mut environment = child_environment(environment, version);
        let (state_dir, _) = paths(volume, &environment, &command, &working_dir);
        let account = Account::choose(&settings.user, || volume.owner(&state_dir))?;
        account.adjust(&mut environment);
        // HOME may have changed with the account, and the state folder with it.
        let (state_dir, config_path) = paths(volume, &environment, &command, &working_dir);
        let temp_dir = value_of(&environment, "TMPDIR").filter(|dir| !dir.is_empty());
        Ok(Self {
            argv,
            version,
            state_dir,
            config_path,
            temp_dir: temp_dir.map_or_else(|| "/tmp".into(), PathBuf::from),
            in_container: looks_like_container(&environment),
            environment,
            alert_variables,
            account,
            command,
        })
    }

    /// The gateway's environment by name.
    pub fn value_of(&self, name: &str) -> Option<OsString> {
        value_of(&self.environment, name)
    }

    /// True on a Fly machine.
    #[must_use]
    pub fn is_on_fly(&self) -> bool {
        self.value_of("FLY_APP_NAME")
            .is_some_and(|name| !name.is_empty())
    }

    /// Runs a question that needs the gateway's own view of its environment.
    pub fn with<T>(
        &self,
        config: Option<&serde_json::Value>,
        ask: impl FnOnce(gateway::Launch<'_>) -> T,
    ) -> T {
        let lookup = |name: &str| self.value_of(name);
        ask(gateway::Launch {
            command: &self.command,
            env: Env::new(&lookup),
            config,
            version: self.version,
        })
    }

    /// The port the gateway will listen on.
    #[must_use]
    pub fn port(&self, config: Option<&serde_json::Value>) -> u16 {
        self.with(config, |launch| gateway::effective_port(launch).0)
    }

    /// Where it will listen, as far as that is one address: `0.0.0.0` where it may be any.
    #[must_use]
    pub fn listen_address(&self, config: Option<&serde_json::Value>) -> SocketAddr {
        let any = IpAddr::from(Ipv4Addr::UNSPECIFIED);
        let ip = match self.with(config, |launch| gateway::effective_bind(launch).0) {
            Bind::Loopback => Ipv4Addr::LOCALHOST.into(),
            Bind::Custom(Some(host)) => host.parse().unwrap_or(any),
            Bind::Lan | Bind::Auto | Bind::Tailnet | Bind::Custom(None) | Bind::Invalid(_) => any,
        };
        SocketAddr::new(ip, self.port(config))
    }

    /// True when only the config can say where the gateway listens.
    #[must_use]
    pub fn needs_config_for_address(&self) -> bool {
        !matches!(self.command.port, Some(Ok(_)))
            || self
                .command
                .bind
                .as_deref()
                .is_none_or(|bind| bind == "custom")
    }

    /// The address to probe: loopback, unless the gateway binds to one address only.
    #[must_use]
    pub fn probe_address(&self, config: Option<&serde_json::Value>) -> IpAddr {
        let loopback = IpAddr::from(Ipv4Addr::LOCALHOST);
        match self.with(config, |launch| gateway::effective_bind(launch).0) {
            Bind::Custom(Some(host)) => host
                .parse()
                .ok()
                .filter(|ip: &IpAddr| !ip.is_unspecified())
                .unwrap_or(loopback),
            Bind::Loopback
            | Bind::Lan
            | Bind::Auto
            | Bind::Tailnet
            | Bind::Custom(None)
            | Bind::Invalid(_) => loopback,
        }
    }
}

impl Account {
    /// Whom a command that is no gateway runs as: who we are, unless somebody is named.
    pub fn named(user: &User) -> Result<Option<Self>, LaunchError> {
        match user {
            User::Auto => Ok(None),
            // Only `auto` asks who owns the state folder.
            User::Name(_) | User::Ids { .. } => Self::choose(user, || None).map(Some),
        }
    }

    fn choose(
        user: &User,
        owner: impl FnOnce() -> Option<(u32, u32)>,
    ) -> Result<Self, LaunchError> {
        let (uid, gid) = (Uid::effective(), Gid::effective());
        let own = || Self::of(uid.as_raw(), gid.as_raw(), false);
        let chosen = match user {
            User::Auto if !uid.is_root() => own(),
            User::Auto => match owner() {
                Some((uid, gid)) if uid != 0 => Self::of(uid, gid, true),
                Some(_) | None => by_name("node").unwrap_or_else(own),
            },
            User::Name(name) => {
                by_name(name).ok_or_else(|| LaunchError::NoSuchUser(name.clone()))?
            }
            User::Ids { uid, gid } => {
                let known = entry(|fields| fields.uid == *uid);
                let gid = gid.or(known.map(|entry| entry.gid)).unwrap_or(*uid);
                Self::of(*uid, gid, true)
            }
        };
        if uid.is_root() {
            return Ok(Self {
                is_switch: chosen.uid != 0,
                ..chosen
            });
        }
        if chosen.uid == uid.as_raw() {
            Ok(Self {
                is_switch: false,
                ..chosen
            })
        } else {
            Err(LaunchError::NotRoot)
        }
    }

    fn of(uid: u32, gid: u32, is_switch: bool) -> Self {
        let known = entry(|fields| fields.uid == uid);
        let groups = known
            .as_ref()
            .map_or_else(|| vec![gid], |known| groups_of(&known.name, gid));
        Self {
            uid,
            gid,
            is_switch,
            home: known.as_ref().map(|known| known.home.clone()),
            name: known.map(|known| known.name),
            groups,
        }
    }

    /// A gateway that is not root must not keep root's HOME: it could not write there.
    pub(super) fn adjust(&self, environment: &mut Vec<(OsString, OsString)>) {
        if !self.is_switch {
            return;
        }
        let mut set = |name: &str, value: &OsStr| {
            environment.retain(|(known, _)| known != name);
            environment.push((name.into(), value.to_owned()));
        };
        set(
            "HOME",
            self.home
                .as_deref()
                .unwrap_or_else(|| Path::new("/"))
                .as_os_str(),
        );
        if let Some(name) = &self.name {
            set("USER", OsStr::new(name));
            set("LOGNAME", OsStr::new(name));
        }
    }

    /// For `spawn`, when ids are to be changed.
    #[must_use]
    pub fn credentials(&self) -> Option<Credentials> {
        self.is_switch.then(|| Credentials {
            uid: self.uid.into(),
            gid: self.gid.into(),
            groups: self.groups.iter().map(|gid| Gid::from_raw(*gid)).collect(),
        })
    }

    /// For files that are written for the gateway.
    #[must_use]
    pub fn file_owner(&self) -> Option<FileOwner> {
        self.is_switch.then_some(FileOwner {
            uid: self.uid,
            gid: self.gid,
        })
    }
}

struct PasswdEntry {
    name: String,
    uid: u32,
    gid: u32,
    home: PathBuf,
}

/// passwd(5) read directly: a static binary must not load name service modules.
fn entry(wanted: impl Fn(&PasswdEntry) -> bool) -> Option<PasswdEntry> {
    static PASSWD: OnceLock<String> = OnceLock::new();
    let text = PASSWD.get_or_init(|| std::fs::read_to_string("/etc/passwd").unwrap_or_default());
    text.lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            Some(PasswdEntry {
                name: (*fields.first()?).to_owned(),
                uid: fields.get(2)?.parse().ok()?,
                gid: fields.get(3)?.parse().ok()?,
                home: fields.get(5)?.into(),
            })
        })
        .find(wanted)
}

fn by_name(name: &str) -> Option<Account> {
    let known = entry(|fields| fields.name == name)?;
    Some(Account::of(known.uid, known.gid, true))
}

fn groups_of(name: &str, gid: u32) -> Vec<u32> {
    let text = std::fs::read_to_string("/etc/group").unwrap_or_default();
    let member_of = text.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let is_member = fields.get(3)?.split(',').any(|member| member == name);
        is_member.then(|| fields.get(2)?.parse().ok())?
    });
    std::iter::once(gid)
        .chain(member_of.filter(|group| *group != gid))
        .collect()
}

fn value_of(environment: &[(OsString, OsString)], name: &str) -> Option<OsString> {
    environment
        .iter()
        .find(|(known, _)| known == name)
        .map(|(_, value)| value.clone())
}

/// Ours, less clawkeeper's own settings, plus what the version needs; the user's own choice stays.
fn child_environment(
    environment: Vec<(OsString, OsString)>,
    version: Option<Version>,
) -> Vec<(OsString, OsString)> {
    let is_ours = |name: &OsStr| {
        name.to_str()
            .is_some_and(|name| name.starts_with(PREFIX) || name == MARK)
    };
    let mut child: Vec<_> = environment
        .into_iter()
        .filter(|(name, _)| !is_ours(name))
        .collect();
    for (name, value) in gateway::child_environment(version) {
        if value_of(&child, name).is_none() {
            child.push((name.into(), value.into()));
        }
    }
    child
}

/// What is asked of the volume before anything else is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Volume {
    Answers,
    /// It is asked nothing: the state folder is nobody's, and no file is there.
    Silent,
}

impl Volume {
    /// Uid and gid of the state folder, when it is there.
    fn owner(self, state_dir: &Path) -> Option<(u32, u32)> {
        let metadata = (self == Self::Answers).then(|| std::fs::metadata(state_dir).ok())??;
        Some((metadata.uid(), metadata.gid()))
    }

    fn holds(self, path: &Path) -> bool {
        self == Self::Answers && path.symlink_metadata().is_ok()
    }
}

fn paths(
    volume: Volume,
    environment: &[(OsString, OsString)],
    command: &GatewayCommand,
    working_dir: &Path,
) -> (PathBuf, PathBuf) {
    let lookup = |name: &str| value_of(environment, name);
    let account_home =
        entry(|fields| fields.uid == Uid::effective().as_raw()).map(|known| known.home);
    let facts = PathFacts {
        env: Env::new(&lookup),
        profile: command.profile.as_deref(),
        working_dir,
        account_home: account_home.as_deref(),
        exists: &|path| volume.holds(path),
    };
    (gateway::state_dir(facts), gateway::config_path(facts))
}

/// The state folder another process works on, from its environment and working folder.
#[must_use]
pub fn state_dir_of(
    environment: &[(OsString, OsString)],
    command: &GatewayCommand,
    working_dir: &Path,
) -> PathBuf {
    paths(Volume::Answers, environment, command, working_dir).0
}

/// The gateway's own test: both of Fly's variables, Docker's marker file, or a container's cgroup.
fn looks_like_container(environment: &[(OsString, OsString)]) -> bool {
    let is_set = |name| value_of(environment, name).is_some_and(|value| !value.is_empty());
    if is_set("FLY_MACHINE_ID") && is_set("FLY_APP_NAME") {
        return true;
    }
    ["/.dockerenv", "/run/.containerenv"]
        .iter()
        .any(|path| Path::new(path).exists())
}

/// Looks for `package.json` beside the entry file, and up to two folders above it.
fn find_version(
    argv: &[OsString],
    command: &GatewayCommand,
    environment: &[(OsString, OsString)],
) -> Option<Version> {
    let entry = match &command.entry {
        Some(entry) => entry.clone(),
        None => on_path(argv.first()?, environment)?,
    };
    let entry = entry.canonicalize().ok()?;
    entry.ancestors().skip(1).take(3).find_map(|folder| {
        let folder = super::folder::Folder::open(folder).ok()?;
        let bytes = folder
            .read(OsStr::new("package.json"), PACKAGE_MAX_BYTES)
            .ok()?;
        Version::from_package_json(&bytes).ok()
    })
}

/// The first file of this name in the folders of PATH; a name with a slash is itself.
pub(super) fn on_path(program: &OsStr, environment: &[(OsString, OsString)]) -> Option<PathBuf> {
    if Path::new(program).components().count() > 1 {
        return Some(program.into());
    }
    let path = value_of(environment, "PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
}
