//! Samples: which rows they make, in which window, and what bad ones do.

use crate::{MS, S};
use harness::check::{Records, fold, snapshot};
use harness::scene::{BEGIN_NS, Scene};
use slowpod::fold::{Snapshot, Window, profile::Sums};
use slowpod_ebpf::abi::{sample::SampleKind, split::Cause};

/// A daemon that computes, waits and is kept waiting, seen by three drains.
const SCENE: &str = "
    cgroup 5 /system.slice/proxy.service
    process proxy pid=100 comm=proxy cgroup=5
    stack 9 proxy 0x1 0x2
    stack 10 proxy 0xffffffff81000000 kernel
    at 1s sample proxy on_cpu 40ms count=4 stack=9
    sample proxy off_cpu 900ms count=3 cause=futex thread=worker tid=101 stack=9 kstack=10
    at 2s sample proxy on_cpu 60ms count=6 stack=9
    sample proxy off_cpu 1s cause=futex thread=worker tid=102 stack=9 kstack=10 goes_on
    sample proxy off_cpu 2ms cause=file_lock stack=9 kstack=10
    at 3s sample proxy run_queue 5ms count=2 preempted
    sample proxy run_queue 7ms";

/// Rows as (kind, thread, cause, user stack, kernel stack, preempted, sums).
fn rows(snapshot: &Snapshot) -> Vec<(SampleKind, String, Cause, u64, u64, bool, Sums)> {
    let rows = snapshot.state.profile.rows();
    rows.map(|(key, sums)| {
        assert_eq!((key.process.tgid, key.cgroup_id), (100, 5));
        (key.kind, key.thread(), key.cause, key.user_stack, key.kernel_stack, key.preempted, *sums)
    })
    .collect()
}

#[test]
fn rows_sum_what_is_alike_and_keep_the_rest_apart() {
    let snapshot = snapshot(&Scene::parse("profile", SCENE));
    let sums = |count, ns| Sums { count, ns };
    let (proxy, worker) = (|| "proxy".to_owned(), || "worker".to_owned());
    assert_eq!(
        rows(&snapshot),
        [
            (SampleKind::OnCpu, proxy(), Cause::Other, 9, 0, false, sums(10, 100 * MS)),
            (SampleKind::OffCpu, proxy(), Cause::FileLock, 9, 10, false, sums(1, 2 * MS)),
            // Threads of one name are one row; the wait that goes on adds time and no count.
            (SampleKind::OffCpu, worker(), Cause::Futex, 9, 10, false, sums(3, 1_900 * MS)),
            (SampleKind::RunQueue, proxy(), Cause::Other, 0, 0, false, sums(1, 7 * MS)),
            (SampleKind::RunQueue, proxy(), Cause::Other, 0, 0, true, sums(2, 5 * MS)),
        ]
    );
    assert_eq!(snapshot.state.profile.total_ns(SampleKind::OffCpu), 1_902 * MS);
    let stack = snapshot.state.stacks.get(10).expect("the kernel stack");
    assert_eq!((stack.fixed.user, &stack.frames[..]), (0, &[0xffff_ffff_8100_0000][..]));
}

#[test]
fn only_what_was_drained_in_the_window_counts() {
    let scene = Scene::parse("profile", SCENE);
    let window = Window { from_ns: BEGIN_NS + 1_500 * MS, until_ns: BEGIN_NS + 3 * S };
    let inside = rows(&fold(&mut Records::new(&scene.records, 1), window));
    assert_eq!(inside.len(), 3);
    assert_eq!(inside[0].6, Sums { count: 6, ns: 60 * MS });
}

#[test]
fn a_sample_of_an_unknown_kind_or_cause_is_counted_as_garbled() {
    let scene = Scene::parse("profile", "process proxy pid=100\nsample proxy off_cpu 1ms cause=disk");
    let begun = scene.records.len() - size_of::<slowpod_ebpf::abi::sample::Sample>();
    // `kind` and `cause` lie behind header, task and six words.
    for at in [88, 92] {
        let mut records = scene.records.clone();
        records[begun + at] = 99;
        let snapshot = fold(&mut Records::new(&records, 100), Window::ALL);
        assert_eq!((snapshot.state.loss.garbled, snapshot.state.profile.rows().len()), (1, 0));
    }
}
