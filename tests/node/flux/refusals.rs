//! What is refused before anything is made, with a sentence that says why.

use super::bed::{Bed, run, wait_until, without_privilege};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

fn refused(bed: &Bed, conflist: &Path, options: &[&str], code: i32, because: &str) {
    let outcome = bed.run(conflist, options);
    assert_eq!(outcome.code, Some(code), "{}", outcome.stderr);
    assert!(outcome.stderr.contains(because), "{because:?} is not in {:?}", outcome.stderr);
    assert_eq!(outcome.stdout, "");
    bed.assert_nothing_left();
    assert!(!bed.path("notes").exists());
}

#[test]
fn configurations_that_cannot_work() {
    let bed = Bed::new("conf");
    let write = |text: &str| {
        let path = bed.path("bad.conflist");
        fs::write(&path, text).unwrap();
        path
    };
    let list =
        |plugins: Value| json!({ "cniVersion": "1.0.0", "name": "bed", "plugins": plugins }).to_string();
    refused(&bed, &write("{ not json"), &[], 2, "not JSON");
    refused(&bed, &write("[]"), &[], 2, "a network configuration is a JSON object");
    refused(&bed, &write(&list(json!([]))), &[], 2, "\"plugins\" is empty");
    refused(
        &bed,
        &write(&list(json!([{ "type": "no-such" }]))),
        &[],
        2,
        "no plugin \"no-such\" in /usr/lib/cni",
    );
    refused(&bed, &write(&list(json!([{ "type": "../bridge" }]))), &[], 2, "is no name of a program");
    let future = json!({ "cniVersion": "1.1.0", "name": "bed", "plugins": [{ "type": "bridge" }] });
    refused(&bed, &write(&future.to_string()), &[], 2, "does not speak CNI 1.1.0");
    refused(&bed, &bed.path("missing.conflist"), &[], 2, "No such file");
    // No plugin of CNI, though it can be run.
    fs::write(bed.path("mute"), "#!/bin/sh\necho hello\n").unwrap();
    fs::set_permissions(bed.path("mute"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let folder = bed.path("");
    let options = ["--plugin-dir", folder.to_str().unwrap()];
    refused(&bed, &write(&list(json!([{ "type": "mute" }]))), &options, 2, "does not answer as a CNI plugin");
}

#[test]
fn folders_that_hold_no_configuration() {
    let bed = Bed::new("confdir");
    fs::create_dir(bed.path("empty")).unwrap();
    for (dir, because) in [("empty", "holds no .conflist"), ("missing", "No such file")] {
        let mut command = std::process::Command::new(harness::agent::binary(env!("CARGO_BIN_EXE_workload")));
        let outcome = run(command.args(["flux", "--conf-dir"]).arg(bed.path(dir)));
        assert_eq!(outcome.code, Some(2));
        assert!(outcome.stderr.contains(because), "{}", outcome.stderr);
    }
}

#[test]
fn arguments_that_make_no_sense() {
    let bed = Bed::new("args");
    let good = bed.slow(json!([]));
    for options in [
        ["--pods", "0"],
        ["--concurrency", "0"],
        ["--rate", "0"],
        ["--rate", "nan"],
        ["--verify", "gateway"],
        ["--capability-args", "[]"],
        ["--ifname", "a/b"],
        ["--timeout", "0"],
    ] {
        let outcome = bed.run(&good, &options);
        assert_eq!(outcome.code, Some(2), "{options:?}: {}", outcome.stderr);
    }
}

#[test]
fn without_the_right_to_make_namespaces() {
    let bed = Bed::new("rights");
    let mut command = bed.flux(&bed.slow(json!([])), &[]);
    let outcome = run(without_privilege(&mut command));
    assert_eq!(outcome.code, Some(3), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("making a network namespace"), "{}", outcome.stderr);
    bed.assert_nothing_left();
}

#[test]
fn the_same_run_twice() {
    let bed = Bed::new("twice");
    let list = bed.slow(json!([{ "do": "sleep", "ms": 1 }]));
    let first = bed.start(&list, &["--pods", "1", "--hold", "10m"]);
    wait_until("the first pod", || bed.log().len() == 1);
    let second = bed.run(&list, &["--pods", "1"]);
    assert_eq!(second.code, Some(2));
    assert!(second.stderr.contains(&format!("there is a run {} already", bed.run)), "{}", second.stderr);
    assert_eq!(bed.mounts().len(), 1, "the first one's pod is untouched");
    first.signal(libc::SIGTERM);
    first.finish().good();
    bed.assert_nothing_left();
}
