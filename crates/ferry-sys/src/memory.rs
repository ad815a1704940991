//! Giving memory back, for processes that mostly sleep.

/// Returns what the allocator holds but nobody uses to the kernel.
pub fn give_back() {
    // SAFETY: takes a number of bytes to keep; the allocator's own data is what it works on, under its own lock.
    unsafe { libc::malloc_trim(0) };
}
