//! Sums over about a second of samples and waits. In: the kernel's records, one per tick or wait, and the slots of
//! threads that are away. Out: one record per row, for the flight recorder and all that comes after.
//!
//! What is alike is one row: same process, same name of the thread, same stacks. A wait that goes on is told in
//! parts, so that a thread that never comes back is seen too; when it ends, only the rest is told.

use slowpod_ebpf::abi::sample::{FLAG_GOES_ON, FLAG_LONG, Sample, SampleKind};
use slowpod_ebpf::abi::settings::LONG_BLOCK_NS;
use slowpod_ebpf::abi::threads::{BLOCKED, CAUSE_TAKEN, Owner, STACKS_TAKEN, Slot};
use slowpod_ebpf::abi::{COMM_BYTES, Header, Kind, prefix};
use std::collections::HashMap;

/// Rows summed before they are let go early: what a node does in a second with room to spare. 4 MiB.
const ROWS_MAX: usize = 16_384;
/// A wait that goes on is told from this age on, nanoseconds. Shorter ones are told when they end.
pub const GOES_ON_NS: u64 = LONG_BLOCK_NS;

/// What makes two samples alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Alike {
    tgid: u32,
    kind: u32,
    start_ns: u64,
    cgroup_id: u64,
    user_stack: u64,
    kernel_stack: u64,
    comm: [u8; COMM_BYTES],
    cause: u32,
    flags: u32,
}

/// How much of a wait was told before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Told {
    begun_ns: u64,
    told_ns: u64,
}

/// The sums of the present second.
#[derive(Debug, Default)]
pub struct Samples {
    rows: HashMap<Alike, Sample>,
    /// By thread id: waits that went on at the last look, and
    told: HashMap<u32, Told>,
    /// at the one before: their last record may have been on its way.
    told_before: HashMap<u32, Told>,
}

impl Samples {
    /// Takes in a record; false when it is no sample.
    pub fn take(&mut self, record: &[u8]) -> bool {
        let Some((mut sample, _)) = prefix::<Sample>(record).filter(|(sample, _)| is_sample(&sample.header))
        else {
            return false;
        };
        if sample.kind == SampleKind::OffCpu as u32 {
            sample.flags |= if sample.value_ns >= LONG_BLOCK_NS { FLAG_LONG } else { 0 };
            sample.value_ns = sample.value_ns.saturating_sub(self.take_told(&sample));
        }
        self.add(sample);
        true
    }

    /// Whether there are so many rows that they should go out before their time.
    pub fn is_full(&self) -> bool {
        self.rows.len() >= ROWS_MAX
    }

    /// Takes in the waits that go on at `now_ns`.
    pub fn go_on(&mut self, now_ns: u64, away: impl Iterator<Item = (Slot, Owner)>) {
        let before = std::mem::take(&mut self.told);
        for (slot, owner) in away {
            // Without either nobody knows yet why it waits.
            let waits = slot.state == BLOCKED && slot.flags & (STACKS_TAKEN | CAUSE_TAKEN) != 0;
            let waited_ns = now_ns.saturating_sub(slot.since_ns);
            if !waits || waited_ns < GOES_ON_NS {
                continue;
            }
            // Of another absence, if there is none of this one.
            let of_this = |stack| if slot.flags & STACKS_TAKEN == 0 { 0 } else { stack };
            let told = before.get(&slot.tid).filter(|told| told.begun_ns == slot.since_ns);
            let told_ns = told.map_or(0, |told| told.told_ns);
            self.told.insert(slot.tid, Told { begun_ns: slot.since_ns, told_ns: waited_ns });
            self.add(Sample {
                header: header(now_ns),
                task: owner.task,
                cgroup_id: owner.cgroup_id,
                user_stack: of_this(slot.user_stack),
                kernel_stack: of_this(slot.kernel_stack),
                count: 0,
                value_ns: waited_ns.saturating_sub(told_ns),
                period_ns: 0,
                begun_ns: slot.since_ns,
                kind: SampleKind::OffCpu as u32,
                cause: u32::from(slot.cause),
                flags: FLAG_GOES_ON | FLAG_LONG,
                reserved: 0,
                comm: owner.comm,
            });
        }
        self.told_before = before;
    }

