//! However the agent ends, nothing stays attached, and another can start.

use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use harness::{agent, workload};

use super::{bpf, run, slowpod, spawns_of, until};

/// Longest an agent may take from the signal to its end. The kernel alone takes some 0.7 s to let go of the hooks.
const STOP_MAX: Duration = Duration::from_millis(2_500);

#[test]
fn nothing_stays_attached_however_the_agent_ends() {
    // SIGABRT stands for every way in which a program ends itself without a word.
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGKILL, libc::SIGABRT] {
        let mut agent = agent!();
        let held = bpf::held_by(agent.pid());
        assert!(held.iter().any(|(table, _)| *table == "link_id"), "{held:?}");
        assert_eq!(bpf::left_of(&held).len(), held.len());
        // A connection that has asked nothing yet must not hold up the end.
        let _silent = std::net::TcpStream::connect(agent.address()).unwrap();
        let begun = Instant::now();
        agent.signal(signal);
        let status = agent.await_end();
        assert!(begun.elapsed() < STOP_MAX, "signal {signal}: {:?}", begun.elapsed());
        match signal {
            libc::SIGTERM | libc::SIGINT => assert_eq!(status.code(), Some(0), "signal {signal}"),
            deadly => assert_eq!(status.signal(), Some(deadly)),
        }
        until("nothing of the agent in the kernel", || bpf::left_of(&held).is_empty().then_some(()));
    }
    // After all that another one sees all there is to see.
    sees_a_storm_whole(&[agent!()]);
}

/// A signal at the first moment at which there is something to detach, when the verb has not said a word.
#[test]
fn a_signal_while_attaching_detaches_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let tape = folder.path().join("t.tape");
    let record = ["record", "-d", "60s", "-o", tape.to_str().unwrap()];
    let diagnose = ["diagnose", "-d", "60s", "-o", "json"];
    for signal in [libc::SIGTERM, libc::SIGINT] {
        for words in [record.as_slice(), &diagnose, &["run", "--listen", "127.0.0.1:0"]] {
            let started = super::Started::new(&mut slowpod(words));
            let held = loop {
                let held = bpf::held_by(started.pid());
                if held.iter().any(|(table, _)| *table == "link_id") {
                    break held;
                }
            };
            started.signal(signal);
            let ended = started.finish();
            assert_eq!(ended.code(), Some(0), "{words:?}: {}", ended.err);
            match words[0] {
                "record" => assert!(ended.err.contains("wrote "), "{}", ended.err),
                "diagnose" => assert!(ended.json().at("/findings").is_array(), "{}", ended.out),
                _ => {}
            }
            until("nothing left", || bpf::left_of(&held).is_empty().then_some(()));
        }
    }
}

/// A panic of the thread that everything goes through: it is said, the exit code is that of failures, nothing stays
/// attached, and what a tape has got by then can be read.
#[test]
fn a_panic_detaches_and_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let tape = folder.path().join("t.tape");
    let tape = tape.to_str().unwrap();
    for words in [
        ["run", "--listen", "127.0.0.1:0"].as_slice(),
        &["diagnose", "-d", "60s"],
        &["record", "-d", "60s", "-o", tape],
    ] {
        let started = super::Started::attached(slowpod(words).args(["--panic-after", "1s"]));
        let held = bpf::held_by(started.pid());
        assert!(held.iter().any(|(table, _)| *table == "link_id"), "{words:?}: {held:?}");
        let ended = started.finish();
        assert_eq!((ended.code(), &*ended.out), (Some(1), ""), "{words:?}: {}", ended.err);
        let told =
            ["'slowpod-live'", "asked to panic", "slowpod: the live loop panicked; please report this"];
        for words in told {
            assert!(ended.err.contains(words), "{words} is not in {}", ended.err);
        }
        until("nothing of the agent in the kernel", || bpf::left_of(&held).is_empty().then_some(()));
    }
    let replayed = run(&mut slowpod(&["replay", tape, "probes", "-o", "json"]));
    assert_eq!(replayed.json().list("/probes").len(), slowpod_ebpf::abi::probes::PROBES.len());
}

#[test]
fn a_second_signal_changes_nothing() {
    let mut agent = agent!();
    let held = bpf::held_by(agent.pid());
    agent.signal(libc::SIGTERM);
    agent.signal(libc::SIGINT);
    assert_eq!(agent.await_end().code(), Some(0), "{}", agent.said());
    until("nothing left", || bpf::left_of(&held).is_empty().then_some(()));
}

#[test]
fn two_agents_at_once_are_both_exact() {
    let (first, second) = (agent!(), agent!());
    sees_a_storm_whole(&[first, second]);
}

fn sees_a_storm_whole(agents: &[harness::agent::Agent]) {
    let storm = workload!("storm").option("--count", 400).option("--spawners", 2).word("--brief").run();
    let pid = storm.number("/pid") as u32;
    for agent in agents {
        let storms = agent.view_at("/api/v1/storms?seconds=60", storm.number("/end_ns"));
        assert_eq!(spawns_of(&storms, pid, "true"), (400, 0), "{storms}");
    }
}

#[test]
fn probes_and_diagnose_leave_nothing() {
    for words in [["probes", "-o", "json"].as_slice(), &["diagnose", "-d", "300ms"]] {
        let mut started = super::Started::new(&mut slowpod(words));
        let pid = started.pid();
        let mut held = std::collections::BTreeSet::new();
        while started.child.try_wait().unwrap().is_none() {
            held.extend(bpf::held_by(pid));
        }
        started.finish().ok();
        assert!(held.iter().any(|(table, _)| *table == "prog_id"), "{words:?} was not seen to attach");
        until("nothing left", || bpf::left_of(&held).is_empty().then_some(()));
    }
}

#[test]
fn a_port_that_is_taken_costs_no_attach() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let refused = run(&mut slowpod(&["run", "--listen", &address]));
    assert_eq!(refused.code(), Some(1), "{}", refused.err);
    assert!(
        refused.err.contains(&format!("port {} of 127.0.0.1 is taken", taken.local_addr().unwrap().port()))
    );
    assert!(!refused.err.contains("attached"), "{}", refused.err);
}
