//! Is the state folder a place where a gateway can live? Facts in, verdict out.

use super::time::Millis;
use serde::{Deserialize, Serialize};

/// What was measured of the state folder and the file system under it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeFacts {
    /// The mount the state folder lies on; `None` when mountinfo could not be read.
    pub mount: Option<Mount>,
    /// True when whatever lies on the root file system is gone after a restart:
    /// a container's overlay, or a Fly machine, whose root is reset at each start.
    pub root_is_ephemeral: bool,
    /// What a small write and its fsync did.
    pub write: WriteProbe,
    /// Room left; `None` when statvfs failed.
    pub space: Option<Space>,
    /// Who owns the state folder and whom the gateway runs as.
    pub owner: Option<Owner>,
}

/// The line of `/proc/self/mountinfo` that covers the state folder (proc_pid_mountinfo(5)).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Where it is mounted; `/` means the state folder lies on the root file system.
    pub point: String,
    /// `ext4`, `overlay`, `tmpfs`, …
    pub fs_type: String,
}

/// The outcome of writing one block and calling fsync. Only this proves a volume:
/// after `errors=remount-ro` mountinfo may still say `rw`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum WriteProbe {
    /// Both succeeded.
    Written {
        /// Time for the write, the fsync and the removal.
        took: Millis,
    },
    /// A system call failed.
    Failed {
        /// The call, e.g. `fsync`.
        operation: String,
        /// Its errno.
        errno: i32,
    },
    /// No answer within the deadline: the disk hangs.
    TimedOut {
        /// The deadline that passed.
        after: Millis,
    },
}

/// statvfs(3), for a process without privileges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Space {
    /// Bytes an unprivileged process may still write.
    pub free_bytes: u64,
    /// Size of the file system.
    pub total_bytes: u64,
    /// Files that may still be created; `None` on file systems without a fixed number.
    pub free_inodes: Option<u64>,
}

/// Owner and mode of the state folder against the uid the gateway gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Owner of the state folder.
    pub uid: u32,
    /// Group of the state folder.
    pub gid: u32,
    /// Permission bits.
    pub mode: u32,
    /// The uid the gateway runs as.
    pub gateway_uid: u32,
    /// The gid the gateway runs as.
    pub gateway_gid: u32,
}

impl Owner {
    /// True when the gateway may create files in the folder by owner, group or other bits; root always may.
    #[must_use]
    pub const fn fits(&self) -> bool {
        let bits = if self.uid == self.gateway_uid {
            self.mode >> 6
        } else if self.gid == self.gateway_gid {
            self.mode >> 3
        } else {
            self.mode
        };
        self.gateway_uid == 0 || bits & 0o3 == 0o3
    }
}

/// What to do when the state folder is no mount and the root file system does not last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NoMountPolicy {
    /// Start, and warn loudly at each start.
    #[default]
    Warn,
    /// Do not start: hold until there is a mount.
    Hold,
}

/// May a gateway start here?
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum VolumeVerdict {
    /// It may; the warnings are worth a line each.
    Usable(Vec<VolumeWarning>),
    /// It must not, until this is repaired.
    Refuse(VolumeProblem),
}

/// Worth a line, no reason to hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum VolumeWarning {
    /// State will be lost at the next restart.
    NotAMount,
    /// The state folder lies in memory.
    InMemory,
    /// Little room left.
    LowSpace {
        /// Bytes left.
        free_bytes: u64,
    },
    /// Few files left to create.
    LowInodes {
        /// Inodes left.
        free: u64,
    },
}

/// Why no gateway can live here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum VolumeProblem {
    /// No mount, and the setting says that this is not acceptable.
    NotAMount,
    /// EROFS: mounted read-only, or remounted so after an error.
    ReadOnly,
    /// ENOSPC or EDQUOT with no bytes left.
    Full,
    /// ENOSPC with bytes left but no inode.
    OutOfInodes,
    /// No answer within the deadline.
    Hung {
        /// The deadline that passed.
        after: Millis,
    },
    /// The gateway's uid may not write, and clawkeeper may not change that.
    NotWritable,
    /// ELOOP: a link in the way is not followed.
    BehindLink,
    /// Any other failure, e.g. EIO on fsync: the disk is dying.
    Broken {
        /// The call that failed.
        operation: String,
        /// Its errno.
        errno: i32,
    },
}

/// Below this many bytes the gateway's databases and logs are about to hit the end.
const LOW_BYTES: u64 = 64 << 20;
/// Below this many inodes the next sessions cannot be created.
const LOW_INODES: u64 = 500;

const EACCES: i32 = 13;
const EPERM: i32 = 1;
const ENOSPC: i32 = 28;
const ELOOP: i32 = 40;
const EROFS: i32 = 30;
const EDQUOT: i32 = 122;

/// Judges the volume. A failed write outranks everything that merely looks wrong.
#[must_use]
pub fn judge(facts: &VolumeFacts, no_mount: NoMountPolicy) -> VolumeVerdict {
    match &facts.write {
        WriteProbe::TimedOut { after } => {
            return VolumeVerdict::Refuse(VolumeProblem::Hung { after: *after });
        }
        WriteProbe::Failed { operation, errno } => {
            return VolumeVerdict::Refuse(problem(operation, *errno, facts.space));
        }
        WriteProbe::Written { .. } => {}
    }
    if facts.owner.is_some_and(|owner| !owner.fits()) {
        return VolumeVerdict::Refuse(VolumeProblem::NotWritable);
    }
    let mut warnings = Vec::new();
    if let Some(mount) = &facts.mount {
        if mount.point == "/" && facts.root_is_ephemeral {
            match no_mount {
                NoMountPolicy::Hold => return VolumeVerdict::Refuse(VolumeProblem::NotAMount),
                NoMountPolicy::Warn => warnings.push(VolumeWarning::NotAMount),
            }
        } else if matches!(mount.fs_type.as_str(), "tmpfs" | "ramfs") {
            warnings.push(VolumeWarning::InMemory);
        }
    }
    if let Some(space) = facts.space {
        if space.free_bytes < LOW_BYTES {
            warnings.push(VolumeWarning::LowSpace {
                free_bytes: space.free_bytes,
            });
        }
        if let Some(free) = space.free_inodes.filter(|free| *free < LOW_INODES) {
            warnings.push(VolumeWarning::LowInodes { free });
        }
    }
    VolumeVerdict::Usable(warnings)
}

