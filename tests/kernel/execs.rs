//! Execs out of the ordinary: what the agent says ran, against what the workload made run.

use crate::exact::{Ended, path};
use harness::agent::{Agent, monotonic_ns};
use harness::running::Running;
use harness::truth::{Truth, WitnessedChild};
use harness::{agent, workload};
use serde_json::{Value, json};
use slowpod_ebpf::abi::exec::{ARGV_BYTES, PATH_BYTES};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::Command;

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
        assert!((256..=ARGV_BYTES).contains(&shown.len()), "{kind}: {} bytes", shown.len());
        assert_eq!(row.at("/argv_cut"), true, "{kind}");
    }
}

/// Runs a command to its end.
fn witnessed(command: &mut Command) -> WitnessedChild {
    let spawn_ns = monotonic_ns();
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let pid = child.id();
    let status = child.wait().expect("a status").into_raw() as u32;
    WitnessedChild { pid, spawn_ns, reaped_ns: monotonic_ns(), status }
}

/// The last that is kept whole, and the first that is not.
#[test]
fn argv_is_cut_where_its_bound_is_and_not_before() {
    let agent = agent!();
    // The words' own lengths, and a NUL behind each.
    let words = |bytes: usize| ["true".to_owned(), "x".repeat(bytes - "true\0\0".len())];
    let children = [ARGV_BYTES - 1, ARGV_BYTES, ARGV_BYTES + 1].map(|bytes| {
        let [name, word] = words(bytes);
        (bytes, witnessed(Command::new("/bin/true").arg0(name).arg(word)))
    });
    let ended = Ended::by(&agent, monotonic_ns());
    for (bytes, child) in children {
        let row = ended.row(&child);
        assert_eq!(row.at("/argv_cut"), bytes > ARGV_BYTES, "{bytes} bytes");
        let whole = words(bytes).join(" ");
        let shown = row.text("/argv").trim_end_matches('\u{2026}');
        if bytes > ARGV_BYTES {
            assert!(
                whole.starts_with(shown) && shown.len() >= ARGV_BYTES - 1,
                "{bytes} bytes: {}",
                shown.len()
            );
        } else {
            assert_eq!(shown, whole);
        }
    }
}

/// A copy of a program, so that its whole path has so many bytes.
fn program_of_length(folder: &Path, bytes: usize) -> PathBuf {
    let longest = 200;
    let mut path = folder.to_owned();
    while bytes - path.as_os_str().len() > longest + 1 {
        path.push("d".repeat((bytes - path.as_os_str().len() - 2).min(longest)));
    }
    std::fs::create_dir_all(&path).expect("a scratch folder");
    path.push("p".repeat(bytes - path.as_os_str().len() - 1));
    assert_eq!(path.as_os_str().len(), bytes);
    std::fs::copy("/bin/true", &path).expect("a program");
    path
}

/// Paths cut in an agent's answer about everything.
fn paths_cut(agent: &Agent, ktime_ns: u64) -> u64 {
    let truncated = agent.view_at(&path("storms", ""), ktime_ns).at("/completeness/truncated").clone();
    truncated.get("path").and_then(Value::as_u64).unwrap_or(0)
}

#[test]
fn a_long_path_is_cut_where_its_bound_is_and_that_is_counted() {
    let agent = agent!();
    let folder = tempfile::tempdir().expect("a scratch folder");
    let lengths = [PATH_BYTES - 1, PATH_BYTES, PATH_BYTES + 1, 1_000];
    let programs = lengths.map(|bytes| program_of_length(folder.path(), bytes));
    let children = programs.each_ref().map(|program| witnessed(Command::new(program).arg0("true")));
    let begun_ns = monotonic_ns();
    let cut_at_first = paths_cut(&agent, begun_ns);
    assert!(cut_at_first >= 2, "{cut_at_first}");
    let ended = Ended::by(&agent, begun_ns);
    for (program, child) in programs.iter().zip(&children) {
        let whole = program.to_str().expect("plain letters");
        let shown = ended.row(child).text("/path").trim_end_matches('\u{2026}').to_owned();
        assert_eq!(shown, whole[..whole.len().min(PATH_BYTES)], "{} bytes", whole.len());
    }
    // Failures too, each by its path, as far as that is kept.
    for program in &programs {
        std::fs::remove_file(program).expect("it is there");
        assert!(Command::new(program).spawn().is_err());
    }
    let cut = paths_cut(&agent, monotonic_ns());
    assert!(cut >= cut_at_first + 2, "{cut} after {cut_at_first}");
    let mut rows = failed_below(&agent, std::process::id());
    for program in programs {
        let whole = program.to_str().expect("plain letters").to_owned();
        let kept = &whole[..whole.len().min(PATH_BYTES)];
        let found = rows.iter().position(|(shown, _)| shown.trim_end_matches('\u{2026}') == kept);
        let (_, errno) = rows.remove(found.unwrap_or_else(|| panic!("no row of {kept}: {rows:?}")));
        assert_eq!(errno, "ENOENT");
    }
}

/// Execs that failed below a process: path and errno, a row for each count.
fn failed_below(agent: &Agent, pid: u32) -> Vec<(String, String)> {
    let answer = agent.view_at(&path("processes", &format!("pid={pid}")), monotonic_ns());
    let rows = answer.list("/failed_execs");
    rows.iter()
        .flat_map(|row| {
            let one = (row.text("/path").to_owned(), row.text("/errno").to_owned());
            std::iter::repeat_n(one, row.number("/count") as usize)
        })
        .collect()
}

/// A path is told as it was given to exec: from where the caller stands.
#[test]
fn relative_paths_are_told_as_they_were_given() {
    let agent = agent!();
    let folder = tempfile::tempdir().expect("a scratch folder");
    std::fs::create_dir(folder.path().join("sub")).expect("a folder");
    for name in ["here", "sub/there"] {
        std::fs::copy("/bin/true", folder.path().join(name)).expect("a program");
    }
    std::fs::write(folder.path().join("data"), "no program").expect("a file");
    // By a shell, which stands there; it forks and hands exec what is written.
    let script = "./here one; sub/there two; sub/../here three; ./none; ./data; true";
    let shell = witnessed(Command::new("/bin/sh").args(["-c", script]).current_dir(folder.path()));
    let answer = agent.view_at(&path("processes", "state=ended"), monotonic_ns());
    let mut children: Vec<_> = answer.list("/processes");
    children.retain(|row| row.at("/spawner").get("pid") == Some(&json!(shell.pid)));
    let mut ran: Vec<_> = children.iter().map(|row| (row.text("/path"), row.text("/argv"))).collect();
    ran.retain(|(path, _)| !path.ends_with("/sh"));
    ran.sort_unstable();
    let expected =
        [("./here", "./here one"), ("sub/../here", "sub/../here three"), ("sub/there", "sub/there two")];
    assert_eq!(ran, expected);
    let mut failed = failed_below(&agent, shell.pid);
    failed.sort_unstable();
    let expected = [("./data", "EACCES"), ("./none", "ENOENT")];
    assert_eq!(failed, expected.map(|(path, errno)| (path.to_owned(), errno.to_owned())));
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
