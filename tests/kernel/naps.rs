//! Waits that are too short for records of their own: in profiles all the same, as the workload's own clock has them.

use crate::exact::assert_near;
use harness::agent;
use harness::agent::monotonic_ns;
use harness::workload;
use slowpod::client;
use std::time::Duration;

/// Rows of sums come five seconds late where little happens.
const LATE: Duration = Duration::from_millis(6_500);

/// Sum of a folded profile, and of its row of short waits.
fn sums(folded: &str) -> (u64, u64) {
    let value = |line: &str| line.rsplit_once(' ').expect("a value").1.parse::<u64>().expect("a number");
    let short = |line: &&str| line.contains("waits below 1 ms]");
    (folded.lines().map(value).sum(), folded.lines().filter(short).map(value).sum())
}

#[test]
fn short_waits_are_a_row_of_their_process() {
    const NAPS: u64 = 3_000;
    let agent = agent!();
    let truth = workload!("naps").option("--count", NAPS).option("--nap-us", 300).run();
    std::thread::sleep(LATE);
    let pid = truth.number("/pid");
    let folded = |kind: &str, value: &str| {
        // A row that reaches back beyond the window is left out: this one has the whole life of the process.
        let ago = (monotonic_ns() - truth.number("/begin_ns")) / 1_000_000_000 + 10;
        let path =
            format!("/flamegraph/{kind}?format=folded&value={value}&ago={ago}&seconds={ago}&pid={pid}");
        let body = client::get(agent.address(), &path).unwrap_or_else(|error| panic!("{path}: {error}"));
        sums(std::str::from_utf8(&body).expect("UTF-8"))
    };
    let (waits, short) = folded("offcpu", "waits");
    // The sleep at its beginning, and a few pages of its program.
    assert_near("times blocked", waits, NAPS, 2, 10);
    assert!(short > NAPS / 2, "{short} of {waits} waits are short");
    let (blocked_ns, _) = folded("offcpu", "blocked");
    let (ready_ns, _) = folded("sched", "runnable");
    let first_nap_ns = 2_100_000_000;
    let away_ns = truth.number("/away_ns") + first_nap_ns;
    assert_near("time away", blocked_ns + ready_ns, away_ns, 5, 20_000_000);
}
