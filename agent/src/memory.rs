//! Memory that was freed and that the allocator would keep.

/// Blocks from this size on are mapped apart, and so given back as they are freed.
#[cfg(target_env = "gnu")]
const MAPPED_BYTES: libc::c_int = 128 << 10;

/// Makes the allocator keep little of what is freed: glibc would have a heap for each of several threads (`M_ARENA_MAX` in
/// mallopt(3)), and hold in each whatever was freed below what is still used. To be called before there are threads.
pub fn keep_little() {
    #[cfg(target_env = "gnu")]
    // SAFETY: sets numbers of the allocator's own.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        // Set, it no longer grows with the largest block that was freed.
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_BYTES);
        libc::mallopt(libc::M_TRIM_THRESHOLD, MAPPED_BYTES);
    }
}

/// Gives freed memory back to the system, which glibc does by itself only at the very end of its heap. For the end of
/// work that took much of it for a moment.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: touches nothing but the allocator's own free lists.
    unsafe {
        libc::malloc_trim(0)
    };
}
