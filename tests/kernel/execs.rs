//! Execs out of the ordinary: what the agent says ran, against what the workload made run.

use crate::exact::{Ended, path};
use harness::running::Running;
use harness::truth::Truth;
use harness::{agent, workload};
use serde_json::{Value, json};
use std::os::unix::fs::MetadataExt;
use std::process::Command;

/// Most bytes of argv that are kept, and so shown.
const KEPT_BYTES: usize = 4_096;

/// Runs a scenario beside an agent and gives its truth and what the agent has of it.
fn watch(words: &[&str]) -> (Truth, Ended) {
    let agent = agent!();
    let truth = words[1..].iter().fold(workload!(words[0]), |workload, word| workload.word(word)).run();
    let ended = Ended::by(&agent, truth.number("/end_ns"));
    (truth, ended)
}

#[test]
fn argv_is_shown_as_it_was_and_harmless() {
    let agent = agent!();
    for (kind, shown) in [
        ("newline", r"true one\ntwo \n tab\there\r"),
        ("escape", r"true \x1b[31mred\x1b]0;title\x07 \x1b[2J\x08\x7f"),
        ("invalid-utf8", r"true \xff\xfe half \xe2\x82"),
        ("none", ""),
        ("empty-string", "true "),
    ] {
        for how in ["spawn", "fork", "vfork"] {
            let truth = workload!("argv").word(kind).option("--how", how).run();
            let ended = Ended::by(&agent, truth.number("/end_ns"));
            let row = ended.row(&truth.child("/child"));
            assert_eq!((row.text("/argv"), row.text("/path")), (shown, "/bin/true"), "{kind} by {how}");
            assert_eq!(row.at("/argv_cut"), false, "{kind}");
            assert_eq!((row.text("/comm"), row.text("/argv_class")), ("true", "true"), "{kind}");
        }
    }
}

#[test]
fn long_argv_is_cut_and_says_so() {
    let agent = agent!();
    let many = (0..5_000).fold("true".to_owned(), |argv, n| argv + &format!(" {n:04}"));
    for (kind, whole) in [("huge", format!("true {} after", "x".repeat(100_000))), ("many", many)] {
        let truth = workload!("argv").word(kind).run();
        let ended = Ended::by(&agent, truth.number("/end_ns"));
        let row = ended.row(&truth.child("/child"));
        let shown = row.text("/argv").trim_end_matches('\u{2026}');
        assert!(whole.starts_with(shown), "{kind}: {shown}");
        assert!((256..=KEPT_BYTES).contains(&shown.len()), "{kind}: {} bytes", shown.len());
        assert_eq!(row.at("/argv_cut"), true, "{kind}");
    }
}

#[test]
fn files_without_a_name() {
    let (truth, ended) = watch(&["exec-deleted"]);
    for exec in truth.list("/execs") {
        let row = ended.row(&exec.child("/child"));
        assert_eq!(row.at("/path"), exec.at("/filename"), "{exec}");
        let argv = match exec.text("/kind") {
            "removed-while-running" => "sleep 0.2".to_owned(),
            kind => format!("true {kind}"),
        };
        assert_eq!(row.text("/argv"), argv);
        assert_eq!((row.number("/execs"), row.number("/exec_fails")), (1, 0));
    }
}

#[test]
fn a_script_is_known_by_its_own_name() {
    let (truth, ended) = watch(&["exec-script"]);
    let row = ended.row(&truth.child("/child"));
    let argv = truth.list("/argv").iter().map(|word| word.text("").to_owned()).collect::<Vec<_>>().join(" ");
    assert_eq!((row.text("/argv"), row.at("/path")), (argv.as_str(), truth.at("/script")));
    assert_eq!((row.at("/script"), row.text("/argv_class")), (&true.into(), "script.sh"));
}

#[test]
fn an_exec_by_another_thread_stays_the_same_process() {
    let (truth, ended) = watch(&["exec-from-thread"]);
    let row = ended.row(&truth.child("/child"));
    assert_eq!((row.text("/argv"), row.number("/execs")), ("true exec-from-thread", 1));
    assert_eq!(row.number("/threads/count"), 2);
    assert_ne!(truth.number("/exec_tid"), row.number("/pid"));
}

