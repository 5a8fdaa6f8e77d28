//! Who a record speaks of. In: spawns, execs, exits and scan facts. Out: one [`Process`] per life of a pid.
//!
//! A process is keyed by (tgid, start time), so a recycled pid is another process. What the start-up scan
//! finds has a start time rounded down to a clock tick; the first exact record about it sharpens the key.

use super::{ProcId, cni::CniWork, text};
use crate::decode::fact::Namespaces;
use rustc_hash::FxHashMap;
use slowpod_ebpf::abi::{Task, exit::Exit, settings::QUEUE_AGE_NS};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

/// Processes kept in all. A node has some hundreds to some thousands; beyond this new ones are not kept, and
/// counted.
pub const PROCESSES_MAX: usize = 65_536;

/// A process that lived for so long has sums of its own (`QUEUE_AGE_NS` of the kernel's programs).
const LASTING_NS: u64 = QUEUE_AGE_NS;

/// What is known of one process.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Process {
    /// Who it is.
    pub id: ProcId,
    /// False while `id.start_ns` is a clock tick's worth of guess from the start-up scan.
    pub exact: bool,
    /// Who spawned it; `None` for a process older than the agent.
    pub spawner: Option<ProcId>,
    /// When it was spawned (monotonic ns); 0 for a process older than the agent.
    pub spawned_ns: u64,
    /// When the spawner entered the clone call; equals `spawned_ns` when that was not seen.
    pub begun_ns: u64,
    /// When its last exec was done; 0 if it never called exec since it is watched.
    pub exec_ns: u64,
    /// Kernel's name of it, made safe for any output.
    pub comm: Arc<str>,
    /// Path of its program as given to exec: any bytes but NUL.
    pub path: Arc<[u8]>,
    /// Its arguments, NUL-separated, redacted as configured.
    pub argv: Arc<[u8]>,
    /// Its argv class: `ipset add`.
    pub argv_class: Arc<str>,
    /// Arguments were longer than what is kept.
    pub argv_cut: bool,
    /// Only the words of the argv class were kept.
    pub class_only: bool,
    /// Its program is a `#!` script.
    pub script: bool,
    /// Cgroup id it was last seen in.
    pub cgroup_id: u64,
    /// Its pid as its own pid namespace counts it.
    pub inner_pid: u32,
    /// Parent pid as `/proc` said at the start-up scan; 0 when it was spawned under watch.
    pub scanned_ppid: u32,
    /// Real user id.
    pub uid: u32,
    /// Its namespaces at its last exec, or as the start-up scan found them; of a process that never called exec those
    /// of its spawner. A change without an exec is not seen.
    pub namespaces: Namespaces,
    /// Threads it made while watched, the main one not counted.
    pub threads_made: u32,
    /// The CNI work it does or is part of: its environment names the pod, its cgroup the runtime.
    pub cni: Option<Arc<CniWork>>,
    /// It has ended, and is kept for late records about it.
    pub gone: bool,
}

/// Longest text of a path, in bytes.
pub const PATH_TEXT_BYTES: usize = 320;
/// Longest text of all arguments, in bytes.
const ARGV_TEXT_BYTES: usize = 1_024;

impl Process {
    /// Takes from its exit what a lost exec record would have told.
    pub fn missed_exec(&mut self, exit: &Exit) {
        self.exec_ns = exit.exec_ns;
        self.comm = text::comm(&exit.comm).into();
        self.argv_class = self.comm.clone();
        (self.path, self.argv) = (Arc::default(), Arc::default());
    }

    /// Its path as safe text.
    pub fn path_text(&self) -> String {
        text::safe(&self.path, PATH_TEXT_BYTES).into_owned()
    }

    /// Its arguments as one line of safe text, separated by blanks.
    pub fn argv_text(&self) -> String {
        let argv = self.argv.strip_suffix(b"\0").unwrap_or(&self.argv);
        let line: Vec<u8> = argv.iter().map(|byte| if *byte == 0 { b' ' } else { *byte }).collect();
        text::safe(&line, ARGV_TEXT_BYTES).into_owned()
    }
}

