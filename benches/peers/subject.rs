//! Who is compared, and how each is told to keep one child.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::bed::Bed;
use crate::clawkeeper;
use crate::options::Measure;

/// A supervisor, or none at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    /// The child itself as PID 1: the floor.
    Bare,
    Tini,
    DumbInit,
    S6,
    Supervisord,
    /// clawkeeper as a plain init.
    ClawkeeperInit,
    /// clawkeeper in gateway mode with its whole preflight, state folder on tmpfs.
    Clawkeeper,
    /// The same with its state folder on a disk, which shows what its fsync costs.
    ClawkeeperDisk,
}

impl Subject {
    pub(crate) const ALL: [Self; 8] = [
        Self::Bare,
        Self::Tini,
        Self::DumbInit,
        Self::S6,
        Self::Supervisord,
        Self::ClawkeeperInit,
        Self::Clawkeeper,
        Self::ClawkeeperDisk,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Tini => "tini",
            Self::DumbInit => "dumb-init",
            Self::S6 => "s6",
            Self::Supervisord => "supervisord",
            Self::ClawkeeperInit => "clawkeeper-init",
            Self::Clawkeeper => "clawkeeper",
            Self::ClawkeeperDisk => "clawkeeper-disk",
        }
    }

    /// True means that it is ours, so that it gets no ratio of its own.
    pub(crate) const fn is_clawkeeper(self) -> bool {
        matches!(
            self,
            Self::ClawkeeperInit | Self::Clawkeeper | Self::ClawkeeperDisk
        )
    }

    /// True means that the measure asks something of it that it does.
    pub(crate) const fn takes_part_in(self, measure: Measure) -> bool {
        match measure {
            Measure::Start => true,
            // The plain inits end with their child.
            Measure::Respawn => matches!(self, Self::S6 | Self::Supervisord | Self::Clawkeeper),
            // The others do not say what killed their child.
            Measure::Oom => matches!(self, Self::Clawkeeper),
            Measure::Stop | Measure::Output => !matches!(self, Self::ClawkeeperDisk),
            Measure::Idle | Measure::Orphans => !matches!(self, Self::Bare | Self::ClawkeeperDisk),
        }
    }

    /// Why it cannot be measured here, and what to do about it.
    pub(crate) fn missing(self, bed: &Bed) -> Option<String> {
        let (program, package) = match self {
            Self::Bare => return None,
            Self::Tini => ("tini", "tini"),
            Self::DumbInit => ("dumb-init", "dumb-init"),
            Self::S6 => ("s6-svscan", "s6"),
            Self::Supervisord => ("supervisord", "supervisor"),
            Self::ClawkeeperInit | Self::Clawkeeper | Self::ClawkeeperDisk => {
                return clawkeeper::missing(self, bed);
            }
        };
        match find(program) {
            Some(_) => None,
            None => Some(format!("no {program} in PATH: apt install {package}")),
        }
    }

    /// The command line that starts `child` under this supervisor; writes its files into `folder`.
    pub(crate) fn command(
        self,
        bed: &Bed,
        folder: &Path,
        child: Vec<OsString>,
        logged: bool,
    ) -> io::Result<Vec<OsString>> {
        let mut argv: Vec<OsString> = match self {
            Self::Bare => vec![],
            Self::Tini => vec![program("tini")?, "--".into()],
            Self::DumbInit => vec![program("dumb-init")?, "--".into()],
            Self::S6 => return s6(folder, &child, logged),
            Self::Supervisord => return supervisord(folder, &child),
            Self::ClawkeeperInit | Self::Clawkeeper | Self::ClawkeeperDisk => {
                clawkeeper::command(self, bed)
            }
        };
        argv.extend(child);
        Ok(argv)
    }
}

/// A scan folder with one service, and a logger beside it where output is to pass through s6.
fn s6(folder: &Path, child: &[OsString], logged: bool) -> io::Result<Vec<OsString>> {
    let scan = folder.join("scan");
    let run = format!("#!/bin/sh\nexec {}\n", shell_words(child));
    script(&scan.join("child/run"), &run)?;
    if logged {
        script(&scan.join("child/log/run"), "#!/bin/sh\nexec s6-log 1\n")?;
    }
    Ok(vec![program("s6-svscan")?, scan.into()])
}

fn supervisord(folder: &Path, child: &[OsString]) -> io::Result<Vec<OsString>> {
    let config = folder.join("supervisord.conf");
    let command = shell_words(child).replace('%', "%%");
    let pidfile = folder.join("supervisord.pid");
    // `silent`, because in the foreground it would mix its own log into the child's output.
    let text = format!(
        "[supervisord]\nnodaemon=true\nsilent=true\nuser=root\nlogfile=/dev/null\n\
         logfile_maxbytes=0\npidfile={}\n\n\
         [program:child]\ncommand={command}\nautorestart=true\nstartretries=1000000\n\
         startsecs=0\nstdout_logfile=/dev/fd/1\nstdout_logfile_maxbytes=0\n\
         stderr_logfile=/dev/fd/2\nstderr_logfile_maxbytes=0\n",
        pidfile.display(),
    );
    fs::write(&config, text)?;
    Ok(vec![
        program("supervisord")?,
        "-c".into(),
        config.into_os_string(),
    ])
}

fn script(path: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

fn shell_words(words: &[OsString]) -> String {
    let quoted = |word: &OsString| format!("'{}'", word.to_string_lossy().replace('\'', r"'\''"));
    let words: Vec<String> = words.iter().map(quoted).collect();
    words.join(" ")
}

fn program(name: &str) -> io::Result<OsString> {
    find(name)
        .map(PathBuf::into_os_string)
        .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
}

fn find(name: impl AsRef<OsStr>) -> Option<PathBuf> {
    let name = Path::new(name.as_ref());
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}
