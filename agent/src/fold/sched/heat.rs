//! Waits over time, for a heat map. In: counts by bucket, and between which two reads they grew. Out: the same in slots of
//! time.
//!
//! Reads do not come at the borders of slots, nor quite once in each: counts are laid over the time they grew in, or one slot
//! would have the waits of two seconds and its neighbour none. When in that time a wait was is not known.
//!
//! Slots grow with the window: once there are more than [`SLOTS_MAX`], two become one. The node's slots are always
//! whole; those of CPUs and rows are cells of a bounded number, and what finds no room is counted.

use super::Row;
use crate::fold::grow::Grow;
use slowpod_ebpf::rules::wait::BUCKETS;
use std::collections::BTreeMap;

/// Slots of time at most: columns that a page can show.
pub const SLOTS_MAX: usize = 128;
/// Length of a slot at first: how often the kernel's counts are read.
const SLOT_NS: u64 = 1_000_000_000;

/// Counts by bucket, only those that are not 0.
pub type Cell = BTreeMap<u8, u64>;

/// By number of the slot.
pub type Slots = BTreeMap<u64, Cell>;

/// Whose waits are counted.
#[derive(Clone, Copy, Debug)]
pub enum Of {
    /// All on a CPU; together they are the node's.
    Cpu(u32),
    /// A row's, on whatever CPU.
    Row(Row),
}

/// Waits over time.
#[derive(Clone, Debug)]
pub struct Heat {
    /// Length of a slot, nanoseconds.
    pub slot_ns: u64,
    /// The node, by number of the slot: its time is `number * slot_ns` and what follows.
    pub node: BTreeMap<u64, [u64; BUCKETS]>,
    /// By number of the CPU.
    pub cpus: BTreeMap<u32, Slots>,
    /// By row.
    pub rows: BTreeMap<Row, Slots>,
    /// Times a cell found no room.
    pub evicted: u64,
    cells: usize,
    cells_max: usize,
}

impl Heat {
    /// Empty; keeps so many cells of CPUs and rows. With 0 it keeps nothing at all.
    pub fn new(cells_max: usize) -> Self {
        let (node, cpus, rows) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Heat { slot_ns: SLOT_NS, node, cpus, rows, evicted: 0, cells: 0, cells_max }
    }

    /// Adds what grew between `from_ns` and a read at `until_ns`.
    pub fn add(&mut self, of: Of, from_ns: u64, until_ns: u64, buckets: &[(u8, u32)]) {
        if self.cells_max == 0 {
            return;
        }
        // What is read at the end of a slot happened in it.
        let last = until_ns.saturating_sub(1) / self.slot_ns;
        let first = (from_ns / self.slot_ns).clamp((last + 1).saturating_sub(SLOTS_MAX as u64), last);
        for slot in first..=last {
            // Parts of sums, so that no wait is lost or made up by rounding.
            let before = |count: u32, slot: u64| match slot {
                slot if slot <= first => 0,
                slot if slot > last => count,
                _ => {
                    part(count, slot.saturating_mul(self.slot_ns).saturating_sub(from_ns), until_ns - from_ns)
                }
            };
            let parts = buckets
                .iter()
                .map(|(bucket, count)| (*bucket, before(*count, slot + 1) - before(*count, slot)));
            let parts: Vec<(u8, u32)> = parts.filter(|(_, count)| *count > 0).collect();
            // An empty record is a slot in which somebody ran and nobody waited.
            if !parts.is_empty() || first == last {
                self.add_to(of, slot, &parts);
            }
        }
        while self.span() > SLOTS_MAX as u64 {
            self.coarsen();
        }
    }

    /// Adds counts to a slot.
    fn add_to(&mut self, of: Of, slot: u64, buckets: &[(u8, u32)]) {
        let slots = match of {
            Of::Cpu(cpu) => {
                let counts = self.node.entry(slot).or_insert([0; BUCKETS]);
                for (bucket, count) in buckets {
                    counts[usize::from(*bucket).min(BUCKETS - 1)].grow(u64::from(*count));
                }
                self.cpus.entry(cpu).or_default()
            }
            Of::Row(row) => self.rows.entry(row).or_default(),
        };
        let is_new = !slots.contains_key(&slot);
        if is_new && self.cells >= self.cells_max {
            self.evicted += 1;
        } else {
            self.cells += usize::from(is_new);
            let cell = slots.entry(slot).or_default();
            for (bucket, count) in buckets {
                cell.entry(*bucket).or_default().grow(u64::from(*count));
            }
        }
    }

    /// Slots from the first to the last.
    fn span(&self) -> u64 {
        let ends = self.node.first_key_value().zip(self.node.last_key_value());
        ends.map_or(0, |((first, _), (last, _))| last - first + 1)
    }

