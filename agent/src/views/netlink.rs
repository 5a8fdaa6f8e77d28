//! `/api/v1/netlink`: who asks the kernel's networking for what, and what the requests take. Spawns that send
//! one message each and a process that sends them all stand in one list.

use super::describe::{IdentityBlock, ProcessRef};
use super::filter::Filter;
use super::netlink_rows::{self, NetlinkBlock, NetlinkRow, NetlinkSums};
use super::{JSON, Query, View, body};
use crate::fold::daemons::DaemonKey;
use crate::fold::netlink::{MessageKey, MessageSums, NetlinkTable};
use crate::fold::{Sender, Snapshot, State, storm};
use serde::Serialize;
use std::cmp::Reverse;
use std::sync::Arc;

/// The view.
pub static VIEW: View = View {
    name: "netlink",
    path: "/api/v1/netlink",
    about: "Netlink messages by sender, protocol family and message type, with the time inside the sends; \
            for children of a daemon, the spawns it took beside them.",
    params: &[],
    content_type: JSON,
    render,
};

/// The answer's own fields.
#[derive(Serialize)]
struct Netlink {
    total: NetlinkSums,
    /// By message, over all senders that pass the filters; the most time inside first.
    messages: Vec<NetlinkRow>,
    senders_matched: usize,
    /// The most time inside first.
    senders: Vec<SenderBlock>,
}

/// One sender.
#[derive(Serialize)]
struct SenderBlock {
    /// `process`, or `children`: the short-lived children of a daemon that are one argv class.
    sender: &'static str,
    /// The process, or the daemon whose children they are.
    name: Arc<str>,
    /// The process; the daemon's process that last spawned.
    process: ProcessRef,
    /// The children's class, or the process's own.
    argv_class: Arc<str>,
    identity: IdentityBlock,
    /// Spawns of this class by this daemon in the window's loops; `null` for a process.
    spawns: Option<u64>,
    /// Sum of those spawns' wall times: what the messages took, programs included.
    spawn_wall_ns: Option<u64>,
    #[serde(flatten)]
    sent: NetlinkBlock,
}

fn render(snapshot: &Snapshot, query: &Query) -> Vec<u8> {
    let state = &snapshot.state;
    let filter = Filter::new(state, query);
    let mut all = NetlinkTable::default();
    let mut senders = Vec::new();
    for (sender, table) in state.senders.iter().filter(|(sender, _)| filter.sender(sender)) {
        all.merge(table);
        senders.extend(sender_block(snapshot, sender, table));
    }
    // Stable: senders of equal weight stay in the order of their keys.
    senders.sort_by_key(|sender| Reverse((sender.sent.total.inside_ns, sender.sent.total.messages)));
    let senders_matched = senders.len();
    senders.truncate(query.rows());
    let answer = Netlink {
        total: NetlinkSums::from(&all.total()),
        messages: messages(state, &all),
        senders_matched,
        senders,
    };
    body::json(snapshot, answer)
}

fn messages(state: &State, all: &NetlinkTable) -> Vec<NetlinkRow> {
    let mut rows: Vec<(&MessageKey, &MessageSums)> = all.rows().collect();
    rows.sort_by_key(|(key, sums)| (Reverse((sums.inside_ns, sums.messages)), **key));
    rows.into_iter().map(|(key, sums)| netlink_rows::row(state, key, sums)).collect()
}

fn sender_block(snapshot: &Snapshot, sender: &Sender, table: &NetlinkTable) -> Option<SenderBlock> {
    let state = &snapshot.state;
    let sent = NetlinkBlock::of(state, table)?;
    Some(match sender {
        Sender::Process(id) => {
            let process = state.processes.get(*id);
            let name = process.map(|process| process.argv_class.clone()).unwrap_or_default();
            SenderBlock {
                sender: "process",
                name: name.clone(),
                process: ProcessRef::of(state, *id),
                argv_class: name,
                identity: IdentityBlock::of(state, process.map_or(0, |process| process.cgroup_id)),
                spawns: None,
                spawn_wall_ns: None,
                sent,
            }
        }
        Sender::Children(key, class) => {
            let (spawns, wall_ns) = spawns(snapshot, key, class);
            let latest = state.daemons.get(key).map_or(key.root, |daemon| daemon.latest);
            SenderBlock {
                sender: "children",
                name: state.daemon_label(key).unwrap_or_default(),
                process: ProcessRef::of(state, latest),
                argv_class: class.clone(),
                identity: IdentityBlock::of(state, key.cgroup_id),
                spawns: Some(spawns),
                spawn_wall_ns: Some(wall_ns),
                sent,
            }
        }
    })
}

/// A daemon's spawns of one class in the window's loops, and their wall times together.
fn spawns(snapshot: &Snapshot, key: &DaemonKey, class: &Arc<str>) -> (u64, u64) {
    let Some(daemon) = snapshot.state.daemons.get(key) else { return (0, 0) };
    let stats = storm::loops(snapshot, daemon).filter_map(|own| own.classes.get(class));
    stats.fold((0, 0), |(spawns, wall_ns), stats| {
        (stats.spawns().saturating_add(spawns), stats.wall_ns.saturating_add(wall_ns))
    })
}
