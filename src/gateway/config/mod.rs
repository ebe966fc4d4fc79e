//! The gateway's config file: parsed as the gateway parses it, judged before it is started, and
//! seeded when there is none.

mod diff;
mod excerpt;
mod hash;
mod include;
mod mask;
mod meaning;
mod parse;
mod path;
mod rules;
mod scan;
pub(super) mod secrets;
mod seed;
mod show;
mod validation;

pub use diff::{Change, Diff, diff};
pub use hash::content_hash;
pub use include::{MAX_INCLUDE_BYTES, MAX_INCLUDE_DEPTH, MAX_INCLUDE_PATH, MAX_INCLUDES, expand};
pub use mask::{MASK, masked};
pub use meaning::{changed_keys, log_is_quiet, meaning, reload_is_off};
pub use parse::{ConfigError, ConfigProblem, MAX_BYTES, MAX_DEPTH, Parsed, Position, parse};
pub use path::{ConfigPath, PathError};
pub use rules::examine;
pub use seed::{SeedError, seed, seed_text, user_seed};
pub use show::{bare, compact, pretty};
pub use validation::{Answer, MAX_ANSWER_BYTES, VALIDATE, answer};
