//! Threads that wait, and of which the kernel programs took no stack. In: slots, processes of the start-up scan, `/proc`.
//! Out: slots of waits that are to be told while they go on, with their causes.
//!
//! The programs look at a thread that is expected to wait long. One that does so for the first time would be told when it
//! comes back, and one that waited before there were programs never: but who asks what hangs asks about those.
//!
//! `/proc` tells of a thread's call once its process is not in the middle of an exec, which may hang as well. So a thread of
//! our own looks, and nobody waits for it.

use super::facts::blocked::{Found, look};
use super::facts::proc::{Directory, Stat, TEXT_BYTES_MAX};
use super::samples::GOES_ON_NS;
use crate::decode::fact::{Fact, tick_ns};
use slowpod_ebpf::abi::threads::{BLOCKED, CAUSE_TAKEN, Owner, SLOTS, STACKS_TAKEN, Slot};
use slowpod_ebpf::abi::{COMM_BYTES, Task, split::Cause};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

/// A wait without stacks is told from this age on: of one that ends the kernel's stack is taken as the thread comes back, and only
/// the part that was not told before has it.
const WITHOUT_STACKS_NS: u64 = 5_000_000_000;
/// Threads to be looked at, some 20 us each; the others have their turn the next time, and lose nothing by it: what is told
/// later is told whole.
const LOOKS_MAX: usize = 512;
/// After this long without an answer a wait is told without its cause.
const PATIENCE_NS: u64 = 8_000_000_000;
/// Threads that waited before there were programs, at most as many as there are slots. 2 MiB.
const EARLY_MAX: usize = SLOTS as usize;

/// Thread id and the beginning of its wait.
type Key = (u32, u64);

/// A thread to be looked at.
struct Ask {
    key: Key,
    tgid: u32,
}

/// What is known of a wait.
#[derive(Clone, Copy)]
struct Asked {
    at_ns: u64,
    found: Option<Found>,
}

/// A process as the start-up scan found it.
struct Scanned {
    task: Task,
    cgroup_id: u64,
}

/// A thread that has not run since the programs were attached.
struct Early {
    owner: Owner,
    start_ticks: u64,
    /// How often it had got a CPU; `None` where the kernel does not count that.
    turns: Option<u64>,
}

/// What is known of threads that wait.
pub struct Away {
    proc: PathBuf,
    tick_ns: u64,
    own: u32,
    attached_ns: u64,
    scanned: Vec<Scanned>,
    early: Vec<Early>,
    asked: HashMap<Key, Asked>,
    asks: SyncSender<Ask>,
    answers: Receiver<(Key, Found)>,
}

impl Away {
    /// Knows nothing yet. `attached_ns`: since when slots are kept.
    pub fn new(proc: PathBuf, clk_tck: u32, attached_ns: u64) -> Self {
        let (asks, asked) = sync_channel(LOOKS_MAX);
        let (tell, answers) = channel();
        let looks_at = proc.clone();
        let thread = std::thread::Builder::new().name("slowpod-away".into());
        if let Err(error) = thread.spawn(move || run(&looks_at, &asked, &tell)) {
            tracing::warn!(%error, "what hangs will have no cause");
        }
        Away {
            proc,
            tick_ns: tick_ns(clk_tck),
            own: std::process::id(),
            attached_ns,
            scanned: Vec::new(),
            early: Vec::new(),
            asked: HashMap::new(),
            asks,
            answers,
        }
    }

    /// Takes in what the start-up scan found, if it is a process.
    pub fn scanned(&mut self, fact: &Fact) {
        if let Fact::Process(process) = fact
            && process.tgid != self.own
            && process.exited.is_none()
        {
            let task = Task { tgid: process.tgid, tid: process.tgid, start_ns: process.start_ns };
            self.scanned.push(Scanned { task, cgroup_id: process.cgroup_id });
        }
    }

