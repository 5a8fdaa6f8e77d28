//! `/api/v1/sched/heatmap`: waits for a CPU over time and by length.

use super::describe::Instant;
use super::filter::Filter;
use super::query::ParamKind;
use super::{JSON, Param, Query, View, body};
use crate::fold::Snapshot;
use crate::fold::grow::Grow;
use crate::fold::sched::heat::Slots;
use serde::Serialize;
use slowpod_ebpf::rules::wait::{BUCKETS, lower_ns};
use std::collections::BTreeMap;

/// The view.
pub static VIEW: View = View {
    name: "sched_heatmap",
    path: "/api/v1/sched/heatmap",
    about: "Waits for a CPU as a heat map: how many, by slot of time and by length; of the node, of one CPU, or of \
            what passes the filters.",
    params: &[CPU],
    content_type: JSON,
    render,
};

/// Only this CPU.
pub(super) const CPU: Param = Param {
    name: "cpu",
    about: "only this CPU, whoever waited for it; waits are not known by CPU and by process both, so it takes no filter",
    kind: ParamKind::CountAlone { min: 0, max: 8_191 },
};

/// The answer's own fields.
#[derive(Serialize)]
struct Heatmap {
    /// Length of a slot of time.
    slot_ns: u64,
    /// Lower bounds of the rows of `counts`; the last row has everything from there on.
    wait_from_ns: Vec<u64>,
    /// Slots in which anything waited, in order of time.
    slots: Vec<Slot>,
    /// The largest count, for the scale.
    count_max: u64,
}

/// One column.
#[derive(Serialize)]
struct Slot {
    start: Instant,
    /// How many waits, by the rows of `wait_from_ns`.
    counts: Vec<u64>,
}

/// Counts by slot of time.
pub(super) struct Grid {
    /// Length of a slot.
    pub(super) slot_ns: u64,
    /// Counts by length, by number of the slot: its time is `number * slot_ns` and what follows.
    pub(super) slots: BTreeMap<u64, [u64; BUCKETS]>,
}

impl Grid {
    /// Rows up to the longest wait.
    pub(super) fn rows(&self) -> usize {
        let last = self.slots.values().filter_map(|counts| counts.iter().rposition(|count| *count > 0)).max();
        last.map_or(0, |last| last + 1)
    }

    /// The largest count.
    pub(super) fn count_max(&self) -> u64 {
        self.slots.values().flatten().copied().max().unwrap_or(0)
    }
}

/// Waits of the node, of a CPU, or of what passes the filters.
pub(super) fn grid(snapshot: &Snapshot, query: &Query) -> Grid {
    let state = &snapshot.state;
    let heat = &state.sched.heat;
    let filter = Filter::new(state, query);
    let cpu = query.own_count(CPU.name).and_then(|cpu| u32::try_from(cpu).ok());
    let cells: Vec<&Slots> = match cpu {
        None if filter.is_empty() => return Grid { slot_ns: heat.slot_ns, slots: heat.node.clone() },
        None => heat.rows.iter().filter(|(row, _)| filter.waits(row)).map(|(_, cells)| cells).collect(),
        Some(cpu) => heat.cpus.get(&cpu).into_iter().collect(),
    };
    let mut slots: BTreeMap<u64, [u64; BUCKETS]> = BTreeMap::new();
    for (slot, cell) in cells.into_iter().flatten() {
        let counts = slots.entry(*slot).or_insert([0; BUCKETS]);
        for (bucket, count) in cell {
            counts[usize::from(*bucket).min(BUCKETS - 1)].grow(*count);
        }
    }
    Grid { slot_ns: heat.slot_ns, slots }
}

fn render(snapshot: &Snapshot, query: &Query) -> Vec<u8> {
    let grid = grid(snapshot, query);
    // Rows above the longest wait are left out.
    let rows = grid.rows();
    let heatmap = Heatmap {
        slot_ns: grid.slot_ns,
        wait_from_ns: (0..rows).map(lower_ns).collect(),
        count_max: grid.count_max(),
        slots: grid
            .slots
            .iter()
            .map(|(slot, counts)| Slot {
                start: Instant::of(&snapshot.state, slot.saturating_mul(grid.slot_ns)),
                counts: counts[..rows].to_vec(),
            })
            .collect(),
    };
    body::json(snapshot, heatmap)
}
