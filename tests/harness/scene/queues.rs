//! Waits for a CPU. In: words. Out: the records that the agent makes of the kernel's counts.

use super::BEGIN_NS;
use super::records::{Cast, bytes, header, with_tail};
use super::words::Words;
use slowpod_ebpf::abi::queue::{
    KERNEL_THREADS, NO_CPU, Pushed, PushedCount, PushedKey, QueueKey, RAN_NOBODY, RAN_UNKNOWN, RunQueue,
};
use slowpod_ebpf::abi::wakes::{Context, WakeCount, WakeKey, Wakes};
use slowpod_ebpf::abi::{Kind, Task};
use slowpod_ebpf::rules::wait;
use zerocopy::IntoBytes;

/// Since when a record counts, when a line does not say.
const COUNTED_NS: u64 = 1_000_000_000;

impl Cast {
    pub(super) fn wakes(&mut self, words: &mut Words, now_ns: u64) -> Result<Vec<u8>, String> {
        let context = match words.first().unwrap_or_default() {
            "timer" => Context::Timer,
            "device" => Context::Device,
            "softirq" => Context::Softirq,
            "idle" => Context::Idle,
            "network" => Context::Network,
            _ => Context::Thread,
        };
        if context != Context::Thread {
            words.next();
        }
        let waker = match context {
            Context::Thread | Context::Network => Task { tid: 0, ..self.life(words)?.task },
            Context::Timer | Context::Device | Context::Softirq | Context::Idle => Task::default(),
        };
        let woken = Task { tid: 0, ..self.life(words)?.task };
        let wakes = words.number()?;
        let key = WakeKey { waker, woken, context: context as u32, reserved: 0 };
        let count = WakeCount { wakes, blocked_ns: wakes * words.time()? };
        Ok(bytes(Wakes { header: header(Kind::Wakes, now_ns), key, count }))
    }

    pub(super) fn waits(&mut self, words: &mut Words, now_ns: u64) -> Result<Vec<u8>, String> {
        let (key, cpu) = match words.first().and_then(|who| who.split_once(':')) {
            None if words.first() == Some("kernel") => {
                words.next();
                (QueueKey { task: Task { tgid: KERNEL_THREADS, ..Task::default() }, cgroup_id: 1 }, NO_CPU)
            }
            None => {
                let life = self.life(words)?;
                (QueueKey { task: Task { tid: 0, ..life.task }, cgroup_id: life.cgroup_id }, NO_CPU)
            }
            Some((what, number)) => {
                let number: u64 = number.parse().map_err(|_| format!("{number:?} is no number"))?;
                let what = what.to_owned();
                words.next();
                match what.as_str() {
                    "cpu" => (QueueKey::default(), number as u32),
                    "short" => (QueueKey { task: Task::default(), cgroup_id: number }, NO_CPU),
                    other => return Err(format!("nobody waits as {other:?}")),
                }
            }
        };
        let (count, each_ns): (u32, u64) = (words.number()?, words.time()?);
        let preempted = words.count("preempted", 0)?;
        let fixed = RunQueue {
            header: header(Kind::RunQueue, now_ns),
            from_ns: words.span("from")?.map_or(now_ns - COUNTED_NS, |from_ns| BEGIN_NS + from_ns),
            key,
            cpu,
            buckets: 1,
            wait_ns: u64::from(count) * each_ns,
            preempted_ns: u64::from(preempted) * each_ns,
            on_cpu_ns: words.span("cpu")?.unwrap_or(0),
            blocked_ns: words.span("blocked")?.unwrap_or(0),
            long_blocked_ns: 0,
            longest_ns: each_ns >> 10 << 10,
            long_blocks: 0,
            preempted,
        };
        let pair = [wait::bucket(each_ns), count];
        Ok(with_tail(fixed.as_bytes().to_vec(), &[&pair[0].to_le_bytes(), &pair[1].to_le_bytes()]))
    }
}

pub(super) fn pushed(words: &mut Words, now_ns: u64) -> Result<Vec<u8>, String> {
    let waiter = words.number()?;
    let ran = match words.must("who ran")?.as_str() {
        "nobody" => RAN_NOBODY,
        "untold" => RAN_UNKNOWN,
        id => id.parse().map_err(|_| format!("{id:?} is no cgroup"))?,
    };
    let ns = words.time()?;
    let stretches = words.count("stretches", 1)?;
    Ok(bytes(Pushed {
        header: header(Kind::Pushed, now_ns),
        from_ns: now_ns - COUNTED_NS,
        key: PushedKey { waiter, ran },
        count: PushedCount { stretches, ns },
    }))
}
