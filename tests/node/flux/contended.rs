//! Calls that wait for what others have: the kernel's locks, the store of addresses, the CPUs. Who has it is known, since
//! the test itself sees to it; the reference plugins serve as well as the slow one.

use super::bed::{Bed, run, wait_until, with_niceness};
use super::explained::{adds, assert_each_agrees, explained, first, first_by_account};
use harness::agent;
use harness::agent::monotonic_ns;
use harness::load::Load;
use harness::netns::{PrivateNet, die_with_test};
use harness::tools::Tool;
use harness::truth::Truth;
use serde_json::{Value, json};
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

/// A program that does what its standard input says, for as long as it is told: until this is dropped.
struct Busy {
    child: Child,
    teller: Option<JoinHandle<()>>,
    stop: std::sync::mpsc::Sender<()>,
}

impl Busy {
    /// Starts the command, and tells it this again and again.
    fn start(command: &mut Command, text: String) -> Busy {
        let command =
            die_with_test(command).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut told = child.stdin.take().unwrap();
        let (stop, stopped) = std::sync::mpsc::channel();
        // A full pipe makes it wait; the pipe's end ends the command.
        let teller = std::thread::spawn(move || {
            while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty)
                && told.write_all(text.as_bytes()).is_ok()
            {}
        });
        Busy { child, teller: Some(teller), stop }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let _ = self.stop.send(());
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(teller) = self.teller.take() {
            let _ = teller.join();
        }
    }
}

/// Programs that take whole groups of links down, again and again: the lock is held by one of them most of the time.
fn busy_with_links(net: &PrivateNet) -> [Busy; 4] {
    const LINKS: u32 = 200;
    [6, 7, 8, 9].map(|group| {
        let add =
            |link| format!("link add b{group}x{link} group {group} type veth peer name b{group}y{link}\n");
        let text = (0..LINKS).map(add).collect::<String>() + &format!("link delete group {group}\n");
        let mut ip = Command::new(Tool::Ip.require());
        Busy::start(net.holds(ip.args(["-force", "-batch", "-"])), text)
    })
}

#[test]
fn who_has_rtnl_is_named_and_the_wait_agrees_with_the_plugin_s_clock() {
    let bed = Bed::new("rtnl");
    // The lock is the whole node's.
    let elsewhere = PrivateNet::new();
    let busy = busy_with_links(&elsewhere);
    let (_, report) = explained(&bed, json!([{ "do": "rtnl", "ms": 1000 }]), "3");
    drop(busy);
    first_by_account(&report, &bed.log(), "cni_rtnl");
    let all = report.list("/explained/findings/findings");
    let finding = all
        .iter()
        .find(|finding| finding.text("/rule") == "cni_rtnl")
        .unwrap_or_else(|| panic!("no RTNL: {:?} {report}", bed.log()));
    let title = finding.text("/title");
    assert!(title.contains(" ip processes for ") || title.contains("held by ip ("), "{finding}");
    assert_each_agrees(&bed, &report, "netlink", "rtnl");
    let waits: Vec<Truth> = adds(&report).iter().flat_map(|call| call.list("/waits")).collect();
    let sum_ns = |of: &dyn Fn(&Truth) -> bool| -> u64 {
        waits.iter().filter(|wait| of(wait)).map(|wait| wait.number("/blocked_ns")).sum()
    };
    let of_lock = sum_ns(&|wait| wait.at("").get("kernel_lock") == Some(&json!("rtnl")));
    let of_netlink = sum_ns(&|wait| wait.text("/on") == "netlink");
    assert!(of_lock * 100 >= of_netlink * 95, "requests that change nothing wait for the lock: {waits:?}");
    bed.assert_nothing_left();
}

