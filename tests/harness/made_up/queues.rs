//! Waits for a CPU, and a quota, of the made-up node.

use super::{MS, MadeUp, POD_CGROUP, S};
use slowpod::decode::fact::{Fact, Throttled};
use slowpod_ebpf::abi::queue::{NO_CPU, QueueKey, RunQueue};
use slowpod_ebpf::abi::{Kind, Task};
use slowpod_ebpf::rules::wait;
use zerocopy::IntoBytes;

/// Waits of the daemon's threads in a second, by length and number. On their CPU there are as many again of others.
const WAITS: [(u64, u32); 3] = [(3_000, 400), (200_000, 30), (20 * MS, 2)];

impl MadeUp {
    /// A second's waits on one CPU, and of them the daemon's; and that its quota held it back for a third of the second.
    pub fn run_queues(&mut self) {
        self.put_waits(QueueKey::default(), 0, 2);
        let task = Task { tid: 0, ..self.daemon };
        self.put_waits(QueueKey { task, cgroup_id: POD_CGROUP }, NO_CPU, 1);
        let throttled_ns = S / 3;
        self.tell(&Fact::Throttled(Throttled {
            cgroup_id: POD_CGROUP,
            periods: 10,
            throttled: 5,
            throttled_ns,
        }));
    }

    fn put_waits(&mut self, key: QueueKey, cpu: u32, times: u32) {
        let pairs: Vec<[u32; 2]> =
            WAITS.iter().map(|(each_ns, count)| [wait::bucket(*each_ns), count * times]).collect();
        let wait_ns = WAITS.iter().map(|(each_ns, count)| each_ns * u64::from(count * times)).sum();
        let record = RunQueue {
            header: self.header::<RunQueue>(Kind::RunQueue, size_of_val(&*pairs)),
            from_ns: self.now_ns - S,
            key,
            cpu,
            buckets: pairs.len() as u32,
            wait_ns,
            preempted_ns: wait_ns / 2,
            on_cpu_ns: S / 10,
            blocked_ns: S / 2,
            long_blocked_ns: 0,
            longest_ns: ((20 * MS) >> 10) << 10,
            long_blocks: 0,
            preempted: times,
        };
        self.records.extend_from_slice(record.as_bytes());
        self.records.extend_from_slice(pairs.as_bytes());
    }
}
