//! Counts of waits in run queues, as records. In: the kernel's rows, read on a tick. Out: what each grew by.
//!
//! A row that hardly grew is told later: on a quiet node some hundred processes wake up now and then, and telling of each
//! of them once a second would fill the flight recorder with next to nothing.

use super::facts::proc;
use crate::attach::{counters::CountersError, queues::Queues};
use crate::decode::fact;
use slowpod_ebpf::abi::queue::{
    KERNEL_THREADS, NO_CPU, Pushed, PushedCount, PushedKey, QueueKey, QueueRow, RunQueue,
};
use slowpod_ebpf::abi::{Header, Kind, Task};
use slowpod_ebpf::rules::wait;
use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use zerocopy::{FromZeros, IntoBytes};

/// How often rows are read.
pub const TICK_NS: u64 = 1_000_000_000;
/// Growth below this many waits,
const FEW_WAITS: u64 = 50;
/// and this much time waited and on a CPU,
const LITTLE_NS: u64 = 5_000_000;
/// is told after this long at the latest.
const QUIET_NS: u64 = 5_000_000_000;
/// A row that has not grown for so long is taken back if its process is gone. Longer than the kernel takes a thread
/// for young, so that no thread still counts in it.
const IDLE_NS: u64 = 10_000_000_000;
/// The same for a row that the young processes of a cgroup share.
const IDLE_SHARED_NS: u64 = 60_000_000_000;
/// Idle rows looked after in one tick.
const IDLE_MAX: usize = 256;

/// What was told of the kernel's rows.
pub struct QueueReader {
    queues: Queues,
    due_ns: u64,
    cpus: Vec<Told>,
    rows: HashMap<u32, Told>,
    rows_begun: u64,
    pushed: HashMap<PushedKey, (PushedCount, u64)>,
    /// Cgroups that waited long since they were last asked for.
    waiters: BTreeSet<u64>,
    tick_s: u64,
}

/// One row, as told last.
struct Told {
    row: QueueRow,
    told_ns: u64,
    /// When it was last found as it was told: what it grew by came after that.
    still_ns: u64,
    grew_ns: u64,
}

impl Told {
    fn new(now_ns: u64) -> Told {
        Told { row: QueueRow::new_zeroed(), told_ns: now_ns, still_ns: now_ns, grew_ns: now_ns }
    }
}

impl QueueReader {
    /// A reader of what is attached now.
    pub fn new(queues: Queues, now_ns: u64) -> Self {
        QueueReader {
            queues,
            due_ns: now_ns,
            cpus: Vec::new(),
            rows: HashMap::from([(0, Told::new(now_ns))]),
            rows_begun: 0,
            pushed: HashMap::new(),
            waiters: BTreeSet::new(),
            tick_s: 0,
        }
    }

    /// Hands over the records that are due at `now_ns`, the quiet rows too when it is the `last` time.
    ///
    /// # Errors
    /// When the kernel's maps cannot be read.
    pub fn tick(
        &mut self,
        now_ns: u64,
        last: bool,
        mut emit: impl FnMut(&[u8]),
    ) -> Result<(), CountersError> {
        if now_ns < self.due_ns && !last {
            return Ok(());
        }
        self.due_ns = now_ns + TICK_NS;
        self.tick_s += 1;
        let cpus = self.queues.cpus()?;
        let begun = cpus.iter().fold(0_u64, |sum, cpu| sum.wrapping_add(cpu.rows_begun));
        for (number, cpu) in (0..).zip(&cpus) {
            if self.cpus.len() <= number as usize {
                self.cpus.push(Told::new(now_ns));
            }
            tell(&mut self.cpus[number as usize], &cpu.row, number, now_ns, true, &mut emit);
        }
        if begun != self.rows_begun {
            self.rows_begun = begun;
            for (_, row) in self.queues.index()? {
                self.rows.entry(row).or_insert_with(|| Told::new(now_ns));
            }
        }
        for (index, told) in &mut self.rows {
            let now = self.queues.row(*index)?;
            tell(told, &now, NO_CPU, now_ns, last, &mut emit);
        }
        self.tell_pushed(now_ns, &mut emit)?;
        self.release(now_ns)
    }

