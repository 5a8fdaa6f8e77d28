//! The thread that names stacks. In: stack records, as soon as they are seen. Out: facts, a moment later.
//!
//! The live loop never waits for it: what finds the queue full is not named, and counted. It is not waited for at
//! the end either, but for as long as the caller says: a file system may take its time.
//!
//! A node whose CPUs are sampled has many new stacks at times, of whatever happens to run. Those that spawns name go
//! first: a spawn is told once, a sample's stack comes again.

use super::lately::{Lately, Origin};
use super::resolver::{Resolver, World};
use super::unwind::{self, Unwinder};
use crate::capture::facts::node;
use crate::decode::fact::Fact;
use crate::decode::fact::symbols::Symbols;
use crate::decode::{self, Event, Stack};
use crate::memory;
use slowpod_ebpf::abi::{Kind, Miss};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

/// Stacks waiting at most; a stack is seen once, so this is a second's worth of new ones. A megabyte.
const QUEUE_STACKS: usize = 2_048;
/// Answers waiting to be taken; the thread waits when there are more, and the queue takes up the rest.
const QUEUE_ANSWERS: usize = 1_024;

/// Stacks seen lately that a spawn may name: its record follows theirs in the ring.
const LATE_STACKS: usize = 256;
/// How long the thread leaves what comes lying once it has nothing to do: a storm's stacks come by the hundred, and
/// each would wake it.
const NAP: Duration = Duration::from_millis(5);
/// Stacks of spawns waiting at most.
const QUEUE_URGENT: usize = 512;
/// Urgent stacks remembered as looked at, so that they are not looked at again when their turn in the other queue comes.
const ANSWERED_MAX: usize = 4_096;

/// How often what is not used any more is let go.
const REST_EVERY: Duration = Duration::from_secs(10);

/// What was done since the start, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Stacks asked about.
    pub asked: u64,
    /// Stacks not looked at: the queue was full.
    pub dropped: u64,
    /// Stacks looked at.
    pub stacks: u64,
    /// Stacks of processes that were gone before they were looked at, and that nothing else told of.
    pub processes_gone: u64,
    /// Frames of the stacks.
    pub frames: u64,
    /// Frames without a name.
    pub unknown_frames: u64,
    /// Binaries whose tables were read.
    pub files_read: u64,
    /// Files that could not be opened, or are none that we open.
    pub files_refused: u64,
    /// Files with damaged or absurd tables.
    pub files_flawed: u64,
    /// Places named without their lines, because too much time went into reading debug information.
    pub lines_left_out: u64,
    /// Tables that had to make room for others.
    pub evicted: u64,
    /// Faults of ours that a stack met; it has no answer.
    pub faults: u64,
    /// Memory for tables, bytes.
    pub held_bytes: u64,
    /// Time spent, nanoseconds.
    pub busy_ns: u64,
    /// Tables for stacks that break off.
    pub unwind: unwind::Counts,
}

/// The handle of the thread. Dropping it ends the thread.
#[derive(Debug)]
pub struct Symboliser {
    stacks: SyncSender<(Stack, Origin)>,
    urgent: SyncSender<(Stack, Origin)>,
    late: Late,
    lately: Lately,
    answers: Receiver<Answer>,
    counts: Counts,
    /// Of [`Counts::dropped`], those not told in a fact yet.
    dropped: u64,
    /// Of [`unwind::Counts::refused`], those told.
    refused: u64,
}

#[derive(Debug)]
struct Answer {
    facts: Vec<Symbols>,
    counts: Counts,
}

impl Symboliser {
    /// Starts the thread. The unwinder is asked for tables when stacks break off.
    ///
    /// # Errors
    /// When the system has no thread for us.
    pub fn start(world: World, unwinder: Option<Unwinder>) -> std::io::Result<Self> {
        let (stacks, queue) = sync_channel(QUEUE_STACKS);
        let (urgent, urgently) = sync_channel(QUEUE_URGENT);
        let (out, answers) = sync_channel(QUEUE_ANSWERS);
        let thread = std::thread::Builder::new().name("slowpod-symbols".into());
        let resolver = Resolver::new(world).with_unwinder(unwinder);
        thread.spawn(move || run(resolver, &Queues { queue, urgently }, &out))?;
        Ok(Symboliser {
            stacks,
            urgent,
            late: Late::default(),
            lately: Lately::default(),
            answers,
            counts: Counts::default(),
            dropped: 0,
            refused: 0,
        })
    }

