//! What goes while it is looked at: programs replaced or removed while they run, processes that end in the middle of a
//! window, and windows that reach beyond the recorder.

use crate::exact::assert_near;
use crate::pprof::print;
use crate::sched::{OLD_ENOUGH, schedstat, spinner};
use harness::agent::{Agent, monotonic_ns};
use harness::running::Running;
use harness::serviceproxy::{ServiceProxy, build_stripped};
use harness::workload::{StartedWorkload, Workload};
use harness::{agent, workload};
use slowpod::capture::symbols::binary::Binary;
use slowpod::client;
use slowpod::views::profiles::PROFILES;
use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Longest wait for names: a fresh agent first reads the programs of everybody else.
const PATIENCE: Duration = Duration::from_secs(60);
const MS: u64 = 1_000_000;

/// Folded stacks of a kind and one of its values, from an instant until now, of whatever these filters let pass.
fn folded_since(agent: &Agent, kind: &str, value: &str, from_ns: u64, filter: &str) -> String {
    let ago_ns = monotonic_ns() - from_ns;
    let path = format!(
        "/flamegraph/{kind}?format=folded&value={value}&ago={}ms&seconds={}ms&{filter}",
        ago_ns / MS,
        ago_ns.div_ceil(MS)
    );
    let body = client::get_within(agent.address(), &path, PATIENCE);
    String::from_utf8(body.unwrap_or_else(|error| panic!("{path}: {error}"))).expect("UTF-8")
}

/// Value of the folded lines that have this in them.
fn sum(folded: &str, part: &str) -> u64 {
    let lines = folded.lines().filter(|line| line.contains(part));
    lines.map(|line| line.rsplit_once(' ').expect("a value").1.parse::<u64>().expect("a number")).sum()
}

