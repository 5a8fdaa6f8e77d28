//! The main job, live: a service proxy's resyncs, against the daemon's own clock.

use crate::exact::{assert_near, assert_nothing_lost, class, path};
use harness::agent;
use harness::agent::{Agent, monotonic_ns};
use harness::load::Load;
use harness::serviceproxy::ServiceProxy;
use harness::truth::Truth;

const SERVICES: u64 = 300;
const NS_PER_MS: u64 = 1_000_000;

/// The proxy's row among the storms, with all its loops in time order.
fn proxy_daemon(agent: &Agent, pid: u32, ktime_ns: u64) -> (Truth, Vec<Truth>) {
    let daemon = crate::exact::daemon(agent, pid.into(), ktime_ns);
    let mut loops = daemon.list("/latest_loops");
    loops.sort_by_key(|own| own.number("/number"));
    (daemon, loops)
}

/// Runs resyncs far enough from the set-up to be loops of their own; gives their lines, and how long the proxy's threads
/// waited for a CPU meanwhile.
fn resyncs(proxy: &mut ServiceProxy, count: usize) -> (Vec<Truth>, u64) {
    // The set-up's children belong to an earlier loop: the gap is part of the rule under test.
    let set_up_ns = proxy.ready().number("/last_reap_ns");
    while monotonic_ns() < set_up_ns + 600 * NS_PER_MS {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let before_ns = waited_ns(proxy.pid());
    proxy.go();
    let resyncs = (0..count).map(|_| proxy.await_event("resync")).collect();
    (resyncs, waited_ns(proxy.pid()) - before_ns)
}

/// How long a process's threads have waited for a CPU so far (proc_pid_schedstat, second field).
pub(crate) fn waited_ns(pid: u32) -> u64 {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("the proxy is there");
    let of_thread = |thread: std::io::Result<std::fs::DirEntry>| {
        let text = std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        text.split(' ').nth(1)?.parse::<u64>().ok()
    };
    threads.filter_map(of_thread).sum()
}

/// One loop against one resync of the daemon. Its clock runs on before its clone calls and after its waits; where it
/// waits for a CPU there, `waited_ns` at the most, no hook sees for what.
fn check_loop(own: &Truth, resync: &Truth, waited_ns: u64) {
    assert_eq!(own.at("/spawns"), resync.at("/spawns"));
    let lasted_ns = resync.number("/last_reap_ns") - resync.number("/first_spawn_ns");
    assert_near("duration", own.number("/duration_ns"), lasted_ns, 5, NS_PER_MS);
    let (share, wall_ns) = (own.at("/share").as_f64().expect("a share"), lasted_ns as f64);
    let witnessed = resync.number("/exec_busy_ns") as f64 / wall_ns;
    let allowed = 0.05 + waited_ns as f64 / wall_ns;
    let told = format!("share {share}, but the daemon has {witnessed} ({allowed} allowed)");
    assert!(share <= witnessed + 0.05 && share >= witnessed - allowed, "{told}");
    for (name, counts) in resync.at("/classes").as_object().expect("an object") {
        let row = class(own, name);
        assert_eq!(row.at("/spawns"), &counts["spawns"], "{name}");
        assert_eq!(row.at("/exits/ok"), &counts["spawns"], "{name}");
    }
}

fn check_resync(flags: &[&str]) {
    check_resync_of(SERVICES, flags);
}

fn check_resync_of(count: u64, flags: &[&str]) {
    let agent = agent!();
    let services = count.to_string();
    let all = [&["-services", services.as_str(), "-resyncs", "0", "-idle-between", "60s"], flags].concat();
    let mut proxy = ServiceProxy::start(&all);
    let pid = proxy.pid();
    let (made, waited_ns) = resyncs(&mut proxy, 1);
    let resync = &made[0];
    // A proxy that goes from child to child is about spawning all the time; one with work of its own is preempted
    // there as well.
    let waited_ns = if flags.contains(&"-own-work") { waited_ns } else { 0 };
    assert_eq!(resync.number("/spawns"), 3 * count);
    proxy.stop();
    let (daemon, loops) = proxy_daemon(&agent, pid, resync.number("/end_ns"));
    let [_set_up, own] = &loops[..] else { panic!("{} loops: {daemon}", loops.len()) };
    check_loop(own, resync, waited_ns);
    assert_eq!(own.at("/storm"), true);
    // Each child asked the kernel once.
    let added = class(own, "ipset add").at("/netlink/messages").clone();
    let added = Truth::new(added).list("").into_iter().find(|row| row.text("/message") == "IPSET_CMD_ADD");
    assert_eq!(added.expect("a row").number("/messages"), 2 * count);

    let findings = agent.view_at(&path("findings", ""), resync.number("/end_ns"));
    assert_nothing_lost(&findings);
    let about_it = |finding: &Truth| finding.text("/title").contains("serviceproxy");
    let finding = findings.list("/findings").into_iter().find(about_it).expect("a finding about the proxy");
    assert_eq!(finding.text("/rule"), "exec_storm");
    let title = finding.text("/title");
    let first_class = title.split('`').nth(1);
    assert_eq!(first_class, Some("ipset add"), "{title}");
    assert!(finding.at("/fix").to_string().contains("ipset restore"), "{finding}");
}

#[test]
fn a_resync_of_one_worker() {
    check_resync(&["-workers", "1"]);
}

/// As large as on a large cluster: 6,000 children in one loop.
#[test]
fn a_resync_of_two_thousand_services() {
    check_resync_of(2_000, &["-workers", "1"]);
}

#[test]
fn a_resync_of_four_workers() {
    check_resync(&["-workers", "4"]);
}

/// A proxy that computes between children: the storm's share is what is left.
#[test]
fn a_resync_with_work_of_its_own() {
    check_resync(&["-own-work", "1ms"]);
}

/// Twice as many threads that only compute as there are CPUs.
#[test]
fn resyncs_on_a_busy_machine() {
    let _load = Load::start();
    check_resync(&["-workers", "1"]);
    check_resync(&["-workers", "4"]);
    check_resync(&["-own-work", "1ms"]);
}

#[test]
fn two_resyncs_a_second_apart_are_two_loops() {
    let agent = agent!();
    let mut proxy = ServiceProxy::start(&["-services", "60", "-resyncs", "0", "-idle-between", "1s"]);
    let pid = proxy.pid();
    let (lines, _) = resyncs(&mut proxy, 2);
    proxy.stop();
    let (daemon, loops) = proxy_daemon(&agent, pid, lines[1].number("/end_ns"));
    let [_set_up, first, second] = &loops[..] else { panic!("{} loops: {daemon}", loops.len()) };
    check_loop(first, &lines[0], 0);
    check_loop(second, &lines[1], 0);
}

/// The same work in two children and one netlink socket is no storm.
#[test]
fn batches_are_shown_as_messages_of_one_process() {
    let agent = agent!();
    let services = SERVICES.to_string();
    let mut proxy = ServiceProxy::start(&[
        "-services",
        &services,
        "-mode",
        "batch",
        "-resyncs",
        "0",
        "-idle-between",
        "60s",
    ]);
    let pid = proxy.pid();
    let resync = resyncs(&mut proxy, 1).0.remove(0);
    proxy.stop();
    assert_eq!(resync.number("/netlink_messages"), SERVICES);
    let (daemon, loops) = proxy_daemon(&agent, pid, resync.number("/end_ns"));
    let [_set_up, own] = &loops[..] else { panic!("{} loops: {daemon}", loops.len()) };
    assert_eq!((own.number("/spawns"), own.at("/storm")), (resync.number("/spawns"), &false.into()));
    let ended = agent.view_at(&path("processes", &format!("state=ended&pid={pid}")), monotonic_ns());
    let row = ended.list("/processes").remove(0);
    let messages = Truth::new(row.at("/netlink/messages").clone()).list("");
    let route = messages.iter().find(|row| row.text("/message") == "RTM_NEWROUTE").expect("a row of routes");
    assert_eq!((route.number("/messages"), route.number("/refused")), (SERVICES, 0));
    assert_near("inside", route.number("/inside_ns"), resync.number("/netlink_ns"), 100, NS_PER_MS);
}
