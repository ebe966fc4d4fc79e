//! Makes the release binary smaller where the linker can: relocations of a static position-independent program
//! take 24 bytes each, packed (`DT_RELR`) hardly any. That is 118 KB of 3.4 MB.
#![allow(
    clippy::disallowed_methods,
    reason = "a build script reads its environment and asks the C library"
)]

use std::env;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|it| it == value);
    let is_native = env::var("HOST").is_ok_and(|host| is("TARGET", &host));
    if is("PROFILE", "release")
        && is("CARGO_CFG_TARGET_ARCH", "x86_64")
        && is("CARGO_CFG_TARGET_ENV", "gnu")
        && is_native
        && libc_unpacks()
    {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// A static program relocates itself with the C library it was linked with; glibc can read the packed form since 2.36.
fn libc_unpacks() -> bool {
    let answer = Command::new("getconf").arg("GNU_LIBC_VERSION").output();
    let text = answer.map_or_else(
        |_| String::new(),
        |answer| String::from_utf8_lossy(&answer.stdout).into_owned(),
    );
    let version = text.trim().strip_prefix("glibc ").unwrap_or_default();
    let mut numbers = version
        .split('.')
        .map_while(|part| part.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(2), Some(36))
}
