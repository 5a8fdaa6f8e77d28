//! How busy the node's disks were. In: counters since boot, every second. Out: their growth over any span of time.

use crate::decode::fact::{Disk, Pressure};
use std::collections::VecDeque;

/// Readings kept: more than the longest window, an hour, has seconds.
pub const READINGS_MAX: usize = 3_700;

/// Readings in time order.
#[derive(Clone, Debug, Default)]
pub struct Readings {
    known: VecDeque<(u64, Pressure)>,
}

/// What a span of time had.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Growth {
    /// Length of the span, which begins and ends with a reading.
    pub span_ns: u64,
    /// Time in which some thread of the node waited for I/O (PSI `some`).
    pub io_some_ns: u64,
    /// Time in which no thread ran because of it (PSI `full`).
    pub io_full_ns: u64,
    /// Devices that had something to do, the busiest first; their counters are growths too.
    pub disks: Vec<Disk>,
}

impl Readings {
    /// Takes in a reading.
    pub fn add(&mut self, ktime_ns: u64, reading: Pressure) {
        if self.known.len() >= READINGS_MAX {
            self.known.pop_front();
        }
        self.known.push_back((ktime_ns, reading));
    }

    /// The growth from the last reading before a span to the first behind it; `None` when there are not two.
    pub fn over(&self, from_ns: u64, until_ns: u64) -> Option<Growth> {
        let begin = self.known.partition_point(|(ktime_ns, _)| *ktime_ns <= from_ns).saturating_sub(1);
        let end = self
            .known
            .partition_point(|(ktime_ns, _)| *ktime_ns < until_ns)
            .min(self.known.len().checked_sub(1)?);
        let ((begin_ns, before), (end_ns, after)) = (&self.known[begin], &self.known[end]);
        if end <= begin {
            return None;
        }
        let mut disks: Vec<Disk> = after.disks.iter().filter_map(|disk| grown(disk, before)).collect();
        disks.sort_by_key(|disk| (std::cmp::Reverse(disk.busy_ms), disk.dev));
        Some(Growth {
            span_ns: end_ns.saturating_sub(*begin_ns),
            io_some_ns: after.io_some_us.saturating_sub(before.io_some_us).saturating_mul(1_000),
            io_full_ns: after.io_full_us.saturating_sub(before.io_full_us).saturating_mul(1_000),
            disks,
        })
    }

    /// Name of a device, as the last reading has it.
    pub fn disk_name(&self, dev: u32) -> Option<&str> {
        let (_, last) = self.known.back()?;
        last.disks.iter().find(|disk| disk.dev == dev).map(|disk| disk.name.as_str())
    }
}

fn grown(after: &Disk, before: &Pressure) -> Option<Disk> {
    let zero = Disk::default();
    let before = before.disks.iter().find(|disk| disk.dev == after.dev).unwrap_or(&zero);
    let disk = Disk {
        reads: after.reads.saturating_sub(before.reads),
        writes: after.writes.saturating_sub(before.writes),
        busy_ms: after.busy_ms.saturating_sub(before.busy_ms),
        ..after.clone()
    };
    (disk.reads + disk.writes + disk.busy_ms > 0).then_some(disk)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(io_some_us: u64, busy_ms: u64) -> Pressure {
        let disk = Disk { dev: 8, name: "sda".into(), reads: 1, writes: busy_ms, busy_ms };
        Pressure { io_some_us, io_full_us: 0, disks: vec![disk] }
    }

    #[test]
    fn a_span_has_the_growth_between_the_readings_around_it() {
        let mut readings = Readings::default();
        assert_eq!(readings.over(0, 9), None);
        for second in 1..=5 {
            readings.add(second * 1_000, reading(second * 10, second * 100));
        }
        let growth = readings.over(2_100, 2_900).unwrap();
        assert_eq!((growth.span_ns, growth.io_some_ns), (1_000, 10_000));
        assert_eq!((growth.disks[0].busy_ms, growth.disks[0].reads), (100, 0));
        assert_eq!(readings.over(0, 99_000).unwrap().span_ns, 4_000);
        assert_eq!(readings.disk_name(8), Some("sda"));
    }
}