#[test]
fn a_chain_of_execs_is_one_process() {
    let (truth, ended) = watch(&["exec-chain", "--count", "9"]);
    let row = ended.row(&truth.child("/child"));
    assert_eq!(row.number("/execs"), truth.number("/execs"));
    assert_eq!((row.text("/argv"), row.text("/path")), ("/bin/true", "/bin/true"));
}

/// The namespaces of a living process, as the kernel says.
fn namespaces(pid: u64) -> Value {
    let inode = |name: &str| {
        let link = format!("/proc/{pid}/ns/{name}");
        std::fs::metadata(&link).unwrap_or_else(|error| panic!("{link}: {error}")).ino()
    };
    json!({ "mount": inode("mnt"), "pid": inode("pid"), "net": inode("net") })
}

/// One that got its own by an exec, and one that was there before the agent.
#[test]
fn namespaces_are_the_kernels_own() {
    let agent = agent!();
    let mut unshare = Command::new("unshare");
    // The child ends with unshare, which ends with the test.
    unshare.args(["--mount", "--pid", "--net", "--fork", "--kill-child", "sleep", "60"]);
    let unshare = Running::start(unshare);
    let of_unshare = path("processes", &format!("state=alive&spawner={}", unshare.pid()));
    let slept =
        |answer: &Truth| answer.list("/processes").into_iter().find(|row| row.text("/comm") == "sleep");
    let sleep = slept(&agent.view_when(&of_unshare, |answer| slept(answer).is_some())).expect("just seen");
    let theirs = namespaces(sleep.number("/pid"));
    assert_eq!(sleep.at("/namespaces"), &theirs);

    let test = u64::from(std::process::id());
    let alive = agent.get(&path("processes", &format!("state=alive&pid={test}"))).expect("an answer");
    let rows = alive.list("/processes");
    let own = rows.iter().find(|row| row.number("/pid") == test).expect("the test spawned, so it has a row");
    let ours = namespaces(test);
    assert_eq!(own.at("/namespaces"), &ours);
    for kind in ["mount", "pid", "net"] {
        assert_ne!(theirs[kind], ours[kind], "{kind}");
    }
}

#[test]
fn searches_are_counted_by_path_and_errno() {
    for missing in [false, true] {
        let agent = agent!();
        let search = workload!("path-search").option("--count", 30);
        let truth = if missing { search.word("--missing") } else { search }.run();
        let ended = Ended::by(&agent, truth.number("/end_ns"));
        for child in truth.children("/children") {
            let row = ended.row(&child);
            assert_eq!(row.number("/execs"), u64::from(!missing));
            assert_eq!(row.number("/exec_fails"), truth.number("/exec_fails") / 30);
        }
        let answer =
            agent.get(&path("processes", &format!("pid={}", truth.number("/pid")))).expect("an answer");
        let rows = answer.list("/failed_execs");
        let fails = truth.list("/fails");
        assert_eq!(rows.len(), fails.len(), "{rows:?}");
        for fail in fails {
            let errno = if fail.number("/errno") == libc::EACCES as u64 { "EACCES" } else { "ENOENT" };
            let row = rows.iter().find(|row| row.at("/path") == fail.at("/path")).expect("a row of the path");
            assert_eq!((row.text("/errno"), row.number("/count")), (errno, fail.number("/count")));
            assert_eq!(row.text("/daemon"), "workload path-search");
        }
    }
}

#[test]
fn deaths_have_their_cause() {
    let (truth, ended) = watch(&["signal-death"]);
    for death in truth.list("/deaths") {
        let row = ended.row(&death.child("/child"));
        assert_eq!(row.at("/exit/signal"), death.at("/name"));
        assert_eq!(row.text("/argv"), "sleep 30");
    }
    for code in [0, 1, 42, 255] {
        let (truth, ended) = watch(&["exit-code", &code.to_string()]);
        assert_eq!(ended.row(&truth.child("/child")).number("/exit/code"), code);
    }
}