    /// Cgroups of threads that waited long since this was last asked.
    pub fn take_waiters(&mut self) -> BTreeSet<u64> {
        std::mem::take(&mut self.waiters)
    }

    fn tell_pushed(&mut self, now_ns: u64, emit: &mut impl FnMut(&[u8])) -> Result<(), CountersError> {
        for (key, now) in self.queues.pushed()? {
            let (before, from_ns) = self.pushed.insert(key, (now, now_ns)).unwrap_or_default();
            let count = PushedCount {
                stretches: now.stretches.wrapping_sub(before.stretches),
                ns: now.ns.wrapping_sub(before.ns),
            };
            if count.stretches == 0 {
                continue;
            }
            self.waiters.insert(key.waiter);
            let header = header(Kind::Pushed, size_of::<Pushed>(), now_ns);
            let from_ns = if from_ns == 0 { now_ns.saturating_sub(TICK_NS) } else { from_ns };
            emit(Pushed { header, from_ns, key, count }.as_bytes());
        }
        Ok(())
    }

    /// Takes rows back from processes that are gone.
    fn release(&mut self, now_ns: u64) -> Result<(), CountersError> {
        // Not every time: what is idle stays idle.
        if !self.tick_s.is_multiple_of(IDLE_NS / TICK_NS) {
            return Ok(());
        }
        let idle = |told: &Told| {
            let key = &told.row.key;
            let after_ns = if key.task.tgid == 0 { IDLE_SHARED_NS } else { IDLE_NS };
            *key != QueueKey::default()
                && key.task.tgid != KERNEL_THREADS
                && now_ns.saturating_sub(told.grew_ns) > after_ns
        };
        let idle: Vec<(u32, QueueKey)> = self
            .rows
            .iter()
            .filter(|(_, told)| idle(told))
            .map(|(index, told)| (*index, told.row.key))
            .take(IDLE_MAX)
            .collect();
        let tick_ns = fact::tick_ns(super::facts::node::clk_tck());
        for (index, key) in idle {
            let Task { tgid, start_ns, .. } = key.task;
            if tgid != 0 && proc::alive(Path::new("/proc"), tgid, start_ns / tick_ns) {
                continue;
            }
            self.queues.release(&key, index)?;
            self.rows.remove(&index);
        }
        Ok(())
    }
}

fn header(kind: Kind, len_bytes: usize, ktime_ns: u64) -> Header {
    Header { ktime_ns, kind: kind as u32, len_bytes: len_bytes as u32 }
}

