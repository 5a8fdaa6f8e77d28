//! What was not seen: counted, said, and never made up.

use crate::{MS, S, class, daemon, named};
use harness::check::{answer, answer_of};
use harness::scene::{BEGIN_NS, Scene};

#[test]
fn floods_keep_spawn_counts_exact() {
    let answer = answer_of("flood", "storms", "");
    let proxy = daemon(&answer, "proxy");
    let first = &proxy["worst_loops"][0];
    // 20 sampled, 3 whose end was lost, 300 counted.
    assert_eq!((&first["spawns"], &first["counted"]), (&323.into(), &300.into()));
    assert_eq!(class(first, "ipset add")["spawns"], 23);
    assert_eq!(class(first, "ipset add")["ends_lost"], 3);
    let counted = class(first, "ipset");
    assert_eq!((&counted["spawns"], &counted["counted_failed"]), (&300.into(), &2.into()));
    assert_eq!(counted["wall_ns"], 240 * MS);
    assert_eq!(counted["threads"]["on_cpu_ns"], 200 * MS);
    let totals = answer_of("flood", "processes", "")["totals"].clone();
    assert_eq!((&totals["spawned"], &totals["counted"]), (&355.into(), &330.into()));
    assert_eq!(totals["alive"], 0, "a sweep found the three gone");
}

#[test]
fn a_second_flood_fills_no_time_between() {
    let answer = answer_of("flood", "storms", "");
    let proxy = daemon(&answer, "proxy");
    assert_eq!(proxy["loops_total"], 2);
    let second = &proxy["latest_loops"][0];
    assert_eq!(second["spawns"], 32);
    // It began at 21 s; the row's first spawn, twenty seconds ago, was in the first one.
    assert_eq!(second["duration_ns"], 31 * MS);
    assert_eq!(class(second, "ipset")["busy_ns"], 31 * MS);
    assert_eq!(proxy["series"]["period_ns"]["p50"], 20 * S);
}

/// Of three children only the start came through; the kernel counted what they were. The sweep finds one before the
/// counts are read and two after, and one that never called exec.
#[test]
fn spawns_whose_program_and_end_were_lost_are_counted_by_binary() {
    let gone = |number: u64, at: &str| {
        format!(
            "at {at} fact {{\"fact\":\"gone\",\"tgid\":{},\"start_ns\":{}}}\n",
            10_000 + number,
            BEGIN_NS + number * S
        )
    };
    let text = format!(
        "process d pid=100 comm=d
         at 1s spawn d->10001\nat 2s spawn d->10002\nat 3s spawn d->10003\nat 4s spawn d->10004
         {}at 5s flood d true spawns=7 lost_ends=3 nameless=3 wall=10ms from=1s until=4s\n{}{}{}",
        gone(1, "4.5s"),
        gone(2, "6s"),
        gone(3, "6s"),
        gone(4, "6s"),
    );
    let answer = answer(&Scene::parse("nameless", &text), "storms", "");
    let of = &answer["daemons"][0];
    let row = class(of, "true");
    assert_eq!((&row["spawns"], &row["counted"], &row["ends_lost"]), (&10.into(), &7.into(), &3.into()));
    assert_eq!(class(of, "d (no exec)")["spawns"], 1);
}

#[test]
fn what_is_missing_is_said_by_kind() {
    let answer = answer_of("losses", "storms", "");
    let block = &answer["completeness"];
    assert_eq!(block["complete"], false);
    assert_eq!(block["lost"]["exec"], 1);
    assert_eq!(block["lost"]["exit"], 1);
    assert_eq!(block["lost"]["late"], 2);
    assert_eq!(block["lost"]["garbled"], 2, "one told by the agent, one met in the records");
    assert_eq!(block["truncated"]["argv"], 1);
    assert_eq!(block["truncated"]["netlink_walk"], 2);
    assert_eq!(block["truncated"]["split"], 1);
    assert_eq!(block["truncated"]["life"], 1);
    assert_eq!(block["truncated"]["task_table_full"], 4);
    assert_eq!(block["evicted"]["recorder_records"], 10);
    assert_eq!(block["unattributed"], 1);
    let degraded = block["degraded"].to_string();
    assert!(
        degraded.contains("reap is denied")
            && degraded.contains("netlink_send is on a lower rung, sock_send_length"),
        "{degraded}"
    );
    assert!(!degraded.contains("exec is"), "an attached probe is no reason for doubt");
}

#[test]
fn a_lower_rung_is_said_and_a_missing_probe_makes_an_answer_incomplete() {
    let complete = |state: &str| {
        let text = format!(
            r#"process d pid=100
            fact {{"fact":"probe","probe":"reap","state":"{state}","rung":"r","why":"w","consequence":"c"}}"#
        );
        answer(&Scene::parse("probe", &text), "storms", "")["completeness"]["complete"].clone()
    };
    assert_eq!(complete("attached"), true);
    assert_eq!(complete("degraded"), true);
    for state in ["unsupported", "denied", "broken", "off"] {
        assert_eq!(complete(state), false, "{state}");
    }
}

#[test]
fn lost_records_cost_names_but_no_spawns() {
    let answer = answer_of("losses", "storms", "");
    let own = &daemon(&answer, "proxy")["latest_loops"][0];
    assert_eq!(own["spawns"], 3);
    // Its exec was lost: the exit still tells its name and what it cost to get there.
    assert_eq!(class(own, "ipset")["spawn_cost"]["mean_ns"], 11 * MS / 10);
    // One whose start was lost, one whose end was.
    let ipset = class(own, "ipset add");
    assert_eq!((&ipset["spawns"], &ipset["ends_lost"]), (&2.into(), &1.into()));
}

#[test]
fn a_stranger_is_unknown_which_is_not_the_host() {
    let answer = answer_of("unattributed", "storms", "");
    assert_eq!(answer["completeness"]["unattributed"], 1);
    assert_eq!(daemon(&answer, "stranger")["identity"]["kind"], "unknown");
    assert_eq!(daemon(&answer, "ticked")["identity"]["kind"], "host");
    assert_eq!(daemon(&answer, "ticked")["pids"][0], 800, "found by the scan, known by its tick");
    let netlink = answer_of("unattributed", "netlink", "");
    assert_eq!(named(&netlink["senders"], "name", "stranger")["total"]["messages"], 1);
}

#[test]
fn unread_messages_keep_their_bytes() {
    let answer = answer_of("losses", "netlink", "");
    let proxy = named(&answer["senders"], "name", "proxy");
    assert_eq!(proxy["cut_sends"], 2);
    assert_eq!(named(&proxy["messages"], "message", "(unread)")["bytes"], 64);
    assert_eq!(named(&proxy["messages"], "message", "RTM_NEWROUTE")["messages"], 64);
}
