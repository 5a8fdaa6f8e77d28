//! Puts a profile together. In: what a kind finds in the snapshot. Out: a [`Profile`], and counts of what its
//! stacks lack.

use super::Kind;
use super::model::{Flaws, Frame, Numbered, Place, Profile, Sample, VALUES_MAX};
use super::owner::Owner;
use crate::enrich::ProcId;
use crate::enrich::symbols::{self, Module};
use crate::fold::profile::{Key, Sums};
use crate::fold::{Snapshot, State};
use crate::views::{Query, completeness, filter::Filter};
use slowpod_ebpf::abi::sample::SampleKind;
use slowpod_ebpf::abi::split::{Cause, Split};
use slowpod_ebpf::abi::stack::FRAMES;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What stands at the root of a stack that was deeper than what is kept.
const CUT: &str = "[stack cut here]";
/// What stands at the root of a stack whose walk ended at code without frame pointers.
const BROKEN: &str = "[no frame pointers from here]";
/// What stands for a stack that was taken and is not there: its record was lost, or came before the answer's first.
pub const NOT_KNOWN: &str = "[stack not known]";

/// What stands for a stack whose process was gone, or another program, before anybody knew what is at its addresses. These differ from
/// process to process: a thousand short children would be a thousand stacks of numbers.
const GONE: &str = "[stack not named in time]";

/// Label of waits that are too short to be told one by one.
const SHORT: &str = "short";

/// A kind's way to add samples.
pub struct Collector<'a> {
    kind: &'static Kind,
    snapshot: &'a Snapshot,
    filter: Filter<'a>,
    passed: BTreeMap<ProcId, Option<u32>>,
    walked: BTreeMap<(u64, bool), Vec<u32>>,
    modules: Numbered<ModuleKey>,
    frames: Numbered<Frame>,
    stacks: Numbered<Box<[u32]>>,
    owners: Numbered<Owner>,
    threads: Numbered<Arc<str>>,
    samples: Vec<Sample>,
    flaws: Flaws,
    period: u64,
}

/// Path and build id.
type ModuleKey = (Arc<str>, Arc<str>);

/// What a sample is about, beside its values.
#[derive(Clone, Copy, Debug, Default)]
pub struct About<'a> {
    /// Its process: a number of [`Collector::process`] or [`Collector::owner`].
    pub owner: u32,
    /// Its thread's name.
    pub thread: Option<&'a str>,
    /// See [`Sample::cause`].
    pub cause: Option<&'static str>,
    /// Its user stack by id; 0 = none was taken.
    pub user_stack: u64,
    /// Its kernel stack, likewise.
    pub kernel_stack: u64,
    /// What stands for frames above the stack, the outermost first: argv class, message type, cause.
    pub notes: &'a [&'a str],
}

impl<'a> Collector<'a> {
    /// An empty profile of a snapshot.
    pub(super) fn new(kind: &'static Kind, snapshot: &'a Snapshot, query: &'a Query) -> Self {
        Collector {
            kind,
            snapshot,
            filter: Filter::new(&snapshot.state, query),
            passed: BTreeMap::new(),
            walked: BTreeMap::new(),
            modules: Numbered::new(),
            frames: Numbered::new(),
            stacks: Numbered::new(),
            owners: Numbered::new(),
            threads: Numbered::new(),
            samples: Vec::new(),
            flaws: Flaws::default(),
            period: 0,
        }
    }

