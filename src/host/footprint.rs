//! Gives back the memory that only a start needed.
//!
//! Most of a supervisor's resident memory is its own program: parsers, the preflight, error texts, all mapped
//! while the gateway was being started and touched no more while it runs.

use nix::libc;
use nix::unistd::{getpid, gettid};
use std::ffi::c_void;

/// Allocations from this size on are mappings of their own: what of them is never touched takes no memory.
///
/// The relay's buffer is one, for bursts that most gateways never have.
const OWN_MAPPING_BYTES: libc::c_int = 32 * 1024;
/// How far below the present one the frames of a start may have reached.
const STACK_USED_MAX: usize = 512 * 1024;
/// Frames of ours, and the red zone below them.
const STACK_KEPT: usize = 4 * 4096;

/// Tells the allocator that this is a program whose threads allocate next to nothing. Before any other thread exists.
pub fn begin_small() {
    // SAFETY: both only set a number.
    unsafe {
        // glibc reserves 64 MB of address space and some pages for every thread's own heap.
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_MMAP_THRESHOLD, OWN_MAPPING_BYTES);
    }
}

/// Unmaps the pages of the program itself, and returns free heap and the main thread's old stack to the kernel.
///
/// What is needed again comes back from the page cache, 64 KB around each fault (`fault_around_bytes`).
pub fn shrink() {
    // SAFETY: releases free memory at the top of the heap and whole free pages in it; no live allocation moves.
    unsafe { libc::malloc_trim(0) };
    if getpid() == gettid() {
        give_stack_back();
    }
    for (start, length) in program_segments() {
        // SAFETY: the range is a file-backed mapping of this program that nothing can have written to, so its
        // pages are those of the file whenever they are asked for again (madvise(2), MADV_DONTNEED).
        unsafe { libc::madvise(start, length, libc::MADV_DONTNEED) };
    }
}

/// The pages below the present frames. Only for the main thread: no other mapping comes near its stack
/// (`stack_guard_gap`, 1 MB), while a thread's own may lie beside another's.
fn give_stack_back() {
    let here = 0_u8;
    let page = usize::try_from(PAGE).unwrap_or(4096);
    let end = (&raw const here as usize - STACK_KEPT) & !(page - 1);
    let start = end - STACK_USED_MAX;
    // SAFETY: everything in the range lies below all live frames, by more than the red zone and this call need.
    // Below the lowest page ever used nothing is mapped, which the kernel passes over (ENOMEM).
    unsafe { libc::madvise(start as *mut c_void, STACK_USED_MAX, libc::MADV_DONTNEED) };
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
