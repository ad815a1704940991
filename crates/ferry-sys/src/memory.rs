//! Giving memory back, for processes that mostly sleep.

use std::ffi::{c_int, c_void};

/// Returns what the allocator holds but nobody uses to the kernel, and takes the program's own read-only pages out of this process.
///
/// The latter come back from the page cache, without any disk, as they are used: what is left mapped is what the process really
/// works with, not all that it ever ran at its start.
pub fn give_back() {
    // SAFETY: takes a number of bytes to keep; the allocator's own data is what it works on, under its own lock.
    unsafe { libc::malloc_trim(0) };
    forget_stack_below();
    // SAFETY: the callback has the declared type, and does not unwind.
    unsafe { libc::dl_iterate_phdr(Some(forget_clean_pages), std::ptr::null_mut()) };
}

/// What deeper calls have left on the stack.
#[inline(never)]
fn forget_stack_below() {
    const DEPTH: usize = 1 << 20;
    // Left alone below this frame: it holds what this function and the call that it makes put there.
    const NEAR: usize = 2 << 12;
    // Other threads have less below them than this reaches.
    if rustix::thread::gettid() != rustix::process::getpid() {
        return;
    }
    let here = 0_u8;
    let end = (std::ptr::from_ref(&here).addr() & !0xfff) - NEAR;
    // SAFETY: below the frame of the innermost call there is nothing that anyone reads again, and the range is far from that frame. It lies
    // on the main thread's stack or in the gap of at least as much which the kernel keeps free below that, which only gives an error.
    unsafe { libc::madvise((end - DEPTH) as *mut c_void, DEPTH, libc::MADV_DONTNEED) };
}

/// Called for each loaded object; a static program is one.
extern "C" fn forget_clean_pages(info: *mut libc::dl_phdr_info, _size: usize, _data: *mut c_void) -> c_int {
    const PAGE: u64 = 4096;
    // SAFETY: `dl_iterate_phdr` passes a valid description that nobody changes meanwhile.
    let info = unsafe { &*info };
    // SAFETY: as described by `info`.
    let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
    for header in headers {
        if header.p_type != libc::PT_LOAD || header.p_flags & libc::PF_W != 0 {
            continue;
        }
        let start = (info.dlpi_addr + header.p_vaddr) & !(PAGE - 1);
        let end = (info.dlpi_addr + header.p_vaddr + header.p_memsz).next_multiple_of(PAGE);
        // SAFETY: the range is a private mapping of the program's file that is never written (no PF_W), so each page is the file's
        // and reads the same when it is mapped again at the next access. A refusal changes nothing.
        unsafe { libc::madvise(start as *mut c_void, (end - start) as usize, libc::MADV_DONTNEED) };
    }
    0
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_process_goes_on_after_giving_back() {
        let text = String::from("before ") + &"x".repeat(100_000);
        super::give_back();
        assert!(text.starts_with("before x"));
    }
}
