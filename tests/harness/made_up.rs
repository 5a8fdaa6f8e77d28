//! A node that is not there: records as a kernel would send them for a proxy daemon's resyncs, made from
//! nothing but numbers. For tests of what stands right of `capture/`, without a kernel or root.

use slowpod::capture::recent::Bounds;
use slowpod::decode::fact::{Fact, Node, Probe, ProbeState, Process, encode};
use slowpod::pipeline::{Hub, KernelPulse, Live, ProgramCost};
use slowpod_ebpf::abi::{self, Header, Kind, Tally, Task, probes::PROBES, split::Cause, split::Split};
use std::collections::BTreeMap;
use std::sync::Arc;
use zerocopy::IntoBytes;

mod alive;
mod queues;
pub use alive::Alive;

/// One millisecond.
pub const MS: u64 = 1_000_000;
/// One second.
pub const S: u64 = 1_000 * MS;
/// Where the made-up node's clock starts: far from 0, as on a node that has been up for a day.
pub const BOOT_NS: u64 = 86_400 * S;

/// Cgroup of the daemon's container.
const POD_CGROUP: u64 = 7_001;
/// Its path: a pod of the systemd driver under containerd.
const POD_PATH: &str = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1f0e1c6a_5b1d_4c7e_9a54_1b7f3c2d4e5f.slice/cri-containerd-7a1f0e1c6a5b1d4c7e9a541b7f3c2d4e5f7a1f0e1c6a5b1d4c7e9a541b7f3c2d.scope";
/// What an IPAM plugin says when somebody else was faster, as `capture` keeps it.
const CONFLICT: &[u8] = br#"{"error":{"code":11,"msg":"the object has been modified"}}"#;
const ROUTE_PROTOCOL: u16 = 0;
const NETFILTER_PROTOCOL: u16 = 12;
const RTM_NEWROUTE: u16 = 24;
const IPSET_CMD_ADD: u16 = 6 << 8 | 9;

/// A made-up node: its clock, and the records so far.
pub struct MadeUp {
    /// Its clock, on the kernel's monotonic scale.
    pub now_ns: u64,
    /// Records since the last take, in time order.
    pub records: Vec<u8>,
    daemon: Task,
    comm: [u8; 16],
    next_pid: u32,
    spawned: u64,
    /// Where the records behind the last exec begin.
    after_exec: Option<usize>,
}

impl MadeUp {
    /// A node whose daemon has this name, at `now_ns`: probes attached and the scan done.
    pub fn new(comm: &[u8], now_ns: u64) -> MadeUp {
        let path = [b"/usr/local/bin/", comm].concat();
        let daemon = Task { start_ns: now_ns - 3_600 * S, tgid: 4_242, tid: 4_242 };
        let mut node = MadeUp {
            now_ns,
            records: Vec::new(),
            daemon,
            comm: padded(comm),
            next_pid: 10_000,
            spawned: 0,
            after_exec: None,
        };
        node.tell(&Fact::Node(Node {
            node_name: "node-7".into(),
            kernel_release: "6.18.0".into(),
            cpus: 8,
            agent_version: "0.1.0".into(),
            argv_mode: "redacted".into(),
            ..Node::default()
        }));
        node.tell(&Fact::Clock { wall_unix_ns: 1_760_000_000_000_000_000 });
        for probe in PROBES {
            let rung = probe.rungs[0].name.into();
            let (state, why, consequence) = (ProbeState::Attached, String::new(), String::new());
            node.tell(&Fact::Probe(Probe { probe: probe.name.into(), state, rung, why, consequence }));
        }
        node.tell(&Fact::Cgroup { id: POD_CGROUP, hierarchy: 0, path: POD_PATH.into() });
        node.tell(&Fact::Process(Box::new(Process {
            tgid: daemon.tgid,
            start_ns: daemon.start_ns,
            start_exact: true,
            comm: comm.into(),
            path: path.as_slice().into(),
            argv: [&path, b"\0--run-service-proxy=true\0".as_slice()].concat().as_slice().into(),
            cgroup_id: POD_CGROUP,
            inner_pid: 1,
            ..Process::default()
        })));
        node.tell(&Fact::ScanDone { processes: 1, cgroups: 1, cut: false, took_ns: MS });
        node
    }

    /// Lets time pass.
    pub fn pass(&mut self, ns: u64) {
        self.now_ns += ns;
    }

    /// A resync as kube-router's: `services` times `ipset add`, then as often `ip route replace`, one after
    /// the other; one in fifty fails, and one search through PATH misses first.
    pub fn resync(&mut self, services: u32) {
        self.exec_fail("/usr/local/sbin/ipset", 2);
        for service in 0..services {
            let entry = format!("10.96.{}.{},tcp:80", service / 250, service % 250);
            let failed = service % 50 == 49;
            self.spawn(
                "/usr/sbin/ipset",
                &["ipset", "add", "KUBE-SVC", &entry],
                failed,
                (NETFILTER_PROTOCOL, IPSET_CMD_ADD),
            );
        }
        for service in 0..services {
            let route = format!("10.96.{}.{}/32", service / 250, service % 250);
            let argv = ["ip", "route", "replace", &route, "dev", "kube-dummy-if"];
            self.spawn("/sbin/ip", &argv, false, (ROUTE_PROTOCOL, RTM_NEWROUTE));
        }
    }

