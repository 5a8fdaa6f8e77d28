//! What the agent itself costs, read from `/proc/self` when somebody asks. What cannot be read is 0.

use crate::views::metrics::OwnCost;
use std::fs;

/// Ticks per second of the times in `/proc/PID/stat`: `USER_HZ`, which is 100 on every architecture that
/// Rust supports Linux on.
const USER_HZ: f64 = 100.0;
/// Unit of `VmRSS`.
const KIB: u64 = 1 << 10;

/// Reads the process's own cost.
pub(super) fn own_cost() -> OwnCost {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let (cpu_s, start_s) = times(&read("/proc/self/stat"));
    OwnCost {
        cpu_s,
        resident_bytes: resident_bytes(&read("/proc/self/status")),
        open_fds: fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64),
        start_unix_s: boot_unix_s(&read("/proc/stat")) + start_s,
    }
}

/// CPU time, and start time since boot, both in seconds: fields 14, 15 and 22 of `/proc/PID/stat`. The name
/// in parentheses may hold anything, so fields are counted from the last `)`.
fn times(stat: &str) -> (f64, f64) {
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_ascii_whitespace().collect();
    let seconds = |field: usize| {
        fields.get(field - 3).and_then(|ticks| ticks.parse::<f64>().ok()).unwrap_or_default() / USER_HZ
    };
    (seconds(14) + seconds(15), seconds(22))
}

fn resident_bytes(status: &str) -> u64 {
    number_after(status, "VmRSS:").unwrap_or_default() * KIB
}

fn boot_unix_s(stat: &str) -> f64 {
    number_after(stat, "btime ").unwrap_or_default() as f64
}

fn number_after(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_do_not_shift_the_fields() {
        let stat = "7 (a) b) 1 (c) S 1 7 7 0 -1 4194304 1 0 0 0 250 50 0 0 20 0 4 0 12345 1 1 1";
        assert_eq!(times(stat), (3.0, 123.45));
        assert_eq!(times(""), (0.0, 0.0));
    }

    #[test]
    fn this_process_costs_something() {
        let own = own_cost();
        assert!(own.resident_bytes > 1 << 20, "{own:?}");
        assert!(own.open_fds >= 3, "{own:?}");
        let now_s = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
        assert!(own.start_unix_s > now_s - 3_600.0 && own.start_unix_s <= now_s + 1.0, "{own:?}");
    }
}
