//! Text for people. PURE: facts in, words out; decides nothing and touches nothing.
#![deny(clippy::wildcard_enum_match_arm)]

mod alert;
mod chart;
mod death;
mod defect;
mod edit;
mod health;
mod log_line;
mod memory;
mod metrics;
mod page;
mod plain;
mod problem;
mod report;
mod status;
mod status_text;
mod timeline;
mod utc;

pub use alert::{Whereabouts, alert};
pub use chart::{Bar, chart};
pub use defect::defect;
pub use health::{LIVE, NOT_LIVE, PATHS, readiness};
pub use log_line::LogLine;
pub use metrics::{Surroundings, metrics};
pub use page::{
    CONTENT_SECURITY_POLICY, NO_ANSWER_OF_VOLUME, NOT_OUR_NAME, PAGE, SCRIPT, SPAN_IS_WRONG, STYLE,
    events_json, history_json, without_values,
};
pub use plain::plain;
pub use problem::{config_problem, hold_why, lock_verdict, stale_why, volume_warning};
pub use report::report;
pub use status::{LIMIT_IS_WRONG, answer_json, status_json};
pub use status_text::{Style, silence_text, status_text};
pub use timeline::{event, event_json};
pub use utc::{utc_millis, utc_seconds};
