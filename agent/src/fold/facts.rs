//! Facts, cgroups and netlink, taken into the state.

use super::{SENDERS_MAX, Sender, State};
use crate::decode::{self, Fact};
use crate::enrich::argv_class::{CommandLine, argv_class};
use crate::enrich::{ProcId, processes::Process, text};
use slowpod_ebpf::abi::{self, cgroup::CgroupMove, exec, netlink::NetlinkError, netlink::NetlinkSend};

pub use crate::decode::fact::{Node, Probe};

pub(super) fn apply(state: &mut State, now_ns: u64, fact: Fact) {
    let in_window = state.window.holds(now_ns);
    match fact {
        Fact::Node(node) => state.node = Some(node),
        Fact::Clock { wall_unix_ns } => state.clock.anchor(now_ns, wall_unix_ns),
        Fact::Process(process) => state.scanned(&process),
        Fact::Cgroup { id, hierarchy: _, path } => state.cgroups.made(id, &path.0, 0),
        Fact::ScanDone { .. } => state.scanned = true,
        Fact::Probe(probe) => {
            state.probes.insert(probe.probe.clone(), probe);
        }
        Fact::Loss { kind, dropped, counted } if in_window => state.loss.lost(kind, dropped, counted),
        Fact::Miss { reason, count } if in_window => state.loss.missed(reason, count),
        Fact::Capture(capture) if in_window => {
            state.loss.late += capture.late;
            state.loss.garbled += capture.garbled;
            state.loss.recorder_evicted_records += capture.evicted_records;
            state.loss.recorder_evicted_bytes += capture.evicted_bytes;
        }
        Fact::Loss { .. } | Fact::Miss { .. } | Fact::Capture(_) => {}
        Fact::GenlFamily { id, name } => {
            state.genl.insert(id, name);
        }
        Fact::Gone { tgid, start_ns } => state.gone(ProcId { tgid, start_ns }),
    }
}

impl State {
    fn scanned(&mut self, fact: &decode::fact::Process) {
        let id = ProcId { tgid: fact.tgid, start_ns: fact.start_ns };
        let task = abi::Task { tgid: fact.tgid, tid: fact.tgid, start_ns: fact.start_ns };
        // A record may have told of it before the scan came by; records know more.
        let known = self.processes.resolve(&task).is_some()
            || (!fact.start_exact
                && self.processes.lives_of(id.tgid).any(|p| p.exact && p.id.start_ns >= id.start_ns));
        if known {
            return;
        }
        let argv_class = argv_class(&CommandLine {
            path: &fact.path.0,
            argv: &fact.argv.0,
            comm: &fact.comm.0,
            flags: if fact.script { exec::FLAG_SCRIPT } else { 0 }
                | if fact.argv_cut { exec::FLAG_ARGV_CUT } else { 0 },
        });
        self.processes.put(Process {
            id,
            exact: fact.start_exact,
            spawner: fact.spawner.map(|id| ProcId { tgid: id.tgid, start_ns: id.start_ns }),
            spawned_ns: fact.spawned_ns,
            begun_ns: fact.begun_ns,
            exec_ns: fact.exec_ns,
            comm: text::safe(&fact.comm.0, abi::COMM_BYTES * 4).into(),
            path: fact.path.0.as_slice().into(),
            argv: fact.argv.0.as_slice().into(),
            argv_class: argv_class.into(),
            argv_cut: fact.argv_cut,
            script: fact.script,
            cgroup_id: fact.cgroup_id,
            inner_pid: fact.inner_pid,
            scanned_ppid: fact.ppid,
            uid: fact.uid,
            threads_made: 0,
        });
    }

    fn gone(&mut self, id: ProcId) {
        if self.children.remove(&id).is_some() {
            self.loss.ends_swept += 1;
            self.uncollected.forget(id);
        }
        self.processes.end(id);
    }

    pub(super) fn cgroup(&mut self, cgroup: &decode::Cgroup<'_>) {
        let fixed = &cgroup.fixed;
        if fixed.path_cut != 0 && self.window.holds(fixed.header.ktime_ns) {
            self.loss.path_cut += 1;
        }
        if fixed.made != 0 {
            self.cgroups.made(fixed.id, cgroup.path, fixed.header.ktime_ns);
        } else {
            self.cgroups.gone(fixed.id, fixed.header.ktime_ns);
        }
    }

    pub(super) fn cgroup_move(&mut self, moved: &CgroupMove) {
        if let Some(id) = self.processes.resolve(&moved.task)
            && let Some(process) = self.processes.get_mut(id)
        {
            process.cgroup_id = moved.cgroup_id;
        }
    }

    pub(super) fn netlink_send(&mut self, send: &NetlinkSend) {
        let now_ns = send.header.ktime_ns;
        let id = self.known_or_stub(&send.task, &send.comm, send.cgroup_id);
        let sender = self.sender(id);
        match &sender {
            Sender::Children(key, class) => {
                if let Some(child) = self.children.get(&id)
                    && let Some(own) =
                        self.daemons.get_mut(key).and_then(|daemon| daemon.series.at(child.timing.begun_ns))
                {
                    own.class(class).netlink.send(send);
                }
            }
            Sender::Process(_) => {}
        }
        // A daemon's own sends belong to the loop it is in, whether or not it is a child itself.
        if let Some(key) = super::daemons::key_of(&self.processes, id)
            && let Some(daemon) = self.daemons.get_mut(&key)
            && let Some(own) = daemon.series.loops.back_mut()
            && now_ns.saturating_sub(own.end_ns) <= super::loops::LOOP_GAP_NS
        {
            own.netlink.send(send);
        }
        if !self.window.holds(now_ns) {
            return;
        }
        if send.flags & (abi::netlink::FLAG_WALK_CUT | abi::netlink::FLAG_UNREAD) != 0 {
            self.loss.netlink_cut += u64::from(send.sends);
        }
        self.total_netlink(id, send);
        if self.senders.len() >= SENDERS_MAX && !self.senders.contains_key(&sender) {
            self.loss.evict("netlink_senders", 1);
            return;
        }
        self.senders.entry(sender).or_default().send(send);
    }

    pub(super) fn netlink_error(&mut self, error: &NetlinkError) {
        if !self.window.holds(error.header.ktime_ns) {
            return;
        }
        let id = self.known_or_stub(&error.task, &error.comm, 0);
        let sender = self.sender(id);
        if let Some(table) = self.senders.get_mut(&sender) {
            table.refused(error);
        }
        if let Sender::Children(key, class) = &sender
            && let Some(child) = self.children.get(&id)
            && let Some(own) =
                self.daemons.get_mut(key).and_then(|daemon| daemon.series.at(child.timing.begun_ns))
        {
            own.class(class).netlink.refused(error);
        }
    }

    fn total_netlink(&mut self, id: ProcId, send: &NetlinkSend) {
        let name = self.processes.get(id).map(|p| p.argv_class.clone()).unwrap_or_default();
        let mut once = super::netlink::NetlinkTable::default();
        once.send(send);
        let State { genl, totals, .. } = self;
        for (key, sums) in once.rows() {
            let family = |id: u16| genl.get(&id).map(String::as_str);
            let message =
                decode::netlink_names::message_name(key.protocol, key.message_type, key.command, &family);
            totals.netlink.row(&name, &message.as_ref().into()).add(sums);
        }
    }
}