    /// Ends the sums: hands out every row, as a record of `now_ns`.
    pub fn close(&mut self, now_ns: u64) -> impl Iterator<Item = Sample> {
        // In an order of their own, which a second run over the same samples would have too.
        let mut rows: Vec<Sample> = self.rows.drain().map(|(_, row)| row).collect();
        rows.sort_unstable_by_key(|row| {
            (row.begun_ns, row.task.tid, row.kind, row.user_stack, row.kernel_stack)
        });
        rows.into_iter().map(move |row| Sample { header: header(now_ns), ..row })
    }

    /// How much of a wait that has ended was told before.
    fn take_told(&mut self, sample: &Sample) -> u64 {
        let tid = sample.task.tid;
        let told = [&mut self.told, &mut self.told_before].into_iter().find_map(|table| {
            table.get(&tid).filter(|told| told.begun_ns == sample.begun_ns)?;
            table.remove(&tid)
        });
        told.map_or(0, |told| told.told_ns)
    }

    fn add(&mut self, sample: Sample) {
        let alike = Alike {
            tgid: sample.task.tgid,
            kind: sample.kind,
            start_ns: sample.task.start_ns,
            cgroup_id: sample.cgroup_id,
            user_stack: sample.user_stack,
            kernel_stack: sample.kernel_stack,
            comm: sample.comm,
            cause: sample.cause,
            flags: sample.flags,
        };
        let row = self.rows.entry(alike).or_insert(Sample { count: 0, value_ns: 0, ..sample });
        row.count += sample.count;
        row.value_ns += sample.value_ns;
        row.begun_ns = row.begun_ns.min(sample.begun_ns);
        if row.period_ns != sample.period_ns {
            row.period_ns = 0;
        }
    }
}

fn header(ktime_ns: u64) -> Header {
    Header { ktime_ns, kind: Kind::Sample as u32, len_bytes: size_of::<Sample>() as u32 }
}