/// Folded stacks, once a condition holds.
fn await_folded(what: &str, ask: impl Fn() -> String, holds: impl Fn(&str) -> bool) -> String {
    let begun = Instant::now();
    loop {
        let folded = ask();
        if holds(&folded) {
            return folded;
        }
        assert!(begun.elapsed() < PATIENCE, "never came: {what}\n{folded}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// What the names of the workload's functions have in common, and what those of the other program have in its place.
const NAMES: [&str; 2] = ["share_of_", "slice_of_"];

/// The workload's program at one path, and at another one of the same shape: the same code at the same addresses, but
/// its functions have other names, and it has another build id. Their build ids.
fn make_pair(old: &Path, new: &Path) -> [String; 2] {
    fs::copy(env!("CARGO_BIN_EXE_workload"), old).expect("the workload was built");
    let mut sed = Command::new("sed");
    sed.env("LC_ALL", "C").arg(format!("s/{}/{}/g", NAMES[0], NAMES[1])).arg(old);
    assert!(sed.stdout(fs::File::create(new).expect("a file")).status().expect("sed is there").success());
    let id = build_id(old);
    let byte = |at: usize| u8::from_str_radix(&id[at..at + 2], 16).expect("a hexadecimal number");
    let id_bytes: Vec<u8> = (0..id.len()).step_by(2).map(byte).collect();
    // Notes stand at the beginning of a program.
    let mut begin = [0; 16_384];
    let file = fs::OpenOptions::new().read(true).write(true).open(new).expect("a file");
    file.read_exact_at(&mut begin, 0).expect("a program is longer");
    let at = begin.windows(id_bytes.len()).position(|bytes| bytes == id_bytes).expect("its build id");
    let other: Vec<u8> = id_bytes.iter().map(|byte| !byte).collect();
    file.write_all_at(&other, at as u64).expect("room");
    fs::set_permissions(new, fs::Permissions::from_mode(0o755)).expect("its owner may");
    let ids = [id, build_id(new)];
    assert_ne!(ids[0], ids[1]);
    ids
}

fn build_id(program: &Path) -> String {
    let program = fs::read(program).expect("a file");
    Binary::read(&program).expect("an ELF file").build_id().to_owned()
}

/// Fails unless everything that a process does is under these names; waits until all of it has a name.
fn assert_named(agent: &Agent, pid: u32, from_ns: u64, [right, wrong]: [&str; 2]) {
    let ask = || folded_since(agent, "profile", "cpu", from_ns, &format!("pid={pid}"));
    await_folded(&format!("names of process {pid}"), ask, |folded| {
        assert_eq!(sum(folded, wrong), 0, "names of another file\n{folded}");
        let all = sum(folded, "");
        // The rest is the clock that it looks at.
        all > 200 * MS && sum(folded, right) >= all / 4 * 3
    });
}

/// Files replaced by rename and files removed, before and after their processes were first looked at: what runs keeps its
/// own names and build id, and what is started from the new file has the new ones.
#[test]
fn programs_that_are_replaced_or_removed_keep_their_own_names() {
    let agent = agent!();
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let gated = |name: &str| {
        let path = at(name);
        let program = path.to_str().expect("a path in UTF-8");
        Workload::new(program, "shares").option("--spin-ms", 600_000).start_gated()
    };
    let ids = make_pair(&at("old"), &at("new"));
    let install = |from: &str, name: &str| {
        fs::copy(at(from), at("copy")).and_then(|_| fs::rename(at("copy"), at(name))).expect("a file");
    };
    for name in ["seen", "replaced", "removed"] {
        install("old", name);
    }
    let from_ns = monotonic_ns();
    let seen = gated("seen").go();
    assert_named(&agent, seen.pid(), from_ns, NAMES);
    let (replaced, removed) = (gated("replaced"), gated("removed"));
    for name in ["seen", "replaced"] {
        install("new", name);
    }
    fs::remove_file(at("removed")).expect("a removal");
    let replaced_ns = monotonic_ns();
    let olds = [seen, replaced.go(), removed.go()];
    let new = gated("seen").go();
    for old in &olds {
        assert_named(&agent, old.pid(), replaced_ns, NAMES);
    }
    assert_named(&agent, new.pid(), replaced_ns, [NAMES[1], NAMES[0]]);

    // When they are gone, and their files with them.
    let pids = olds.each_ref().map(StartedWorkload::pid);
    let new_pid = new.pid();
    drop((olds, new));
    for pid in pids {
        assert_named(&agent, pid, replaced_ns, NAMES);
    }
    assert_named(&agent, new_pid, replaced_ns, [NAMES[1], NAMES[0]]);
    for (pid, [right, wrong]) in [(pids[1], [&ids[0], &ids[1]]), (new_pid, [&ids[1], &ids[0]])] {
        let path = format!("/debug/pprof/profile?ago=60&pid={pid}");
        let body = client::get_within(agent.address(), &path, PATIENCE).expect("a profile");
        fs::write(at("profile.pb.gz"), body).expect("a file in a folder of its own");
        let raw = print(folder.path(), &["-raw", "profile.pb.gz"]);
        assert!(raw.contains(right.as_str()) && !raw.contains(wrong.as_str()), "{raw}");
    }
}

/// Everything that ends before its window does is in the profile of its kind, by its own account or the kernel's.
#[test]
fn processes_that_end_in_the_middle_of_a_window_stay_in_it() {
    let agent = agent!();
    let folder = tempfile::tempdir().expect("a folder");
    // Those with names to be known first: a spinning process, one whose threads wait, a daemon that spawns.
    let spins = workload!("shares").option("--spin-ms", 600_000).start_gated();
    let waits = workload!("crowd").option("--threads", 8).option("--wait-ms", 1_500).start_gated();
    let sends = workload!("netlink-storm").option("--count", 300).option("--what", "getlink").start_gated();
    let mut queue = [spinner(400_000, &[]), spinner(400_000, &[])];
    let flags = ["-services", "20", "-resyncs", "0", "-idle-between", "10m", "-own-work", "1ms"];
    let mut proxy = ServiceProxy::start_program(build_stripped(), &flags);
    let pod = format!("ends-{}", std::process::id());
    // The proxy's set-up lies before this, and the shells have rows of their own.
    std::thread::sleep(OLD_ENOUGH);

    let from_ns = monotonic_ns();
    let queued_before = [0, 1].map(|at: usize| schedstat(queue[at].pid()));
    let (spins, waits, sends) = (spins.go(), waits.go(), sends.go());
    let (spins_pid, waits_pid, sends_pid, proxy_pid) = (spins.pid(), waits.pid(), sends.pid(), proxy.pid());
    let live = {
        let address = agent.address().to_owned();
        let path = format!("/flamegraph/profile?format=folded&seconds=6&hz=199&pid={spins_pid}");
        std::thread::spawn(move || client::get_within(&address, &path, PATIENCE))
    };
    let (least_ns, most_ns) = contend(folder.path());
    let call_ns = call(&pod);
    queue.iter_mut().for_each(|shell| shell.say("go"));
    queue.iter_mut().for_each(|shell| drop(shell.next_line().expect("it spins and says so")));
    let in_queue_ns: [u64; 2] =
        std::array::from_fn(|at| schedstat(queue[at].pid())[1] - queued_before[at][1]);
    proxy.go();
    let resync = proxy.await_event("resync");
    let (waited, sent) = (waits.finish(), sends.finish());
    let of = |kind: &'static str, value: &'static str, filter: String| {
        let agent = &agent;
        move || folded_since(agent, kind, value, from_ns, &filter)
    };
    let pid = |pid: u32| format!("pid={pid}");
    let is_named = |folded: &str| sum(folded, "") > 0 && sum(folded, "share_of_") >= sum(folded, "") / 4 * 3;
    await_folded("names of what spins", of("profile", "cpu", pid(spins_pid)), is_named);
    await_folded("names of what spawns", of("exec", "spawns", pid(proxy_pid)), |folded| {
        sum(folded, "") > 0 && sum(folded, "main.(*proxy)") == sum(folded, "")
    });
    let spun_ns = schedstat(spins_pid)[0];
    drop(spins);
    let queue_pids = [0, 1].map(|at: usize| queue[at].pid());
    drop(queue);
    proxy.stop();
    // Now nobody of them is there, and the window goes on.
    let live = String::from_utf8(live.join().expect("no panic").expect("a window")).expect("UTF-8");
    agent.view_at("/api/v1/sched?seconds=1", monotonic_ns() + 1_200 * MS);

    let folded = await_folded("the last names", of("profile", "cpu", pid(spins_pid)), is_named);
    // Four standard deviations of the samples' number, at the steady rate, as time.
    let chance_ns = (4.0 * (spun_ns as f64 / 1e9 / 19.0).sqrt() * 1e9) as u64;
    assert_near("time on a CPU", sum(&folded, ""), spun_ns, 8, chance_ns);
    let in_window_ns = sum(&live, "");
    assert!(in_window_ns > 0 && in_window_ns <= spun_ns + spun_ns / 12 + chance_ns, "{spun_ns} ns\n{live}");

    // Blocked, then in a long queue; and they wait for each other before their clock starts.
    let folded = of("offcpu", "blocked", pid(waits_pid))();
    let queued_ns = sum(&of("sched", "runnable", pid(waits_pid))(), "");
    let (blocked_ns, waited_ns) = (sum(&folded, "[blocked: futex]"), waited.number("/waited_ns"));
    let told = format!("blocked {blocked_ns} ns, queued {queued_ns} ns of {waited_ns} ns\n{folded}");
    assert!(blocked_ns + queued_ns >= waited_ns / 100 * 95 && blocked_ns <= waited_ns * 2, "{told}");
    assert!(sum(&folded, ";futex_wait_[k];") >= blocked_ns / 2, "{told}");

    for (pid, witness_ns) in queue_pids.iter().zip(in_queue_ns) {
        let folded = of("sched", "runnable", format!("pid={pid}"))();
        assert_near("time in a queue", sum(&folded, ""), witness_ns, 10, 20 * MS);
    }

    let folded = of("exec", "spawns", pid(proxy_pid))();
    let classes = resync.at("/classes").as_object().expect("an object");
    for (class, counts) in classes {
        let found = sum(&folded, &format!(";{class};")) + sum(&folded, &format!(";{class} "));
        assert_eq!(Some(found), counts["spawns"].as_u64(), "{class}\n{folded}");
    }
    assert_eq!(sum(&folded, "main.(*proxy)"), sum(&folded, ""), "{folded}");

    // Of a child under who spawned it, and of one that has lived for some seconds under its own name.
    let by_child = of("netlink", "messages", pid(std::process::id()))();
    let by_itself = of("netlink", "messages", pid(sends_pid))();
    let messages = sum(&by_child, ";workload netlink-storm;") + sum(&by_itself, "");
    assert_eq!(messages, sent.number("/messages"), "{by_child}\n{by_itself}");

    let folded = of("lock", "delay", "comm=flock".to_owned())();
    assert!((least_ns..=most_ns).contains(&sum(&folded, "")), "{least_ns} to {most_ns} ns\n{folded}");

    assert_eq!(sum(&of("cni", "calls", format!("pod={pod}"))(), ""), 1);
    let found_ns = sum(&of("cni", "wall", format!("pod={pod}"))(), "");
    assert!(found_ns <= call_ns && found_ns >= CALL_NS, "{found_ns} of {call_ns} ns");
}

/// How long the made-up plugin sleeps.
const CALL_NS: u64 = 30 * MS;

/// One `flock` waits for another: the least and the most that it waits, by the kernel's list of those that do.
fn contend(folder: &Path) -> (u64, u64) {
    let lock = folder.join("lock");
    let flock = |script: &str| {
        let mut command = Command::new("flock");
        command.arg(&lock).args(["sh", "-c", script]);
        command
    };
    let mut holder = Running::start(flock("echo '{\"held\":true}'; cat"));
    holder.next_line().expect("it has the lock");
    let begun = Instant::now();
    let waiter = Running::start(flock("true"));
    let line_ends = format!(" {} ", waiter.pid());
    let is_it = |line: &str| line.contains("-> FLOCK") && line.contains(&line_ends);
    while !fs::read_to_string("/proc/locks").expect("the kernel's locks").lines().any(is_it) {
        assert!(begun.elapsed() < PATIENCE, "nobody waits for the lock");
        std::thread::sleep(Duration::from_millis(5));
    }
    let waits = Instant::now();
    std::thread::sleep(Duration::from_millis(200));
    let least = waits.elapsed();
    assert!(holder.finish().1.success() && waiter.finish().1.success());
    let ns = |span: Duration| u64::try_from(span.as_nanos()).expect("a short time");
    (ns(least), ns(begun.elapsed()))
}

/// A made-up CNI plugin for a pod; how long it took, as its caller sees it.
fn call(pod: &str) -> u64 {
    let mut command = Command::new("/usr/bin/env");
    command.args(["sleep", &(CALL_NS as f64 / 1e9).to_string()]).envs([
        ("CNI_COMMAND", "ADD".to_owned()),
        ("CNI_CONTAINERID", format!("sandbox-of-{pod}")),
        ("CNI_IFNAME", "eth0".to_owned()),
        ("CNI_ARGS", format!("K8S_POD_NAME={pod};K8S_POD_NAMESPACE=shop")),
    ]);
    let begun = Instant::now();
    assert!(command.status().expect("env is there").success());
    u64::try_from(begun.elapsed().as_nanos()).expect("a short time")
}

/// Windows that begin before the recorder does: what is covered is answered, and the answer says how much that is.
#[test]
fn a_window_longer_than_the_recorder_is_answered_as_far_as_it_goes() {
    let agent = agent!("--keep", "30s");
    let storm = workload!("storm").option("--count", 60).option("--how", "threads").word("--brief").run();
    agent.view_at("/api/v1/storms", storm.number("/end_ns"));
    let folder = tempfile::tempdir().expect("a folder");
    let pid = storm.number("/pid");
    let fetch = |kind: &str, query: &str| {
        let path = format!("/debug/pprof/{kind}?{query}");
        let body = client::get_within(agent.address(), &path, PATIENCE);
        fs::write(folder.path().join("p.pb.gz"), body.unwrap_or_else(|error| panic!("{path}: {error}")))
            .expect("a file in a folder of its own");
        print(folder.path(), &["-comments", "p.pb.gz"])
    };
    for kind in PROFILES {
        for (query, nothing) in [("ago=45m&seconds=45m", false), ("ago=50m&seconds=60", true)] {
            let comments = fetch(kind.name, query);
            assert!(comments.contains("\"complete\":false"), "{}: {comments}", kind.name);
            let covered =
                comments.lines().find_map(|line| line.strip_prefix("missing: records cover the last "));
            let covered = covered.unwrap_or_else(|| panic!("{} {query}: {comments}", kind.name));
            assert_eq!(
                covered.starts_with("0.0 of the 60.0 seconds"),
                nothing,
                "{} {query}: {covered}",
                kind.name
            );
        }
    }
    // Covered in part: what is there is in it, and nothing of a time that is not.
    fetch("exec", &format!("ago=45m&seconds=45m&pid={pid}"));
    let top = print(folder.path(), &["-top", "-sample_index=spawns", "p.pb.gz"]);
    assert!(top.contains("of 60 total"), "{top}");
    fetch("exec", &format!("ago=50m&seconds=60&pid={pid}"));
    let top = print(folder.path(), &["-top", "-sample_index=spawns", "p.pb.gz"]);
    assert!(top.contains("of 0 total"), "{top}");
    // One that is to last longer than what is kept of it is refused at once, and not when it is over.
    let kept = "the 30 s that the recorder keeps";
    for (path, word) in [
        ("/debug/pprof/exec?seconds=31", kept),
        ("/flamegraph/exec?seconds=31", kept),
        ("/debug/pprof/exec?seconds=2h", "to 3600 seconds"),
    ] {
        let asked = Instant::now();
        let refused = client::get_within(agent.address(), path, PATIENCE).expect_err(path).to_string();
        assert!(refused.contains("400") && refused.contains(word), "{path}: {refused}");
        assert!(asked.elapsed() < Duration::from_secs(10), "{path}");
    }
}
