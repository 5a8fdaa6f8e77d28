//! Reap records: a fixed part only, with durations in it.

use super::durations::check;
use super::{Garbled, fixed};
use slowpod_ebpf::abi::reap::Reap;

pub(super) fn reap(bytes: &[u8]) -> Result<Reap, Garbled> {
    let (reap, _) = fixed::<Reap>(bytes)?;
    check(&reap.header, [reap.on_cpu_ns, reap.runnable_ns, reap.blocked_ns, reap.own_ns])?;
    Ok(reap)
}

#[cfg(test)]
mod tests {
    use super::*;
    use slowpod_ebpf::abi::{Header, Kind, Task};
    use zerocopy::IntoBytes;

    fn wait(on_cpu_ns: u64) -> Reap {
        let len_bytes = size_of::<Reap>() as u32;
        Reap {
            header: Header { ktime_ns: 5_000, kind: Kind::Reap as u32, len_bytes },
            parent: Task { start_ns: 1, tgid: 7, tid: 7 },
            wait_begun_ns: 4_000,
            cloned_ns: 3_000,
            own_ns: 200,
            on_cpu_ns,
            runnable_ns: 300,
            blocked_ns: 600,
            child_inner_pid: 8,
            reserved: 0,
        }
    }

    #[test]
    fn a_difference_below_zero_is_no_duration() {
        assert_eq!(reap(wait(100).as_bytes()), Ok(wait(100)));
        let below_zero = 0u64.wrapping_sub(100);
        let garbled = Garbled::Duration { kind: Kind::Reap as u32, ns: below_zero };
        assert_eq!(reap(wait(below_zero).as_bytes()), Err(garbled));
    }

    #[test]
    fn a_long_life_of_many_threads_is_one() {
        let months_ns = 200 * 86_400 * 1_000_000_000;
        assert!(reap(wait(40 * months_ns).as_bytes()).is_ok());
    }
}
