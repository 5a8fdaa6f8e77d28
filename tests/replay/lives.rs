//! Lives of processes: who is who, and where each one's time went.

use crate::{MS, S, class, daemon, fields, named};
use harness::check::{answer, answer_of};
use harness::scene::{self, Scene};
use serde_json::Value;

#[test]
fn the_parts_of_every_life_add_up_to_it() {
    let mut checked = 0;
    for name in scene::all() {
        let answer = answer_of(&name, "processes", "state=ended&limit=20000");
        for process in answer["processes"].as_array().unwrap() {
            let sum = |split: &Value| {
                let part = |name: &str| split[name].as_u64().unwrap();
                let by: u64 =
                    split["blocked_by"].as_object().unwrap().values().map(|ns| ns.as_u64().unwrap()).sum();
                assert_eq!(by, part("blocked_ns"), "{name}: {process}");
                part("on_cpu_ns") + part("runnable_ns") + part("blocked_ns")
            };
            assert_eq!(sum(&process["split"]), process["wall_ns"], "{name}: {process}");
            assert_eq!(
                sum(&process["threads"]["split"]),
                process["threads"]["thread_ns"],
                "{name}: {process}"
            );
            checked += 1;
        }
    }
    assert!(checked > 10_000, "{checked}");
}

#[test]
fn a_recycled_pid_is_another_process() {
    let answer = answer_of("recycled_pid", "processes", "pid=500");
    let lives = answer["processes"].as_array().unwrap();
    assert_eq!(fields(lives, "argv_class"), ["proxy", "ipset add"], "the latest first");
    assert_eq!(lives[0]["exit"]["code"], 7);
    assert_eq!(lives[0]["execs"], 0);
    assert_eq!(lives[1]["exit"]["code"], 0);
    let sent = |life: &Value| life["netlink"]["messages"][0]["message"].clone();
    assert_eq!((sent(&lives[0]), sent(&lives[1])), ("RTM_GETROUTE".into(), "IPSET_CMD_ADD".into()));
    assert_ne!(lives[0]["start_ns"], lives[1]["start_ns"]);
    let storms = answer_of("recycled_pid", "storms", "");
    let own = &daemon(&storms, "proxy")["latest_loops"][0];
    // Both were collected; the second late, and nobody was waiting.
    assert_eq!(own["waits"]["reaps"], 2);
    assert_eq!(class(own, "ipset add")["busy_ns"], 41 * MS / 10);
    assert_eq!(class(own, "proxy (no exec)")["busy_ns"], 31 * MS / 10);
}

#[test]
fn a_reused_cgroup_id_moves_nobody_to_another_pod() {
    let answer = answer_of("cgroup_reused", "processes", "state=ended");
    let rows = answer["processes"].as_array().unwrap();
    let whose = |row: &Value| {
        let identity = &row["identity"];
        identity["pod_uid"].as_str().or(identity["unit"].as_str()).unwrap_or("unknown")[..4].to_owned()
    };
    let found: Vec<_> = rows.iter().map(|row| (row["argv"].as_str().unwrap(), whose(row))).collect();
    let expected = [
        ("cron three", "cron"),
        ("second two", "2222"),
        ("helper two", "2222"),
        ("first one", "1111"),
        ("helper one", "1111"),
    ];
    assert_eq!(found, expected.map(|(argv, whose)| (argv, whose.to_owned())));
    let of_pod = |pod: &str| answer_of("cgroup_reused", "processes", &format!("state=ended&pod={pod}"));
    let ended = of_pod("11111111-1111-1111-1111-111111111111")["processes"].as_array().unwrap().len();
    assert_eq!(ended, 2);
}

