//! Waits over time, for a heat map. In: counts by bucket and when they were read. Out: the same in slots of time.
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

    /// Adds counts that were read at `ktime_ns`.
    pub fn add(&mut self, of: Of, ktime_ns: u64, buckets: &[(u8, u32)]) {
        if self.cells_max == 0 {
            return;
        }
        // What is read at the end of a second happened in it.
        let slot = ktime_ns.saturating_sub(1) / self.slot_ns;
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
        while self.span() > SLOTS_MAX as u64 {
            self.coarsen();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fold::sched::Who;

    const ROW: Row = Row { cgroup_id: 7, who: Who::ShortLived };

    #[test]
    fn slots_merge_exactly_when_there_are_too_many() {
        let mut heat = Heat::new(1_000);
        for second in 1..=1_000 {
            heat.add(Of::Cpu(second as u32 % 2), second * SLOT_NS, &[(3, 2), (90, 1)]);
            heat.add(Of::Row(ROW), second * SLOT_NS, &[(3, 1)]);
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
    fn what_finds_no_room_is_counted_and_the_node_stays_whole() {
        let mut heat = Heat::new(1);
        for second in 1..=3 {
            heat.add(Of::Row(ROW), second * SLOT_NS, &[(3, 2)]);
            heat.add(Of::Cpu(0), second * SLOT_NS, &[(3, 2)]);
        }
        assert_eq!((heat.evicted, heat.node.len(), heat.rows[&ROW].len()), (5, 3, 1));
        assert!(heat.cpus[&0].is_empty());
    }

    #[test]
    fn a_state_without_room_keeps_nothing() {
        let mut heat = Heat::new(0);
        heat.add(Of::Cpu(0), SLOT_NS, &[(3, 2)]);
        assert!(heat.node.is_empty());
    }
}
