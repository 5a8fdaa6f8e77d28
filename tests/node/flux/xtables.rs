//! The lock of `iptables-legacy`: one rule set is loaded for long, as a proxy daemon may do it, and each ADD's `iptables`
//! waits for it. The lock is a file of the test's own, so that nobody else on this machine waits.

use super::bed::{Bed, Started, wait_until};
use super::contended::waiting_for;
use super::explained::{adds, first};
use harness::agent::monotonic_ns;
use harness::netns::die_with_test;
use harness::tools::Tool;
use harness::truth::Truth;
use serde_json::json;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

/// How long the lock is kept once all wait for it: against this, what lies between one clock's reading and another's is
/// little.
const KEPT: Duration = Duration::from_secs(2);

/// The lock, and `iptables-legacy-restore` that has it: it takes it with a table's first line, and keeps it up to the last.
struct Held {
    path: PathBuf,
    file: File,
    restore: Child,
    told: ChildStdin,
}

impl Held {
    fn take(bed: &Bed) -> Held {
        let path = bed.path("xtables.lock");
        let file = File::create(&path).unwrap();
        let mut restore =
            Command::new(Tool::IptablesLegacy.require().with_file_name("iptables-legacy-restore"));
        restore.args(["--noflush", "--wait"]).env("XTABLES_LOCKFILE", &path).stdin(Stdio::piped());
        let mut restore = die_with_test(bed.net.holds(&mut restore)).spawn().unwrap();
        let mut told = restore.stdin.take().unwrap();
        told.write_all(b"*filter\n").unwrap();
        wait_until("the lock is taken", || file.try_lock().map(|()| file.unlock().unwrap()).is_err());
        Held { path, file, restore, told }
    }

    /// Starts a run of the bed in which `iptables` is `iptables-legacy`, with this lock.
    fn flux(&self, bed: &Bed, conflist: &Path, pods: &str) -> Started {
        let programs = bed.path("bin");
        std::fs::create_dir(&programs).unwrap();
        symlink(Tool::IptablesLegacy.require(), programs.join("iptables")).unwrap();
        let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
        let options = ["--pods", pods, "--concurrency", pods, "--no-loopback", "--explain"];
        let mut flux = bed.flux(conflist, &options);
        Started::of(flux.env("PATH", path).env("XTABLES_LOCKFILE", &self.path))
    }

    /// Keeps it from when so many wait for it, then lets it go; how long that was, and who had it.
    fn let_go(mut self, waiters: usize) -> (u64, u32) {
        wait_until("all in the queue", || waiting_for(&self.file) == waiters);
        let from_ns = monotonic_ns();
        std::thread::sleep(KEPT);
        let kept_ns = monotonic_ns() - from_ns;
        self.told.write_all(b"COMMIT\n").unwrap();
        drop(self.told);
        assert!(self.restore.wait().unwrap().success());
        (kept_ns, self.restore.id())
    }
}

/// Waits of the tree's commands for the lock.
fn waits(call: &Truth) -> Vec<Truth> {
    let is_lock =
        |wait: &Truth| wait.text("/on") == "file_lock" && wait.text("/path").ends_with("/xtables.lock");
    call.list("/tree/waits").into_iter().filter(is_lock).collect()
}

#[test]
fn a_command_s_wait_for_the_xtables_lock_agrees_with_how_long_it_was_kept() {
    let bed = Bed::new("xtables");
    let held = Held::take(&bed);
    let phase = json!({ "do": "spawn", "program": "iptables", "args": ["-w", "-P", "FORWARD", "ACCEPT"], "times": 1 });
    let running = held.flux(&bed, &bed.slow(json!([phase])), "1");
    let (kept_ns, holder) = held.let_go(1);
    let report = running.finish().good();
    let call = &adds(&report)[0];
    let waits = waits(call);
    let told_ns: u64 = waits.iter().map(|wait| wait.number("/blocked_ns")).sum();
    // It waited for longer than the test saw it wait, and for less than the plugin waited for it.
    let most_ns = bed.log()[0].number("/truth/waited_ns");
    assert!((kept_ns..=most_ns).contains(&told_ns), "{kept_ns} {told_ns} {most_ns}: {call}");
    for wait in &waits {
        assert_eq!(wait.number("/holder/process/pid"), u64::from(holder), "{wait}");
        assert_eq!(wait.text("/holder/process/comm"), "iptables-legacy", "{wait}");
    }
    let split_ns = call.number("/tree/split/blocked_by/file_lock");
    assert_eq!(split_ns, told_ns, "the split and its evidence: {call}");
    let finding = first(&report, "lock_convoy");
    assert!(finding.text("/title").contains("/xtables.lock"), "{finding}");
    bed.assert_nothing_left();
}

#[test]
fn the_reference_bridge_behind_the_xtables_lock_names_who_loads_rules() {
    let bed = Bed::new("legacy");
    let held = Held::take(&bed);
    let running = held.flux(&bed, &bed.bridge(), "3");
    let (kept_ns, _) = held.let_go(3);
    let report = running.finish().good();
    let finding = first(&report, "lock_convoy");
    let title = finding.text("/title");
    assert!(title.contains("/xtables.lock") && title.contains("held by iptables-legacy ("), "{finding}");
    assert!(finding.number("/numbers/waited_ns") >= 3 * kept_ns, "{finding}");
    assert!(finding.at("/fix").to_string().contains("iptables-restore"), "{finding}");
    bed.assert_nothing_left();
}
