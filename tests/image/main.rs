//! The image of docker/Dockerfile, built from this checkout and run in real containers, with the real gateway in it.
//!
//! `cargo test --test image`. Needs podman, or root on Debian: tests/containers/setup.sh gets the rest.

#![allow(
    clippy::disallowed_methods,
    reason = "tests start processes and read the clock"
)]

#[path = "../support/mod.rs"]
mod support;

#[path = "../support/power.rs"]
mod moments;

mod alerts;
mod commands;
mod container;
mod life;
mod limits;
mod official;
mod power;
mod programs;
mod secrets;
