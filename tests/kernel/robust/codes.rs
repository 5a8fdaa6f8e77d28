//! Refusals: the exit code that scripts go by, and the sentence that people read.

use std::process::Command;

use super::{Ended, Started, program, run, slowpod, stalled::Stalled};

/// `nobody`.
const NOBODY: &str = "65534";

/// A command line that the agent refuses, with the exit code and what it must say.
fn refused(command: &mut Command, code: i32, says: &[&str]) -> Ended {
    let ended = run(command);
    assert_eq!(ended.code(), Some(code), "{command:?}: {}", ended.err);
    for words in says {
        assert!(ended.err.contains(words), "{command:?} does not say {words:?}: {}", ended.err);
    }
    assert!(!ended.err.contains("panicked"), "{}", ended.err);
    ended
}

#[test]
fn wrong_usage_is_2() {
    for (words, says) in [
        (["run", "--nonsense"].as_slice(), "--nonsense"),
        (&["fly"], "fly"),
        (&[], "Usage"),
        (&["run", "--ring-kib", "63"], "power of two"),
        (&["run", "--ring-kib", "0"], "power of two"),
        (&["run", "--keep", "forever"], "span of time"),
        (&["run", "--keep-mib", "0"], "1..=4096"),
        (&["diagnose", "-d", "99h"], "seconds"),
        (&["diagnose", "-o", "xml"], "json"),
        (&["record", "-o", "x.pdf"], ".tape"),
        (&["record", "-o", "x.tape", "--pod", "a"], "everything that enters"),
        (&["record", "-o", "x.tape", "--kind", "exec"], "everything that enters"),
        (&["record", "-o", "x.svg", "--hz", "0"], "1..=999"),
        (&["storms", "--listen", "nowhere"], "no address"),
        (&["replay", "/dev/null", "nothing"], "findings, storms"),
        (&["replay", "/dev/null", "-q", "limit=0"], "\"limit\""),
    ] {
        refused(&mut slowpod(words), 2, &[says]);
    }
}

#[test]
fn failures_are_1() {
    refused(&mut slowpod(&["run", "--listen", "0.0.0.0:0"]), 1, &["refusing", "--insecure-listen"]);
    refused(&mut slowpod(&["run", "--listen", "nowhere"]), 1, &["no address"]);
    refused(&mut slowpod(&["run", "--listen", "192.0.2.1:0", "--insecure-listen"]), 1, &["no such address"]);
    refused(&mut slowpod(&["run", "--listen", "127.0.0.1:0", "--bpf-object", "/dev/null"]), 1, &["object"]);
    // Said at once, not when the window is over.
    let ended = refused(&mut slowpod(&["record", "-d", "1h", "-o", "/proc/no/x.svg"]), 1, &["cannot write"]);
    assert!(!ended.err.contains("attached"), "{}", ended.err);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.txt").display().to_string();
    refused(&mut slowpod(&["record", "-d", "1h", "-o", &path, "--listen", "127.0.0.1:1"]), 1, &["no agent"]);
    assert!(!std::path::Path::new(&path).exists(), "no empty file is left");
    refused(&mut slowpod(&["storms", "--listen", "127.0.0.1:1"]), 1, &["no agent answers", "slowpod run"]);
}

/// A command that runs without root, with these capabilities alone. From a copy that everyone can reach.
fn as_nobody(capabilities: &str, words: &[&str]) -> (tempfile::TempDir, Command) {
    let directory = tempfile::tempdir().unwrap();
    let copy = directory.path().join("slowpod");
    // A link where possible: the file is large.
    if std::fs::hard_link(program(), &copy).is_err() {
        std::fs::copy(program(), &copy).unwrap();
    }
    let mode = |mode| std::os::unix::fs::PermissionsExt::from_mode(mode);
    std::fs::set_permissions(directory.path(), mode(0o755)).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]);
    let ambient = if capabilities.is_empty() { "-all" } else { capabilities };
    let [inherited, ambient] = ["--inh-caps", "--ambient-caps"].map(|option| format!("{option}={ambient}"));
    command.args([inherited, ambient]);
    command.arg(copy).args(words);
    (directory, command)
}

#[test]
fn missing_privilege_is_3_and_names_what_is_missing() {
    for words in [["probes"].as_slice(), &["diagnose", "-d", "1s"], &["run", "--listen", "127.0.0.1:0"]] {
        let (_copy, mut command) = as_nobody("", words);
        let ended = refused(&mut command, 3, &["CAP_BPF", "CAP_PERFMON", "sudo"]);
        assert_eq!(ended.out, "");
    }
    let (_copy, mut command) = as_nobody("+bpf", &["probes"]);
    refused(&mut command, 3, &["missing: CAP_PERFMON"]);
}

#[test]
fn two_capabilities_are_enough_for_the_main_job() {
    let (_copy, mut command) = as_nobody("+bpf,+perfmon", &["probes", "-o", "json"]);
    let probes = run(&mut command).ok().json();
    for probe in probes.list("/probes") {
        let (name, state) = (probe.text("/probe"), probe.text("/state"));
        match name {
            "exit" | "split" | "exec" | "spawn" => assert_eq!(state, "attached", "{probe}"),
            // What it cannot have it says, and why.
            _ => assert!(state == "attached" || !probe.text("/why").is_empty(), "{probe}"),
        }
    }
    let (_copy, mut command) = as_nobody("+bpf,+perfmon", &["diagnose", "-d", "1s", "-o", "json"]);
    run(&mut command).ok().json().list("/findings");
}

/// A kernel without a type description, as far as a process of a mount namespace of its own can tell.
#[test]
fn a_kernel_without_btf_is_4() {
    for (hides, says) in [
        ("mount --bind /dev/null /sys/kernel/btf/vmlinux", "type description"),
        ("mount -t tmpfs none /sys/kernel/btf", "CONFIG_DEBUG_INFO_BTF"),
    ] {
        let script = format!("{hides} && exec \"$0\" probes");
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", &script, &program()]);
        let ended = refused(&mut command, 4, &[says]);
        assert_eq!(ended.out, "");
    }
}

/// Without one of the probes that must be, the verdicts on all others are printed all the same.
#[test]
fn verdicts_are_printed_also_when_the_agent_could_not_run() {
    let words = ["probes", "-o", "json", "--avoid", "sched_process_exec"];
    let ended = refused(&mut slowpod(&words), 1, &["probe exec is"]);
    let probes = ended.json().list("/probes");
    let state = |name: &str| {
        let row = probes.iter().find(|probe| probe.text("/probe") == name).expect("a verdict");
        row.text("/state").to_owned()
    };
    assert_eq!((state("exec"), state("spawn")), ("off".into(), "attached".into()), "{}", ended.out);
    assert_eq!(probes.len(), slowpod_ebpf::abi::probes::PROBES.len());
}

#[test]
fn strict_is_5_only_when_data_are_missing() {
    // The smallest ring cannot hold a storm that nobody takes out of it.
    let words = ["diagnose", "-d", "3s", "--strict", "--ring-kib", "64", "-o", "json"];
    let started = Started::attached(&mut slowpod(&words));
    let stalled = Stalled::new(started.child.id());
    harness::workload!("storm").option("--count", 3_000).option("--spawners", 4).word("--brief").run();
    drop(stalled);
    let ended = started.finish();
    assert_eq!(ended.code(), Some(5), "{}\n{}", ended.err, ended.out);
    assert!(ended.err.contains("data are missing"), "{}", ended.err);
    // It answers all the same.
    assert_eq!(ended.json().at("/completeness/complete"), false);
}