    /// Makes one slot of two.
    fn coarsen(&mut self) {
        self.slot_ns = self.slot_ns.saturating_mul(2);
        for (slot, counts) in std::mem::take(&mut self.node) {
            let sum = self.node.entry(slot / 2).or_insert([0; BUCKETS]);
            sum.iter_mut().zip(counts).for_each(|(sum, count)| sum.grow(count));
        }
        self.cells = 0;
        for slots in self.cpus.values_mut().chain(self.rows.values_mut()) {
            for (slot, cell) in std::mem::take(slots) {
                let sum = slots.entry(slot / 2).or_default();
                cell.into_iter().for_each(|(bucket, count)| sum.entry(bucket).or_default().grow(count));
            }
            self.cells += slots.len();
        }
    }
}

/// The part of a count that falls into so much of a span, to the nearest whole.
fn part(count: u32, of_ns: u64, span_ns: u64) -> u32 {
    let of_ns = u128::from(of_ns.min(span_ns));
    let doubled = (u128::from(count) * of_ns * 2 + u128::from(span_ns)) / (u128::from(span_ns).max(1) * 2);
    u32::try_from(doubled).unwrap_or(count).min(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fold::sched::Who;

    const ROW: Row = Row { cgroup_id: 7, who: Who::ShortLived };

    #[test]
    fn slots_merge_exactly_when_there_are_too_many() {
        let mut heat = Heat::new(1_000);
        for second in 1..=1_000 {
            heat.add(
                Of::Cpu(second as u32 % 2),
                (second - 1) * SLOT_NS,
                second * SLOT_NS,
                &[(3, 2), (90, 1)],
            );
            heat.add(Of::Row(ROW), (second - 1) * SLOT_NS, second * SLOT_NS, &[(3, 1)]);
        }
        assert_eq!(heat.slot_ns, 8 * SLOT_NS);
        assert!(heat.node.len() <= SLOTS_MAX);
        let sum = |bucket: usize| heat.node.values().map(|counts| counts[bucket]).sum::<u64>();
        assert_eq!((sum(3), sum(90)), (2_000, 1_000));
        let of = |slots: &Slots| slots.values().map(|cell| cell[&3]).sum::<u64>();
        assert_eq!((of(&heat.rows[&ROW]), of(&heat.cpus[&0]), of(&heat.cpus[&1])), (1_000, 1_000, 1_000));
        assert_eq!(heat.evicted, 0);
    }

    #[test]
    fn reads_that_drift_leave_no_slot_without_waits() {
        // As the agent reads: every 1.016 s, which skips the end of one second in a minute.
        let (mut heat, every_ns) = (Heat::new(1_000), 1_016 * SLOT_NS / 1_000);
        for read in 1..=120 {
            heat.add(Of::Cpu(0), (read - 1) * every_ns, read * every_ns, &[(3, 1_016), (60, 1)]);
        }
        let whole: Vec<u64> = heat.node.range(..121).map(|(_, counts)| counts[3]).collect();
        assert_eq!(whole.len(), 121);
        assert!(whole.iter().all(|count| (998..=1_002).contains(count)), "{whole:?}");
        let sum = |bucket: usize| heat.node.values().map(|counts| counts[bucket]).sum::<u64>();
        assert_eq!((sum(3), sum(60)), (120 * 1_016, 120), "and none is lost or made up");
    }

    #[test]
    fn a_span_without_end_or_beginning_is_laid_over_what_can_be_shown() {
        let mut heat = Heat::new(1_000);
        heat.add(Of::Cpu(0), 0, u64::MAX, &[(3, 1_000)]);
        heat.add(Of::Cpu(0), u64::MAX, 5, &[(3, 7)]);
        let sum: u64 = heat.node.values().map(|counts| counts[3]).sum();
        assert!(heat.node.len() <= SLOTS_MAX && sum == 1_007, "{sum}");
    }

    #[test]
    fn what_finds_no_room_is_counted_and_the_node_stays_whole() {
        let mut heat = Heat::new(1);
        for second in 1..=3 {
            heat.add(Of::Row(ROW), (second - 1) * SLOT_NS, second * SLOT_NS, &[(3, 2)]);
            heat.add(Of::Cpu(0), (second - 1) * SLOT_NS, second * SLOT_NS, &[(3, 2)]);
        }
        assert_eq!((heat.evicted, heat.node.len(), heat.rows[&ROW].len()), (5, 3, 1));
        assert!(heat.cpus[&0].is_empty());
    }

    #[test]
    fn a_state_without_room_keeps_nothing() {
        let mut heat = Heat::new(0);
        heat.add(Of::Cpu(0), 0, SLOT_NS, &[(3, 2)]);
        assert!(heat.node.is_empty());
    }
}
