//! What clawkeeper knows of OpenClaw, by version: its files, locks, log lines, environment and config.
//!
//! Everything here is a pure function of its arguments.
//! Nothing here reads a clock, a file, an environment variable or a process.
//! A fact is stated with the release it was measured on; "(source)" marks one that was read in the
//! shipped package and not run.

pub mod command;
pub mod config;
pub mod environment;
pub mod heap;
pub mod launch;
pub mod lock_payload;
pub mod lock_places;
pub mod markers;
pub mod mask;
pub mod node_report;
pub mod paths;
pub mod platform;
mod private_key;
pub mod reload;
pub mod shell_words;
pub mod version;

pub use command::{Command, GatewayCommand, assume, default_command, recognise};
pub use environment::{Env, child_environment};
pub use heap::{HeapChoice, HeapWish, TooLarge};
pub use launch::{Bind, Launch, Source, effective_bind, effective_port, fixed_port};
pub use lock_payload::{LockPayload, LockPayloadError};
pub use lock_places::{LockPlace, lock_places};
pub use markers::{recognise_line, recognise_tail};
pub use mask::Mask;
pub use node_report::clean_report;
pub use paths::{AGENT, AGENTS, CONSOLE_FOLDERS, PathFacts, config_path, state_dir};
pub use platform::{HeapSetting, Place, how_to_grow};
pub use private_key::PrivateKey;
pub use reload::recognise_reload;
pub use shell_words::{hides_a_gateway, unwrapped, words};
pub use version::{Version, VersionError};
