//! What the fake gateway is told: its flags, and the ends it can come to.

#![allow(
    clippy::disallowed_methods,
    reason = "a test tool that reads the clock, files and the environment"
)]

use clap::Parser;
use clawkeeper::host::early::{SignalSet, set_disposition};
use nix::libc;
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

/// What it is to do. Times are milliseconds since its start.
#[derive(Debug, Parser)]
pub(crate) struct Script {
    /// `gateway`, as for the real one, or `helper` for a process that only waits.
    pub(crate) role: String,
    #[arg(long, default_value_t = 0)]
    pub(crate) port: u16,
    /// `loopback` or `lan`.
    #[arg(long, default_value = "loopback")]
    pub(crate) bind: String,
    /// This and the token are accepted because the real command line has them.
    #[arg(long)]
    pub(crate) allow_unconfigured: bool,
    #[arg(long)]
    pub(crate) token: Option<String>,
    /// Listens from this time on.
    #[arg(long, default_value = "0", value_parser = span)]
    pub(crate) listen: Duration,
    /// Ready at this time; `never` stays in its start.
    #[arg(long, default_value = "0", value_parser = moment)]
    pub(crate) ready: Moment,
    /// While it starts, says something this often.
    #[arg(long, value_parser = span)]
    pub(crate) progress_every: Option<Duration>,
    /// Answers every path with a page, and prints the one line of 2026.1.29.
    #[arg(long)]
    pub(crate) old: bool,
    /// How it ends by itself.
    #[arg(long)]
    pub(crate) end: Option<End>,
    /// When it ends by itself.
    #[arg(long, default_value = "0", value_parser = span)]
    pub(crate) end_after: Duration,
    /// Only the first so many boots of the diary end by themselves.
    #[arg(long)]
    pub(crate) only_first: Option<usize>,
    /// Stops answering, and everything else, at this time.
    #[arg(long, value_parser = span)]
    pub(crate) hang_after: Option<Duration>,
    /// The same as soon as this file exists.
    #[arg(long)]
    pub(crate) hang_when: Option<PathBuf>,
    #[arg(long)]
    pub(crate) ignore_term: bool,
    /// From SIGTERM to its end.
    #[arg(long, default_value = "0", value_parser = span)]
    pub(crate) drain: Duration,
    /// Starts a helper in a session of its own, as 2026.9.6 does.
    #[arg(long)]
    pub(crate) helper: bool,
    /// The helper heeds no SIGTERM.
    #[arg(long)]
    pub(crate) stubborn_helper: bool,
    /// Starts a helper that takes memory without end from this time of its own on.
    #[arg(long)]
    pub(crate) eating_helper: Option<String>,
    /// Leaves this many orphans behind that end at once, when it is ready.
    #[arg(long)]
    pub(crate) orphans: Option<usize>,
    /// Prints this many numbered lines of 100 bytes when it is ready.
    #[arg(long, default_value_t = 0)]
    pub(crate) lines: u64,
    /// Prints what this variable holds when it is ready, as a gateway should not.
    #[arg(long)]
    pub(crate) say: Option<String>,
    /// With `lines`: at most this many bytes a second.
    #[arg(long)]
    pub(crate) bytes_per_second: Option<u64>,
    /// What it does about an edit of its config; by itself it looks at none.
    #[arg(long)]
    pub(crate) reload: Option<super::config::Reload>,
    /// Takes so much more memory each second once it is ready, in KiB, and keeps it.
    #[arg(long)]
    pub(crate) leak: Option<usize>,
    /// Only this boot of the diary leaks.
    #[arg(long)]
    pub(crate) leak_in_boot: Option<usize>,
    /// Has this much memory from the start, in MiB.
    #[arg(long, default_value_t = 0)]
    pub(crate) weight: usize,
    /// Takes this much memory for five seconds out of ten, in MiB.
    #[arg(long)]
    pub(crate) spikes: Option<usize>,
    /// Writes and respects the lock files of 2026.9.6.
    #[arg(long)]
    pub(crate) locks: bool,
    /// Notes what it does here, one `WHAT PID MS-SINCE-1970` a line.
    #[arg(long)]
    pub(crate) diary: Option<PathBuf>,
}

pub(crate) type Moment = Option<Duration>;

pub(crate) fn span(text: &str) -> Result<Duration, std::num::ParseIntError> {
    text.parse().map(Duration::from_millis)
}

