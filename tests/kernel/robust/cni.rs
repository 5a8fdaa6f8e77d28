//! A CNI call that outlives a recording: the tape tells of it as far as it goes, and why it goes no further.

use std::fs;

use super::{Started, run, slowpod};
use crate::cni_odd::Runtime;

#[test]
fn a_call_that_runs_as_a_recording_ends_is_told_as_running() {
    let runtime = Runtime::new();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("node.tape");
    let started = Started::attached(&mut slowpod(&["record", "-d", "60s", "-o", path.to_str().unwrap()]));
    let args = "K8S_POD_UID=u-late;K8S_POD_NAME=late";
    let (begun, gate) = (runtime.gate("begun"), runtime.gate("late"));
    let mut late = runtime.start("ADD", "late", args, &format!("/bin/true; {begun}; {gate}"));
    // Only a plugin that waits there takes the word.
    runtime.open("begun");
    started.signal(libc::SIGINT);
    started.finish().ok();
    let replayed = run(&mut slowpod(&["replay", path.to_str().unwrap(), "cni", "-o", "json"])).ok().json();
    let sandbox = runtime.sandbox("late");
    let mut calls = replayed.list("/calls");
    calls.retain(|call| call.text("/container_id") == sandbox);
    assert_eq!(calls.len(), 1, "{replayed}");
    let call = &calls[0];
    assert_eq!((call.text("/state"), call.text("/pod")), ("running", "late"), "{call}");
    assert!(call.at("/split").is_null() && call.at("/exit").is_null(), "{call}");
    assert_eq!(call.text("/no_split"), "it ran on when this answer's window ended", "{call}");
    // What it had done by then stands.
    assert_eq!(call.number("/tree/spawns"), 1, "{call}");
    assert!(fs::exists(format!("/proc/{}", late.id())).unwrap(), "it is left in peace");
    runtime.open("late");
    assert!(late.wait().unwrap().success());
}
