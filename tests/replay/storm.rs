//! The storm of the field, number by number: `kube_router.scene`.

use crate::{MS, S, class, daemon, named};
use harness::check::answer_of;

#[test]
fn the_resync_is_found_with_its_shares() {
    let answer = answer_of("kube_router", "storms", "");
    let kube = daemon(&answer, "kube-router");
    assert_eq!(kube["storm"], true);
    assert_eq!(kube["identity"]["pod_uid"], "3d257a45-dcf3-4084-80a7-e6f469453ac6");
    assert_eq!(kube["loops_total"], 2);
    // From the first clone call at 0 to the last collection, 50 us before the end of the third phase:
    // 1.75 s + 0.1 s + 1.75 s + 0.1 s + 2.5 s - 50 us.
    let duration_ns = 6_200 * MS - MS / 20;
    assert_eq!(kube["series"]["duration_ns"]["p50"], duration_ns);
    assert_eq!(kube["series"]["period_ns"]["p50"], 20 * S);
    assert_eq!(kube["series"]["gap_ns"]["p50"], 20 * S - duration_ns);
    // Per resync 4,000 x 825 us of ipset and 2,000 x 1,200 us of ip, never two at once.
    let (ipset_ns, ip_ns) = (3_300 * MS, 2_400 * MS);
    assert_eq!(kube["series"]["busy_ns"]["p50"], ipset_ns + ip_ns);
    assert_eq!(kube["score_ns"], 2 * (ipset_ns + ip_ns));
    // 5.7 of 6.19995 s.
    assert_eq!(kube["series"]["share"], 0.9194);
    let last = &kube["latest_loops"][0];
    assert_eq!(last["spawns"], 6_000);
    assert_eq!(last["peak_alive"], 1);
    let ipset = class(last, "ipset add");
    assert_eq!(ipset["spawns"], 4_000);
    assert_eq!(ipset["busy_ns"], ipset_ns);
    assert_eq!(ipset["share"], 0.5323);
    assert_eq!(ipset["mode"], "serial");
    assert_eq!(ipset["wall_ns"], 4_000 * 675 * MS / 1_000);
    let ip = class(last, "ip route replace");
    assert_eq!(ip["spawns"], 2_000);
    assert_eq!(ip["busy_ns"], ip_ns);
    assert_eq!(ip["share"], 0.3871);
}

#[test]
fn each_class_splits_its_time_and_names_its_cost() {
    let answer = answer_of("kube_router", "storms", "");
    let last = &daemon(&answer, "kube-router")["latest_loops"][0];
    let ipset = class(last, "ipset add");
    // 675 us: 400 on a CPU, 75 disk, 15 netlink, the rest of no known cause.
    assert_eq!(ipset["split"]["on_cpu_ns"], 1_600 * MS);
    assert_eq!(ipset["split"]["blocked_by"]["disk"], 300 * MS);
    assert_eq!(ipset["split"]["blocked_by"]["netlink"], 60 * MS);
    assert_eq!(ipset["split"]["blocked_by"]["other"], 740 * MS);
    assert_eq!(ipset["spawn_cost"]["mean_ns"], 400_000);
    assert_eq!(ipset["exits"]["ok"], 4_000);
    assert_eq!(ipset["stacks"][0]["stack_id"], "000000000000004d");
    assert_eq!(ipset["stacks"][0]["spawns"], 4_000);
    let ip = class(last, "ip route replace");
    assert_eq!(ip["split"]["runnable_ns"], 200 * MS);
    // The parent waits for each child from its spawn to its collection: 725 us and 1,100 us.
    assert_eq!(last["waits"]["reaps"], 6_000);
    assert_eq!(last["waits"]["wall_ns"], 4_000 * 725 * MS / 1_000 + 2_000 * 1_100 * MS / 1_000);
}

#[test]
fn programs_and_messages_compare_in_one_view() {
    let answer = answer_of("kube_router", "netlink", "");
    let by_spawns = named(&answer["senders"], "argv_class", "ip route replace");
    assert_eq!(by_spawns["sender"], "children");
    assert_eq!(by_spawns["name"], "kube-router");
    assert_eq!(by_spawns["spawns"], 4_000);
    assert_eq!(by_spawns["spawn_wall_ns"], 4 * S);
    let by_one = named(&answer["senders"], "sender", "process");
    assert_eq!(by_one["process"]["pid"], 200);
    for (sender, messages) in [(by_spawns, 4_000_u64), (by_one, 2_000)] {
        let row = named(&sender["messages"], "message", "RTM_NEWROUTE");
        assert_eq!(row["family"], "ROUTE");
        assert_eq!(row["messages"], messages);
        assert_eq!(row["mean_inside_ns"], 150_000, "what the request itself takes is the same");
    }
    let routes = named(&answer["messages"], "message", "RTM_NEWROUTE");
    assert_eq!(routes["messages"], 6_000);
    let sets = named(&answer["messages"], "message", "IPSET_CMD_ADD");
    assert_eq!((&sets["family"], &sets["subsystem"]), (&"NETFILTER".into(), &"ipset".into()));
}

#[test]
fn the_finding_says_who_what_how_much_and_what_helps() {
    let answer = answer_of("kube_router", "findings", "seconds=60");
    let finding = &answer["findings"][0];
    assert_eq!(finding["rule"], "exec_storm");
    assert_eq!(finding["severity"], "high");
    assert_eq!(finding["cost_ns"], 2 * 5_700 * MS);
    assert_eq!(finding["numbers"]["programs_per_loop_p50"], 6_000);
    let title = finding["title"].as_str().unwrap();
    for part in
        ["kube-router", "pod 3d257a45", "6,000 programs", "92 %", "6.2 s", "`ipset add` 4,000 times (53 %)"]
    {
        assert!(title.contains(part), "{part:?} in {title}");
    }
    let fixes = finding["fix"].to_string();
    assert!(fixes.contains("ipset restore") && fixes.contains("ip -batch"), "{fixes}");
    let detail = finding["detail"].to_string();
    assert!(detail.contains("routed (pid 200) sent 2,000 RTM_NEWROUTE by itself, in 300 ms"), "{detail}");
    assert_eq!(finding["evidence"][0], "/api/v1/storms?pid=100&seconds=60");
}