/// All processes known, alive and lately ended.
#[derive(Clone, Debug)]
pub struct Processes {
    /// In boxes: a process takes a quarter of a kilobyte, and the table moves its rows about. Hashed, since each record
    /// asks several times.
    known: FxHashMap<ProcId, Box<Process>>,
    /// The same ids in order.
    order: BTreeSet<ProcId>,
    /// Of the ended, those that lived for less than [`LASTING_NS`], and
    ended_short: VecDeque<ProcId>,
    /// the others: what they took is told of them by name, and a storm must not wash that name away.
    ended_lasting: VecDeque<ProcId>,
    ended_max: usize,
    /// Processes that found no room.
    pub refused: u64,
}

impl Processes {
    /// An empty table that keeps the last `ended_max` ended processes beside the living.
    pub fn new(ended_max: usize) -> Self {
        Processes {
            known: FxHashMap::default(),
            order: BTreeSet::new(),
            ended_short: VecDeque::new(),
            ended_lasting: VecDeque::new(),
            ended_max,
            refused: 0,
        }
    }

    /// The process `task` belongs to, if it is known. Sharpens the key of a scanned process.
    pub fn resolve(&mut self, task: &Task) -> Option<ProcId> {
        let id = ProcId::of(task);
        if self.known.contains_key(&id) {
            return Some(id);
        }
        // One that the scan told of, by the scan's own word for it.
        if let Some(process) = self.sharpened(id) {
            return Some(process.id);
        }
        let guess = self.lives_of(id.tgid).find(|p| !p.exact && same_tick(p.id.start_ns, id.start_ns))?.id;
        let mut process = self.remove(guess)?;
        process.id = id;
        process.exact = true;
        self.insert(process);
        Some(id)
    }

    /// The process with this id, also with one that has become exact since.
    pub fn get(&self, id: ProcId) -> Option<&Process> {
        self.known.get(&id).map(Box::as_ref).or_else(|| self.sharpened(id))
    }

    /// The id that the process with this id has by now.
    pub fn id_now(&self, id: ProcId) -> ProcId {
        self.get(id).map_or(id, |process| process.id)
    }

    /// The process that a scan's guess was about. Two lives of one pid within a clock tick are not possible: pids are
    /// given in turn.
    fn sharpened(&self, id: ProcId) -> Option<&Process> {
        if !id.start_ns.is_multiple_of(TICK_NS) {
            return None;
        }
        self.lives_of(id.tgid).find(|process| process.exact && same_tick(id.start_ns, process.id.start_ns))
    }

    /// The same, to change.
    pub fn get_mut(&mut self, id: ProcId) -> Option<&mut Process> {
        self.known.get_mut(&id).map(Box::as_mut)
    }

    /// All known lives of a pid, oldest first.
    pub fn lives_of(&self, tgid: u32) -> impl DoubleEndedIterator<Item = &Process> {
        let of = |start_ns| ProcId { tgid, start_ns };
        self.order.range(of(0)..=of(u64::MAX)).filter_map(|id| self.known.get(id).map(Box::as_ref))
    }

    /// All known processes, by pid.
    pub fn iter(&self) -> impl Iterator<Item = &Process> {
        self.order.iter().filter_map(|id| self.known.get(id).map(Box::as_ref))
    }

    /// How many are known.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Adds a process, or replaces what was known of it.
    pub fn put(&mut self, process: Process) {
        if self.known.len() >= PROCESSES_MAX && !self.known.contains_key(&process.id) {
            self.refused += 1;
            return;
        }
        self.insert(Box::new(process));
    }

    fn insert(&mut self, process: Box<Process>) {
        self.order.insert(process.id);
        self.known.insert(process.id, process);
    }

    fn remove(&mut self, id: ProcId) -> Option<Box<Process>> {
        self.order.remove(&id);
        self.known.remove(&id)
    }