#[test]
fn who_has_the_lock_on_packet_filter_rules_is_named() {
    let bed = Bed::new("nft");
    let loops = "iptables -w -t nat -N BUSY\niptables -w -t nat -X BUSY\n";
    let busy = [0; 2].map(|_| Busy::start(bed.net.holds(&mut Command::new("sh")), loops.to_owned()));
    // Each changes rules, in vain: both chains are there already.
    let phase = json!({ "do": "spawn", "program": "iptables", "args": ["-w", "-P", "FORWARD", "ACCEPT"], "times": 15 });
    let (_, report) = explained(&bed, json!([phase]), "3");
    drop(busy);
    let waits: Vec<Truth> = adds(&report).iter().flat_map(|call| call.list("/tree/waits")).collect();
    let of_lock = |wait: &&Truth| wait.at("").get("kernel_lock") == Some(&json!("nftables"));
    let waits: Vec<Truth> = waits.into_iter().filter(|wait| of_lock(&wait)).collect();
    // Who comes just as the lock is handed on finds it without an owner.
    let (owned, ownerless): (Vec<&Truth>, Vec<&Truth>) =
        waits.iter().partition(|wait| wait.at("").get("holder").is_some());
    assert!(owned.iter().all(|wait| wait.text("/holder/process/comm") == "iptables"), "{owned:?}");
    let times = |waits: &[&Truth]| -> u64 { waits.iter().map(|wait| wait.number("/waits")).sum() };
    assert!(times(&owned) > 2 * times(&ownerless), "{ownerless:?} {owned:?}");
    bed.assert_nothing_left();
}

/// How many wait for a lock on the file, as the kernel lists them (proc_locks(5)).
pub(super) fn waiting_for(file: &File) -> usize {
    let inode = format!(":{} ", file.metadata().unwrap().ino());
    let locks = std::fs::read_to_string("/proc/locks").unwrap();
    locks.lines().filter(|line| line.contains("-> FLOCK") && line.contains(&inode)).count()
}

#[test]
fn the_reference_bridge_behind_a_held_store_names_who_holds_it() {
    const PODS: usize = 4;
    let bed = Bed::new("store");
    std::fs::create_dir_all(bed.path("leases/bed")).unwrap();
    let lock = File::create(bed.path("leases/bed/lock")).unwrap();
    lock.lock().unwrap();
    let pods = PODS.to_string();
    let running =
        bed.start(&bed.bridge(), &["--pods", &pods, "--concurrency", &pods, "--no-loopback", "--explain"]);
    wait_until("all in the queue", || waiting_for(&lock) == PODS);
    // Long enough to be what takes most of the time, whatever else they wait for.
    std::thread::sleep(Duration::from_secs(2));
    lock.unlock().unwrap();
    let report = running.finish().good();
    let finding = first(&report, "lock_convoy");
    let comm = std::fs::read_to_string(format!("/proc/{}/comm", std::process::id())).unwrap();
    assert!(finding.text("/title").contains(&format!("held by {} (", comm.trim())), "{finding}");
    // And perhaps their DELs, behind one another.
    assert!(finding.number("/numbers/waiters") >= PODS as u64, "{finding}");
    assert!(finding.number("/numbers/waited_ns") >= 2_000_000_000 * PODS as u64, "{finding}");
    drop(lock);
    bed.assert_nothing_left();
}

#[test]
fn the_reference_bridge_without_a_cpu_says_so() {
    let bed = Bed::new("starved");
    let list = bed.bridge();
    let agent = agent!();
    let load = Load::start();
    let mut flux = bed.flux(&list, &["--pods", "1", "--no-loopback"]);
    run(with_niceness(&mut flux, 10)).good();
    drop(load);
    let done_ns = monotonic_ns();
    agent.view_at("/api/v1/probes?seconds=1", done_ns);
    let answer = agent.get("/api/v1/findings?seconds=600&focus=cni").unwrap();
    let finding = &answer.list("/findings")[0];
    assert_eq!(finding.text("/rule"), "cni_cpu", "{answer}");
    let calls = agent.get("/api/v1/cni?seconds=600").unwrap();
    let own = calls.list("/calls").into_iter().filter(|call| call.text("/command") == "ADD");
    let walls_ns: u64 =
        own.filter(|call| call.at("/delegated_by") == &Value::Null).map(|call| call.number("/wall_ns")).sum();
    assert_eq!(finding.number("/numbers/wall_ns"), walls_ns);
    drop(agent);
    bed.assert_nothing_left();
}
