//! Go's own profiler as the witness: a server that profiles itself by `net/http/pprof`, and slowpod's profile of the
//! same process over the same window. Both are read by the same tool.

use crate::pprof::print;
use harness::agent;
use harness::go;
use harness::running::Running;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Window of both profiles, seconds.
const SECONDS: u64 = 10;
/// What a function's share may differ by, in points,
const POINTS: f64 = 3.0;
/// of all functions that have this much in either profile, in percent.
const SHOWN: f64 = 1.0;
/// There are at least so many of those: the server's own, Go's maps, memory, hashes and collector.
const FUNCTIONS: usize = 10;
/// Longest wait for names.
const PATIENCE: Duration = Duration::from_secs(90);

/// Percent by function of a profile, as `go tool pprof -top` says. Go's profiler tells no functions of the kernel, so
/// what runs there counts as the caller's.
fn shares(folder: &Path, file: &str) -> BTreeMap<String, f64> {
    let top = print(
        folder,
        &["-top", "-nodefraction=0", "-nodecount=100000", r"-hide=^\[no frame pointers|\[kernel\]", file],
    );
    let rows = top.lines().skip_while(|line| !line.trim_start().starts_with("flat ")).skip(1);
    rows.filter_map(|row| {
        let words: Vec<&str> = row.split_whitespace().collect();
        // flat flat% sum% cum cum% name, where a name may end in `(inline)`.
        let share = words.get(1)?.strip_suffix('%')?.parse().expect("a number");
        let name = words.get(5)?.trim_start_matches("[kernel]");
        Some((name.to_owned(), share))
    })
    .collect()
}

#[test]
fn a_go_servers_profile_is_its_own() {
    let agent = agent!();
    let mut server = Command::new(go::build("node/pprofserver", "pprofserver", &["-ldflags=-s -w"]));
    // Signals that preempt come with those that sample, whose handler then finds itself in the other.
    server.env("GODEBUG", "asyncpreemptoff=1");
    let mut server = Running::start(server);
    let pid = server.pid();
    let itself = server.next_line().expect("it says where it listens").text("/address").to_owned();
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let fetch = |url: String, file: &str| {
        print(folder, &["-symbolize=none", "-proto", "-output", file, &url]);
    };
    // A fresh agent on a busy machine first reads the programs of all others.
    let begun = Instant::now();
    loop {
        fetch(format!("http://{}/debug/pprof/profile?seconds=1&pid={pid}", agent.address()), "first.pb.gz");
        if shares(folder, "first.pb.gz").keys().any(|name| name == "main.spinAdd") {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "no names: {:?}", shares(folder, "first.pb.gz"));
    }
    std::thread::scope(|scope| {
        let fetch = &fetch;
        let ours = format!("http://{}/debug/pprof/profile?seconds={SECONDS}&pid={pid}", agent.address());
        let its = format!("http://{itself}/debug/pprof/profile?seconds={SECONDS}");
        scope.spawn(move || fetch(ours, "ours.pb.gz"));
        scope.spawn(move || fetch(its, "its.pb.gz"));
    });
    let (ours, its) = (shares(folder, "ours.pb.gz"), shares(folder, "its.pb.gz"));
    let shown = |(name, share): (&String, &f64)| (*share >= SHOWN).then(|| name.clone());
    let mut names: Vec<String> = ours.iter().chain(&its).filter_map(shown).collect();
    names.sort_unstable();
    names.dedup();
    assert!(names.len() >= FUNCTIONS, "{names:?}");
    for name in names {
        let [our, own] = [&ours, &its].map(|shares| shares.get(&name).copied().unwrap_or(0.0));
        assert!(
            (our - own).abs() <= POINTS,
            "{name}: {our} %, by its own profile {own} %\nours: {ours:?}\nits own: {its:?}"
        );
    }
    assert!(server.finish().1.success());
}