    /// Starts one for the processes of this node; `None`, with a warning, when that cannot be. `kernel` is where tables for stacks that
    /// break off are put.
    pub fn of_this_node(kernel: Option<Box<dyn unwind::Kernel>>) -> Option<Self> {
        let world = World { proc: "/proc".into(), clk_tck: node::clk_tck() };
        let warn = |error: &std::io::Error, what: &str| tracing::warn!(%error, "{what}");
        let start = |kernel| Unwinder::start(world.clone(), kernel);
        let unwinder = kernel.and_then(|kernel| {
            start(kernel).inspect_err(|error| warn(error, "stacks without frame pointers break off")).ok()
        });
        let started = Symboliser::start(world, unwinder);
        started.inspect_err(|error| warn(error, "stacks will have no names")).ok()
    }

    /// Shows it a record as it came from the kernel; stacks, spawns and execs matter to it. Never waits.
    pub fn see(&mut self, record: &[u8]) {
        let Ok(header) = decode::header(record) else { return };
        let is = |kind: Kind| header.kind == kind as u32;
        if !(is(Kind::Spawn) || is(Kind::Exec) || is(Kind::Stack)) {
            return;
        }
        let Ok((_, event)) = decode::event(record) else { return };
        self.lately.see(&event);
        if let Event::Stack(stack) = event {
            self.late.put(stack.clone());
            self.ask(stack);
        } else if let Event::Spawn(spawn) = event
            && spawn.user_stack != 0
        {
            self.hurry(spawn.user_stack);
        }
    }

    /// Asks about a stack of a spawn before all others, if it is new. Never waits.
    fn hurry(&mut self, id: u64) {
        let Some(stack) = self.late.take(id) else { return };
        let origin = self.lately.of(&stack.fixed.task);
        // One that finds no place is in the other queue.
        if self.urgent.try_send((stack, origin)).is_ok() {
            self.counts.asked += 1;
        }
    }

    /// Asks about a stack. Never waits.
    pub fn ask(&mut self, stack: Stack) {
        self.counts.asked += 1;
        let origin = self.lately.of(&stack.fixed.task);
        match self.stacks.try_send((stack, origin)) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.counts.dropped += 1;
                self.dropped += 1;
            }
        }
    }

    /// The facts found out since the last time. Never waits.
    pub fn answers(&mut self) -> Vec<Fact> {
        let mut facts = Vec::new();
        while let Ok(answer) = self.answers.try_recv() {
            self.take(answer, &mut facts);
        }
        if self.dropped > 0 {
            let dropped = std::mem::take(&mut self.dropped);
            facts.push(Fact::Symbols(Symbols { dropped, ..Symbols::default() }));
        }
        let refused = self.counts.unwind.refused;
        if refused > self.refused {
            let count = refused - std::mem::replace(&mut self.refused, refused);
            facts.push(Fact::Miss { reason: Miss::UnwindTablesFull, count });
        }
        facts
    }

    /// The same at the end: waits until every stack has its answer, but not longer than `at_most`.
    pub fn last_answers(&mut self, at_most: Duration) -> Vec<Fact> {
        let until = Instant::now() + at_most;
        let mut facts = self.answers();
        while self.counts.stacks + self.counts.faults + self.counts.dropped < self.counts.asked {
            let left = until.saturating_duration_since(Instant::now());
            let Ok(answer) = self.answers.recv_timeout(left) else { break };
            self.take(answer, &mut facts);
        }
        facts
    }

    /// What was done so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    fn take(&mut self, answer: Answer, facts: &mut Vec<Fact>) {
        self.counts = Counts { asked: self.counts.asked, dropped: self.counts.dropped, ..answer.counts };
        facts.extend(answer.facts.into_iter().map(Fact::Symbols));
    }
}

/// The stacks seen last, by id: every spawn asks for one, and few are new.
#[derive(Debug, Default)]
struct Late {
    stacks: HashMap<u64, Stack>,
    order: VecDeque<u64>,
}

impl Late {
    fn put(&mut self, stack: Stack) {
        self.order.push_back(stack.fixed.id);
        self.stacks.insert(stack.fixed.id, stack);
        if self.order.len() > LATE_STACKS
            && let Some(oldest) = self.order.pop_front()
        {
            self.stacks.remove(&oldest);
        }
    }

    fn take(&mut self, id: u64) -> Option<Stack> {
        self.stacks.remove(&id)
    }
}

/// What waits to be named.
struct Queues {
    queue: Receiver<(Stack, Origin)>,
    urgently: Receiver<(Stack, Origin)>,
}

impl Queues {
    /// The next stack, and whether it is urgent. What is urgent is in the other queue as well, or that is full: so it is
    /// enough to wait there.
    fn next(&self, until: Instant) -> Result<(Stack, Origin, bool), RecvTimeoutError> {
        if let Some(next) = self.at_hand() {
            return Ok(next);
        }
        std::thread::sleep(NAP);
        if let Some(next) = self.at_hand() {
            return Ok(next);
        }
        let next = self.queue.recv_timeout(until.saturating_duration_since(Instant::now()));
        next.map(|(stack, origin)| (stack, origin, false))
    }

