//! What is wrong, and what to do about it, in one sentence each.

use crate::core::action::{ConfigProblem, HoldWhy, Stage};
use crate::core::event::SpawnFault;
use crate::core::exit_class::Refusal;
use crate::core::locks::{LockVerdict, StaleWhy, UnknownWhy};
use crate::core::volume::{VolumeProblem, VolumeWarning};
use nix::errno::Errno;
use nix::libc;

/// Why no gateway is being started: what is wrong, and the fix.
#[must_use]
pub fn hold_why(why: &HoldWhy) -> (String, String) {
    match why {
        HoldWhy::Volume(problem) => volume_problem(problem),
        HoldWhy::InstanceLock(error) => (
            format!("the lock on the state folder cannot be had: {error}"),
            "check that the volume's file system supports flock(2)".to_owned(),
        ),
        HoldWhy::LiveGateway {
            pid,
            ppid,
            parent_name,
        } => (
            format!(
                "another gateway runs on this state folder: pid {pid}, started by {parent_name} (pid {ppid})"
            ),
            format!("stop it where it was started, or: kill {pid}"),
        ),
        HoldWhy::PortTaken { port, holder } => {
            let whom = match holder {
                Some((pid, name)) => format!("{name} (pid {pid})"),
                None => "a process that cannot be seen from here".to_owned(),
            };
            let fix = match holder {
                Some((pid, _)) => {
                    format!("stop it (kill {pid}), or give the gateway another --port")
                }
                None => NAMED_BY_CHECK.to_owned(),
            };
            (format!("port {port} is held by {whom}"), fix)
        }
        HoldWhy::LeftoversSurvive(pids) => (
            format!(
                "processes of an earlier gateway do not even end by SIGKILL: pids {}",
                list(pids)
            ),
            "they hang in the kernel, most likely on the disk: restart the machine".to_owned(),
        ),
        HoldWhy::LeftoversReturn { name } => (
            format!("{name}, of an earlier gateway, is there again each time it is ended: somebody starts it"),
            "find who does (another supervisor, a cron job, a shell's loop) and end that".to_owned(),
        ),
        HoldWhy::Lock {
            path,
            verdict: LockVerdict::Unknown(UnknownWhy::Young),
        } => (
            format!(
                "the lock {} is empty and young: its writer may still be writing",
                path.display()
            ),
            "nothing to do: it is judged again within 30 s, and the gateway starts by itself"
                .to_owned(),
        ),
        HoldWhy::Lock { path, verdict } => (
            format!("the lock {} is {}", path.display(), lock_verdict(verdict)),
            "stop the gateway that owns it; if there is none, see: clawkeeper locks".to_owned(),
        ),
        // It names the file itself, with line and column.
        HoldWhy::Config {
            problem: problem @ ConfigProblem::Broken(_),
            ..
        } => {
            let (what, fix) = config_problem(problem);
            (what, format!("{fix}; the gateway then starts by itself"))
        }
        HoldWhy::Config { path, problem } => {
            let (what, fix) = config_problem(problem);
            (format!("config {}: {what}", path.display()), fix)
        }
        HoldWhy::Refused(refusal) => refused(*refusal),
        HoldWhy::CannotStart(failure) => (
            failure.error.clone(),
            match failure.fault {
                SpawnFault::Command => {
                    "correct the command ([processes] in fly.toml, CMD in the Dockerfile)"
                }
                SpawnFault::Resources => {
                    "nothing to do if it passes; else raise what ran out: processes (--pids-limit, ulimit -u), memory or open files (ulimit -n)"
                }
                SpawnFault::Privileges => {
                    "start the container as the gateway's own user (--user 1000:1000), or leave it CAP_SETUID and CAP_SETGID"
                }
            }
            .to_owned(),
        ),
        HoldWhy::StageStuck(stage) => (
            format!(
                "no answer while {}: the disk or the kernel hangs",
                stage_words(*stage)
            ),
            "restart the machine; if it happens again, the volume is failing: restore a backup or a snapshot"
                .to_owned(),
        ),
    }
}

fn volume_problem(problem: &VolumeProblem) -> (String, String) {
    let (what, fix) = match problem {
        VolumeProblem::NotAMount => (
            "the state folder is not on a volume: state would be lost".to_owned(),
            NOT_A_MOUNT_FIX,
        ),
        VolumeProblem::ReadOnly => (
            "the volume is read-only".to_owned(),
            "mount it read-write; if it became so by itself, the disk reported an error: see dmesg, restart the machine, restore a snapshot",
        ),
        VolumeProblem::Full => ("the volume is full".to_owned(), ROOM_FIX),
        VolumeProblem::OutOfInodes => (
            "the volume has no inode left: too many files".to_owned(),
            ROOM_FIX,
        ),
        VolumeProblem::Hung { after } => (
            format!("the volume gave no answer to a write within {after}"),
            "restart the machine; if it happens again, restore a snapshot to a new volume",
        ),
        VolumeProblem::NotWritable => (
            "the gateway's user may not write to the state folder".to_owned(),
            "start the container as root with its usual capabilities once, or chown the state folder to the gateway's user; a container without capabilities is started as that user (--user UID:GID)",
        ),
        VolumeProblem::BehindLink => (
            "the path of the state folder goes through a symbolic link to a folder that is not the link's owner's: root does not follow it".to_owned(),
            "put the folder itself there; or give that folder to the gateway's user, or the link to root (chown -h)",
        ),
        VolumeProblem::Broken { operation, errno } => (
            format!(
                "the volume failed to {operation}: {}",
                Errno::from_raw(*errno).desc()
            ),
            disk_fix(*errno),
        ),
    };
    (what, fix.to_owned())
}

