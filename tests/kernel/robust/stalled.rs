//! A process that gets no CPU for a while.

/// Holds a process still; dropping it lets it go on.
pub(super) struct Stalled {
    pid: libc::pid_t,
}

impl Stalled {
    pub(super) fn new(pid: u32) -> Stalled {
        let pid = pid as libc::pid_t;
        // SAFETY: plain numbers; the caller owns the process, which is not reaped yet.
        assert_eq!(unsafe { libc::kill(pid, libc::SIGSTOP) }, 0);
        Stalled { pid }
    }
}

impl Drop for Stalled {
    fn drop(&mut self) {
        // SAFETY: as above. A process that is gone needs it no more.
        unsafe { libc::kill(self.pid, libc::SIGCONT) };
    }
}