    /// The state the samples are taken from.
    pub fn state(&self) -> &'a State {
        &self.snapshot.state
    }

    /// From when the answer goes, monotonic ns.
    pub fn from_ns(&self) -> u64 {
        self.snapshot.window.from_ns
    }

    /// Until when the answer goes, monotonic ns.
    pub fn until_ns(&self) -> u64 {
        self.snapshot.window.until_ns
    }

    /// The query's filters.
    pub fn filter(&self) -> &Filter<'a> {
        &self.filter
    }

    /// The number of a process as an owner; `None` when the query's filters leave it out.
    pub fn process(&mut self, id: ProcId) -> Option<u32> {
        if let Some(known) = self.passed.get(&id) {
            return *known;
        }
        let state = self.state();
        let passes = match state.processes.get(id) {
            Some(process) => self.filter.process(process),
            None => self.filter.is_empty(),
        };
        let number = passes.then(|| self.owners.of(Owner::of(state, id)));
        self.passed.insert(id, number);
        number
    }

    /// The number of an owner that is no process of the table.
    pub fn owner(&mut self, owner: Owner) -> u32 {
        self.owners.of(owner)
    }

    /// Notes what one sample stands for: the smallest that was told counts.
    pub fn period(&mut self, period: u64) {
        if period > 0 && (self.period == 0 || period < self.period) {
            self.period = period;
        }
    }

    /// Adds a sample; one without a single value is left out.
    pub fn add(&mut self, about: &About<'_>, values: [u64; VALUES_MAX]) {
        if values.iter().all(|value| *value == 0) {
            return;
        }
        let mut stack: Vec<u32> = about.notes.iter().rev().map(|note| self.note(note)).collect();
        stack.extend_from_slice(self.walk(about.kernel_stack, true));
        stack.extend_from_slice(self.walk(about.user_stack, false));
        let stack = self.stacks.of(stack.into());
        let thread = about.thread.map(|name| self.threads.of(name.into()));
        self.samples.push(Sample { owner: about.owner, thread, cause: about.cause, stack, values });
    }

    /// Adds a wait of threads: its stack, and above it what it waited for.
    pub fn add_wait(&mut self, key: &Key, sums: &Sums, note: &str, cause: &'static str) {
        let Some(owner) = self.process(key.process) else { return };
        let thread = key.thread();
        let about = About {
            owner,
            thread: Some(&thread),
            cause: Some(cause),
            user_stack: key.user_stack,
            kernel_stack: key.kernel_stack,
            notes: &[note],
        };
        self.without_any_stack(&about);
        self.add(&about, [sums.count, sums.ns, 0]);
    }

    /// Adds what processes waited in waits that are too short to be told one by one: a row for each process, without
    /// thread, stack or cause.
    pub fn add_short_waits(&mut self, kind: SampleKind, note: &str) {
        for (process, sums) in self.state().short.rows(kind) {
            let Some(owner) = self.process(process) else { continue };
            let about = About { owner, cause: Some(SHORT), notes: &[note], ..About::default() };
            self.add(&about, [sums.count, sums.ns, 0]);
        }
    }

    /// Notes a sample that has no stack at all.
    pub fn without_any_stack(&mut self, about: &About<'_>) {
        self.flaws.without_stack += u64::from(about.user_stack == 0 && about.kernel_stack == 0);
    }

    /// Notes a sample whose stack is not known though there was one.
    pub fn without_stack(&mut self) {
        self.flaws.without_stack += 1;
    }

    /// Adds a sample for each part of a split, with the part's name above the other notes. `values` says what a
    /// part's nanoseconds are.
    pub fn add_split(&mut self, about: &About<'_>, split: &Split, values: fn(u64) -> [u64; VALUES_MAX]) {
        for (name, cause, ns) in parts(split).filter(|(.., ns)| *ns > 0) {
            let notes: Vec<&str> = about.notes.iter().copied().chain([name]).collect();
            self.add(&About { cause: Some(cause), notes: &notes, ..*about }, values(ns));
        }
    }

    /// The number of what stands for a frame.
    fn note(&mut self, name: &str) -> u32 {
        self.frames.of(Frame { name: name.into(), ..Frame::default() })
    }

    /// The frames of a stack, the innermost first.
    fn walk(&mut self, id: u64, kernel: bool) -> &[u32] {
        if id == 0 {
            return &[];
        }
        if !self.walked.contains_key(&(id, kernel)) {
            let frames = self.frames_of(id, kernel);
            self.walked.insert((id, kernel), frames);
        }
        &self.walked[&(id, kernel)]
    }

    fn frames_of(&mut self, id: u64, kernel: bool) -> Vec<u32> {
        let state = self.state();
        let addresses = state.stacks.get(id).map(|stack| stack.frames.as_slice()).unwrap_or_default();
        // A tick interrupts what runs; other stacks of the kernel are taken by a program of ours, which is innermost there.
        let by_hook = kernel && self.kind.period.is_none();
        let mut frames: Vec<u32> = match state.symbols.frames_of(id) {
            Some(named) => named
                .skip_while(|frame| by_hook && is_hook(&frame.name))
                .map(|frame| self.named(frame, kernel))
                .collect(),
            None if state.symbols.is_gone(id) => {
                self.flaws.gone_stacks += 1;
                vec![self.note(GONE)]
            }
            None => addresses.iter().map(|address| self.unnamed(*address, kernel)).collect(),
        };
        if frames.is_empty() {
            self.flaws.without_stack += 1;
            frames.push(self.note(NOT_KNOWN));
        }
        if addresses.len() >= FRAMES {
            self.flaws.cut_stacks += 1;
            frames.push(self.note(CUT));
        } else if !kernel && !state.symbols.is_whole(id) {
            self.flaws.broken_stacks += 1;
            frames.push(self.note(BROKEN));
        }
        frames
    }

    fn named(&mut self, frame: &symbols::Frame, kernel: bool) -> u32 {
        let module = self.modules.of((frame.module.path.clone(), frame.module.build_id.clone()));
        self.frames.of(Frame {
            name: frame.name.clone(),
            file: frame.file.clone(),
            line: frame.line,
            place: Some(Place { module: Some(module), address: frame.module_offset }),
            inlined: frame.inlined,
            unnamed: !frame.known,
            kernel,
        })
    }

    fn unnamed(&mut self, address: u64, kernel: bool) -> u32 {
        let place = Some(Place { module: None, address });
        let name = format!("{address:#x}").into();
        self.frames.of(Frame { name, place, unnamed: true, kernel, ..Frame::default() })
    }

    pub(super) fn finish(self) -> Profile {
        let Snapshot { state, .. } = self.snapshot;
        let window = completeness::window(self.snapshot);
        let frames = self.frames.into_things();
        let unnamed = frames.iter().filter(|frame| frame.unnamed).count() as u64;
        let module = |(path, build_id)| Arc::new(Module { path, build_id });
        Profile {
            kind: self.kind,
            begin_unix_ns: state.clock.wall_unix_ns(window.from_ktime_ns).unwrap_or_default(),
            completeness: completeness::completeness(self.snapshot),
            window,
            flaws: Flaws { unnamed_places: unnamed, ..self.flaws },
            node: state.node.as_ref().map(|node| node.node_name.clone()).unwrap_or_default(),
            period: self.period,
            modules: self.modules.into_things().into_iter().map(module).collect(),
            frames,
            stacks: self.stacks.into_things(),
            owners: self.owners.into_things(),
            threads: self.threads.into_things(),
            samples: self.samples,
        }
    }
}

