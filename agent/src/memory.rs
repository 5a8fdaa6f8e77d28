//! Memory that was freed and that the allocator would keep.

/// Gives freed memory back to the system, which glibc does by itself only at the very end of each of its heaps. For the
/// end of work that took much of it for a moment.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: touches nothing but the allocator's own free lists.
    unsafe {
        libc::malloc_trim(0)
    };
}
