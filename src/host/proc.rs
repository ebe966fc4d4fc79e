//! Reads `/proc`: processes, the boot, listening sockets. Changes nothing.
//!
//! The root is a parameter, so that tests run on fixture trees.
#![allow(clippy::disallowed_methods, reason = "this module reads /proc")]

use crate::core::readiness::Listener;
use crate::core::time::WallMs;
use std::collections::HashSet;
use std::ffi::OsString;
use std::io::{ErrorKind, Read as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Clock ticks per second in `/proc/PID/stat`: fixed at 100 in the kernel's interface (proc(5), `USER_HZ`).
const TICKS_PER_SECOND: u64 = 100;

/// An environment or a command line larger than this is cut.
const READ_MAX_BYTES: u64 = 1 << 20;

const READ_AT_ONCE: usize = 4096;

/// A `/proc`.
#[derive(Debug, Clone)]
pub struct Proc {
    root: PathBuf,
}

/// The fields of `/proc/PID/stat` that matter here (proc_pid_stat(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    /// Field 2.
    pub name: String,
    /// Field 3: `Z` and `X` are dead.
    pub state: char,
    /// Field 4.
    pub ppid: i32,
    /// Field 12: faults that waited for the disk.
    pub major_faults: u64,
    /// Fields 14 and 15 together, in ticks.
    pub cpu_ticks: u64,
    /// Field 22, in ticks after boot.
    pub start_ticks: u64,
}

impl Stat {
    /// False for a zombie: it holds nothing any more.
    #[must_use]
    pub const fn is_alive(&self) -> bool {
        !matches!(self.state, 'Z' | 'X' | 'x')
    }

    /// Processor time so far.
    #[must_use]
    pub const fn cpu_ms(&self) -> u64 {
        self.cpu_ticks * (1000 / TICKS_PER_SECOND)
    }
}

/// A listening TCP socket with what tells whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListeningSocket {
    /// Where it listens.
    pub listener: Listener,
    /// The user that opened it.
    pub uid: u32,
    /// Its inode, as it stands in `/proc/PID/fd`.
    pub inode: u64,
}

impl Default for Proc {
    fn default() -> Self {
        Self {
            root: "/proc".into(),
        }
    }
}

