//! A heat map as SVG. In: counts of waits by slot of time and by length. Out: a picture whose colours come from the page's
//! style sheet, so that nothing in it is inline style.

use crate::findings::human::{count, duration};
use crate::fold::sched::waits::Waits;
use crate::views::completeness::WindowBlock;
use crate::views::html::escaped;
use crate::views::sched_heatmap::Grid;
use slowpod_ebpf::rules::wait::{BUCKETS, bucket};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Size of the plot, in the picture's own units, and the room for what is written beside and below it.
const PLOT_WIDTH: f64 = 1_000.0;
const ROW_HEIGHT: f64 = 5.0;
const LEFT: f64 = 62.0;
const BELOW: f64 = 26.0;
const ABOVE: f64 = 8.0;
const RIGHT: f64 = 14.0;
/// Colours, from few to many.
const LEVELS: usize = 8;
/// Lengths that the scale always shows: a quiet node's map has the shape of a busy one's.
const SCALE_TO_NS: u64 = 32_000_000;
/// Marks on the scale of lengths, and how they are written.
const MARKS: [(u64, &str); 8] = [
    (1_000, "1 us"),
    (10_000, "10 us"),
    (100_000, "100 us"),
    (1_000_000, "1 ms"),
    (10_000_000, "10 ms"),
    (100_000_000, "100 ms"),
    (1_000_000_000, "1 s"),
    (10_000_000_000, "10 s"),
];
/// Marks on the scale of time.
const TIMES: u64 = 6;

/// What the picture is about.
pub(super) struct Map<'a> {
    /// The counts.
    pub(super) grid: &'a Grid,
    /// The time from its left to its right edge.
    pub(super) window: &'a WindowBlock,
    /// What a moment of the kernel's clock is called, `12:34:56`.
    pub(super) clock: &'a dyn Fn(u64) -> String,
}

