//! The output relay: the gateway writes into pipes of ours, and one thread passes the bytes on.
//!
//! It never changes a byte, never holds up the gateway longer than its
//! [`StallBudget`](crate::core::output::StallBudget) allows, and never sets a flag on the
//! descriptors clawkeeper inherited: their open file description is shared with other processes.

mod handle;
mod sink;
mod source;
mod worker;

pub(super) use handle::is_own_thread;
pub use handle::{
    Attachment, Drain, Drained, LineEvent, OnLine, OutputStats, Relay, RelayError, Sinks, Stream,
};
