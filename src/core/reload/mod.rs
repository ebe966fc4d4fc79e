//! An edit of the config while the gateway runs: what is it worth, has the gateway taken it, must it be restarted?
//!
//! The gateway reloads its own config. This follows one edit at a time until the gateway has answered for it, helps
//! where the gateway did not notice, and restarts as the last resort. An edit leads to one restart at most, a
//! broken one to none, and what the gateway wrote itself to none either.

mod edit;
mod follow;

pub use edit::{
    Apply, Deed, Digest, Look, RestartWhy, Setting, Sign, Told, Unapplied, Validation, Verdict,
    judge,
};
pub use follow::Reload;

#[cfg(test)]
mod tests;
