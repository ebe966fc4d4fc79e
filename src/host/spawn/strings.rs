//! The C strings of a start, made before the clone, because nothing may be allocated after it.

#![allow(
    clippy::disallowed_methods,
    reason = "a child without an environment of its own has ours"
)]

use super::Spec;
use nix::errno::Errno;
use nix::libc::c_char;
use std::ffi::{CString, OsStr};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::ptr;

/// Strings that outlive the clone, and NULL-terminated arrays of pointers to them.
pub(super) struct Strings {
    pub(super) candidates: CArray,
    pub(super) argv: CArray,
    env: Option<CArray>,
    pub(super) cwd: Option<CString>,
    /// `/bin/sh`, a slot for the script, the arguments: what execvp runs on ENOEXEC.
    shell: Vec<*const c_char>,
}

impl Strings {
    pub(super) fn new(spec: &Spec) -> Result<Self, Errno> {
        let path = match &spec.env {
            None => std::env::var_os("PATH"),
            Some(env) => env
                .iter()
                .find(|(name, _)| name == "PATH")
                .map(|(_, path)| path.clone()),
        };
        let argv = std::iter::once(&spec.program).chain(&spec.args);
        let argv = CArray::new(argv.map(|arg| arg.as_bytes().to_vec()))?;
        let env = spec.env.as_ref().map(|env| {
            CArray::new(
                env.iter()
                    .map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()].concat()),
            )
        });
        let mut shell = vec![c"/bin/sh".as_ptr(), ptr::null()];
        shell.extend_from_slice(&argv.pointers[1..]);
        Ok(Self {
            candidates: CArray::new(candidates(&spec.program, path.as_deref()))?,
            argv,
            env: env.transpose()?,
            cwd: spec
                .cwd
                .as_ref()
                .map(|cwd| c_string(cwd.as_bytes().to_vec()))
                .transpose()?,
            shell,
        })
    }

    pub(super) fn shell_argv(&mut self) -> *mut *const c_char {
        self.shell.as_mut_ptr()
    }

    pub(super) fn envp(&self) -> *const *const c_char {
        unsafe extern "C" {
            /// glibc's own; a copy through Rust's `env` would drop entries without a `=`.
            static environ: *const *const c_char;
        }
        match &self.env {
            Some(env) => env.as_ptrs(),
            // SAFETY: only read, and nothing in clawkeeper changes its environment.
            None => unsafe { environ },
        }
    }
}

pub(super) struct CArray {
    _strings: Vec<CString>,
    pointers: Vec<*const c_char>,
}

impl CArray {
    fn new(strings: impl IntoIterator<Item = Vec<u8>>) -> Result<Self, Errno> {
        let strings = strings
            .into_iter()
            .map(c_string)
            .collect::<Result<Vec<_>, _>>()?;
        let pointers = strings
            .iter()
            .map(|string| string.as_ptr())
            .chain([ptr::null()])
            .collect();
        Ok(Self {
            _strings: strings,
            pointers,
        })
    }

    pub(super) fn as_ptrs(&self) -> *const *const c_char {
        self.pointers.as_ptr()
    }
}

fn c_string(bytes: Vec<u8>) -> Result<CString, Errno> {
    CString::new(bytes).map_err(|_| Errno::EINVAL)
}

/// The paths that `execvp` would try, in its order.
fn candidates(program: &OsStr, path: Option<&OsStr>) -> Vec<Vec<u8>> {
    let program = program.as_bytes();
    if program.is_empty() || program.contains(&b'/') {
        return vec![program.to_vec()];
    }
    // glibc's default when PATH is not set at all.
    let path = path.map_or(b"/bin:/usr/bin".to_vec(), |path| path.to_owned().into_vec());
    path.split(|byte| *byte == b':')
        .map(|folder| match folder {
            // An empty folder is the working folder.
            [] => program.to_vec(),
            _ => [folder, b"/", program].concat(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_are_those_of_execvp() {
        let found = |program: &str, path: Option<&str>| -> Vec<String> {
            candidates(program.as_ref(), path.map(OsStr::new))
                .into_iter()
                .map(|path| String::from_utf8(path).expect("text"))
                .collect()
        };
        assert_eq!(found("a", Some("/x::y")), ["/x/a", "a", "y/a"]);
        assert_eq!(found("a", None), ["/bin/a", "/usr/bin/a"]);
        assert_eq!(found("./a", Some("/x")), ["./a"]);
        assert_eq!(found("", Some("/x")), [""]);
    }
}
