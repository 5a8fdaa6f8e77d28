//! Stacks of programs that keep no frame pointers: of a C program whose calls are known, compiled as Debian compiles its own.

use harness::agent;
use harness::agent::{Agent, monotonic_ns};
use harness::running::Running;
use harness::tools::Tool;
use slowpod::client;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Longest wait for a whole stack: a fresh agent first reads the programs of everybody else.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long every stack is looked at, from when the first was whole.
const WATCHED: Duration = Duration::from_secs(3);
const MS: u64 = 1_000_000;
/// What stands at the root of a stack that breaks off.
const BROKEN: &str = "[no frame pointers from here]";
/// The calls, outermost first.
const LINKS: &str = ";main;link_ten;link_nine;link_eight;link_seven;link_six;link_five;link_four;link_three;link_two;link_one;work;";
/// Those of the same program when it has executed itself.
const AFTER: &str = ";main;after_two;after_one;work;";

/// The program, compiled into a folder.
fn compiled(folder: &Path) -> PathBuf {
    let program = folder.join("unwound");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/kernel/unwound.c");
    let mut compiler = Command::new(Tool::Cc.require());
    compiler
        .args(["-O2", "-fomit-frame-pointer", "-fno-optimize-sibling-calls", "-o"])
        .arg(&program)
        .arg(source);
    assert!(compiler.status().expect("a compiler").success());
    program
}

fn started(program: &Path, mode: &str) -> Running {
    let mut command = Command::new(program);
    command.arg(mode);
    Running::start(command)
}

/// Folded stacks of a process from an instant until now. A line's value is cut off, and ends its last name as others do.
fn folded(agent: &Agent, kind: &str, pid: u32, from_ns: u64) -> Vec<String> {
    let ago_ms = (monotonic_ns() - from_ns).div_ceil(MS);
    let path = format!("/flamegraph/{kind}?format=folded&ago={ago_ms}ms&seconds={ago_ms}ms&pid={pid}");
    let body = client::get_within(agent.address(), &path, PATIENCE);
    let text = String::from_utf8(body.unwrap_or_else(|error| panic!("{path}: {error}"))).expect("UTF-8");
    text.lines().map(|line| line.rsplit_once(' ').map_or("", |(stack, _)| stack).to_owned() + ";").collect()
}

/// Waits for a line with these in it, in this order.
fn await_stack(agent: &Agent, kind: &str, pid: u32, parts: &[&str]) {
    let has = |line: &String| {
        parts.iter().try_fold(&**line, |rest, part| rest.split_once(part).map(|(_, rest)| rest)).is_some()
    };
    let (begun, from_ns) = (Instant::now(), monotonic_ns());
    loop {
        let lines = folded(agent, kind, pid, from_ns);
        if lines.iter().any(has) {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{kind}: no {parts:?} in\n{}", lines.join("\n"));
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Every stack of a process since an instant that is one of user space at all; some.
fn since(agent: &Agent, kind: &str, pid: u32, from_ns: u64) -> Vec<String> {
    let is_users = |line: &String| line.contains("main") || line.contains(BROKEN);
    let lines: Vec<String> = folded(agent, kind, pid, from_ns).into_iter().filter(is_users).collect();
    assert!(!lines.is_empty(), "{kind} of {pid}");
    lines
}

#[test]
fn whole_stacks_of_code_without_frame_pointers() {
    let agent = agent!();
    let folder = tempfile::tempdir().expect("a folder");
    let program = compiled(folder.path());
    let running: Vec<(&str, &str, &[&str], Running)> = [
        // The clock is the kernel's code in the process, reached through the C library.
        ("spin", "profile", &["_start;", LINKS, "spin;"][..]),
        ("signal", "profile", &["_start;", LINKS, "raise", "handler;spin;"]),
        ("sleep", "offcpu", &["_start;", LINKS, "nanosleep", "[blocked: sleep];"]),
        ("spawn", "exec", &["_start;", LINKS, "spawn_one;", "clone", ";true;"]),
        ("vfork", "exec", &["_start;", LINKS, "spawn_one;", "vfork;true;"]),
    ]
    .into_iter()
    .map(|(mode, kind, parts)| (mode, kind, parts, started(&program, mode)))
    .collect();
    for (_, kind, parts, process) in &running {
        await_stack(&agent, kind, process.pid(), parts);
    }
    let from_ns = monotonic_ns();
    std::thread::sleep(WATCHED);
    for (mode, kind, _, process) in &running {
        for line in since(&agent, kind, process.pid(), from_ns) {
            assert!(
                line.contains(LINKS.trim_end_matches("work;")) && !line.contains(BROKEN),
                "{mode}: {line}"
            );
        }
    }
    let metrics = client::get(agent.address(), "/metrics").expect("metrics");
    let metrics = String::from_utf8(metrics).expect("UTF-8");
    let value = |name: &str| -> f64 {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)).expect(name);
        line.trim().parse().expect("a number")
    };
    assert!(value("slowpod_unwind_processes ") >= running.len() as f64);
    assert!(value("slowpod_unwind_tables_total{outcome=\"made\"} ") >= 3.0, "program, C library, loader");
    assert_eq!(value("slowpod_unwind_tables_total{outcome=\"fault\"} "), 0.0);
}

/// The kernel forgets a process's tables when it executes another program: its code is elsewhere then.
#[test]
fn a_process_that_executes_another_program_has_no_stacks_of_the_old_one() {
    let agent = agent!();
    let folder = tempfile::tempdir().expect("a folder");
    let program = compiled(folder.path());
    let mut process = started(&program, "spin");
    let pid = process.pid();
    await_stack(&agent, "profile", pid, &[LINKS, "spin;"]);
    process.say("go on");
    await_stack(&agent, "profile", pid, &["_start;", AFTER, "spin;"]);
    let from_ns = monotonic_ns();
    std::thread::sleep(WATCHED);
    for line in since(&agent, "profile", pid, from_ns) {
        assert!(line.contains(AFTER.trim_end_matches("work;")) && !line.contains("link_"), "{line}");
    }
}
