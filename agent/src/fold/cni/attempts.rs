//! Attempts to give a sandbox its network. In: starts and ends of plugins the runtime runs itself. Out: per
//! sandbox the series of attempts, and when the network was ready.
//!
//! A runtime runs the plugins of a chain one after the other, and several networks (`lo` and `eth0`) at once, so an
//! attempt is not told by the order of calls alone. A call begins a new attempt when the sandbox was given up in
//! between (DEL), when the same interface has failed, when the same plugin has had its turn, or when nothing went on
//! for [`GAP_NS`]. An attempt has succeeded when all its calls have, and none is running.

use super::Call;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Longest pause between two plugins of one chain. It is a few milliseconds; a loaded node's runtime takes some
/// hundred.
pub const GAP_NS: u64 = 2_000_000_000;
/// Attempts kept of one series; the first and the last are what matters, so the latest make room.
pub const ATTEMPTS_MAX: usize = 64;

/// One run through the chains of a sandbox.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// Start of its first call.
    pub started_ns: u64,
    /// End of its last; its last call's start while none has ended.
    pub ended_ns: u64,
    /// Plugin and interface of its calls, in the order they began.
    pub calls: Vec<(Arc<str>, Arc<str>)>,
    /// Calls in flight.
    pub running: u32,
    /// The first call that failed: plugin, interface and wait status.
    pub failed: Option<(Arc<str>, Arc<str>, u32)>,
    /// The end of a call was lost, so nobody knows how it went.
    pub uncertain: bool,
}

impl Attempt {
    /// All calls so far have succeeded.
    pub fn succeeded(&self) -> bool {
        self.running == 0 && self.failed.is_none() && !self.uncertain
    }

    /// Whether a call may be part of it.
    fn takes(&self, call: &Call) -> bool {
        let of_same = |(_, ifname): &(Arc<str>, Arc<str>)| *ifname == call.work.ifname;
        let had_turn = self.calls.iter().any(|own| of_same(own) && own.0 == call.plugin);
        let has_failed = self.failed.as_ref().is_some_and(|(_, ifname, _)| *ifname == call.work.ifname);
        let paused = self.running == 0 && call.started_ns.saturating_sub(self.ended_ns) >= GAP_NS;
        !(had_turn || has_failed || paused)
    }
}

/// The series of one sandbox.
#[derive(Clone, Debug)]
pub struct Sandbox {
    /// Its pod and the rest, as its latest call says.
    pub work: Arc<super::CniWork>,
    /// Attempts, oldest first.
    pub attempts: Vec<Attempt>,
    /// Attempts beyond [`ATTEMPTS_MAX`].
    pub attempts_dropped: u64,
    /// DEL calls of plugins the runtime runs itself.
    pub del_calls: u64,
    /// Its first call began before the answer's first record, so earlier attempts may be missing.
    pub cut_at_start: bool,
    /// When it was given up, if no attempt began since.
    pub deleted_ns: Option<u64>,
    /// Counted in the totals.
    counted: bool,
}

impl Sandbox {
    /// From the first attempt's start to the first success's end.
    pub fn network_ready_ns(&self) -> Option<u64> {
        let first = self.attempts.first()?;
        let ready = self.attempts.iter().find(|attempt| attempt.succeeded())?;
        Some(ready.ended_ns.saturating_sub(first.started_ns))
    }
}

/// All sandboxes with calls, by container id.
#[derive(Clone, Debug)]
pub struct Sandboxes {
    known: BTreeMap<Arc<str>, Sandbox>,
    order: VecDeque<Arc<str>>,
    max: usize,
    /// Sandboxes forgotten to make room.
    pub evicted: u64,
}

impl Sandboxes {
    /// None yet; keeps `max`.
    pub fn new(max: usize) -> Self {
        Sandboxes { known: BTreeMap::new(), order: VecDeque::new(), max, evicted: 0 }
    }

    /// All, by container id.
    pub fn iter(&self) -> impl Iterator<Item = &Sandbox> {
        self.known.values()
    }

    /// The sandbox with this container id.
    pub fn get(&self, container_id: &str) -> Option<&Sandbox> {
        self.known.get(container_id)
    }

