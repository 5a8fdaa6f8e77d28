//! The verbs that attach for themselves (diagnose, probes, demo), and `storms`, which asks a running agent.

use std::process::{Command, Stdio};

use harness::agent::Agent;
use harness::netns::die_with_test;
use harness::truth::Truth;
use harness::{agent, workload};

use super::{Ended, Started, bpf, daemon_of, run, slowpod, storm, until};

/// Diagnoses while something runs, and ends the watch by Ctrl-C once that is over.
fn diagnose(options: &[&str], mut while_watching: impl FnMut()) -> Ended {
    let started = Started::attached(&mut slowpod(&[&["diagnose", "-d", "60s"], options].concat()));
    while_watching();
    let held = bpf::held_by(started.pid());
    started.signal(libc::SIGINT);
    let ended = started.finish().ok();
    until("nothing left", || bpf::left_of(&held).is_empty().then_some(()));
    ended
}

fn rules(answer: &Truth) -> Vec<String> {
    answer.list("/findings").iter().map(|finding| finding.text("/rule").to_owned()).collect()
}

/// The finding of one rule about a process of the workload's name.
fn finding(answer: &Truth, rule: &str) -> Truth {
    let of_rule =
        |finding: &Truth| finding.text("/rule") == rule && finding.text("/title").contains("workload");
    answer.list("/findings").into_iter().find(of_rule).unwrap_or_else(|| panic!("no {rule} in {answer}"))
}

#[test]
fn a_storm_is_found_in_words_and_in_json() {
    let storm = || {
        workload!("storm").option("--count", 400).option("--how", "threads").word("--brief").run();
    };
    let answer = diagnose(&["-o", "json"], storm).json();
    let found = finding(&answer, "exec_storm");
    assert!(found.text("/title").contains("400"), "{found}");
    assert!(!found.list("/fix").is_empty());
    let table = diagnose(&[], storm);
    assert!(table.out.contains("workload") && table.out.contains("400"), "{}", table.out);
    assert!(!table.out.contains('\x1b'), "{:?}", table.out);
}

#[test]
fn a_search_through_path_and_forks_without_exec_are_found() {
    let answer = diagnose(&["-o", "json"], || {
        workload!("path-search").option("--count", 150).run();
    });
    finding(&answer.json(), "path_search");
    let answer = diagnose(&["-o", "json"], || {
        workload!("fork-only").option("--count", 1_500).run();
    });
    finding(&answer.json(), "fork_storm");
}

#[test]
fn of_a_quiet_node_nothing_is_said() {
    // Other work on the machine may be found; of what is not there nothing may be said.
    let answer = diagnose(&["-o", "json"], || {
        workload!("storm").option("--count", 2).option("--how", "threads").word("--brief").run();
    });
    let answer = answer.json();
    let about_us = |finding: &Truth| finding.text("/title").contains("workload");
    assert!(!answer.list("/findings").iter().any(about_us), "{answer}");
    if rules(&answer).iter().all(|rule| rule == "incomplete") {
        assert!(answer.text("/summary").contains("othing stood out"), "{}", answer.text("/summary"));
    }
}

#[test]
fn the_demo_finds_its_storm_with_and_without_ipset() {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    let empty = tempfile::tempdir().unwrap();
    harness::tools::Tool::Ipset.require();
    for (path, says) in [(path.as_str(), "the real ipset"), (empty.path().to_str().unwrap(), "a stand-in")] {
        let mut command: Command = slowpod(&["demo", "--once", "--services", "60", "--resyncs", "2"]);
        let ended = run(command.env("PATH", path)).ok();
        assert!(ended.err.contains(says), "{}", ended.err);
        assert!(ended.err.contains("the daemon's own clock"), "{}", ended.err);
        assert!(ended.out.contains("`ipset add`") && ended.out.contains("120"), "{}", ended.out);
    }
}

/// As a newcomer runs it: it serves what it found until Ctrl-C, and leaves nothing behind.
#[test]
fn the_demo_serves_its_pages_until_it_is_interrupted() {
    let words = ["demo", "--services", "20", "--resyncs", "1", "--listen", "127.0.0.1:0"];
    let started = Started::new(&mut slowpod(&words));
    let address = until("the demo's address", || {
        let said = started.err.text();
        let (_, url) = said.split_once("the same as pages: http://")?;
        Some(url.split_once('/')?.0.to_owned())
    });
    let held = bpf::held_by(started.pid());
    assert!(held.iter().any(|(table, _)| *table == "link_id"), "{held:?}");
    let storms = slowpod::client::get(&address, "/api/v1/storms?seconds=60").expect("an answer");
    let storms = Truth::new(serde_json::from_slice(&storms).expect("JSON"));
    let classes = storms.list("/daemons").into_iter().flat_map(|daemon| daemon.list("/classes"));
    let adds = classes.into_iter().find(|class| class.text("/argv_class") == "ipset add").expect("the storm");
    assert_eq!(adds.number("/spawns"), 40, "{storms}");
    started.signal(libc::SIGINT);
    let ended = started.finish();
    assert_eq!(ended.code(), Some(0), "{}", ended.err);
    until("nothing of the demo in the kernel", || bpf::left_of(&held).is_empty().then_some(()));
    // A port that is taken costs no attach, and no resync.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its number").to_string();
    let ended = run(&mut slowpod(&["demo", "--listen", &address]));
    assert_eq!(ended.code(), Some(1), "{}", ended.err);
    assert!(!ended.err.contains("attached"), "{}", ended.err);
}