#[test]
fn a_daemon_that_forked_twice_is_its_own_and_knows_its_root() {
    let answer = answer_of("double_fork", "storms", "");
    let syncd = daemon(&answer, "syncd");
    assert_eq!(answer["daemons"][0]["name"], "syncd", "a storm stands before a shell with one long child");
    assert_eq!(syncd["root"]["pid"], 10_000, "the fork in between, which has ended");
    assert_eq!(class(syncd, "ipset add")["spawns"], 20);
    let bash = daemon(&answer, "bash");
    assert_eq!(class(bash, "syncd")["running"], 1);
    assert_eq!(class(bash, "syncd")["tree_spawns"], 20);
    let alive = answer_of("double_fork", "processes", "state=alive");
    let row = named(&alive["processes"], "comm", "syncd");
    assert_eq!(row["spawner"]["pid"], 10_000);
    assert_eq!(row["daemon"], "bash", "it was bash that forked it, twice over");
}

#[test]
fn children_of_dead_parents_stay_theirs() {
    let answer = answer_of("orphans", "storms", "");
    let sh = daemon(&answer, "sh -c");
    let job = class(sh, "job run");
    assert_eq!((&job["spawns"], &job["exits"]["signals"]["SIGTERM"]), (&5.into(), &5.into()));
    assert_eq!(sh["root"]["comm"], "proxy");
    // They outlived `sh`, whose own sums were closed before.
    assert_eq!(class(daemon(&answer, "proxy"), "sh -c")["busy_ns"], 5 * 36 * MS / 10);
}

#[test]
fn an_exec_from_a_thread_is_its_process() {
    let answer = answer_of("thread_exec", "processes", "");
    let ended = named(&answer["processes"], "state", "ended");
    assert_eq!(ended["argv_class"], "ipset list");
    assert_eq!(ended["pid"], 10_000);
    assert_eq!(ended["threads"]["count"], 3);
    assert_eq!(ended["threads"]["thread_ns"], 30 * MS, "three threads of 10 ms");
    assert_eq!(ended["wall_ns"], 10 * MS);
    assert_eq!(answer["totals"]["threads_made"], 2);
    assert_eq!(answer["totals"]["spawned"], 1);
}

#[test]
fn forks_without_exec_say_so() {
    let answer = answer_of("fork_no_exec", "storms", "");
    let forks = class(daemon(&answer, "bash count.sh"), "bash (no exec)");
    assert_eq!(forks["spawns"], 300);
    assert!(forks["spawn_cost"].is_null());
}

#[test]
fn a_collection_may_come_before_the_end_or_late_or_never() {
    let answer = answer_of("reap_first", "storms", "");
    let own = &daemon(&answer, "proxy")["latest_loops"][0];
    assert_eq!(own["waits"]["reaps"], 2);
    assert_eq!(own["waits"]["wall_ns"], 8 * MS, "the late one waited for nothing");
    // 10.2 + 10.1 + 30.1 ms: nobody's life is stretched to a collection that nobody waited for.
    assert_eq!(own["busy_ns"], 504 * MS / 10);
}

#[test]
fn descendants_are_counted_past_a_dead_one_in_between() {
    let text = "process d pid=100
        at 1s spawn d->a
        +1ms exec a /usr/bin/outer
        +1ms spawn a->b
        +1ms spawn b->c
        +1ms exit b
        +1ms exit c
        +1ms exit a";
    let answer = answer(&Scene::parse("tree", text), "storms", "");
    assert_eq!(class(daemon(&answer, "d"), "outer")["tree_spawns"], 2);
}

#[test]
fn a_fork_is_not_its_parents_exec() {
    let text = "process d pid=100
        at 1s spawn d->a
        +1ms exec a /usr/bin/outer
        +1s spawn a->b
        +1ms exit b";
    let ended = answer(&Scene::parse("fork", text), "processes", "state=ended");
    let fork = &ended["processes"][0];
    assert!(fork["spawn_cost_ns"].is_null() && fork["wall_ns"] == MS, "{fork}");
    let alive = answer(&Scene::parse("fork", text), "processes", "state=alive");
    assert_eq!(named(&alive["processes"], "argv_class", "outer")["wall_ns"], S + 2 * MS);
}