    pub(super) fn started(&mut self, call: &Call) {
        let sandbox = match &*call.work.command {
            "ADD" => self.of(call),
            "DEL" if self.known.contains_key(&call.work.container_id) => {
                let sandbox = self.of(call);
                sandbox.del_calls += 1;
                sandbox.deleted_ns = Some(call.started_ns);
                return;
            }
            _ => return,
        };
        let Some(sandbox) = sandbox.attach(call) else { return };
        sandbox.work = Arc::clone(&call.work);
    }

    pub(super) fn ended(&mut self, call: &Call, now_ns: u64, status: u32) {
        let Some(attempt) = self.attempt(call) else { return };
        attempt.running = attempt.running.saturating_sub(1);
        attempt.ended_ns = attempt.ended_ns.max(now_ns);
        if status != 0 && attempt.failed.is_none() {
            attempt.failed = Some((call.plugin.clone(), call.work.ifname.clone(), status));
        }
    }

    pub(super) fn lost(&mut self, call: &Call) {
        if let Some(attempt) = self.attempt(call) {
            attempt.running = attempt.running.saturating_sub(1);
            attempt.uncertain = true;
        }
    }

    /// Tells of each sandbox, once, whose network has been ready for [`GAP_NS`]: by then its chain is through.
    pub(crate) fn settle(&mut self, now_ns: u64, mut ready: impl FnMut(u64)) {
        for sandbox in self.known.values_mut().filter(|sandbox| !sandbox.counted) {
            let is_through = |attempt: &Attempt| now_ns.saturating_sub(attempt.ended_ns) >= GAP_NS;
            if sandbox.attempts.iter().find(|attempt| attempt.succeeded()).is_some_and(is_through)
                && let Some(ready_ns) = sandbox.network_ready_ns()
            {
                sandbox.counted = true;
                ready(ready_ns);
            }
        }
    }

    /// The attempt a call is part of.
    fn attempt(&mut self, call: &Call) -> Option<&mut Attempt> {
        if &*call.work.command != "ADD" {
            return None;
        }
        let sandbox = self.known.get_mut(&call.work.container_id)?;
        let is_its = |attempt: &&mut Attempt| {
            attempt.calls.iter().any(|(plugin, ifname)| *plugin == call.plugin && *ifname == call.work.ifname)
        };
        sandbox.attempts.iter_mut().rev().find(is_its)
    }

    fn of(&mut self, call: &Call) -> &mut Sandbox {
        let id = &call.work.container_id;
        if !self.known.contains_key(id) {
            self.order.push_back(id.clone());
            while self.order.len() > self.max {
                if let Some(old) = self.order.pop_front() {
                    self.known.remove(&old);
                    self.evicted += 1;
                }
            }
        }
        self.known.entry(id.clone()).or_insert_with(|| Sandbox {
            work: Arc::clone(&call.work),
            attempts: Vec::new(),
            attempts_dropped: 0,
            del_calls: 0,
            cut_at_start: call.cut_at_start,
            deleted_ns: None,
            counted: false,
        })
    }
}

impl Sandbox {
    /// Puts a call that begins into its attempt, a new one if need be. `None` when there is no room.
    fn attach(&mut self, call: &Call) -> Option<&mut Sandbox> {
        let deleted = self.deleted_ns.take().is_some();
        if deleted && self.attempts.last().is_some_and(Attempt::succeeded) {
            // It had its network and was given up: whoever adds it again begins anew.
            self.attempts.clear();
            self.attempts_dropped = 0;
            self.counted = false;
        }
        let named = (call.plugin.clone(), call.work.ifname.clone());
        if let Some(attempt) = self.attempts.last_mut().filter(|attempt| !deleted && attempt.takes(call)) {
            attempt.calls.push(named);
            attempt.running += 1;
            return Some(self);
        }
        if self.attempts.len() >= ATTEMPTS_MAX {
            self.attempts_dropped += 1;
            return None;
        }
        self.attempts.push(Attempt {
            started_ns: call.started_ns,
            ended_ns: call.started_ns,
            calls: vec![named],
            running: 1,
            failed: None,
            uncertain: false,
        });
        Some(self)
    }
}
