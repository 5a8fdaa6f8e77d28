//! The story of the shared lock: thirty pods at once against `host-local`, whose store has one lock per network, and on a
//! node that has had many pods is slow under it: each ADD and each DEL reads every lease.

use super::bed::Bed;
use super::explained::first;
use harness::truth::Truth;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

/// Pods at once.
const PODS: usize = 30;
/// Leases of others in the store.
const LEASES: u32 = 3_000;

/// An address of the range that is taken, from its end on, so that the first free one is found at once.
fn address(lease: u32) -> String {
    format!("10.98.{}.{}", 15 - lease / 250, 254 - lease % 250)
}

/// What the kernel's own list of locks (proc_locks(5)) has shown of one file.
#[derive(Default)]
struct Witness {
    /// Processes that had the lock.
    holders: BTreeSet<u64>,
    /// Processes that waited for it.
    waiters: BTreeSet<u64>,
    /// Most that waited at once.
    queue_max: u64,
}

impl Witness {
    fn look(&mut self, inode: &str) {
        let locks = fs::read_to_string("/proc/locks").unwrap();
        let of_file = locks.lines().filter(|line| line.contains(inode));
        let mut queue = 0;
        for line in of_file {
            let waits = line.contains("-> FLOCK");
            let pid = line.split_whitespace().find_map(|word| word.parse().ok().filter(|pid: &u64| *pid > 1));
            let Some(pid) = pid else { continue };
            let seen = if waits { &mut self.waiters } else { &mut self.holders };
            seen.insert(pid);
            queue += u64::from(waits);
        }
        self.queue_max = self.queue_max.max(queue);
    }
}

#[test]
fn thirty_pods_queue_for_host_local_s_lock() {
    let bed = Bed::new("thirty");
    let store = bed.path("leases/bed");
    fs::create_dir_all(&store).unwrap();
    for lease in 0..LEASES {
        fs::write(store.join(address(lease)), format!("other-{lease}\r\neth0")).unwrap();
    }
    let lock = File::create(store.join("lock")).unwrap();
    let inode = format!(":{} ", lock.metadata().unwrap().ino());
    let mut witness = Witness::default();
    let pods = PODS.to_string();
    let options = ["--pods", &pods, "--concurrency", &pods, "--no-loopback", "--explain"];
    let report = std::thread::scope(|scope| {
        let running = scope.spawn(|| bed.run(&bed.bridge(), &options).good());
        while !running.is_finished() {
            witness.look(&inode);
            std::thread::sleep(Duration::from_millis(2));
        }
        running.join().expect("flux goes well")
    });
    let convoy = first(&report, "lock_convoy");
    let title = convoy.text("/title");
    assert!(
        title.contains("host-local queue for the lock") && title.contains("/leases/bed/lock"),
        "{convoy}"
    );
    assert!(title.contains("held by host-local (pod slowpod-flux/flux-thirty-"), "{convoy}");
    let queue_max = convoy.number("/numbers/queue_max");
    assert!((witness.queue_max..2 * PODS as u64).contains(&queue_max), "{} {convoy}", witness.queue_max);
    assert!(convoy.number("/numbers/waiters") >= witness.waiters.len() as u64, "{convoy}");
    // Who is told to have had the lock did have it.
    let waits: Vec<Truth> =
        report.list("/explained/cni/calls").iter().flat_map(|call| call.list("/tree/waits")).collect();
    let of_lock = waits.iter().filter(|wait| wait.text("/on") == "file_lock");
    let told: Vec<u64> = of_lock.map(|wait| wait.number("/holder/process/pid")).collect();
    assert!(!told.is_empty(), "{report}");
    assert!(told.iter().all(|pid| witness.holders.contains(pid)), "{told:?} {:?}", witness.holders);
    for lease in 0..LEASES {
        fs::remove_file(store.join(address(lease))).unwrap();
    }
    bed.assert_nothing_left();
}