    /// One child that is a CNI plugin, for a new sandbox each time: it fails every other time. Takes 1.6 ms.
    pub fn cni_add(&mut self) {
        let number = self.spawned;
        let child = self.next_pid;
        let start_ns = self.now_ns + MS / 10;
        self.spawn(
            "/opt/cni/bin/bridge",
            &["/opt/cni/bin/bridge"],
            number % 2 == 1,
            (ROUTE_PROTOCOL, RTM_NEWROUTE),
        );
        let args = format!("K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;K8S_POD_UID=pod-{number}");
        let field = format!("{number:064x}");
        let mut cni = abi::cni::Cni {
            header: self.header::<abi::cni::Cni>(Kind::Cni, args.len()),
            task: Task { start_ns, tgid: child, tid: child },
            cgroup_id: POD_CGROUP,
            found: 0,
            cut: 0,
            args_len: args.len() as u32,
            reserved: 0,
            comm: padded(b"bridge"),
            command: padded(b"ADD"),
            ifname: padded(b"eth0"),
            traceparent: [0; 64],
            container_id: [0; 128],
            netns: [0; 256],
        };
        cni.container_id[..64].copy_from_slice(field.as_bytes());
        // Told right behind the exec, which is where a kernel tells it.
        cni.header.ktime_ns = start_ns + MS / 2;
        let end = self.after_exec.unwrap_or(self.records.len());
        let said = abi::output::Output {
            header: Header {
                ktime_ns: cni.header.ktime_ns,
                ..self.header::<abi::output::Output>(Kind::Output, CONFLICT.len())
            },
            task: cni.task,
            fd: 1,
            len: CONFLICT.len() as u32,
            written: CONFLICT.len() as u32,
            flags: 0,
        };
        let failed: &[&[u8]] = if number % 2 == 1 { &[said.as_bytes(), CONFLICT] } else { &[] };
        let record = [&[cni.as_bytes(), args.as_bytes()], failed].concat().concat();
        self.records.splice(end..end, record);
    }

    /// One child: made, executed, sends one netlink message, ends, is collected. Takes 1.6 ms.
    pub fn spawn(&mut self, path: &str, argv: &[&str], failed: bool, message: (u16, u16)) {
        let begun_ns = self.now_ns;
        self.pass(MS / 10);
        let spawned_ns = self.now_ns;
        let child = Task { start_ns: spawned_ns, tgid: self.next_pid, tid: self.next_pid };
        self.next_pid += 1;
        self.spawned += 1;
        self.put_spawn(child, begun_ns);
        self.pass(MS / 2);
        self.put_exec(child, path, argv);
        self.after_exec = Some(self.records.len());
        self.pass(MS / 2);
        let name = padded(argv[0].as_bytes());
        self.put_netlink(child, name, message, failed);
        self.pass(MS / 2);
        let mut main = Split { on_cpu_ns: MS, runnable_ns: MS / 5, ..Split::default() };
        main.blocked_ns[Cause::Netlink as usize] = MS / 5;
        main.blocked_ns[Cause::Disk as usize] = MS / 10;
        let exit = abi::exit::Exit {
            header: self.header::<abi::exit::Exit>(Kind::Exit, 0),
            task: child,
            spawner: self.daemon,
            cgroup_id: POD_CGROUP,
            spawned_ns,
            exec_ns: spawned_ns + MS / 2,
            exiting_ns: self.now_ns,
            main,
            threads: main,
            thread_ns: main.total_ns(),
            thread_count: 1,
            status: u32::from(failed) << 8,
            execs: 1,
            exec_fails: 0,
            flags: 0,
            reserved: 0,
            comm: name,
        };
        self.records.extend_from_slice(exit.as_bytes());
        let reap = abi::reap::Reap {
            header: self.header::<abi::reap::Reap>(Kind::Reap, 0),
            parent: self.daemon,
            wait_begun_ns: spawned_ns,
            cloned_ns: spawned_ns,
            own_ns: 0,
            on_cpu_ns: 0,
            runnable_ns: MS / 10,
            blocked_ns: MS + 4 * MS / 10,
            child_inner_pid: child.tgid,
            reserved: 0,
        };
        self.records.extend_from_slice(reap.as_bytes());
    }

    /// An exec of the daemon's own that fails.
    pub fn exec_fail(&mut self, path: &str, errno: u32) {
        let fail = abi::exec::ExecFail {
            header: self.header::<abi::exec::ExecFail>(Kind::ExecFail, path.len()),
            task: self.daemon,
            cgroup_id: POD_CGROUP,
            errno,
            flags: 0,
            path_len: path.len() as u32,
            reserved: 0,
            comm: self.comm,
        };
        self.records.extend_from_slice(fail.as_bytes());
        self.records.extend_from_slice(path.as_bytes());
    }