/// Each probe's name, state and rung, in the answer's order.
fn verdicts(answer: &Truth) -> Vec<[String; 3]> {
    let row = |probe: &Truth| ["/probe", "/state", "/rung"].map(|field| probe.text(field).to_owned());
    answer.list("/probes").iter().map(row).collect()
}

#[test]
fn probes_are_told_alike_with_and_without_an_agent() {
    let agent = agent!();
    let of_agent = verdicts(&agent.get("/api/v1/probes").expect("an answer"));
    let tried = run(&mut slowpod(&["probes", "-o", "json"])).ok().json();
    assert_eq!(verdicts(&tried), of_agent);
    let attached = of_agent.iter().filter(|[_, state, rung]| state == "attached" && !rung.is_empty());
    assert!(attached.count() > 0, "{of_agent:?}");
    let table = run(&mut slowpod(&["probes"])).ok().out;
    for [probe, ..] in &of_agent {
        assert!(
            table.lines().any(|line| line.split_whitespace().any(|word| word == probe)),
            "{probe}: {table}"
        );
    }
}

/// What of a daemon no longer changes once its loops are over: all but readings of the wall clock.
fn settled(daemon: &Truth) -> Vec<serde_json::Value> {
    let loops = daemon.list("/latest_loops");
    let of_loops = loops.iter().flat_map(|own| {
        ["/number", "/start/ktime_ns", "/duration_ns", "/spawns", "/busy_ns", "/storm", "/waits", "/classes"]
            .map(|field| own.at(field).clone())
    });
    ["/name", "/path", "/pids", "/identity", "/storm", "/score_ns", "/loops_total", "/series", "/classes"]
        .map(|field| daemon.at(field).clone())
        .into_iter()
        .chain(of_loops)
        .collect()
}

/// The daemon of a process in an answer, when all its loops are over.
fn over(answer: &Truth, pid: u32) -> Option<Truth> {
    let daemon = daemon_of(answer, pid)?;
    daemon.list("/latest_loops").iter().all(|own| own.at("/open") == false).then_some(daemon)
}

fn slowpod_storms(agent: &Agent, options: &[&str]) -> Command {
    slowpod(&[&["storms", "--listen", agent.address(), "-d", "170", "-o", "json"], options].concat())
}

#[test]
fn storms_are_told_as_over_http() {
    let agent = agent!();
    let pid = storm(200).number("/pid") as u32;
    let path = format!("/api/v1/storms?seconds=170&pid={pid}");
    let by_http = agent.view_when(&path, |answer| over(answer, pid).is_some());
    let by_verb = run(&mut slowpod_storms(&agent, &["--pid", &pid.to_string()])).ok().json();
    assert_eq!(by_verb.number("/daemons_matched"), 1);
    let ended = run(&mut slowpod_storms(&agent, &["--limit", "0"]));
    assert_eq!(ended.code(), Some(2), "a question that the agent refuses is wrong usage: {}", ended.err);
    let [by_http, by_verb] = [by_http, by_verb].map(|answer| over(&answer, pid).expect("the daemon"));
    assert_eq!(spawns(&by_http), 200);
    assert_eq!(settled(&by_verb), settled(&by_http));
}

/// Spawns of a daemon, all classes together.
fn spawns(daemon: &Truth) -> u64 {
    daemon.list("/classes").iter().map(|class| class.number("/spawns")).sum()
}

#[test]
fn watched_storms_are_told_anew_until_nobody_reads() {
    let agent = agent!();
    let mut command = slowpod_storms(&agent, &["--watch"]);
    let mut watching = die_with_test(&mut command).stdout(Stdio::piped()).spawn().expect("the verb runs");
    let stdout = watching.stdout.take().expect("stdout was piped");
    let mut answers = serde_json::Deserializer::from_reader(stdout).into_iter::<serde_json::Value>();
    let mut until_ns = || {
        let answer = answers.next().expect("one more answer").expect("JSON");
        Truth::new(answer).number("/window/until_ktime_ns")
    };
    let (first_ns, second_ns) = (until_ns(), until_ns());
    assert!(second_ns > first_ns, "asked anew: {first_ns}, then {second_ns}");
    drop(answers);
    let status = until("its end", || watching.try_wait().expect("a status"));
    assert!(status.success(), "as `storms --watch | head` does: {status}");
}
