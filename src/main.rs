//! Parses, dispatches, and turns the outcome into an exit code.

use clawkeeper::host::early;
use std::process::ExitCode;

/// Runs before Rust's runtime does; see [`early`] for why.
#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = early::before_main;

fn main() -> ExitCode {
    clawkeeper::cli::main()
}
