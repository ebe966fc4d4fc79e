//! Gives back the memory that only a start needed.
//!
//! Most of a supervisor's resident memory is its own program: parsers, the preflight, error texts, all mapped
//! while the gateway was being started and touched no more while it runs.

use nix::libc;
use std::ffi::c_void;

/// Unmaps the pages of the program itself, and returns free heap to the kernel.
///
/// What is needed again comes back from the page cache, 64 KB around each fault (`fault_around_bytes`).
pub fn shrink() {
    // SAFETY: releases free memory at the top of the heap and whole free pages in it; no live allocation moves.
    unsafe { libc::malloc_trim(0) };
    for (start, length) in program_segments() {
        // SAFETY: the range is a file-backed mapping of this program that nothing can have written to, so its
        // pages are those of the file whenever they are asked for again (madvise(2), MADV_DONTNEED).
        unsafe { libc::madvise(start, length, libc::MADV_DONTNEED) };
    }
}

/// Code and constants of this program: its loadable segments that cannot be written to, as whole pages.
///
/// Relocated constants lie in a writable segment that is protected later, and are not among them.
fn program_segments() -> Vec<(*mut c_void, usize)> {
    unsafe extern "C" fn visit(
        info: *mut libc::dl_phdr_info,
        _size: libc::size_t,
        data: *mut c_void,
    ) -> libc::c_int {
        // SAFETY: dl_iterate_phdr passes a valid record, and `data` is the vector given to it below.
        let (info, found) = unsafe { (&*info, &mut *data.cast::<Vec<(*mut c_void, usize)>>()) };
        // SAFETY: the record names its own table of program headers.
        let headers =
            unsafe { std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
        for header in headers {
            if header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_W == 0 {
                // 64-bit only, as every platform of the gateway is.
                let start = info.dlpi_addr + header.p_vaddr;
                let aligned = start & !(PAGE - 1);
                let end = (start + header.p_memsz) & !(PAGE - 1);
                found.push((
                    aligned as *mut c_void,
                    usize::try_from(end.saturating_sub(aligned)).unwrap_or(0),
                ));
            }
        }
        // The first record is the program itself; a static one has no other but the kernel's vdso.
        1
    }
    let mut found = Vec::new();
    // SAFETY: `visit` keeps to the protocol of dl_iterate_phdr(3), and `found` outlives the call.
    unsafe { libc::dl_iterate_phdr(Some(visit), (&raw mut found).cast()) };
    found
}

/// Pages of 4 KB on x86_64; on aarch64 a kernel with larger ones refuses a misaligned range, and nothing is given back.
const PAGE: u64 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_runs_on_after_its_pages_were_given_back() {
        let segments = program_segments();
        assert!(!segments.is_empty());
        let here = the_program_runs_on_after_its_pages_were_given_back as *const () as usize;
        let holds = |(start, length): &(*mut c_void, usize)| {
            (*start as usize..*start as usize + length).contains(&here)
        };
        assert!(
            segments.iter().any(holds),
            "our own code is in {segments:?}"
        );
        shrink();
        assert_eq!("still".len() + " here".len(), 10);
    }
}