    /// The waits to tell at `now_ns`, of all `slots`; `slot` finds the one that a thread's id falls on.
    pub fn waits(
        &mut self,
        now_ns: u64,
        slots: impl Iterator<Item = (Slot, Owner)>,
        slot: impl Fn(u32) -> Slot,
    ) -> Vec<(Slot, Owner)> {
        let mut before = std::mem::take(&mut self.asked);
        while let Ok((key, found)) = self.answers.try_recv() {
            if let Some(asked) = before.get_mut(&key) {
                asked.found = Some(found);
            }
        }
        let mut waits = Vec::new();
        for (mut slot, owner) in slots {
            let least_ns = if slot.flags & STACKS_TAKEN == 0 { WITHOUT_STACKS_NS } else { GOES_ON_NS };
            if slot.state != BLOCKED || now_ns.saturating_sub(slot.since_ns) < least_ns {
                continue;
            }
            if slot.flags & (STACKS_TAKEN | CAUSE_TAKEN) == 0 {
                if owner.task.tgid == self.own {
                    continue;
                }
                let Some(cause) = self.cause((slot.tid, slot.since_ns), owner.task.tgid, &before, now_ns)
                else {
                    continue;
                };
                slot.cause = cause as u8;
                slot.flags |= CAUSE_TAKEN;
            }
            waits.push((slot, owner));
        }
        if now_ns.saturating_sub(self.attached_ns) >= GOES_ON_NS {
            self.add_early(now_ns, &before, slot, &mut waits);
        }
        waits
    }

    /// Adds the threads that have waited since before the programs were attached.
    fn add_early(
        &mut self,
        now_ns: u64,
        before: &HashMap<Key, Asked>,
        slot: impl Fn(u32) -> Slot,
        waits: &mut Vec<(Slot, Owner)>,
    ) {
        self.list(&slot);
        let mut early = std::mem::take(&mut self.early);
        early.retain(|thread| {
            let Task { tgid, tid, .. } = thread.owner.task;
            let taken_by = slot(tid).tid;
            // Once it leaves a CPU the programs know it. Whose slot another thread has taken is only known to `/proc`.
            if taken_by == tid || (taken_by != 0 && thread.has_run(&self.proc)) {
                return false;
            }
            let (state, since_ns) = (BLOCKED, self.attached_ns);
            if let Some(cause) = self.cause((tid, since_ns), tgid, before, now_ns) {
                let (cause, flags) = (cause as u8, CAUSE_TAKEN);
                waits.push((Slot { tid, state, since_ns, cause, flags, ..Slot::default() }, thread.owner));
            }
            true
        });
        self.early = early;
    }

    /// Why a thread waits, which is asked once; `None` while that is not known, and when it does not.
    fn cause(&mut self, key: Key, tgid: u32, before: &HashMap<Key, Asked>, now_ns: u64) -> Option<Cause> {
        let asked = match before.get(&key) {
            Some(asked) => *asked,
            None => {
                self.asks.try_send(Ask { key, tgid }).ok()?;
                Asked { at_ns: now_ns, found: None }
            }
        };
        self.asked.insert(key, asked);
        match asked.found {
            Some(Found::Waits(cause)) => Some(cause),
            Some(Found::NotWaiting) => None,
            None => (now_ns.saturating_sub(asked.at_ns) >= PATIENCE_NS).then_some(Cause::Other),
        }
    }

    /// Lists the threads that have not run since the programs were attached. Done once, when that is a while ago: by then
    /// whoever runs at all has left a CPU.
    fn list(&mut self, slot: &impl Fn(u32) -> Slot) {
        for process in std::mem::take(&mut self.scanned) {
            let Task { tgid, start_ns, .. } = process.task;
            let Ok(tasks) = std::fs::read_dir(self.proc.join(format!("{tgid}/task"))) else { continue };
            let tids = tasks.flatten().filter_map(|task| task.file_name().to_str()?.parse().ok());
            for tid in tids.filter(|tid| slot(*tid).tid != *tid) {
                if self.early.len() >= EARLY_MAX {
                    tracing::warn!("too many threads wait since before the start to tell of all");
                    return;
                }
                self.early.extend(self.early(Task { tgid, tid, start_ns }, process.cgroup_id));
            }
        }
    }