    /// Hands the records so far to a live loop, as of now.
    pub fn give(&mut self, live: &mut Live<'_>) {
        let kernel = self.kernel();
        live.take(self.now_ns, &std::mem::take(&mut self.records), || kernel);
    }

    /// A hub that has seen two resyncs of `services`, five seconds apart, the last one just over.
    pub fn hub(comm: &[u8], services: u32) -> (Arc<Hub>, u64) {
        let hub = Arc::new(Hub::new(Bounds::default()));
        let mut live = Live::new(&hub);
        let mut node = MadeUp::new(comm, BOOT_NS);
        for _ in 0..2 {
            node.pass(5 * S);
            node.resync(services);
            node.run_queues();
            node.give(&mut live);
        }
        node.pass(2 * S);
        node.give(&mut live);
        drop(live);
        (hub, node.now_ns)
    }

    /// What the kernel side would say of itself.
    fn kernel(&self) -> KernelPulse {
        let seen = |times: u64| Tally {
            seen: self.spawned * times,
            submitted: self.spawned * times,
            ..Tally::default()
        };
        KernelPulse {
            tallies: BTreeMap::from([("spawn", seen(1)), ("exec", seen(1)), ("exit", seen(1))]),
            programs: vec![ProgramCost {
                program: "sched_switch".into(),
                runs: self.spawned * 8,
                run_ns: self.spawned * 900,
                skipped: 0,
            }],
            symbols: Default::default(),
            rings: BTreeMap::from([("life", (65_536, 4_194_304)), ("netlink", (4_096, 4_194_304))]),
        }
    }

    fn put_spawn(&mut self, child: Task, begun_ns: u64) {
        let spawn = abi::spawn::Spawn {
            header: self.header::<abi::spawn::Spawn>(Kind::Spawn, 0),
            spawner: self.daemon,
            child,
            begun_ns,
            cgroup_id: POD_CGROUP,
            user_stack: 0,
            kernel_stack: 0,
            flags: 0,
            inner_pid: child.tgid,
            comm: self.comm,
        };
        self.records.extend_from_slice(spawn.as_bytes());
    }

    fn put_exec(&mut self, child: Task, path: &str, argv: &[&str]) {
        let words: Vec<u8> = argv.iter().flat_map(|word| word.bytes().chain([0])).collect();
        let exec = abi::exec::Exec {
            header: self.header::<abi::exec::Exec>(Kind::Exec, path.len() + words.len()),
            task: child,
            cgroup_id: POD_CGROUP,
            old_tid: child.tid,
            uid: 0,
            mount_ns: 1,
            pid_ns: 2,
            net_ns: 3,
            flags: 0,
            argv_total_bytes: words.len() as u32,
            path_len: path.len() as u16,
            argv_len: words.len() as u16,
            comm: padded(argv[0].as_bytes()),
        };
        self.records.extend_from_slice(exec.as_bytes());
        self.records.extend_from_slice(path.as_bytes());
        self.records.extend_from_slice(&words);
    }

    fn put_netlink(
        &mut self,
        child: Task,
        comm: [u8; 16],
        (protocol, message_type): (u16, u16),
        failed: bool,
    ) {
        let mut types = [abi::netlink::TypeCount::default(); abi::netlink::TYPES];
        types[0] = abi::netlink::TypeCount { message_type, command: 0, messages: 1 };
        let send = abi::netlink::NetlinkSend {
            header: self.header::<abi::netlink::NetlinkSend>(Kind::NetlinkSend, 0),
            task: child,
            cgroup_id: POD_CGROUP,
            inside_ns: MS / 20,
            bytes: 72,
            sends: 1,
            failed_sends: 0,
            protocol,
            errno: 0,
            flags: 0,
            types,
            other_messages: 0,
            reserved: 0,
            comm,
        };
        self.records.extend_from_slice(send.as_bytes());
        if failed {
            let error = abi::netlink::NetlinkError {
                header: self.header::<abi::netlink::NetlinkError>(Kind::NetlinkError, 0),
                task: child,
                protocol,
                message_type,
                errno: 17,
                comm,
            };
            self.records.extend_from_slice(error.as_bytes());
        }
    }

    fn tell(&mut self, fact: &Fact) {
        encode(self.now_ns, fact, &mut self.records);
    }

    fn header<T>(&self, kind: Kind, tail: usize) -> Header {
        let len_bytes = u32::try_from(size_of::<T>() + tail).expect("records are small");
        Header { ktime_ns: self.now_ns, kind: kind as u32, len_bytes }
    }
}

/// A comm as the kernel keeps it: 15 bytes at most, NUL-padded.
fn padded(name: &[u8]) -> [u8; 16] {
    let mut comm = [0; 16];
    let len = name.len().min(15);
    comm[..len].copy_from_slice(&name[..len]);
    comm
}
