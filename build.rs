//! Makes the release binary smaller where the linker can: relocations of a static position-independent program
//! take 24 bytes each, packed (`DT_RELR`) hardly any. That is 118 KB of 3.4 MB.
//! And makes the page's files smaller: no indentation, no comments on lines of their own.
#![allow(
    clippy::disallowed_methods,
    reason = "a build script reads files and its environment, and asks the C library"
)]

use std::path::Path;
use std::process::Command;
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    for name in ["index.html", "style.css", "app.js"] {
        shorten(name);
    }
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

/// No text of the page's goes over several lines, so that what leads a line says nothing.
fn shorten(name: &str) {
    let path = format!("src/render/page/{name}");
    println!("cargo::rerun-if-changed={path}");
    let text = fs::read_to_string(&path).expect("a file of the page");
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with("//"))
        .collect();
    let folder = env::var_os("OUT_DIR").expect("cargo sets it");
    fs::write(Path::new(&folder).join(name), lines.join("\n")).expect("cargo's folder");
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
