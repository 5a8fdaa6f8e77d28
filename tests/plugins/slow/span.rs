//! The plugin's own account of its time: how long something took by the clock, and what of that it ran or was ready and
//! waited for a CPU, as the kernel counts for the thread itself. What is left it was blocked, however busy the machine was.

use crate::log::now_ns;
use serde_json::{Value, json};
use std::io;

/// Sums over the stretches of one phase.
#[derive(Default)]
pub(crate) struct Account {
    waited_ns: u64,
    ran_ns: u64,
    queued_ns: u64,
    /// At the end of the last one: since the thread was born, what lies between the stretches included.
    queued_in_all_ns: u64,
}

/// What the clocks say at one moment.
struct Reading {
    at_ns: u64,
    cpu_ns: u64,
    queued_ns: u64,
}

impl Reading {
    /// All three of one moment: when the thread had to wait for a CPU in between, they are read again.
    fn now() -> io::Result<Reading> {
        loop {
            let queued_before_ns = queued_ns()?;
            let reading = Reading { at_ns: now_ns(), cpu_ns: cpu_ns(), queued_ns: queued_ns()? };
            if reading.queued_ns == queued_before_ns {
                return Ok(reading);
            }
        }
    }
}

impl Account {
    /// Does something, and adds what it took.
    pub(crate) fn of<T>(&mut self, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let begun = Reading::now()?;
        let done = work()?;
        let end = Reading::now()?;
        self.waited_ns += end.at_ns - begun.at_ns;
        self.ran_ns += end.cpu_ns - begun.cpu_ns;
        self.queued_ns += end.queued_ns - begun.queued_ns;
        self.queued_in_all_ns = end.queued_ns;
        Ok(done)
    }

    /// As it stands in the log: `waited_ns` by the clock, and its parts.
    pub(crate) fn truth(&self) -> Value {
        let blocked_ns = self.waited_ns.saturating_sub(self.ran_ns + self.queued_ns);
        json!({
            "waited_ns": self.waited_ns, "ran_ns": self.ran_ns, "queued_ns": self.queued_ns, "blocked_ns": blocked_ns,
            "queued_in_all_ns": self.queued_in_all_ns,
        })
    }
}

/// How long this thread has waited in run queues (`sched_info.run_delay`; Documentation/scheduler/sched-stats.rst).
fn queued_ns() -> io::Result<u64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let word = text.split_whitespace().nth(1).and_then(|word| word.parse().ok());
    word.ok_or_else(|| io::Error::other("schedstat has no second number"))
}

/// CPU time of this thread.
pub(crate) fn cpu_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a timespec to write to. The clock is always there.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
