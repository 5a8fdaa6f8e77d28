//! Tapes: what a recording of a storm replays, and what becomes of tapes that are damaged, foreign or cut short.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use harness::truth::Truth;
use harness::workload;

use super::{Ended, Started, program, run, slowpod, spawns_of};

/// Records while a storm runs, and ends the recording once the storm is over.
fn record(path: &Path, storm: impl FnOnce() -> Truth) -> Truth {
    let started = Started::attached(&mut slowpod(&["record", "-d", "60s", "-o", path.to_str().unwrap()]));
    let truth = storm();
    started.signal(libc::SIGINT);
    let ended = started.finish().ok();
    assert!(ended.err.contains("wrote "), "{}", ended.err);
    truth
}

fn small_storm() -> Truth {
    super::storm(30)
}

fn replay(path: &Path, view: &str) -> Ended {
    run(&mut slowpod(&["replay", path.to_str().unwrap(), view, "-o", "json"]))
}

#[test]
fn a_tape_replays_the_truth_and_the_same_bytes_twice() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("node.tape");
    let storm = record(&path, || {
        workload!("storm").option("--count", 600).option("--how", "threads").option("--fail-every", 7).run()
    });
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    for view in ["storms", "processes", "netlink", "findings", "probes"] {
        let [first, second] = [(), ()].map(|()| replay(&path, view).ok().out);
        assert!(first == second, "{view} is not the same twice");
    }
    let pid = storm.number("/pid") as u32;
    let storms = replay(&path, "storms").json();
    assert_eq!((spawns_of(&storms, pid, "true"), spawns_of(&storms, pid, "false")), ((515, 0), (85, 0)));
    let words = ["replay", path.to_str().unwrap(), "processes", "-o", "json", "-q"];
    let query = format!("state=ended&spawner={pid}&limit=20000");
    let processes = run(&mut slowpod(&[&words[..], &[&query]].concat())).json();
    let mut pids: Vec<u64> = processes.list("/processes").iter().map(|row| row.number("/pid")).collect();
    let children =
        storm.list("/spawners").iter().flat_map(|spawner| spawner.children("/children")).collect::<Vec<_>>();
    let mut truth: Vec<u64> = children.iter().map(|child| child.pid.into()).collect();
    pids.sort_unstable();
    truth.sort_unstable();
    assert_eq!(pids, truth);
}

#[test]
fn a_tape_cut_anywhere_gives_what_comes_before() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("node.tape");
    record(&path, small_storm);
    let whole = fs::read(&path).unwrap();
    let first = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    // Every cut through the first line and the first records goes to the library; programs are started for a few.
    let mut before = 0;
    for cut in 0..(first + 4_096).min(whole.len()) {
        let reader = slowpod::capture::tape::Reader::new(&whole[..cut]);
        match reader {
            Err(error) => assert!(cut < first && error.to_string().contains("tape"), "cut at {cut}: {error}"),
            Ok(mut reader) => {
                assert!(cut >= first - 1, "cut at {cut} is still a tape");
                let mut state =
                    slowpod::fold::State::new(slowpod::fold::Window::ALL, slowpod::fold::Limits::WINDOW);
                slowpod::pipeline::fold_all(&mut reader, &mut state).unwrap();
                let received: u64 = state.loss.received.values().sum();
                assert!(received >= before, "cut at {cut} gives {received} records, one byte less {before}");
                before = received;
            }
        }
    }
    assert!(before > 5);
    let cut = directory.path().join("cut.tape");
    for at in [whole.len() - 1, whole.len() / 2 + 1, whole.len() / 3] {
        fs::write(&cut, &whole[..at]).unwrap();
        let ended = replay(&cut, "storms").ok();
        let damaged = ended.err.contains("damaged from byte") && ended.err.contains("records before it");
        // A cut may fall between two records.
        assert!(damaged || ended.err.is_empty(), "{}", ended.err);
        ended.json().list("/daemons");
        let strict = run(&mut slowpod(&["replay", cut.to_str().unwrap(), "--strict"]));
        assert_eq!(strict.code(), Some(if damaged { 5 } else { 0 }), "{}", strict.err);
    }
}

