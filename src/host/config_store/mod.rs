//! Keeps the versions a config had, and replaces a config whole or not at all.
//!
//! The versions lie in `<state>/clawkeeper/config/`, which only the user clawkeeper runs as can open:
//! a config holds secrets. Everything about a version stands in its name (see
//! [`core::config_history`](crate::core::config_history)), so a crash leaves no index to be repaired.

mod replace;
mod versions;

pub use replace::{Expected, WriteError, Written, may_be_replaced, with_draft, write_config};
pub use versions::{ConfigStore, Good};

#[cfg(test)]
mod tests;
