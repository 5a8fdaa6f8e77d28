//! Records whose durations are summed further on. In: their bytes. Out: the record, unless one of its durations
//! cannot be one, so that no sum is spoiled by a difference that went below zero.

use super::{Garbled, fixed};
use slowpod_ebpf::abi::{Header, exit::Exit, flood::Flood, netlink::NetlinkSend, reap::Reap, split::Split};

/// Longest duration believed in, summed over the threads of a process: 1,000 threads for ten days. Half of
/// all numbers, which a difference below zero hits, are longer.
const DURATION_MAX_NS: u64 = 1_000 * 10 * 86_400 * 1_000_000_000;

pub(super) fn exit(bytes: &[u8]) -> Result<Exit, Garbled> {
    let (exit, _) = fixed::<Exit>(bytes)?;
    check(&exit.header, [exit.thread_ns])?;
    check(&exit.header, parts(&exit.main))?;
    check(&exit.header, parts(&exit.threads))?;
    Ok(exit)
}

pub(super) fn reap(bytes: &[u8]) -> Result<Reap, Garbled> {
    let (reap, _) = fixed::<Reap>(bytes)?;
    check(&reap.header, [reap.on_cpu_ns, reap.runnable_ns, reap.blocked_ns])?;
    Ok(reap)
}

pub(super) fn netlink_send(bytes: &[u8]) -> Result<NetlinkSend, Garbled> {
    let (send, _) = fixed::<NetlinkSend>(bytes)?;
    check(&send.header, [send.inside_ns])?;
    Ok(send)
}

pub(super) fn flood(bytes: &[u8]) -> Result<Flood, Garbled> {
    let (flood, _) = fixed::<Flood>(bytes)?;
    let count = &flood.count;
    check(&flood.header, [count.wall_ns, count.on_cpu_ns, count.runnable_ns, count.blocked_ns])?;
    Ok(flood)
}

fn parts(split: &Split) -> impl Iterator<Item = u64> {
    [split.on_cpu_ns, split.runnable_ns].into_iter().chain(split.blocked_ns)
}

fn check(header: &Header, durations: impl IntoIterator<Item = u64>) -> Result<(), Garbled> {
    match durations.into_iter().find(|ns| *ns > DURATION_MAX_NS) {
        Some(ns) => Err(Garbled::Duration { kind: header.kind, ns }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use slowpod_ebpf::abi::{Kind, Task};
    use zerocopy::IntoBytes;

    fn wait(on_cpu_ns: u64) -> Reap {
        let len_bytes = size_of::<Reap>() as u32;
        Reap {
            header: Header { ktime_ns: 5_000, kind: Kind::Reap as u32, len_bytes },
            parent: Task { start_ns: 1, tgid: 7, tid: 7 },
            wait_begun_ns: 4_000,
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