impl Proc {
    /// Another tree than `/proc`.
    #[must_use]
    pub fn at(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    fn read(&self, path: impl AsRef<Path>) -> Option<Vec<u8>> {
        // One read usually takes it all; the kernel makes the text anew for each.
        let mut bytes = Vec::with_capacity(READ_AT_ONCE);
        let file = std::fs::File::open(self.root.join(path)).ok()?;
        file.take(READ_MAX_BYTES).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }

    fn read_text(&self, path: impl AsRef<Path>) -> Option<String> {
        self.read(path)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Every process, in no order.
    pub fn pids(&self) -> impl Iterator<Item = i32> + use<> {
        std::fs::read_dir(&self.root)
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
    }

    /// One process; `None` when there is none.
    #[must_use]
    pub fn stat(&self, pid: i32) -> Option<Stat> {
        parse_stat(&self.read_text(format!("{pid}/stat"))?)
    }

    /// Whether the id is a process's and not one of its threads', whose ids `/proc` answers for as well.
    #[must_use]
    pub fn is_process(&self, pid: i32) -> bool {
        let status = self.read_text(format!("{pid}/status")).unwrap_or_default();
        let leader = status.lines().find_map(|line| line.strip_prefix("Tgid:"));
        leader.is_none_or(|leader| leader.trim() == pid.to_string())
    }

    /// Its command line; empty for a kernel thread and for a zombie.
    #[must_use]
    pub fn command_line(&self, pid: i32) -> Vec<OsString> {
        split_nul(&self.read(format!("{pid}/cmdline")).unwrap_or_default())
    }

    /// Its environment as it was started with; `None` when we may not read it.
    #[must_use]
    pub fn environment(&self, pid: i32) -> Option<Vec<(OsString, OsString)>> {
        let entries = split_nul(&self.read(format!("{pid}/environ"))?);
        Some(entries.into_iter().filter_map(split_assignment).collect())
    }

    /// Its working folder.
    #[must_use]
    pub fn working_folder(&self, pid: i32) -> Option<PathBuf> {
        std::fs::read_link(self.root.join(format!("{pid}/cwd"))).ok()
    }

    /// The user it runs as.
    #[must_use]
    pub fn uid(&self, pid: i32) -> Option<u32> {
        std::fs::metadata(self.root.join(pid.to_string()))
            .ok()
            .map(|metadata| metadata.uid())
    }

    /// When the machine booted, by the wall clock (`btime` in `/proc/stat`, whole seconds).
    #[must_use]
    pub fn booted(&self) -> Option<WallMs> {
        let stat = self.read_text("stat")?;
        let seconds: u64 = stat
            .lines()
            .find_map(|line| line.strip_prefix("btime "))?
            .trim()
            .parse()
            .ok()?;
        Some(WallMs(seconds * 1000))
    }

    /// When a process started, by the wall clock, to about a second.
    #[must_use]
    pub fn started(&self, start_ticks: u64) -> Option<WallMs> {
        let WallMs(booted) = self.booted()?;
        Some(WallMs(booted.saturating_add(
            start_ticks.saturating_mul(1000 / TICKS_PER_SECOND),
        )))
    }

    /// When this process table began: at boot, or with the first process of our pid namespace.
    #[must_use]
    pub fn began(&self) -> Option<WallMs> {
        self.stat(1)
            .and_then(|init| self.started(init.start_ticks))
            .or_else(|| self.booted())
    }

    /// Identity of this boot.
    #[must_use]
    pub fn boot_id(&self) -> Option<String> {
        Some(
            self.read_text("sys/kernel/random/boot_id")?
                .trim()
                .to_owned(),
        )
    }

    /// The pid, or thread's id, that was given last in our PID namespace (proc_loadavg(5)).
    #[must_use]
    pub fn last_pid(&self) -> Option<i32> {
        self.read_text("loadavg")?
            .split_whitespace()
            .nth(4)?
            .parse()
            .ok()
    }

    /// We and our ancestors, as far as we can see them.
    #[must_use]
    pub fn lineage(&self, pid: i32) -> Vec<i32> {
        let parent = |pid: &i32| {
            self.stat(*pid)
                .map(|stat| stat.ppid)
                .filter(|ppid| *ppid > 0)
        };
        // A cycle cannot be, but /proc is not read in one instant.
        std::iter::successors(Some(pid), parent).take(64).collect()
    }

    /// Every listening TCP socket of our network namespace.
    #[must_use]
    pub fn listening(&self) -> Vec<ListeningSocket> {
        ["net/tcp", "net/tcp6"]
            .into_iter()
            .filter_map(|path| self.read_text(path))
            .flat_map(|table| {
                table
                    .lines()
                    .skip(1)
                    .filter_map(parse_socket)
                    .collect::<Vec<_>>()
            })
            .collect()
    }

    /// Inodes of the sockets a process has open; `None` when we may not look.
    #[must_use]
    pub fn socket_inodes(&self, pid: i32) -> Option<HashSet<u64>> {
        let entries = std::fs::read_dir(self.root.join(format!("{pid}/fd"))).ok()?;
        let mut inodes = HashSet::new();
        for entry in entries.flatten() {
            let target = match std::fs::read_link(entry.path()) {
                Ok(target) => target,
                // Root without CAP_SYS_PTRACE may list another user's descriptors and read none of them.
                Err(error) if error.kind() == ErrorKind::PermissionDenied => return None,
                // It was closed meanwhile.
                Err(_) => continue,
            };
            let inode = target
                .to_str()
                .and_then(|target| target.strip_prefix("socket:["))
                .and_then(|rest| rest.strip_suffix(']')?.parse::<u64>().ok());
            inodes.extend(inode);
        }
        Some(inodes)
    }
}

/// The name stands in parentheses and may itself hold any character, so the last one ends it.
fn parse_stat(text: &str) -> Option<Stat> {
    let (head, tail) = text.rsplit_once(')')?;
    let name = head.split_once('(')?.1.to_owned();
    let fields: Vec<&str> = tail.split_ascii_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some(Stat {
        name,
        state: fields.first()?.chars().next()?,
        ppid: fields.get(1)?.parse().ok()?,
        major_faults: number(9)?,
        cpu_ticks: number(11)? + number(12)?,
        start_ticks: number(19)?,
    })
}

fn split_nul(bytes: &[u8]) -> Vec<OsString> {
    let trimmed = bytes.strip_suffix(b"\0").unwrap_or(bytes);
    if trimmed.is_empty() {
        return Vec::new();
    }
    trimmed
        .split(|byte| *byte == 0)
        .map(|part| OsString::from_vec(part.to_vec()))
        .collect()
}

fn split_assignment(entry: OsString) -> Option<(OsString, OsString)> {
    let bytes = entry.into_vec();
    let at = bytes.iter().position(|byte| *byte == b'=')?;
    Some((
        OsString::from_vec(bytes[..at].to_vec()),
        OsString::from_vec(bytes[at + 1..].to_vec()),
    ))
}

/// State `0A` is LISTEN; addresses are hexadecimal words in the machine's own byte order (proc_net_tcp).
fn parse_socket(line: &str) -> Option<ListeningSocket> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    if *fields.get(3)? != "0A" {
        return None;
    }
    let (address, port) = fields.get(1)?.split_once(':')?;
    let words: Option<Vec<u32>> = (0..address.len() / 8)
        .map(|index| u32::from_str_radix(address.get(index * 8..index * 8 + 8)?, 16).ok())
        .collect();
    let address = match words?.as_slice() {
        [word] => IpAddr::V4(Ipv4Addr::from(word.to_ne_bytes())),
        [a, b, c, d] => {
            let mut octets = [0; 16];
            for (chunk, word) in octets.chunks_exact_mut(4).zip([a, b, c, d]) {
                chunk.copy_from_slice(&word.to_ne_bytes());
            }
            let address = Ipv6Addr::from(octets);
            address
                .to_ipv4_mapped()
                .map_or(IpAddr::V6(address), IpAddr::V4)
        }
        _ => return None,
    };
    let listener = Listener {
        address,
        port: u16::from_str_radix(port, 16).ok()?,
    };
    Some(ListeningSocket {
        listener,
        uid: fields.get(7)?.parse().ok()?,
        inode: fields.get(9)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_name_with_parentheses_and_spaces_does_not_shift_the_fields() {
        let text = "42 (a) b (c) S 7 42 42 0 -1 4194560 1 0 9 0 11 22 0 0 20 0 1 0 404278 1 1";
        let stat = parse_stat(text).expect("it parses");
        assert_eq!(
            (stat.name.as_str(), stat.state, stat.ppid),
            ("a) b (c", 'S', 7)
        );
        assert_eq!((stat.cpu_ms(), stat.start_ticks), (330, 404_278));
        assert_eq!(stat.major_faults, 9);
    }

    #[test]
    fn listening_sockets_are_read_for_both_families() {
        let v4 = "   0: 0100007F:0BB8 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 12345 1 0 100 0 0 10 0";
        let socket = parse_socket(v4).expect("a listener");
        assert_eq!(
            socket.listener,
            Listener {
                address: "127.0.0.1".parse().expect("an address"),
                port: 3000
            }
        );
        assert_eq!((socket.uid, socket.inode), (1000, 12345));
        let v6 = "   1: 00000000000000000000000000000000:0BB8 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 99 1 0 100 0 0 10 0";
        assert_eq!(
            parse_socket(v6).expect("a listener").listener.address,
            IpAddr::V6(Ipv6Addr::UNSPECIFIED)
        );
        let established = v4.replace(" 0A ", " 01 ");
        assert_eq!(parse_socket(&established), None);
    }

    #[test]
    fn our_own_process_is_found_with_its_lineage_and_environment() {
        let proc = Proc::default();
        let pid = i32::try_from(std::process::id()).expect("a pid fits");
        let stat = proc.stat(pid).expect("we are alive");
        assert!(stat.is_alive());
        assert!(proc.is_process(pid));
        let thread = nix::unistd::gettid().as_raw();
        assert_eq!(proc.is_process(thread), thread == pid);
        assert_eq!(proc.lineage(pid).first(), Some(&pid));
        assert!(proc.lineage(pid).contains(&stat.ppid));
        assert!(
            proc.environment(pid)
                .expect("ours is readable")
                .iter()
                .any(|(name, _)| name == "PATH")
        );
    }
}
