//! What clawkeeper promises, on real gateways: the newest release, and one from before 2026.8.2 where they differ.
//!
//! `cargo test --examples --test real_gateway`. The gateways are installed once into a cache outside the checkout.
//! At most two run at once, whatever the number of test threads and processes.

#![allow(
    clippy::disallowed_methods,
    reason = "tests start processes, write files and read the clock"
)]

#[path = "../support/mod.rs"]
mod support;

mod config;
mod config_put;
mod control;
mod crashes;
mod events;
mod health;
mod life;
mod locks;
mod memory;
mod neighbours;
mod oom;
mod reload;
mod seed;
mod volume;