    /// A thread that waits; `None` when it does not, or belongs to another process of that pid.
    fn early(&self, task: Task, cgroup_id: u64) -> Option<Early> {
        let (text, turns) = read(&self.proc, &task)?;
        let stat = Stat::parse(&text).filter(Stat::waits)?;
        // No thread is older than its process.
        if stat.start_ticks.saturating_mul(self.tick_ns) < task.start_ns {
            return None;
        }
        let mut comm = [0; COMM_BYTES];
        comm.iter_mut().zip(stat.comm).for_each(|(to, from)| *to = *from);
        Some(Early {
            owner: Owner { task, cgroup_id, comm, ..Owner::default() },
            start_ticks: stat.start_ticks,
            turns,
        })
    }
}

impl Early {
    /// Whether it is gone, or has had a CPU since it was listed, as far as the kernel counts that.
    fn has_run(&self, proc: &Path) -> bool {
        let Some((text, turns)) = read(proc, &self.owner.task) else { return true };
        let same = Stat::parse(&text).is_some_and(|stat| stat.start_ticks == self.start_ticks);
        !same || turns.is_none() || turns != self.turns
    }
}

/// A thread's `stat`, and how often it got a CPU: the third number of `schedstat`
/// (Documentation/scheduler/sched-stats.rst). Neither keeps its reader waiting.
fn read(proc: &Path, task: &Task) -> Option<(Vec<u8>, Option<u64>)> {
    let directory = Directory::open(&proc.join(format!("{}/task/{}", task.tgid, task.tid))).ok()?;
    let stat = directory.read(c"stat", TEXT_BYTES_MAX).ok()?;
    let turns = directory.read(c"schedstat", TEXT_BYTES_MAX).unwrap_or_default();
    let turns = std::str::from_utf8(&turns).unwrap_or_default().split_ascii_whitespace().nth(2);
    Some((stat, turns.and_then(|turns| turns.parse().ok())))
}