/// What helps when a call on the state folder fails, by the number it failed with.
const fn disk_fix(errno: i32) -> &'static str {
    match errno {
        libc::EMFILE | libc::ENFILE => {
            "too many files are open: raise the limit (ulimit -n, docker run --ulimit nofile=65536)"
        }
        libc::ENOTDIR | libc::ENAMETOOLONG => {
            "OPENCLAW_STATE_DIR names no folder: correct it, or what stands in its place"
        }
        libc::EINVAL | libc::ENOSYS | libc::EOPNOTSUPP => {
            "its file system cannot do that: put the state folder on another, such as ext4"
        }
        libc::ENOMEM => "give it more memory",
        _ => {
            "the disk is failing: restore a snapshot or a backup to a new volume (on Fly: fly volumes snapshots list <volume-id>)"
        }
    }
}

const NOT_A_MOUNT_FIX: &str = "mount a volume there ([mounts] destination in fly.toml, docker run -v), or set OPENCLAW_STATE_DIR to one";

/// What a person does with a config that cannot be used.
pub(super) const CONFIG_FIX: &str = "correct it (clawkeeper config edit) or go back to the last good one (clawkeeper config rollback)";

/// What finds the holder of a port that clawkeeper did not see.
const NAMED_BY_CHECK: &str = "clawkeeper check, run as root, names it if it runs in here; else find it on the host (ss -ltnp); or give the gateway another --port";

const ROOM_FIX: &str = "delete old files under the state folder, or make the volume larger (on Fly: fly volumes extend <volume-id> --size <GB>)";

/// Worth a line, no reason to hold.
#[must_use]
pub fn volume_warning(warning: &VolumeWarning) -> (String, &'static str) {
    match warning {
        VolumeWarning::NotAMount => (
            "the state folder is not on a volume: STATE WILL BE LOST at the next restart"
                .to_owned(),
            NOT_A_MOUNT_FIX,
        ),
        VolumeWarning::InMemory => (
            "the state folder is in memory (tmpfs): STATE WILL BE LOST at the next restart"
                .to_owned(),
            NOT_A_MOUNT_FIX,
        ),
        VolumeWarning::LowSpace { free_bytes } => (
            format!("the volume is almost full: {} MB left", free_bytes >> 20),
            ROOM_FIX,
        ),
        VolumeWarning::LowInodes { free } => (
            format!("the volume is almost out of inodes: {free} left"),
            ROOM_FIX,
        ),
    }
}

/// What is wrong with the config, and the fix.
#[must_use]
pub fn config_problem(problem: &ConfigProblem) -> (String, String) {
    let (what, fix) = match problem {
        ConfigProblem::Missing => (
            "there is none".to_owned(),
            "create it, or let clawkeeper seed one: unset CLAWKEEPER_CONFIG_SEED",
        ),
        ConfigProblem::SeedFailed(error) => (
            format!("no first config could be written: {error}"),
            "mend what it names: room or rights in that folder, or the seed in CLAWKEEPER_CONFIG_SEED",
        ),
        ConfigProblem::NotAFile(what) => (
            format!("it is {what}, not a file"),
            "move it away and put a regular file there",
        ),
        ConfigProblem::Unreadable { errno } => (
            format!("it cannot be read: {}", Errno::from_raw(*errno).desc()),
            "chown it to the gateway's user, chmod 600",
        ),
        ConfigProblem::Broken(error) => (error.clone(), CONFIG_FIX),
        ConfigProblem::Findings(findings) => {
            let what: Vec<_> = findings
                .iter()
                .map(|finding| finding.message.as_str())
                .collect();
            let fix: Vec<_> = findings
                .iter()
                .map(|finding| finding.fix.as_str())
                .collect();
            return (what.join("; "), fix.join("; "));
        }
    };
    (what, fix.to_owned())
}

