//! Every decision clawkeeper takes. PURE: std and serde only; no clock, no I/O, no randomness of its own.
//!
//! Facts and past [events](event::Event) go in; [verdicts](locks::LockVerdict) and [actions](action::Action) come out.
//! Nothing here knows what OpenClaw's files look like (that is [`gateway`](crate::gateway)) or how to send a signal (that is [`host`](crate::host)).
#![deny(clippy::wildcard_enum_match_arm)]

pub mod action;
pub mod alert;
pub mod config;
pub mod config_history;
pub mod control;
pub mod event;
pub mod exit_class;
pub mod history;
pub mod incident;
pub mod leftovers;
pub mod locks;
pub mod machine;
pub mod memory;
pub mod oom;
pub mod output;
pub mod pending;
pub mod readiness;
pub mod reload;
pub mod restart;
pub mod status;
pub mod time;
pub mod timeline;
pub mod volume;