    fn at_hand(&self) -> Option<(Stack, Origin, bool)> {
        let urgent = self.urgently.try_recv().map(|(stack, origin)| (stack, origin, true));
        urgent.or_else(|_| self.queue.try_recv().map(|(stack, origin)| (stack, origin, false))).ok()
    }
}

/// Urgent stacks that were looked at, and are still in the other queue.
#[derive(Default)]
struct Answered {
    known: BTreeSet<u64>,
    order: VecDeque<u64>,
}

impl Answered {
    /// Whether it was. It is then forgotten: a stack that the kernel sends again is to be named again.
    fn has(&mut self, id: u64) -> bool {
        self.known.remove(&id)
    }

    fn put(&mut self, id: u64) {
        self.known.insert(id);
        self.order.push_back(id);
        if self.order.len() > ANSWERED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

/// The thread: until nobody asks any more.
fn run(mut resolver: Resolver, queues: &Queues, out: &SyncSender<Answer>) {
    let (mut faults, mut again) = (0, 0);
    let mut answered = Answered::default();
    let mut rest_at = Instant::now() + REST_EVERY;
    loop {
        if rest_at <= Instant::now() {
            let held_bytes = resolver.counts().held_bytes;
            resolver.rest();
            if resolver.counts().held_bytes < held_bytes {
                memory::give_back();
            }
            rest_at = Instant::now() + REST_EVERY;
        }
        let (stack, origin, urgent) = match queues.next(rest_at) {
            Ok(next) => next,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let id = stack.fixed.id;
        if !urgent && answered.has(id) {
            again += 1;
            let stacks = resolver.counts().stacks + again;
            let answer = Answer { facts: Vec::new(), counts: Counts { faults, stacks, ..resolver.counts() } };
            if out.send(answer).is_err() {
                return;
            }
            continue;
        }
        // A fault in a reader of hostile files must not end the naming of all others.
        let resolved = std::panic::catch_unwind(AssertUnwindSafe(|| resolver.resolve(&stack, &origin)));
        if resolved.is_err() {
            faults += 1;
            tracing::error!(pid = stack.fixed.task.tgid, "naming a stack failed; please report this");
            resolver.restart();
        }
        if urgent {
            answered.put(id);
        }
        let stacks = resolver.counts().stacks + again;
        let answer =
            Answer { facts: resolver.take(), counts: Counts { faults, stacks, ..resolver.counts() } };
        if out.send(answer).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::stack_record;
    use slowpod_ebpf::abi::{Header, Task, stack};
    use zerocopy::IntoBytes;

    fn world() -> World {
        World { proc: "/proc".into(), clk_tck: node::clk_tck() }
    }

    fn own_stack(id: u64) -> Stack {
        let task = Task { tgid: std::process::id(), tid: 1, start_ns: 0 };
        let len_bytes = (size_of::<stack::Stack>() + 8) as u32;
        let header = Header { ktime_ns: 1, kind: Kind::Stack as u32, len_bytes };
        let fixed = stack::Stack { header, task, id, depth: 1, user: 1 };
        Stack { fixed, frames: vec![own_stack as *const () as u64] }
    }

    #[test]
    fn records_in_facts_out() {
        let mut symboliser = Symboliser::start(world(), None).unwrap();
        let mut record = Vec::new();
        stack_record(&own_stack(7), &mut record);
        symboliser.see(&record);
        symboliser.see(&record[..20]);
        symboliser.see(Header { ktime_ns: 1, kind: Kind::Fact as u32, len_bytes: 16 }.as_bytes());
        let facts = symboliser.last_answers(Duration::from_secs(20));
        let [Fact::Symbols(fact)] = &facts[..] else { panic!("{facts:?}") };
        assert!(fact.places[0].functions[0].name.ends_with("own_stack"), "{fact:?}");
        assert_eq!((fact.stacks[0].stack, symboliser.counts().asked), (7, 1));
    }

    #[test]
    fn what_finds_the_queue_full_is_counted_and_nobody_waits() {
        // The thread is stuck in a file that never answers: here, in answers that nobody takes.
        let mut symboliser = Symboliser::start(world(), None).unwrap();
        let all = (QUEUE_STACKS + QUEUE_ANSWERS + 1_000) as u64;
        let begun = Instant::now();
        (0..all).for_each(|id| symboliser.ask(own_stack(id)));
        assert!(begun.elapsed() < Duration::from_secs(5));
        let facts = symboliser.last_answers(Duration::from_secs(60));
        let counts = symboliser.counts();
        assert!(counts.dropped > 0);
        assert_eq!(counts.stacks + counts.dropped, all);
        let told: u64 =
            facts.iter().map(|fact| if let Fact::Symbols(fact) = fact { fact.dropped } else { 0 }).sum();
        assert_eq!(told, counts.dropped);
    }
}
