//! The one list of exit codes. Nothing else in clawkeeper calls `exit` with a number of its own.

/// How clawkeeper ends, when it does not end with its child's own code.
///
/// The codes below 64 are kept free for commands that grade what they find, and for the child of
/// `run --mode init`, whose code is passed on as it is (`n`, or `128 + signal`).
/// 137 is never used for an end of our own: Fly's init takes it for an out-of-memory kill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Stopped as asked; the gateway had ended by itself in time.
    Stopped,
    /// `check`: something is worth a look, but the gateway would be started.
    CheckWarnings,
    /// `check`: the gateway would not be started; `run` would hold.
    CheckHolds,
    /// `config get`: there is nothing at that path.
    NothingThere,
    /// `config put`, `edit` and `rollback`: refused, and nothing was changed. `config get` and `diff`: there is no config that parses.
    ConfigRefused,
    /// `health`: not ready, not alive, or nobody there to ask. `status`: not ready. `restart`, `pause` and `resume`: accepted,
    /// but not done in time or not to be done.
    Unhealthy,
    /// `test-alert`: the command that alerts are handed to failed, or there is none.
    NotDelivered,
    /// `restart`, `pause` and `resume`: clawkeeper does not do it, and says why.
    RequestRefused,
    /// `status`, `restart`, `pause` and `resume`: no clawkeeper answers (`EX_UNAVAILABLE`).
    NobodyAnswers,
    /// The command line or a `CLAWKEEPER_*` variable is wrong (`EX_USAGE` of sysexits.h).
    Usage,
    /// A file named on the command line cannot be used (`EX_NOINPUT`).
    Input,
    /// A defect in clawkeeper; the gateway was asked to stop first (`EX_SOFTWARE`).
    Internal,
    /// The operating system refused something clawkeeper cannot work without (`EX_OSERR`).
    Host,
    /// Another clawkeeper keeps this state folder (`EX_TEMPFAIL`).
    AlreadyRunning,
    /// Stopped as asked, but the gateway had to be killed after the stop timeout.
    StopForced,
    /// The command was found but could not be executed, as a shell has it.
    CannotExecute,
    /// The command was not found, as a shell has it.
    CommandNotFound,
}

impl Exit {
    /// The number handed to the parent process.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Stopped => 0,
            Self::CheckWarnings => 1,
            Self::CheckHolds => 2,
            Self::NothingThere => 1,
            Self::ConfigRefused => 2,
            // Docker's HEALTHCHECK knows 0 and 1 only.
            Self::Unhealthy => 1,
            Self::NotDelivered => 1,
            Self::RequestRefused => 2,
            Self::Usage => 64,
            Self::Input => 66,
            Self::NobodyAnswers => 69,
            Self::Internal => 70,
            Self::Host => 71,
            Self::AlreadyRunning => 75,
            Self::StopForced => 124,
            Self::CannotExecute => 126,
            Self::CommandNotFound => 127,
        }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