    /// Notes that a process ended at `now_ns`: it stays for late records about it, until enough others have ended.
    pub fn end(&mut self, id: ProcId, now_ns: u64) {
        let Some(process) = self.known.get_mut(&id).filter(|process| !process.gone) else { return };
        process.gone = true;
        let is_short = process.spawned_ns > 0 && now_ns.saturating_sub(process.spawned_ns) < LASTING_NS;
        let queue = if is_short { &mut self.ended_short } else { &mut self.ended_lasting };
        queue.push_back(id);
        while self.ended_short.len() + self.ended_lasting.len() > self.ended_max {
            let too_many = self.ended_lasting.len() > self.ended_max / 2 || self.ended_short.is_empty();
            let queue = if too_many { &mut self.ended_lasting } else { &mut self.ended_short };
            if let Some(old) = queue.pop_front() {
                self.remove(old);
            }
        }
    }
}

/// Nanoseconds of a clock tick as `/proc` counts start times (`USER_HZ` is 100 on every Linux).
pub const TICK_NS: u64 = 10_000_000;

/// Whether a start as `/proc` tells it and one as the kernel's programs do may be the same.
pub(super) fn same_tick(scanned_ns: u64, exact_ns: u64) -> bool {
    scanned_ns / TICK_NS == exact_ns / TICK_NS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(tgid: u32, start_ns: u64, exact: bool) -> Process {
        Process { id: ProcId { tgid, start_ns }, exact, ..Process::default() }
    }

    #[test]
    fn a_scanned_process_takes_its_exact_start_time() {
        let mut table = Processes::new(4);
        table.put(process(7, 120_000_000, false));
        let task = Task { tgid: 7, tid: 9, start_ns: 123_456_789 };
        assert_eq!(table.resolve(&task), Some(ProcId { tgid: 7, start_ns: 123_456_789 }));
        assert_eq!(table.len(), 1);
        assert_eq!(table.resolve(&Task { start_ns: 131_000_000, ..task }), None, "another life");
        // What was told of it before goes on to be about it.
        let guess = ProcId { tgid: 7, start_ns: 120_000_000 };
        assert_eq!(table.id_now(guess), ProcId { tgid: 7, start_ns: 123_456_789 });
        let another = ProcId { tgid: 7, start_ns: 130_000_000 };
        assert_eq!((table.get(another), table.id_now(another)), (None, another));
        let told = Task { start_ns: guess.start_ns, ..task };
        assert_eq!(
            table.resolve(&told),
            Some(ProcId { tgid: 7, start_ns: 123_456_789 }),
            "and goes on to be"
        );
    }

    #[test]
    fn a_recycled_pid_is_another_process() {
        let mut table = Processes::new(4);
        table.put(process(7, 1_000, true));
        table.put(process(7, 2_000, true));
        assert_eq!(table.lives_of(7).count(), 2);
        assert_eq!(table.resolve(&Task { tgid: 7, tid: 7, start_ns: 3_000 }), None);
    }

    #[test]
    fn ended_processes_are_kept_a_while_and_the_living_stay() {
        let mut table = Processes::new(2);
        for tgid in 1..=5 {
            table.put(process(tgid, 10, true));
        }
        for tgid in 1..=4 {
            table.end(ProcId { tgid, start_ns: 10 }, 20);
        }
        let left: Vec<u32> = table.iter().map(|p| p.id.tgid).collect();
        assert_eq!(left, [3, 4, 5]);
    }

    #[test]
    fn a_storm_does_not_wash_away_who_lasted() {
        let mut table = Processes::new(4);
        let mut end = |tgid, lived_ns| {
            let id = ProcId { tgid, start_ns: 10 };
            table.put(Process { spawned_ns: 10, ..process(tgid, 10, true) });
            table.end(id, 10 + lived_ns);
            table.iter().map(|process| process.id.tgid).collect::<Vec<_>>()
        };
        end(1, LASTING_NS);
        for tgid in 2..100 {
            end(tgid, LASTING_NS - 1);
        }
        assert_eq!(end(100, 1), [1, 98, 99, 100]);
        for tgid in 101..200 {
            end(tgid, LASTING_NS);
        }
        assert_eq!(end(200, 1), [100, 198, 199, 200], "nor the other way round");
    }
}
