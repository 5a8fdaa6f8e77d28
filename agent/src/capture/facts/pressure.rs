//! How busy the node's disks are. In: `/proc/pressure/io` and `/proc/diskstats`. Out: a [`Pressure`] fact: counters since
//! boot, of which an answer takes the growth over the time it is about. Formats: Documentation/accounting/psi.rst and
//! Documentation/admin-guide/iostats.rst of the kernel.

use crate::decode::fact::{Disk, Pressure};
use std::fs;
use std::path::Path;

/// How often the counters are read while there are CNI calls, and when the last such call is that long ago: they are
/// evidence for calls that wait for a disk.
const BUSY_NS: u64 = 1_000_000_000;
const IDLE_NS: u64 = 10_000_000_000;
/// Devices told of at most; those that were never used are left out.
pub const DISKS_MAX: usize = 64;
/// Longest name of a device (`DISK_NAME_LEN` of `linux/blkdev.h`).
const NAME_BYTES_MAX: usize = 32;

/// When to read again.
#[derive(Debug, Default)]
pub struct PressureWatch {
    read_ns: u64,
    cni_seen_ns: u64,
}

impl PressureWatch {
    /// There are CNI calls at `now_ns` (monotonic).
    pub fn cni_seen(&mut self, now_ns: u64) {
        self.cni_seen_ns = now_ns;
    }

    /// Whether to read now; if so, it is taken as done.
    pub fn is_due(&mut self, now_ns: u64) -> bool {
        let busy = now_ns < self.cni_seen_ns.saturating_add(IDLE_NS);
        let due = now_ns >= self.read_ns.saturating_add(if busy { BUSY_NS } else { IDLE_NS });
        if due {
            self.read_ns = now_ns;
        }
        due
    }
}

/// Reads both files of a `/proc`. What cannot be read is left at 0; a kernel without PSI has no such file.
pub fn read(proc: &Path) -> Pressure {
    let text = |name: &str| fs::read_to_string(proc.join(name)).unwrap_or_default();
    let pressure = text("pressure/io");
    Pressure {
        io_some_us: total_us(&pressure, "some"),
        io_full_us: total_us(&pressure, "full"),
        disks: disks(&text("diskstats")),
    }
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=1234`
fn total_us(text: &str, line: &str) -> u64 {
    let line = text.lines().find_map(|found| found.strip_prefix(line));
    let total =
        line.and_then(|line| line.split_ascii_whitespace().find_map(|word| word.strip_prefix("total=")));
    total.and_then(|total| total.parse().ok()).unwrap_or(0)
}

/// One device per line: major, minor, name, then counters, of which the first is reads, the fifth writes, and the tenth
/// the milliseconds in which it had something to do.
fn disks(text: &str) -> Vec<Disk> {
    let disk = |line: &str| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let number = |at: usize| words.get(at)?.parse::<u64>().ok();
        let (major, minor) = (number(0)?, number(1)?);
        let name = words.get(2)?.chars().take(NAME_BYTES_MAX).collect();
        // As `super_block.s_dev` has it (`MKDEV` of `linux/kdev_t.h`).
        let dev = u32::try_from(major << 20 | minor).ok()?;
        Some(Disk { dev, name, reads: number(3)?, writes: number(7)?, busy_ms: number(12)? })
    };
    let used = text.lines().filter_map(disk).filter(|disk| disk.reads + disk.writes > 0);
    used.take(DISKS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_s_texts_are_read() {
        let text = "some avg10=0.60 avg60=0.92 avg300=1.39 total=186606419\nfull avg10=0.00 avg60=0.07 avg300=0.88 total=109286706\n";
        assert_eq!((total_us(text, "some"), total_us(text, "full")), (186_606_419, 109_286_706));
        assert_eq!(total_us("", "some"), 0);
        let text = "   7       0 loop0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n 259       1 nvme0n1p1 10 1 2 3 40 5 6 7 0 88 9 0 0 0 0 1 2\n garbage\n";
        let disk = Disk { dev: 259 << 20 | 1, name: "nvme0n1p1".into(), reads: 10, writes: 40, busy_ms: 88 };
        assert_eq!(disks(text), [disk]);
    }

    #[test]
    fn readings_are_frequent_only_while_there_are_calls() {
        let mut watch = PressureWatch::default();
        let at = |tenth: u64| 100 * IDLE_NS + tenth * BUSY_NS / 10;
        let due = |watch: &mut PressureWatch| (0..100).filter(|tenth| watch.is_due(at(*tenth))).count();
        assert_eq!(due(&mut watch), 1);
        watch = PressureWatch::default();
        watch.cni_seen(at(0));
        assert_eq!(due(&mut watch), 10);
    }

    #[test]
    fn a_proc_without_them_says_nothing() {
        assert_eq!(read(Path::new("/nowhere")), Pressure::default());
    }
}
