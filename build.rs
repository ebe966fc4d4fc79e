//! Makes the release binary smaller where the linker can; where it cannot, the binary is larger and works as well.
//!
//! - Relocations of a static position-independent program take 24 bytes each, packed (`DT_RELR`) hardly any: 118 KB.
//! - The release never unwinds (see `host::defect`), and the tables for it are 440 KB that nothing reads: the standard
//!   library and the C library bring theirs along.
//! - The page's files: no indentation, no comments on lines of their own.
#![allow(
    clippy::disallowed_methods,
    reason = "a build script reads files and its environment, and asks the C library and the linker"
)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// `INSERT` keeps the linker's own layout for everything else; GNU ld and LLD know it.
const WITHOUT_UNWIND_TABLES: &str = "\
SECTIONS
{
  /DISCARD/ : { *(.eh_frame) *(.eh_frame.*) *(.gcc_except_table) *(.gcc_except_table.*) }
}
INSERT AFTER .rodata;
";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    for name in ["index.html", "style.css", "app.js"] {
        shorten(name);
    }
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|it| it == value);
    let is_native = env::var("HOST").is_ok_and(|host| is("TARGET", &host));
    if !is("PROFILE", "release") || !is("CARGO_CFG_TARGET_ENV", "gnu") || !is_native {
        return;
    }
    if is("CARGO_CFG_TARGET_ARCH", "x86_64") && libc_unpacks() {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
    for argument in arguments_without_unwind_tables().unwrap_or_default() {
        println!("cargo::rustc-link-arg-bins={argument}");
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

/// The linker's arguments, if a small static program linked with them runs. Of a linker that was chosen nothing is known.
fn arguments_without_unwind_tables() -> Option<[String; 2]> {
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    let is_chosen = env::var_os("RUSTC_LINKER").is_some()
        || ["fuse-ld", "linker"].iter().any(|it| flags.contains(it));
    if is_chosen {
        return None;
    }
    let folder = PathBuf::from(env::var_os("OUT_DIR")?);
    let write = |name: &str, text: &str| -> Option<PathBuf> {
        let path = folder.join(name);
        fs::write(&path, text).ok()?;
        Some(path)
    };
    let script = write("without_unwind_tables.ld", WITHOUT_UNWIND_TABLES)?;
    let program = write("small.c", "int main(void) { return 0; }\n")?;
    let arguments = [
        format!("-Wl,-T,{}", script.display()),
        "-Wl,--no-eh-frame-hdr".to_owned(),
    ];
    let built = folder.join("small");
    let mut cc = Command::new("cc");
    cc.arg("-static-pie")
        .args(&arguments)
        .arg(program)
        .arg("-o");
    (succeeds(cc.arg(&built)) && succeeds(&mut Command::new(Path::new(&built))))
        .then_some(arguments)
}

fn succeeds(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}