/// The thread that looks: until nobody asks any more.
fn run(proc: &Path, asks: &Receiver<Ask>, tell: &Sender<(Key, Found)>) {
    for Ask { key, tgid } in asks {
        if tell.send((key, look(proc, tgid, key.0))).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::facts::proc::Reader;
    use crate::decode::fact::Process;
    use std::process::{Child, Command, Stdio};
    use std::time::{Duration, Instant};

    const S: u64 = 1_000_000_000;

    /// A process that waits for its standard input.
    fn cat() -> Child {
        let child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let begun = Instant::now();
        let found = || look(Path::new("/proc"), child.id(), child.id());
        while found() != Found::Waits(Cause::Pipe) && begun.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(10));
        }
        child
    }

    fn end(mut child: Child) {
        drop(child.stdin.take());
        child.wait().unwrap();
    }

    fn away() -> Away {
        Away::new("/proc".into(), 100, S)
    }

    /// A thread that blocked at one second, and left a CPU for that as the kernel programs saw it.
    fn blocked(tid: u32, flags: u8) -> (Slot, Owner) {
        let task = Task { tgid: tid, tid, start_ns: 1 };
        let slot = Slot { tid, since_ns: S, state: BLOCKED, flags, cause: 2, ..Slot::default() };
        (slot, Owner { task, ..Owner::default() })
    }

    /// A process as the start-up scan finds it.
    fn scanned(pid: u32) -> Fact {
        let redact = |_: &mut Process| ();
        let proc = Path::new("/proc");
        let mut found = None;
        let reader = Reader { proc, clk_tck: 100, hierarchy: None, redact: &redact };
        reader
            .all(|_| None, |process| found = (process.tgid == pid).then_some(process).or(found.take()))
            .unwrap();
        Fact::Process(Box::new(found.unwrap()))
    }

    fn told(waits: Vec<(Slot, Owner)>) -> Vec<(u32, u64, u8)> {
        waits.into_iter().map(|(slot, _)| (slot.tid, slot.since_ns, slot.cause)).collect()
    }

    /// What is told once the other thread has looked, and it has been waited for long enough to know that.
    fn settled(
        away: &mut Away,
        now_ns: u64,
        slots: &[(Slot, Owner)],
        slot: impl Fn(u32) -> Slot,
    ) -> Vec<(u32, u64, u8)> {
        let begun = Instant::now();
        loop {
            let waits = told(away.waits(now_ns, slots.iter().copied(), &slot));
            let is_known = away.asked.values().all(|asked| asked.found.is_some());
            if is_known || begun.elapsed() > Duration::from_secs(10) {
                return waits;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn a_wait_without_stacks_is_told_with_what_proc_says() {
        let child = cat();
        let pid = child.id();
        let mut away = away();
        let seen = blocked(9_999_999, STACKS_TAKEN | CAUSE_TAKEN);
        let slots = [blocked(pid, 0), seen, blocked(9_999_998, 0), blocked(std::process::id(), 0)];
        let mut at = |now_ns| settled(&mut away, now_ns, &slots, |_| Slot::default());
        assert_eq!(at(2 * S - 1), [], "the wait has hardly begun");
        let expected = [(pid, S, Cause::Pipe as u8), (9_999_999, S, 2)];
        assert_eq!(at(2 * S), expected[1..], "it may yet have a stack, when it ends soon");
        assert_eq!(at(6 * S), expected, "who is gone does not wait, and who looks is not told of");
        end(child);
        assert_eq!(at(9 * S), expected, "a wait is looked at once: its slot tells when it is over");
    }

    #[test]
    fn a_look_that_takes_its_time_costs_the_cause_and_not_the_wait() {
        let mut away = away();
        // Whoever looks is stuck: nobody answers.
        let (asks, _stuck) = sync_channel(1);
        away.asks = asks;
        let slots = [blocked(7, 0), blocked(8, 0)];
        let mut at = |now_ns| told(away.waits(now_ns, slots.into_iter(), |_| Slot::default()));
        assert_eq!((at(6 * S), at(6 * S + PATIENCE_NS - 1)), (vec![], vec![]));
        assert_eq!(
            at(6 * S + PATIENCE_NS),
            [(7, S, Cause::Other as u8)],
            "the other could not even be asked"
        );
    }

    #[test]
    fn who_waited_before_the_programs_is_told_until_it_runs() {
        let child = cat();
        let pid = child.id();
        let mut away = away();
        away.scanned(&scanned(pid));
        let unseen = |_| Slot::default();
        let shared = |_| Slot { tid: pid + SLOTS, ..Slot::default() };
        assert_eq!(settled(&mut away, 2 * S - 1, &[], unseen), []);
        let expected = [(pid, S, Cause::Pipe as u8)];
        assert_eq!(settled(&mut away, 3 * S, &[], unseen), expected);
        assert_eq!(settled(&mut away, 4 * S, &[], shared), expected, "it has not run");
        end(child);
        assert_eq!(settled(&mut away, 5 * S, &[], shared), [], "it has: to its end");
    }

    #[test]
    fn whoever_leaves_a_cpu_is_the_programs_from_then_on() {
        let child = cat();
        let pid = child.id();
        let mut away = away();
        away.scanned(&scanned(pid));
        assert_eq!(settled(&mut away, 3 * S, &[], |_| Slot::default()).len(), 1);
        let ran = |_| Slot { tid: pid, ..Slot::default() };
        assert_eq!(settled(&mut away, 4 * S, &[], ran), []);
        assert_eq!(settled(&mut away, 5 * S, &[], |_| Slot::default()), []);
        end(child);
    }
}
