//! clawkeeper keeps an OpenClaw gateway running inside a container or a small virtual machine.
//!
//! The map, and who may import whom:
//!
//! | module | owns | may import |
//! |---|---|---|
//! | [`core`] | every decision: facts and past events in, verdicts and actions out | nothing of ours |
//! | [`gateway`] | knowledge of OpenClaw by version: commands, files, locks, markers, config | `core` |
//! | [`render`] | text for people: log lines, reports, tables | `core`, `settings` |
//! | [`host`] | everything that touches the operating system | `core`, `gateway`, `render`, `settings`, `exit` |
//! | [`cli`] | the commands | all of these |
//! | [`settings`] | environment and flags, checked, all errors at once | `core` |
//! | [`exit`] | the one list of exit codes | nothing |
//!
//! `core`, `gateway` and `render` never read a clock, a file, an environment variable or a process;
//! `clippy.toml` enforces it.

pub mod cli;
pub mod core;
pub mod exit;
pub mod gateway;
pub mod host;
pub mod render;
pub mod settings;
