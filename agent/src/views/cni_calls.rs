//! Calls as blocks of the CNI views' answers.

use super::describe::{ExitBlock, IdentityBlock, Instant, ProcessRef, SplitBlock};
use super::waits::{self, NodeIoBlock, WaitBlock};
use crate::fold::State;
use crate::fold::cni::{Call, End, words::Words};
use crate::fold::grow::split_ns;
use serde::Serialize;
use std::cmp::Reverse;
use std::sync::Arc;

/// One call.
#[derive(Serialize)]
pub(super) struct CallBlock {
    command: Arc<str>,
    plugin: Arc<str>,
    path: String,
    /// `ended`, `running` or `lost`: gone, and nobody saw how.
    state: &'static str,
    container_id: Arc<str>,
    ifname: Arc<str>,
    netns: Arc<str>,
    namespace: Option<Arc<str>>,
    pod: Option<Arc<str>>,
    identity: IdentityBlock,
    traceparent: Option<Arc<str>>,
    pid: u32,
    start_ns: u64,
    /// The runtime, or the plugin that delegates.
    spawner: Option<ProcessRef>,
    /// Run by another plugin, with this process id.
    delegated_by: Option<u32>,
    started: Instant,
    ended: Option<Instant>,
    wall_ns: u64,
    exit: Option<ExitBlock>,
    /// The main thread's time; adds up to `wall_ns` together with `ending_ns`. `null` while it runs, and of a call that was
    /// there before the agent: nobody followed it from its beginning.
    split: Option<SplitBlock>,
    /// Why there is none, in plain words.
    no_split: Option<&'static str>,
    /// From the main thread's end to the last thread's: a program of several threads ends when all have.
    ending_ns: u64,
    threads: Option<ThreadsBlock>,
    /// Time is missing in the splits: of a thread that could not be tracked, or all of it.
    split_partial: bool,
    /// What its own threads waited for: the evidence behind `blocked_by`, the longest first. Over several threads the
    /// times may exceed the call's.
    waits: Vec<WaitBlock>,
    tree: TreeBlock,
    /// The node's disks meanwhile, when it or its tree waited for one.
    node_io: Option<NodeIoBlock>,
    /// What it wrote.
    output: OutputBlock,
    /// Descendants alive when it ended.
    outlived_by: u32,
    /// It began before the answer's first record: its tree may miss what happened until then.
    cut_at_start: bool,
}

/// All threads of a plugin together.
#[derive(Serialize)]
struct ThreadsBlock {
    count: u32,
    /// Sum of their lifetimes, to which the split adds up.
    thread_ns: u64,
    split: SplitBlock,
}

/// All descendants of a plugin together.
#[derive(Serialize)]
struct TreeBlock {
    spawns: u64,
    /// Of these, only counted, under flood.
    counted: u64,
    /// Time in which at least one was alive.
    busy_ns: u64,
    /// Sum of their wall times, to which the split adds up.
    wall_ns: u64,
    split: SplitBlock,
    /// What they waited for.
    waits: Vec<WaitBlock>,
    /// The most time first.
    classes: Vec<TreeClassBlock>,
}

/// A plugin's own words.
#[derive(Serialize)]
struct OutputBlock {
    /// `result`, `error`, `unknown`: it wrote something else, or more than is looked at; `none`: it wrote nothing.
    kind: &'static str,
    /// Addresses of its result.
    ips: Vec<Arc<str>>,
    error: Option<ErrorBlock>,
    stdout_bytes: u64,
    stderr_bytes: u64,
    cut: bool,
}

/// A CNI error.
#[derive(Serialize)]
struct ErrorBlock {
    code: u64,
    msg: Arc<str>,
    details: Arc<str>,
    /// Someone else changed the object first.
    conflict: bool,
}

/// One sort of descendants.
#[derive(Serialize)]
struct TreeClassBlock {
    /// Base name of a delegated plugin, or argv class of a helper.
    name: Arc<str>,
    delegated: bool,
    spawns: u64,
    failed: u64,
    wall_ns: u64,
    split: SplitBlock,
}

