//! Netlink sends and refusals, taken into the state: by sender, by child, by the daemon's loop.

use super::grow::Grow;
use super::life::class_of;
use super::loops::{CHILD_HOLD_NS, LOOP_GAP_NS};
use super::netlink::NetlinkTable;
use super::{SENDERS_MAX, Sender, State, daemons};
use crate::decode::netlink_names::message_name;
use crate::enrich::ProcId;
use slowpod_ebpf::abi::netlink::{FLAG_UNREAD, FLAG_WALK_CUT, NetlinkError, NetlinkSend};

impl State {
    pub(super) fn netlink_send(&mut self, send: &NetlinkSend) {
        let now_ns = send.header.ktime_ns;
        let id = self.known_or_stub(now_ns, &send.task, &send.comm, send.cgroup_id);
        if self.window.holds(now_ns) && send.flags & (FLAG_WALK_CUT | FLAG_UNREAD) != 0 {
            self.loss.netlink_cut.grow(u64::from(send.sends));
        }
        if self.window.holds(now_ns) {
            self.sent(id, send);
        }
        self.netlink(now_ns, id, |table| table.send(send));
    }

    pub(super) fn netlink_error(&mut self, error: &NetlinkError) {
        let now_ns = error.header.ktime_ns;
        let id = self.known_or_stub(now_ns, &error.task, &error.comm, 0);
        self.netlink(now_ns, id, |table| table.refused(error));
    }

    /// Writes one record into every table it belongs to.
    fn netlink(&mut self, now_ns: u64, id: ProcId, write: impl Fn(&mut NetlinkTable)) {
        let in_window = self.window.holds(now_ns);
        if let Some(child) = self.children.get_mut(&id) {
            write(&mut child.netlink);
        }
        // A daemon's own traffic belongs to the loop it is in, whether or not it is a child itself.
        if let Some(key) = daemons::key_of(&self.processes, id)
            && let Some(daemon) = self.daemons.get_mut(&key)
        {
            if in_window {
                write(&mut daemon.netlink);
            }
            if let Some(own) = daemon.series.loops.back_mut()
                && now_ns.saturating_sub(own.end_ns) <= LOOP_GAP_NS
            {
                write(&mut own.netlink);
            }
        }
        if !in_window {
            return;
        }
        self.total_netlink(id, &write);
        let sender = self.sender(id, now_ns);
        if self.senders.len() >= SENDERS_MAX && !self.senders.contains_key(&sender) {
            self.loss.evict("netlink_senders", 1);
            return;
        }
        write(self.senders.entry(sender).or_default());
    }

    /// The sender a process's netlink traffic is summed under. A child that has children of its own, or has
    /// lived long, is a daemon in its own right.
    pub(super) fn sender(&self, id: ProcId, now_ns: u64) -> Sender {
        let short_lived = |id| {
            let child = self.children.get(&id)?;
            let lived_ns = now_ns.saturating_sub(child.timing.spawned_ns);
            let process = self.processes.get(id).filter(|_| lived_ns < CHILD_HOLD_NS)?;
            let own = daemons::key_of(&self.processes, id)?;
            let member = self.daemons.get(&own).is_some_and(|daemon| daemon.members.contains(&id));
            let spawns = member || child.timing.worker;
            let class = class_of(process, child.timing.worker);
            child.daemon.clone().filter(|_| !spawns).map(|daemon| Sender::Children(daemon, class))
        };
        short_lived(id).unwrap_or(Sender::Process(id))
    }

    fn total_netlink(&mut self, id: ProcId, write: impl Fn(&mut NetlinkTable)) {
        let name = self.processes.get(id).map(|p| p.argv_class.clone()).unwrap_or_default();
        let mut once = NetlinkTable::default();
        write(&mut once);
        let State { genl, totals, .. } = self;
        for (key, sums) in once.rows() {
            let family = |id: u16| genl.get(&id).map(String::as_str);
            let message = message_name(key.protocol, key.message_type, key.command, &family);
            totals.netlink.row(&name, &message.as_ref().into()).add(sums);
        }
    }
}
