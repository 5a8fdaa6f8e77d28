//! Time splits: each cause by itself takes what the workload's own clock says.

use crate::exact::{Ended, assert_near};
use harness::truth::Truth;
use harness::{agent, workload};

const PERCENT: u64 = 5;
/// What a few system calls beside the wait may take.
const SLACK_NS: u64 = 1_000_000;
const PART_MS: u64 = 60;

/// Every part of the workload, with its option.
const PARTS: [&str; 16] = [
    "--cpu-ms",
    "--sleep-ms",
    "--flock-ms",
    "--fcntl-ms",
    "--pipe-ms",
    "--unix-ms",
    "--tcp-ms",
    "--futex-ms",
    "--netlink-ms",
    "--poll-ms",
    "--epoll-ms",
    "--child-ms",
    "--vfork-ms",
    "--page-fault-ms",
    "--runqueue-ms",
    "--fsync-bytes",
];
const FSYNC_BYTES: u64 = 8 << 20;

fn check(row: &Truth, truth: &Truth) {
    assert_near("on CPU", row.number("/split/on_cpu_ns"), truth.number("/on_cpu_ns"), PERCENT, SLACK_NS);
    assert_near(
        "runnable",
        row.number("/split/runnable_ns"),
        truth.number("/runnable_ns"),
        PERCENT,
        SLACK_NS,
    );
    let figures = row.at("/split/blocked_by").as_object().expect("an object");
    let witnessed = truth.at("/blocked_by").as_object().expect("an object");
    for cause in figures.keys().chain(witnessed.keys()) {
        let of = |map: &serde_json::Map<String, serde_json::Value>| map.get(cause).and_then(|ns| ns.as_u64());
        let (figure, witness) = (of(figures).unwrap_or(0), of(witnessed).unwrap_or(0));
        assert_near(&format!("{cause} of {truth}"), figure, witness, PERCENT, SLACK_NS);
    }
}

#[test]
fn each_cause_by_itself() {
    let agent = agent!();
    let truths = PARTS.map(|option| {
        let amount = if option == "--fsync-bytes" { FSYNC_BYTES } else { PART_MS };
        workload!("split").option(option, amount).run()
    });
    let ended = Ended::by(&agent, truths[truths.len() - 1].number("/end_ns"));
    for truth in &truths {
        check(ended.row(&truth.child("/child")), truth);
    }
}

#[test]
fn all_causes_in_one_process() {
    let agent = agent!();
    let truth = workload!("split").option("--all-ms", PART_MS).option("--fsync-bytes", FSYNC_BYTES).run();
    let ended = Ended::by(&agent, truth.number("/end_ns"));
    check(ended.row(&truth.child("/child")), &truth);
}