fn problem(operation: &str, errno: i32, space: Option<Space>) -> VolumeProblem {
    match errno {
        EROFS => VolumeProblem::ReadOnly,
        EACCES | EPERM => VolumeProblem::NotWritable,
        ELOOP => VolumeProblem::BehindLink,
        EDQUOT => VolumeProblem::Full,
        ENOSPC if space.is_some_and(|space| space.free_inodes == Some(0)) => {
            VolumeProblem::OutOfInodes
        }
        ENOSPC => VolumeProblem::Full,
        _ => VolumeProblem::Broken {
            operation: operation.to_owned(),
            errno,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn healthy() -> VolumeFacts {
        VolumeFacts {
            mount: Some(Mount {
                point: "/data".into(),
                fs_type: "ext4".into(),
            }),
            root_is_ephemeral: true,
            write: WriteProbe::Written { took: Millis(2) },
            space: Some(Space {
                free_bytes: 1 << 30,
                total_bytes: 1 << 30,
                free_inodes: Some(60_000),
            }),
            owner: Some(Owner {
                uid: 1000,
                gid: 1000,
                mode: 0o700,
                gateway_uid: 1000,
                gateway_gid: 1000,
            }),
        }
    }

    fn failed(errno: i32) -> VolumeFacts {
        VolumeFacts {
            write: WriteProbe::Failed {
                operation: "fsync".into(),
                errno,
            },
            ..healthy()
        }
    }

    #[test]
    fn a_mounted_writable_volume_with_room_says_nothing() {
        assert_eq!(
            judge(&healthy(), NoMountPolicy::Hold),
            VolumeVerdict::Usable(vec![])
        );
    }

    #[test]
    fn every_errno_of_the_write_probe_has_its_own_word() {
        for (errno, expected) in [
            (EROFS, VolumeProblem::ReadOnly),
            (ENOSPC, VolumeProblem::Full),
            (EDQUOT, VolumeProblem::Full),
            (EACCES, VolumeProblem::NotWritable),
            (ELOOP, VolumeProblem::BehindLink),
            (
                5,
                VolumeProblem::Broken {
                    operation: "fsync".into(),
                    errno: 5,
                },
            ),
        ] {
            assert_eq!(
                judge(&failed(errno), NoMountPolicy::Warn),
                VolumeVerdict::Refuse(expected)
            );
        }
    }

    #[test]
    fn enospc_with_bytes_left_is_out_of_inodes() {
        let mut facts = failed(ENOSPC);
        facts.space = Some(Space {
            free_bytes: 1 << 30,
            total_bytes: 1 << 30,
            free_inodes: Some(0),
        });
        assert_eq!(
            judge(&facts, NoMountPolicy::Warn),
            VolumeVerdict::Refuse(VolumeProblem::OutOfInodes)
        );
    }

    #[test]
    fn state_beside_the_volume_warns_or_holds_by_setting_but_only_where_the_root_does_not_last() {
        let mut facts = healthy();
        facts.mount = Some(Mount {
            point: "/".into(),
            fs_type: "overlay".into(),
        });
        assert_eq!(
            judge(&facts, NoMountPolicy::Warn),
            VolumeVerdict::Usable(vec![VolumeWarning::NotAMount])
        );
        assert_eq!(
            judge(&facts, NoMountPolicy::Hold),
            VolumeVerdict::Refuse(VolumeProblem::NotAMount)
        );
        facts.root_is_ephemeral = false;
        assert_eq!(
            judge(&facts, NoMountPolicy::Hold),
            VolumeVerdict::Usable(vec![])
        );
    }

    #[test]
    fn a_folder_the_gateway_cannot_write_is_refused_by_each_class_of_bits() {
        let owner = |uid, gid, mode| Owner {
            uid,
            gid,
            mode,
            gateway_uid: 1000,
            gateway_gid: 1000,
        };
        for (owner, fits) in [
            (owner(1000, 0, 0o700), true),
            (owner(1000, 0, 0o577), false),
            (owner(0, 1000, 0o770), true),
            (owner(0, 1000, 0o750), false),
            (owner(0, 0, 0o777), true),
            (owner(0, 0, 0o755), false),
            (
                Owner {
                    gateway_uid: 0,
                    ..owner(5, 5, 0)
                },
                true,
            ),
        ] {
            assert_eq!(owner.fits(), fits, "{owner:?}");
        }
    }

    #[test]
    fn little_room_is_said_and_does_not_hold() {
        let mut facts = healthy();
        facts.space = Some(Space {
            free_bytes: 1 << 20,
            total_bytes: 1 << 30,
            free_inodes: Some(10),
        });
        assert_eq!(
            judge(&facts, NoMountPolicy::Warn),
            VolumeVerdict::Usable(vec![
                VolumeWarning::LowSpace {
                    free_bytes: 1 << 20
                },
                VolumeWarning::LowInodes { free: 10 }
            ])
        );
    }
}