fn refused(refusal: Refusal) -> (String, String) {
    let (what, fix) = match refusal {
        Refusal::MissingConfig => (
            "it has no config",
            "create one, or unset CLAWKEEPER_CONFIG_SEED to have one seeded",
        ),
        Refusal::MissingMode => (
            "its config has no gateway.mode",
            "set gateway.mode to \"local\"",
        ),
        Refusal::UnknownKey => (
            "its config has a key this version does not know",
            "remove the key its output names; to see all: clawkeeper config validate",
        ),
        Refusal::InvalidConfig => (
            "its config is invalid",
            "correct what its output names; to see all: clawkeeper config validate",
        ),
        Refusal::InvalidFlag => (
            "its command line is wrong",
            "correct the flag its output names in the command ([processes] in fly.toml, CMD in the Dockerfile)",
        ),
        Refusal::NoAuthForBind => (
            "it would listen to the network without the secret that its auth mode asks for",
            "set OPENCLAW_GATEWAY_TOKEN in its environment (on Fly: fly secrets set OPENCLAW_GATEWAY_TOKEN=$(openssl rand -hex 32)); OPENCLAW_GATEWAY_PASSWORD where gateway.auth.mode is password; a mode of none is never let out",
        ),
        Refusal::NoAllowedOrigins => (
            "it demands gateway.controlUi.allowedOrigins",
            "set it in the config to where the Control UI is opened, such as [\"https://<app>.fly.dev\"]",
        ),
        Refusal::AnotherOwner => (
            "it says that another gateway owns the state folder",
            "see: clawkeeper locks",
        ),
        Refusal::OwnerLease => (
            "the lease of a gateway that was killed has not run out",
            "wait: it ends within five minutes. It is taken over at once where the host name stays the same (docker run --hostname, hostname: in compose)",
        ),
        Refusal::AlreadyRunning => (
            "it says that a gateway is already running",
            "see: clawkeeper locks",
        ),
        Refusal::PortInUse => ("something listens on its port", NAMED_BY_CHECK),
        Refusal::CorruptDatabase => (
            "its database is damaged",
            "restore state/openclaw.sqlite from a backup or the volume from a snapshot",
        ),
        Refusal::PermissionDenied => (
            "it may not use a file in the state folder",
            "chown -R the state folder to the gateway's user; clawkeeper does so itself when it is root",
        ),
        Refusal::DiskFull => ("the volume is full", ROOM_FIX),
        Refusal::ReadOnly => ("the volume is read-only", "see dmesg; restart the machine"),
        Refusal::StartupMigrations => (
            "its start-up migrations did not complete",
            "most often a lock: see clawkeeper locks; else run: openclaw doctor",
        ),
        Refusal::PluginVerification => (
            "the plugin of a channel could not be fetched from npm",
            "it is tried again; if it stays so, install the plugin in the image or disable the channel",
        ),
        Refusal::Unexplained => {
            return (
                "the gateway refuses to start and gives no reason that clawkeeper knows".to_owned(),
                "read its last lines: clawkeeper logs -n 50; correct what they name".to_owned(),
            );
        }
    };
    (
        format!("the gateway refuses to start: {what}"),
        fix.to_owned(),
    )
}

/// A lock's verdict, to follow "the lock … is".
#[must_use]
pub fn lock_verdict(verdict: &LockVerdict) -> String {
    match verdict {
        LockVerdict::Stale(why) => format!("stale: {}", stale_why(*why)),
        LockVerdict::Live { pid } => format!("live: pid {pid} is a running gateway"),
        LockVerdict::Unknown(why) => format!("not to be judged: {}", unknown_why(*why)),
    }
}

/// The proof that a lock is a leftover.
#[must_use]
pub const fn stale_why(why: StaleWhy) -> &'static str {
    match why {
        StaleWhy::OwnerDead => "no process has the pid it names",
        StaleWhy::PidReused => "its pid belongs to a process that started at another time",
        StaleWhy::OwnerIsNoGateway => "its pid belongs to a process that is no gateway",
        StaleWhy::OwnerIsUs => "its pid is now clawkeeper's own",
        StaleWhy::BeforeThisBoot => "it names nobody and is from before this boot",
        StaleWhy::NamesNobody => "it names nobody, is old, and no gateway runs",
        StaleWhy::WriterGone => "it names nobody, and its writer ended while writing it",
    }
}

const fn unknown_why(why: UnknownWhy) -> &'static str {
    match why {
        UnknownWhy::Young => "it is empty and so young that its writer may still be writing",
        UnknownWhy::OwnerHidden => "it belongs to a live process of which too little can be seen",
        UnknownWhy::KernelLockHeld => {
            "the kernel says somebody holds its database, perhaps in another container"
        }
        UnknownWhy::SpecialFile => "it is a link, a device or a pipe",
        UnknownWhy::HealthyDatabase => "it is a database in order",
    }
}

pub(super) const fn stage_words(stage: Stage) -> &'static str {
    match stage {
        Stage::Volume => "checking the volume",
        Stage::Leftovers => "looking for leftover processes",
        Stage::EndingLeftovers => "ending leftover processes",
        Stage::Locks => "looking at locks",
        Stage::ClearingLocks => "clearing locks",
        Stage::Config => "reading the config",
        Stage::RollingBack => "putting the last good config back",
        Stage::Seeding => "writing a first config",
        Stage::Spawn => "starting the gateway",
    }
}

fn list(pids: &[i32]) -> String {
    pids.iter()
        .map(i32::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_without_a_reason_leads_to_the_gateways_own_lines_wherever_it_is_read() {
        let (what, fix) = hold_why(&HoldWhy::Refused(Refusal::Unexplained));
        assert!(!what.contains("above"), "{what}");
        assert!(fix.contains("clawkeeper logs"), "{fix}");
    }
}
