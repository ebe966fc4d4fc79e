//! The machine in a simulated world. No clock, no threads: a life of hours takes milliseconds.

mod control_stories;
mod facts;
mod fake_host;
mod hold_stories;
mod invariants;
mod memory_stories;
mod oom_stories;
mod phases;
mod properties;
mod rollback_stories;
mod sample_events;
mod sleep_stories;
mod start_stories;
mod status_stories;
mod stop_stories;
mod telling;
mod world;