/// Tells what a row grew by, if that is due.
fn tell(told: &mut Told, now: &QueueRow, cpu: u32, now_ns: u64, all: bool, emit: &mut impl FnMut(&[u8])) {
    let before = &told.row;
    let buckets: Vec<(u32, u32)> = (0..)
        .zip(now.waits.iter().zip(&before.waits))
        .map(|(bucket, (now, before))| (bucket, now.wrapping_sub(*before)))
        .filter(|(_, count)| *count > 0)
        .collect();
    let waits: u64 = buckets.iter().map(|(_, count)| u64::from(*count)).sum();
    let on_cpu_ns = now.on_cpu_ns.wrapping_sub(before.on_cpu_ns);
    let wait_ns = now.wait_ns.wrapping_sub(before.wait_ns);
    if waits == 0 && on_cpu_ns == 0 {
        told.still_ns = now_ns;
        return;
    }
    let quiet = waits < FEW_WAITS && on_cpu_ns < LITTLE_NS && wait_ns < LITTLE_NS;
    if quiet && !all && now_ns.saturating_sub(told.told_ns) < QUIET_NS {
        return;
    }
    let longest = now.longest.iter().zip(&before.longest).filter(|(now, before)| now != before);
    let len_bytes = size_of::<RunQueue>() + buckets.len() * size_of::<[u32; 2]>();
    let fixed = RunQueue {
        header: header(Kind::RunQueue, len_bytes, now_ns),
        from_ns: told.still_ns,
        key: now.key,
        cpu,
        buckets: buckets.len() as u32,
        wait_ns,
        preempted_ns: now.preempted_ns.wrapping_sub(before.preempted_ns),
        on_cpu_ns,
        blocked_ns: now.blocked_ns.wrapping_sub(before.blocked_ns),
        long_blocked_ns: now.long_blocked_ns.wrapping_sub(before.long_blocked_ns),
        longest_ns: longest.map(|(mark, _)| wait::longest_ns(*mark)).max().unwrap_or(0),
        long_blocks: now.long_blocks.wrapping_sub(before.long_blocks),
        preempted: now.preempted.wrapping_sub(before.preempted),
    };
    let mut record = Vec::with_capacity(len_bytes);
    record.extend_from_slice(fixed.as_bytes());
    for (bucket, count) in buckets {
        record.extend_from_slice(&bucket.to_le_bytes());
        record.extend_from_slice(&count.to_le_bytes());
    }
    emit(&record);
    *told = Told { row: *now, told_ns: now_ns, still_ns: now_ns, grew_ns: now_ns };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(waits: u32, wait_ns: u64) -> QueueRow {
        let mut row = QueueRow::new_zeroed();
        row.waits[3] = waits;
        row.wait_ns = wait_ns;
        row
    }

    fn records(told: &mut Told, now: &QueueRow, now_ns: u64, all: bool) -> Vec<RunQueue> {
        let mut records = Vec::new();
        tell(told, now, NO_CPU, now_ns, all, &mut |bytes| {
            let (fixed, rest) = slowpod_ebpf::abi::prefix::<RunQueue>(bytes).unwrap();
            assert_eq!(rest.len(), fixed.buckets as usize * 8);
            assert_eq!(bytes.len(), fixed.header.len_bytes as usize);
            records.push(fixed);
        });
        records
    }

    #[test]
    fn growth_is_told_once_and_counters_may_wrap() {
        let mut told = Told { row: row(u32::MAX - 10, 7), told_ns: 1, still_ns: 1, grew_ns: 1 };
        let grown = records(&mut told, &row(89, 100_000_007), TICK_NS, false);
        assert_eq!(grown.len(), 1);
        assert_eq!((grown[0].buckets, grown[0].wait_ns, grown[0].from_ns), (1, 100_000_000, 1));
        assert!(records(&mut told, &row(89, 100_000_007), 2 * TICK_NS, true).is_empty());
    }

    #[test]
    fn quiet_rows_are_told_late_but_whole() {
        let mut told = Told::new(0);
        assert!(records(&mut told, &row(5, 1_000), TICK_NS, false).is_empty());
        assert!(records(&mut told, &row(9, 1_800), 2 * TICK_NS, false).is_empty());
        let late = records(&mut told, &row(12, 2_000), QUIET_NS, false);
        assert_eq!((late.len(), late[0].wait_ns), (1, 2_000));
        let last = records(&mut told, &row(13, 2_001), QUIET_NS + 1, true);
        assert_eq!(last[0].wait_ns, 1, "the last time nothing is left untold");
    }

    #[test]
    fn what_grows_after_an_hour_did_not_grow_all_that_time() {
        let mut told = Told::new(0);
        for tick in 1..=3_600 {
            assert!(records(&mut told, &row(0, 0), tick * TICK_NS, false).is_empty());
        }
        let late = records(&mut told, &row(1, 1_000), 3_601 * TICK_NS, false);
        assert_eq!((late.len(), late[0].from_ns), (1, 3_600 * TICK_NS));
    }

    #[test]
    fn only_a_mark_that_changed_tells_of_a_long_wait() {
        let mut told = Told::new(0);
        let mut now = row(100, 900_000_000);
        let (place, mark) = wait::longest_mark(0, 40_000_000);
        now.longest[place] = mark;
        assert_eq!(records(&mut told, &now, TICK_NS, false)[0].longest_ns, 40_000_000 / 1_024 * 1_024);
        now.waits[3] += 100;
        assert_eq!(records(&mut told, &now, TICK_NS, false)[0].longest_ns, 0);
    }
}