pub(crate) fn moment(text: &str) -> Result<Moment, std::num::ParseIntError> {
    if text == "never" {
        Ok(None)
    } else {
        span(text).map(Some)
    }
}

/// An end of its own making.
#[derive(Debug, Clone)]
pub(crate) enum End {
    /// `exit:N`
    Exit(i32),
    /// `signal:N`
    Signal(i32),
    /// `refuse:NAME`, one of [`REFUSALS`].
    Refuse(&'static str, i32),
    /// `heap-oom`: what V8 prints, then its abort.
    HeapOom,
    /// `eat`: takes memory until the kernel has enough of it.
    Eat,
}

/// What the releases print when they refuse to start, and the code they end with.
pub(crate) const REFUSALS: &[(&str, i32, &str)] = &[
    (
        "no-config",
        78,
        "Missing config. Run openclaw setup or set gateway.mode=local (or pass --allow-unconfigured).",
    ),
    (
        "no-mode",
        78,
        "Gateway start blocked: existing config is missing gateway.mode.",
    ),
    ("unknown-key", 78, "- <root>: Unrecognized key: \"foo\""),
    (
        "old-no-mode",
        1,
        "Gateway start blocked: set gateway.mode=local (current: unset) or pass --allow-unconfigured.",
    ),
    (
        "no-auth",
        78,
        "Refusing to bind gateway to lan without auth.",
    ),
    (
        "another-owner",
        78,
        "Another gateway (pid 1) already owns this state directory; refusing to run automatic startup migrations.",
    ),
    (
        "eacces",
        78,
        "Error: EACCES: permission denied, open '/data/agents/main/sessions.json'",
    ),
    ("unexplained", 78, "something else"),
];

impl FromStr for End {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.parse().map_err(|_| format!("{text:?} is no number"));
        match text.split_once(':').unwrap_or((text, "")) {
            ("exit", code) => Ok(Self::Exit(number(code)?)),
            ("signal", signal) => Ok(Self::Signal(number(signal)?)),
            ("refuse", name) => {
                let known = REFUSALS.iter().find(|refusal| refusal.0 == name);
                known
                    .map(|(_, code, line)| Self::Refuse(line, *code))
                    .ok_or_else(|| format!("no refusal {name:?}"))
            }
            ("heap-oom", _) => Ok(Self::HeapOom),
            ("eat", _) => Ok(Self::Eat),
            _ => Err(format!("no end {text:?}")),
        }
    }
}

impl Script {
    pub(crate) fn note(&self, what: &str) {
        let Some(diary) = &self.diary else { return };
        let now = SystemTime::UNIX_EPOCH.elapsed().expect("it is after 1970");
        let line = format!("{what} {} {}\n", std::process::id(), now.as_millis());
        let mut file = fs::File::options()
            .append(true)
            .create(true)
            .open(diary)
            .expect("a diary");
        file.write_all(line.as_bytes()).expect("a note");
    }

    pub(crate) fn boots(&self) -> usize {
        let diary = self
            .diary
            .as_deref()
            .expect("--only-first counts in the diary");
        let text = fs::read_to_string(diary).expect("the diary");
        text.lines()
            .filter(|line| line.starts_with("boot "))
            .count()
    }
}

impl End {
    pub(crate) fn happen(self) {
        match self {
            Self::Exit(code) => std::process::exit(code),
            Self::Signal(signal) => {
                set_disposition(signal, libc::SIG_DFL);
                SignalSet::EMPTY.set_as_mask();
                // SAFETY: takes a number.
                unsafe { libc::raise(signal) };
            }
            Self::Refuse(line, code) => {
                eprintln!("{line}");
                std::process::exit(code);
            }
            Self::HeapOom => {
                eprint!("{HEAP_OOM}");
                std::process::abort();
            }
            Self::Eat => loop {
                std::mem::forget(std::hint::black_box(vec![1u8; 4 << 20]));
            },
        }
    }
}

/// V8's last words, of which the middle is cut, on Node 24.
const HEAP_OOM: &str = "
<--- Last few GCs --->
[30347:0xb982000]     4334 ms: Mark-Compact (reduce) 97.1 (103.9) -> 96.8 (100.7) MB, pooled: 0 MB[30347:0xb982000]     4437 ms: Mark-Compact
FATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory
----- Native stack trace -----

 1: 0x931db0  [node]
";
