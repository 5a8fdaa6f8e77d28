//! Who wakes whom, against a chain of processes that counts its own turns.

use harness::agent::Agent;
use harness::{agent, workload};
use serde_json::Value;
use std::time::{Duration, Instant};

const TURNS: u64 = 200;
const LOOK: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(20);

/// Who woke a process, where that fits.
fn by(woken: &Value, fits: impl Fn(&Value) -> bool) -> Option<&Value> {
    woken["by"].as_array().expect("a list").iter().find(|by| fits(by))
}

/// Programs and hooks that the agent holds.
fn held(agent: &Agent) -> usize {
    let entries = std::fs::read_dir(format!("/proc/{}/fdinfo", agent.pid())).expect("the agent is there");
    let info = |entry: std::io::Result<std::fs::DirEntry>| std::fs::read_to_string(entry.ok()?.path()).ok();
    entries.filter_map(info).filter(|info| info.contains("prog_id:")).count()
}

/// Waits until the agent holds as much as `fits`, and has for a while.
fn until_held(agent: &Agent, fits: impl Fn(usize) -> bool) {
    let (begun, mut last, mut steady) = (Instant::now(), 0, 0);
    while steady < 6 {
        assert!(begun.elapsed() < PATIENCE, "it holds {last}");
        std::thread::sleep(LOOK);
        let now = held(agent);
        steady = if now == last && fits(now) { steady + 1 } else { 0 };
        last = now;
    }
}

/// Sleeper, relay and last: the timer wakes the first, each wakes the next; each as often as it says, after the pause
/// that it takes.
#[test]
fn each_turn_of_a_chain_is_one_wake_up_by_the_one_before() {
    let agent = agent!();
    let before = held(&agent);
    let address = agent.address().to_owned();
    // The question comes first: nothing is counted before.
    let asking = std::thread::spawn(move || {
        slowpod::client::get(&address, "/api/v1/sched/wakers?seconds=4&limit=20000").expect("an answer")
    });
    let started = workload!("baton").option("--turns", TURNS).option("--pause-ms", 5).start_gated();
    until_held(&agent, |held| held > before);
    let truth = started.go().finish();
    let answer: Value = serde_json::from_slice(&asking.join().expect("no panic")).expect("JSON");
    let of = |pid: u64| {
        let rows = answer["woken"].as_array().expect("a list");
        rows.iter().find(|row| row["process"]["pid"] == pid).unwrap_or_else(|| panic!("no {pid}: {answer}"))
    };
    let (first, second, third) = (truth.number("/pid"), truth.number("/second"), truth.number("/third"));
    let timer = by(of(first), |by| by["waker"] == "timer").expect("the timer wakes who sleeps");
    let wakes = |by: &serde_json::Value| by["wakes"].as_u64().expect("a number");
    // An interrupt of another kind may find the time over first.
    assert!((TURNS / 10 * 9..TURNS + TURNS / 10).contains(&wakes(timer)), "{timer}");
    for (woken, waker) in [(second, first), (third, second)] {
        let by = by(of(woken), |by| by["process"]["pid"] == waker).expect("the one before");
        // On a busy machine the next turn may come before the one woken has gone to sleep again.
        assert!(wakes(by) <= TURNS && wakes(by) >= TURNS / 10 * 9, "{by}");
        let blocked_ns = by["blocked_ns"].as_u64().expect("a number");
        let witness_ns = TURNS * truth.number("/pause_ns");
        assert!(blocked_ns >= witness_ns / 10 * 8, "{blocked_ns} of {witness_ns}");
    }
    let chain: Vec<u64> = of(third)["chain"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|link| link["process"]["pid"].as_u64())
        .collect();
    assert_eq!(chain, [second, first], "{}", of(third));
    assert_eq!(of(third)["chain"].as_array().expect("a list").last().expect("a link")["waker"], "timer");
}

/// What is hooked for a question goes with it.
#[test]
fn nothing_stays_hooked_when_nobody_asks() {
    let agent = agent!();
    let before = held(&agent);
    let answer = agent.get("/api/v1/sched/wakers?seconds=1").expect("an answer");
    assert!(answer.number("/wakes") > 0, "a machine wakes somebody every second: {answer}");
    let again = agent.get("/api/v1/sched/wakers?seconds=60&ago=1m").expect("an answer");
    assert!(again.number("/wakes") > 0, "what was counted can be looked back at: {again}");
    until_held(&agent, |held| held == before);
}
