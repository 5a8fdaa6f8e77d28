//! Memory shared between this process and those it forks: a row of 64-bit numbers, all zero at first.

use std::io;
use std::ops::Deref;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};

/// A shared mapping, seen as numbers.
pub(crate) struct Shared {
    words: &'static [AtomicU64],
}

impl Shared {
    /// Maps room for `count` numbers. Mapped for the life of the process: scenarios are short.
    pub(crate) fn new(count: usize) -> io::Result<Shared> {
        let bytes = count.max(1) * size_of::<AtomicU64>();
        let (prot, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        // SAFETY: a new anonymous mapping; no memory of ours is touched.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), bytes, prot, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: page-aligned, `bytes` long, zeroed, never unmapped, and only used through atomics.
        let words = unsafe { std::slice::from_raw_parts(start.cast(), count) };
        Ok(Shared { words })
    }

    /// Stores a number.
    pub(crate) fn put(&self, at: usize, value: u64) {
        self.words[at].store(value, SeqCst);
    }

    /// Loads a number.
    pub(crate) fn get(&self, at: usize) -> u64 {
        self.words[at].load(SeqCst)
    }
}

impl Deref for Shared {
    type Target = [AtomicU64];

    fn deref(&self) -> &[AtomicU64] {
        self.words
    }
}

/// A shared number that one process raises and another waits for, by futex.
pub(crate) struct Stage {
    word: &'static AtomicU32,
}

impl Stage {
    /// A stage at 0.
    pub(crate) fn new() -> io::Result<Stage> {
        let words = Shared::new(1)?.words;
        // SAFETY: the words live forever, and an AtomicU64 has room and alignment for an AtomicU32.
        Ok(Stage { word: unsafe { &*words.as_ptr().cast() } })
    }

    /// Raises the stage and wakes whoever waits. Does not block.
    pub(crate) fn raise(&self, to: u32) {
        self.word.store(to, SeqCst);
        self.futex(libc::FUTEX_WAKE, i32::MAX as u32);
    }

    /// Blocks in FUTEX_WAIT until the stage is at least `at`.
    pub(crate) fn wait_for(&self, at: u32) {
        loop {
            let now = self.now();
            if now >= at {
                return;
            }
            self.futex(libc::FUTEX_WAIT, now);
        }
    }

    /// The stage, without waiting.
    pub(crate) fn now(&self) -> u32 {
        self.word.load(SeqCst)
    }

    fn futex(&self, operation: i32, value: u32) {
        let no_timeout = std::ptr::null::<libc::timespec>();
        // SAFETY: the word lives forever. EAGAIN and EINTR are answered by the caller's loop.
        unsafe { libc::syscall(libc::SYS_futex, self.word.as_ptr(), operation, value, no_timeout) };
    }
}
