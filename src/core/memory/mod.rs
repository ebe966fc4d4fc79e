//! Memory: what was seen of it, and what is to be done before the kernel does something.
//!
//! Amounts are in KiB, the unit of `/proc`; people are told MB, as `fly machine update --vm-memory` takes them.

mod policy;
mod sample;
mod series;
mod shortage;
mod trend;
mod watch;

pub use policy::{HeapBounds, Marks, MemoryPolicy};
pub use sample::{Kib, LimitFrom, Sample};
pub use series::{Point, Series};
pub use shortage::{Faults, Shortage};
pub use trend::Rise;
pub use watch::{Outlook, Verdict, Watch};

#[cfg(test)]
mod heap_simulation;
#[cfg(test)]
mod simulation;