/// Whether a function of the kernel is part of a hook: the tracepoint's own, or a BPF program.
fn is_hook(name: &str) -> bool {
    ["bpf_prog_", "bpf_trace_run", "__bpf_trace_", "__traceiter_"].iter().any(|begin| name.starts_with(begin))
}

/// The parts of a split: name as a frame, label, and time.
pub fn parts(split: &Split) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
    let own = [("[on cpu]", "on_cpu", split.on_cpu_ns), ("[runnable]", "runnable", split.runnable_ns)];
    let blocked = Cause::ALL.into_iter().zip(split.blocked_ns);
    own.into_iter().chain(blocked.map(|(cause, ns)| (cause_note(cause), cause.name(), ns)))
}

/// A cause as it stands in a stack.
pub const fn cause_note(cause: Cause) -> &'static str {
    match cause {
        Cause::Disk => "[blocked: disk]",
        Cause::FileLock => "[blocked: file lock]",
        Cause::Futex => "[blocked: futex]",
        Cause::ChildWait => "[blocked: waits for a child]",
        Cause::Netlink => "[blocked: netlink]",
        Cause::Inet => "[blocked: inet socket]",
        Cause::Unix => "[blocked: unix socket]",
        Cause::Pipe => "[blocked: pipe]",
        Cause::Sleep => "[blocked: sleep]",
        Cause::PageFault => "[blocked: page fault]",
        Cause::Poll => "[blocked: poll]",
        Cause::Other => "[blocked: other]",
    }
}