impl Map<'_> {
    /// The picture.
    pub(super) fn svg(&self) -> String {
        let (width, height) = (LEFT + PLOT_WIDTH + RIGHT, ABOVE + self.height() + BELOW);
        let mut out = format!(
            "<svg class=\"heat\" viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"Waits for a CPU over time, by \
             length\">\n<rect class=\"plot\" x=\"{LEFT}\" y=\"{ABOVE}\" width=\"{PLOT_WIDTH}\" height=\"{}\"/>\n",
            self.height()
        );
        self.uncovered(&mut out);
        self.cells(&mut out);
        self.percentile(&mut out);
        self.scales(&mut out);
        self.slots(&mut out);
        out.push_str("</svg>\n");
        out
    }

    /// The colours' meaning: the least count of each level, for levels that any count has.
    pub(super) fn legend(&self) -> Vec<(usize, u64)> {
        let max = self.grid.count_max();
        let mut least: BTreeMap<usize, u64> = BTreeMap::new();
        for counts in self.grid.slots.values() {
            for own in counts.iter().filter(|own| **own > 0) {
                let least = least.entry(level(*own, max)).or_insert(*own);
                *least = (*least).min(*own);
            }
        }
        least.into_iter().collect()
    }

    fn rows(&self) -> usize {
        self.grid.rows().max(bucket(SCALE_TO_NS) as usize + 1)
    }

    fn height(&self) -> f64 {
        self.rows() as f64 * ROW_HEIGHT
    }

    /// Upper edge of a row: the shortest waits are lowest.
    fn y(&self, row: usize) -> f64 {
        ABOVE + (self.rows() - 1 - row.min(self.rows() - 1)) as f64 * ROW_HEIGHT
    }

    fn x(&self, ktime_ns: u64) -> f64 {
        let WindowBlock { from_ktime_ns, until_ktime_ns, .. } = *self.window;
        let length_ns = until_ktime_ns.saturating_sub(from_ktime_ns).max(1);
        let into_ns = ktime_ns.clamp(from_ktime_ns, from_ktime_ns.saturating_add(length_ns)) - from_ktime_ns;
        LEFT + PLOT_WIDTH * into_ns as f64 / length_ns as f64
    }

    /// Left edge and width of a slot.
    fn column(&self, slot: u64) -> (f64, f64) {
        let from = self.x(slot.saturating_mul(self.grid.slot_ns));
        (from, self.x(slot.saturating_add(1).saturating_mul(self.grid.slot_ns)) - from)
    }

    /// The part of the window of which there are no records.
    fn uncovered(&self, out: &mut String) {
        let WindowBlock { seconds, covered_seconds, .. } = *self.window;
        if seconds > covered_seconds && seconds > 0.0 {
            let width = PLOT_WIDTH * (seconds - covered_seconds) / seconds;
            let _ = writeln!(
                out,
                "<rect class=\"uncovered\" x=\"{LEFT}\" y=\"{ABOVE}\" width=\"{width:.1}\" height=\"{}\"><title>no \
                 records</title></rect>",
                self.height()
            );
        }
    }

    /// All cells of one colour as one path: a picture of a hundred slots stays small.
    fn cells(&self, out: &mut String) {
        let max = self.grid.count_max();
        let mut paths = vec![String::new(); LEVELS + 1];
        for (slot, counts) in &self.grid.slots {
            let (x, width) = self.column(*slot);
            for (row, own) in counts.iter().enumerate().filter(|(_, own)| **own > 0) {
                let path = &mut paths[level(*own, max)];
                let _ = write!(path, "M{x:.1} {:.0}h{width:.1}v{ROW_HEIGHT:.0}h{:.1}z", self.y(row), -width);
            }
        }
        for (level, path) in paths.iter().enumerate().filter(|(_, path)| !path.is_empty()) {
            let _ = writeln!(out, "<path class=\"level-{level}\" d=\"{path}\"/>");
        }
    }

    /// In each slot the length that 99 in 100 waits do not exceed.
    fn percentile(&self, out: &mut String) {
        let mut path = String::new();
        for (slot, counts) in &self.grid.slots {
            if let Some(ns) = waits(counts).percentile_ns(990) {
                let (x, width) = self.column(*slot);
                let row = bucket(ns.saturating_sub(1)) as usize;
                let _ = write!(path, "M{x:.1} {:.0}h{width:.1}", self.y(row));
            }
        }
        if !path.is_empty() {
            let _ = writeln!(out, "<path class=\"p99\" d=\"{path}\"/>");
        }
    }

    fn scales(&self, out: &mut String) {
        for (ns, text) in MARKS {
            let row = bucket(ns) as usize;
            if row >= self.rows() {
                break;
            }
            let y = self.y(row) + ROW_HEIGHT;
            let _ = writeln!(
                out,
                "<path class=\"mark\" d=\"M{LEFT} {y:.0}h{PLOT_WIDTH}\"/><text x=\"{:.0}\" y=\"{:.0}\" \
                 text-anchor=\"end\">{text}</text>",
                LEFT - 6.0,
                y + 4.0
            );
        }
        let WindowBlock { from_ktime_ns, until_ktime_ns, .. } = *self.window;
        let step_ns = until_ktime_ns.saturating_sub(from_ktime_ns) / TIMES;
        for at in 0..=TIMES {
            let ktime_ns = from_ktime_ns.saturating_add(step_ns.saturating_mul(at));
            let anchor = if at == TIMES { "end" } else { "middle" };
            let _ = writeln!(
                out,
                "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"{anchor}\">{}</text>",
                self.x(ktime_ns),
                ABOVE + self.height() + 18.0,
                escaped(&(self.clock)(ktime_ns))
            );
        }
    }

    /// What a slot says in words, for whoever points at it.
    fn slots(&self, out: &mut String) {
        for (slot, counts) in &self.grid.slots {
            let (x, width) = self.column(*slot);
            let waits = waits(counts);
            let spans = [500, 990].map(|part| waits.percentile_ns(part).map_or("-".into(), duration));
            let _ = writeln!(
                out,
                "<rect class=\"slot\" x=\"{x:.1}\" y=\"{ABOVE}\" width=\"{width:.1}\" height=\"{}\"><title>{}: {} waits, \
                 p50 {}, p99 {}, longest {}</title></rect>",
                self.height(),
                escaped(&(self.clock)(slot.saturating_mul(self.grid.slot_ns))),
                count(waits.count()),
                spans[0],
                spans[1],
                waits.max_ns().map_or("-".into(), duration)
            );
        }
    }
}

/// Counts of one slot as waits, of which only the lengths are known.
fn waits(counts: &[u64; BUCKETS]) -> Waits {
    Waits { buckets: *counts, ..Waits::default() }
}

/// The colour of a count, from 1: by its logarithm, or the commonest length would hide all others.
fn level(count: u64, max: u64) -> usize {
    let share = (count.max(1) as f64).ln() / (max.max(2) as f64).ln();
    1 + ((share * (LEVELS - 1) as f64).round() as usize).min(LEVELS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_go_from_one_to_the_largest_count() {
        assert_eq!((level(1, 1_000), level(1_000, 1_000)), (1, LEVELS));
        assert_eq!(level(1, 1), 1, "a single wait is not many");
        let all: Vec<usize> = (1..=1_000).map(|count| level(count, 1_000)).collect();
        assert!(all.is_sorted() && (1..=LEVELS).all(|level| all.contains(&level)));
    }
}