#[test]
fn foreign_files_and_other_versions_are_told_apart() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.tape");
    let mut other = b"slowpod-tape 1 contract=0123456789abcdef\n".to_vec();
    other.extend([0; 64]);
    for (bytes, says) in [
        (b"".as_slice(), "not a slowpod tape"),
        (b"\x7fELF\x02\x01\x01", "not a slowpod tape"),
        (b"PK\x03\x04", "not a slowpod tape"),
        (&[b'x'; 70_000], "not a slowpod tape"),
        (&other, "another version"),
        (b"slowpod-tape 99 contract=00\n", "another version"),
    ] {
        fs::write(&path, bytes).unwrap();
        let ended = replay(&path, "storms");
        assert_eq!(ended.code(), Some(1));
        assert!(ended.err.contains(says) && ended.err.contains("x.tape"), "{}", ended.err);
        assert_eq!(ended.out, "");
    }
    let nowhere = replay(&directory.path().join("none.tape"), "storms");
    assert_eq!(nowhere.code(), Some(1));
    assert!(nowhere.err.contains("none.tape"), "{}", nowhere.err);
    let folder = replay(directory.path(), "storms");
    assert_eq!(folder.code(), Some(1));
    assert!(folder.err.contains(directory.path().to_str().unwrap()), "{}", folder.err);
}

#[test]
fn a_tape_is_its_owners_and_goes_through_no_link() {
    let directory = tempfile::tempdir().unwrap();
    let [target, link, open] = ["target", "link.tape", "open.tape"].map(|name| directory.path().join(name));
    let record = |path: &PathBuf| run(&mut slowpod(&["record", "-d", "100ms", "-o", path.to_str().unwrap()]));
    fs::write(&target, "mine").unwrap();
    symlink(&target, &link).unwrap();
    let refused = record(&link);
    assert_eq!(refused.code(), Some(1));
    assert!(refused.err.contains("link.tape: it is no plain file"), "{}", refused.err);
    assert_eq!(fs::read_to_string(&target).unwrap(), "mine");
    // One that everyone may read, and that somebody has open.
    fs::write(&open, "old").unwrap();
    let mut reader = fs::File::open(&open).unwrap();
    record(&open).ok();
    assert_eq!(fs::metadata(&open).unwrap().mode() & 0o777, 0o600);
    let mut seen = String::new();
    std::io::Read::read_to_string(&mut reader, &mut seen).unwrap();
    assert_eq!(seen, "old");
    let nowhere = record(&directory.path().join("none/x.tape"));
    assert_eq!(nowhere.code(), Some(1));
    assert!(nowhere.err.contains("none/x.tape"), "{}", nowhere.err);
}

/// A disk of 1 MiB, in a mount namespace that ends with its processes.
#[test]
fn a_full_disk_is_said_and_the_tape_so_far_replays() {
    let directory = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=1m none \"$2\" && \"$0\" record -d 60s -o \"$2/x.tape\" & \
                  wait $! ; code=$?; \"$0\" replay \"$2/x.tape\" storms -o json; echo \"then $?\" >&2; exit $code";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, &program(), "_", directory.path().to_str().unwrap()]);
    let started = Started::attached(&mut command);
    let storm = super::storm(2_500);
    let ended = started.finish();
    assert_eq!(ended.code(), Some(1), "{}", ended.err);
    assert!(ended.err.contains("No space left") && ended.err.contains("can be replayed"), "{}", ended.err);
    assert!(ended.err.contains("then 0"), "{}", ended.err);
    let (seen, _) = spawns_of(&ended.json(), storm.number("/pid") as u32, "true");
    assert!(seen > 100 && seen < 2_500, "{seen} spawns on the tape");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}
