//! The image as a Fly machine: not PID 1, memory that is the machine's, a volume that outlives a power cut.
//!
//! `cargo test --examples --test machine`, and with `-- --ignored` the one test with the real gateway. Machines run in
//! software emulation, one at a time; `boot.sh` says how close to Fly's own they are. Three variables:
//! `CLAWKEEPER_MACHINE_CUTS` is how many power cuts in a row a gateway that does what it is told gets (3; seconds each),
//! `CLAWKEEPER_MACHINE_REAL_CUTS` how many the real one gets (2; each costs half a boot or a whole one, of four minutes
//! on an idle core), `CLAWKEEPER_MACHINE_ROOT` a disk made by `root.sh` before, instead of one of the image that this
//! checkout builds.

#![allow(
    clippy::disallowed_methods,
    reason = "tests start processes, write files and read the clock"
)]

#[path = "../support/mod.rs"]
mod support;

#[path = "../support/power.rs"]
mod moments;

mod memory;
mod power;
mod site;
mod stop;
