//! The gateway's config file: parsed as the gateway parses it, judged before it is started, and
//! seeded when there is none.

mod excerpt;
mod hash;
mod parse;
mod rules;
mod scan;
mod secrets;
mod seed;

pub use hash::content_hash;
pub use parse::{ConfigError, ConfigProblem, MAX_BYTES, MAX_DEPTH, Parsed, Position, parse};
pub use rules::examine;
pub use seed::{SeedError, seed, seed_text, user_seed};