/// Whether a record is a sample, by its header.
pub fn is_sample(header: &Header) -> bool {
    header.kind == Kind::Sample as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use slowpod_ebpf::abi::{Task, split::Cause};
    use zerocopy::{FromZeros, IntoBytes};

    const S: u64 = 1_000_000_000;

    fn wait(tid: u32, begun_ns: u64, value_ns: u64) -> Sample {
        let mut sample = Sample::new_zeroed();
        sample.header = header(begun_ns + value_ns);
        sample.task = Task { start_ns: 1, tgid: 7, tid };
        (sample.user_stack, sample.count, sample.value_ns, sample.begun_ns) = (9, 1, value_ns, begun_ns);
        (sample.kind, sample.cause) = (SampleKind::OffCpu as u32, Cause::Futex as u32);
        sample
    }

    fn away(tid: u32, since_ns: u64) -> (Slot, Owner) {
        let slot = Slot {
            tid,
            since_ns,
            state: BLOCKED,
            flags: STACKS_TAKEN,
            user_stack: 9,
            cause: 2,
            ..Slot::default()
        };
        (slot, Owner { task: Task { start_ns: 1, tgid: 7, tid }, ..Owner::default() })
    }

    fn sums(rows: impl Iterator<Item = Sample>) -> Vec<(u32, u64, u64)> {
        rows.map(|row| (row.flags, row.count, row.value_ns)).collect()
    }

    #[test]
    fn threads_that_wait_alike_are_one_row_per_closing() {
        let mut samples = Samples::default();
        for tid in 7..10 {
            assert!(samples.take(wait(tid, S, 5).as_bytes()));
        }
        assert!(samples.take(Sample { user_stack: 10, ..wait(7, S, 6) }.as_bytes()));
        let rows: Vec<Sample> = samples.close(3 * S).collect();
        assert_eq!(
            rows.iter().map(|row| (row.user_stack, row.count, row.value_ns)).collect::<Vec<_>>(),
            [(9, 3, 15), (10, 1, 6)]
        );
        assert!(rows.iter().all(|row| row.header.ktime_ns == 3 * S && row.begun_ns == S));
        assert_eq!(samples.close(4 * S).count(), 0);
    }

    #[test]
    fn ticks_of_two_rates_add_up_and_claim_no_period() {
        let mut samples = Samples::default();
        for period_ns in [10, 10, 50] {
            let tick = Sample { kind: SampleKind::OnCpu as u32, period_ns, ..wait(7, S, period_ns) };
            samples.take(tick.as_bytes());
        }
        let row = samples.close(S).next().unwrap();
        assert_eq!((row.count, row.value_ns, row.period_ns), (3, 70, 0));
    }

    #[test]
    fn a_wait_that_goes_on_is_told_in_parts_that_add_up() {
        let mut samples = Samples::default();
        samples.go_on(5 * S, [away(7, S), away(8, 5 * S)].into_iter());
        assert_eq!(
            sums(samples.close(5 * S)),
            [(FLAG_GOES_ON | FLAG_LONG, 0, 4 * S)],
            "the second has hardly begun"
        );
        samples.go_on(10 * S, [away(7, S)].into_iter());
        assert_eq!(sums(samples.close(10 * S)), [(FLAG_GOES_ON | FLAG_LONG, 0, 5 * S)]);
        samples.take(wait(7, S, 10 * S).as_bytes());
        assert_eq!(sums(samples.close(11 * S)), [(FLAG_LONG, 1, S)], "the rest of ten seconds");
        samples.take(wait(7, 12 * S, 2 * S).as_bytes());
        assert_eq!(
            sums(samples.close(15 * S)),
            [(FLAG_LONG, 1, 2 * S)],
            "another wait, told of for the first time"
        );
        samples.take(wait(7, 15 * S, S - 1).as_bytes());
        assert_eq!(sums(samples.close(16 * S)), [(0, 1, S - 1)], "no long one");
    }

    #[test]
    fn stacks_of_the_absence_before_are_not_those_of_this_one() {
        let mut samples = Samples::default();
        let (slot, owner) = away(7, S);
        samples.go_on(5 * S, [(Slot { flags: CAUSE_TAKEN, ..slot }, owner)].into_iter());
        samples.go_on(5 * S, [(Slot { flags: 0, tid: 8, ..slot }, owner)].into_iter());
        let rows: Vec<Sample> = samples.close(5 * S).collect();
        let [row] = &rows[..] else { panic!("{rows:?}") };
        assert_eq!((row.user_stack, row.value_ns, row.cause), (0, 4 * S, Cause::Futex as u32));
    }

    #[test]
    fn a_wait_that_ends_while_its_slot_is_looked_at_is_not_told_twice() {
        let mut samples = Samples::default();
        samples.go_on(5 * S, [away(7, S)].into_iter());
        // It is over by now, but its record has not been read.
        samples.go_on(6 * S, std::iter::empty());
        samples.take(wait(7, S, 5 * S).as_bytes());
        let told: u64 = samples.close(7 * S).map(|row| row.value_ns).sum();
        assert_eq!(told, 5 * S);
    }

    #[test]
    fn other_records_and_cut_ones_are_left_alone() {
        let mut samples = Samples::default();
        let whole = wait(7, S, 5);
        assert!(!samples.take(&whole.as_bytes()[..100]));
        let other = Header { kind: Kind::Stack as u32, ..whole.header };
        assert!(!samples.take(Sample { header: other, ..whole }.as_bytes()));
        assert_eq!(samples.close(S).count(), 0);
    }
}
