//! Which processes are left of an earlier gateway, and which are somebody else's.

use serde::{Deserialize, Serialize};

/// A process that could stand in the way of a start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessFacts {
    /// Process id.
    pub pid: i32,
    /// Parent.
    pub ppid: i32,
    /// Name of the parent, for the log line.
    pub parent_name: String,
    /// Field 22 of `/proc/PID/stat`; with the pid it names one process for good.
    pub start_ticks: u64,
    /// Its title or program name.
    pub name: String,
    /// True when its command line or title is a gateway's.
    pub is_gateway: bool,
    /// Whether its environment names our state folder.
    pub state_folder: SameFolder,
    /// True when it carries the mark that clawkeeper puts into its gateway's environment.
    pub is_marked: bool,
    /// True when it is the child that clawkeeper's own record names (same pid, same start tick, same boot).
    pub is_recorded_child: bool,
    /// True when nobody but a reaper (pid 1, clawkeeper itself) is its parent.
    pub is_orphan: bool,
    /// True when its parent is a process 1 that starts services itself, so that it may be one of them.
    pub may_be_service: bool,
    /// True when it listens on the port the gateway is to have.
    pub holds_port: bool,
}

/// Whether another process works on our state folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SameFolder {
    /// Its environment names the same folder.
    Yes,
    /// Its environment names another one.
    No,
    /// Its environment cannot be read.
    Unknown,
}

/// What a process is to the coming start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProcessVerdict {
    /// Left over from an earlier gateway of this state folder: to be ended.
    Leftover(LeftoverWhy),
    /// A gateway that somebody runs on purpose: nothing is touched, no second one is started.
    LiveGateway,
    /// Not a gateway of ours, but it holds the port.
    Stranger,
    /// None of our business.
    Unrelated,
}

/// The proof that a process is a leftover.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LeftoverWhy {
    /// clawkeeper's own record names it.
    RecordedChild,
    /// It carries clawkeeper's mark and has lost its parent.
    MarkedOrphan,
    /// A gateway of this state folder that has lost its parent, e.g. a detached respawn.
    OrphanGateway,
}

/// Judges one process.
#[must_use]
pub const fn judge(facts: &ProcessFacts) -> ProcessVerdict {
    if facts.is_recorded_child {
        return ProcessVerdict::Leftover(LeftoverWhy::RecordedChild);
    }
    match facts.state_folder {
        SameFolder::Yes if facts.is_marked && facts.is_orphan => {
            ProcessVerdict::Leftover(LeftoverWhy::MarkedOrphan)
        }
        SameFolder::Yes if facts.is_gateway && facts.is_orphan && !facts.may_be_service => {
            ProcessVerdict::Leftover(LeftoverWhy::OrphanGateway)
        }
        SameFolder::Yes if facts.is_gateway => ProcessVerdict::LiveGateway,
        SameFolder::Yes | SameFolder::No | SameFolder::Unknown if facts.holds_port => {
            ProcessVerdict::Stranger
        }
        SameFolder::Yes | SameFolder::No | SameFolder::Unknown => ProcessVerdict::Unrelated,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_processes() -> impl Iterator<Item = ProcessFacts> {
        let folders = [SameFolder::Yes, SameFolder::No, SameFolder::Unknown];
        (0..64u8).flat_map(move |bits| {
            folders.map(move |state_folder| ProcessFacts {
                pid: 9,
                ppid: 1,
                parent_name: "init".into(),
                start_ticks: 5,
                name: "node".into(),
                is_gateway: bits & 1 != 0,
                state_folder,
                is_marked: bits & 2 != 0,
                is_recorded_child: bits & 4 != 0,
                is_orphan: bits & 8 != 0,
                may_be_service: bits & 32 != 0,
                holds_port: bits & 16 != 0,
            })
        })
    }

    #[test]
    fn nothing_with_a_living_parent_is_ended_unless_our_record_names_it() {
        for facts in all_processes().filter(|facts| !facts.is_orphan && !facts.is_recorded_child) {
            assert!(
                !matches!(judge(&facts), ProcessVerdict::Leftover(_)),
                "{facts:?}"
            );
        }
    }

    #[test]
    fn a_gateway_that_may_be_a_service_is_ended_only_when_it_is_known_for_ours() {
        let services = all_processes().filter(|facts| facts.is_gateway && facts.may_be_service);
        for facts in services.filter(|facts| facts.state_folder == SameFolder::Yes) {
            let is_ours = facts.is_recorded_child || (facts.is_marked && facts.is_orphan);
            let is_ended = matches!(judge(&facts), ProcessVerdict::Leftover(_));
            assert_eq!(is_ended, is_ours, "{facts:?}");
        }
    }

    #[test]
    fn nothing_of_another_or_an_unknown_folder_is_ended_unless_our_record_names_it() {
        for facts in
            all_processes().filter(|f| f.state_folder != SameFolder::Yes && !f.is_recorded_child)
        {
            assert!(
                !matches!(judge(&facts), ProcessVerdict::Leftover(_)),
                "{facts:?}"
            );
        }
    }

    #[test]
    fn whoever_holds_the_port_is_never_unrelated() {
        for facts in all_processes().filter(|facts| facts.holds_port) {
            assert_ne!(judge(&facts), ProcessVerdict::Unrelated, "{facts:?}");
        }
    }

    #[test]
    fn a_gateway_somebody_runs_on_our_folder_is_live() {
        let live = all_processes().filter(|facts| {
            facts.is_gateway
                && !facts.is_orphan
                && !facts.is_recorded_child
                && facts.state_folder == SameFolder::Yes
        });
        for facts in live {
            assert_eq!(judge(&facts), ProcessVerdict::LiveGateway, "{facts:?}");
        }
    }
}