/// A call's block.
pub(super) fn call_block(state: &State, call: &Call, until_ns: u64) -> CallBlock {
    let work = &call.work;
    let (end, whole) = (call.end.as_ref(), call.whole());
    CallBlock {
        command: work.command.clone(),
        plugin: call.plugin.clone(),
        path: call.path.clone(),
        state: match (end.is_some(), call.end_lost) {
            (true, _) => "ended",
            (false, true) => "lost",
            (false, false) => "running",
        },
        container_id: work.container_id.clone(),
        ifname: work.ifname.clone(),
        netns: work.netns.clone(),
        namespace: work.pod.namespace.clone(),
        pod: work.pod.name.clone(),
        identity: IdentityBlock::of_cni(work),
        traceparent: (!work.traceparent.is_empty()).then(|| work.traceparent.clone()),
        pid: call.id.tgid,
        start_ns: call.id.start_ns,
        spawner: call.spawner.map(|id| ProcessRef::of(state, id)),
        delegated_by: work.parent.map(|id| id.tgid),
        started: Instant::of(state, call.started_ns),
        ended: end.map(|end| Instant::of(state, end.ended_ns)),
        wall_ns: call.wall_ns(until_ns),
        exit: end.map(|end| ExitBlock::of(end.status)),
        split: whole.map(|end| (&end.main).into()),
        no_split: no_split(call),
        ending_ns: whole.map_or(0, |end| call.wall_ns(0).saturating_sub(split_ns(&end.main))),
        threads: whole.map(threads_block),
        split_partial: end.is_some_and(|end| end.partial || !end.followed),
        waits: waits::blocks(state, &call.waits),
        node_io: waits::node_io(
            state,
            call.started_ns,
            call.started_ns + call.wall_ns(until_ns),
            [&call.waits, &call.tree.waits],
        ),
        output: output_block(&call.words),
        tree: tree_block(state, call),
        outlived_by: end.map_or(0, |end| end.outlived_by),
        cut_at_start: call.cut_at_start,
    }
}

/// Why a call has no split.
fn no_split(call: &Call) -> Option<&'static str> {
    match (&call.end, call.end_lost) {
        (Some(end), _) if end.followed => None,
        (Some(_), _) => Some("not followed: it was there before slowpod attached"),
        (None, true) => Some("its end was not seen"),
        (None, false) => Some("it ran on when this answer's window ended"),
    }
}

fn threads_block(end: &End) -> ThreadsBlock {
    ThreadsBlock { count: end.thread_count, thread_ns: end.thread_ns, split: (&end.threads).into() }
}

fn tree_block(state: &State, call: &Call) -> TreeBlock {
    let tree = &call.tree;
    let mut classes: Vec<TreeClassBlock> = tree
        .classes
        .iter()
        .map(|((delegated, name), class)| TreeClassBlock {
            name: name.clone(),
            delegated: *delegated,
            spawns: class.spawns,
            failed: class.failed,
            wall_ns: class.wall_ns,
            split: (&class.split).into(),
        })
        .collect();
    classes.sort_by_key(|class| Reverse(class.wall_ns));
    TreeBlock {
        spawns: tree.spawns,
        counted: tree.counted,
        busy_ns: tree.busy.total_ns(),
        wall_ns: tree.wall_ns,
        split: (&tree.split).into(),
        waits: waits::blocks(state, &tree.waits),
        classes,
    }
}

fn output_block(words: &Words) -> OutputBlock {
    let error = words.error.as_ref();
    OutputBlock {
        kind: match (error.is_some(), words.understood, words.written) {
            (true, ..) => "error",
            (false, true, _) => "result",
            (false, false, [0, 0]) => "none",
            (false, false, _) => "unknown",
        },
        ips: words.ips.clone(),
        error: error.map(|error| ErrorBlock {
            code: error.code,
            msg: error.msg.clone(),
            details: error.details.clone(),
            conflict: error.is_conflict(),
        }),
        stdout_bytes: words.written[0],
        stderr_bytes: words.written[1],
        cut: words.cut,
    }
}
