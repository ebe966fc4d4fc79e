//! What the invariants ask of events, actions and facts.

use crate::core::action::{Action, Report};
use crate::core::event::{Attempt, Event};
use crate::core::exit_class::StopCause;
use crate::core::locks::{LockContent, LockFacts, LockKind};
use crate::core::machine::Policy;
use crate::core::time::Millis;

/// The attempt an event belongs to, if it answers something.
pub(super) fn attempt_of(event: &Event) -> Option<Attempt> {
    match event {
        Event::Begun
        | Event::DeadlinePassed
        | Event::SignalReceived { .. }
        | Event::Requested { .. }
        | Event::CauseChanged => None,
        Event::VolumeChecked { attempt, .. }
        | Event::LeftoversFound { attempt, .. }
        | Event::ProcessesEnded { attempt, .. }
        | Event::LocksFound { attempt, .. }
        | Event::LocksCleared { attempt, .. }
        | Event::ConfigRead { attempt, .. }
        | Event::ConfigSeeded { attempt, .. }
        | Event::Spawned { attempt, .. }
        | Event::SpawnFailed { attempt, .. }
        | Event::LineSeen { attempt, .. }
        | Event::ProbeFinished { attempt, .. }
        | Event::ListenersFound { attempt, .. }
        | Event::ChildExited { attempt, .. }
        | Event::EvidenceCollected { attempt, .. }
        | Event::OomSeen { attempt, .. }
        | Event::TreeEnded { attempt, .. }
        | Event::ChannelsStarted { attempt, .. }
        | Event::ConfigSeen { attempt, .. }
        | Event::ReloadSaid { attempt, .. }
        | Event::ConfigValidated { attempt, .. }
        | Event::ConfigRolledBack { attempt, .. }
        | Event::MemorySampled { attempt, .. } => Some(*attempt),
    }
}

/// The attempt an action belongs to, if it asks something.
pub(super) fn question_of(action: &Action) -> Option<Attempt> {
    match action {
        Action::CheckVolume { attempt, .. }
        | Action::FindLeftovers { attempt }
        | Action::EndProcesses { attempt, .. }
        | Action::FindLocks { attempt }
        | Action::ClearLocks { attempt, .. }
        | Action::ReadConfig { attempt }
        | Action::SeedConfig { attempt }
        | Action::Spawn { attempt }
        | Action::CollectEvidence { attempt }
        | Action::EndTree { attempt, .. }
        | Action::Probe { attempt, .. }
        | Action::FindListeners { attempt }
        | Action::StartChannels { attempt }
        | Action::LookAtConfig { attempt }
        | Action::NudgeConfig { attempt }
        | Action::ValidateConfig { attempt, .. }
        | Action::RollBackConfig { attempt }
        | Action::SampleMemory { attempt, .. } => Some(*attempt),
        Action::Terminate
        | Action::Kill
        | Action::Watch
        | Action::Unwatch
        | Action::KeepIncident(_)
        | Action::KeepConfig { .. }
        | Action::Reply { .. }
        | Action::Report(_)
        | Action::Exit(_) => None,
    }
}

pub(super) fn reports(actions: &[Action]) -> impl Iterator<Item = &Report> {
    actions.iter().filter_map(|action| {
        if let Action::Report(report) = action {
            Some(report)
        } else {
            None
        }
    })
}

pub(super) const fn is_spawn(action: &Action) -> bool {
    matches!(action, Action::Spawn { .. })
}

/// A gateway's lock whose very owner, by pid and start tick, is a gateway that lives.
pub(super) fn belongs_to_a_live_gateway(lock: &LockFacts) -> bool {
    let is_a_gateways = matches!(lock.kind, LockKind::Gateway | LockKind::LegacyOnVolume);
    let LockContent::Claim(claim) = &lock.content else {
        return false;
    };
    is_a_gateways
        && lock.owner.as_ref().is_some_and(|owner| {
            owner.alive && owner.is_gateway && owner.start_ticks == claim.start_ticks
        })
}

/// From SIGTERM to SIGKILL: what hangs rarely drains either.
pub(super) fn grace(policy: &Policy, cause: StopCause) -> Millis {
    match cause {
        StopCause::ChannelsOff
        | StopCause::Reload
        | StopCause::Memory
        | StopCause::Restart
        | StopCause::Pause
        | StopCause::Shutdown => policy.stop_timeout,
        StopCause::Hung | StopCause::StartTimeout => policy.stop_timeout.min(Millis::from_secs(10)),
    }
}
