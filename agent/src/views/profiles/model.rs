//! What a profile is, before it is written in any format. Everything is told once and named by its number: a
//! daemon's thousand samples go through the same few hundred frames.

use super::Kind;
use super::owner::Owner;
use crate::enrich::symbols::Module;
use crate::views::completeness::{CompletenessBlock, WindowBlock};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Most values that one sample has.
pub const VALUES_MAX: usize = 3;

/// What the completeness block counts of all stacks of the node, and [`Flaws`] of those in the profile.
const OF_STACKS: [&str; 3] = ["stacks", "stacks_without_frame_pointers", "stack_names_process_gone"];

/// A frame of a stack.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Frame {
    /// Function; `module+0xoffset` or an address where it has no name; or what stands for a frame: an argv class,
    /// a message type, a cause in brackets.
    pub name: Arc<str>,
    /// Source file; empty when not known.
    pub file: Arc<str>,
    /// Line in it; 0 when not known.
    pub line: u32,
    /// Where its code is; `None` for what only stands for a frame.
    pub place: Option<Place>,
    /// Its code is inside that of the next frame.
    pub inlined: bool,
    /// It is the kernel's.
    pub kernel: bool,
    /// Its name is none, but where its code is.
    pub unnamed: bool,
}

/// A place in code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Number of its module; `None` when its process's mappings were never seen.
    pub module: Option<u32>,
    /// The address it is linked at; without a module the address it ran at.
    pub address: u64,
}

/// What was counted, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Number of its process.
    pub owner: u32,
    /// Number of its thread's name; `None` where it stands for several threads, or nobody noted it.
    pub thread: Option<u32>,
    /// Why the thread did not run, or what else the time went to.
    pub cause: Option<&'static str>,
    /// Number of its stack.
    pub stack: u32,
    /// Its values, in the order of [`Kind::values`].
    pub values: [u64; VALUES_MAX],
}

/// What is wrong with a profile's stacks, in samples and frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flaws {
    /// Samples without a stack, where there could be one.
    pub without_stack: u64,
    /// Stacks cut at the root end, since they were deeper than what is kept.
    pub cut_stacks: u64,
    /// Stacks that end where code keeps no frame pointers: who called that is not known.
    pub broken_stacks: u64,
    /// Stacks of processes that were gone, or another program, before they could be looked at.
    pub gone_stacks: u64,
    /// Places in code that have no name.
    pub unnamed_places: u64,
}

/// A profile.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Its kind.
    pub kind: &'static Kind,
    /// The time it is about.
    pub window: WindowBlock,
    /// When that time begins, ns since 1970; 0 while no clock reading is known.
    pub begin_unix_ns: i64,
    /// What is missing from it.
    pub completeness: CompletenessBlock,
    /// What is wrong with its stacks.
    pub flaws: Flaws,
    /// Name of the node; empty when not known.
    pub node: String,
    /// What one sample stands for (of [`Kind::period`]); 0 when that is not known.
    pub period: u64,
    /// Files of code.
    pub modules: Vec<Arc<Module>>,
    /// Frames.
    pub frames: Vec<Frame>,
    /// Stacks, as numbers of frames, the innermost first.
    pub stacks: Vec<Box<[u32]>>,
    /// Processes.
    pub owners: Vec<Owner>,
    /// Names of threads.
    pub threads: Vec<Arc<str>>,
    /// Samples.
    pub samples: Vec<Sample>,
}

impl Profile {
    /// The sum of one value over all samples.
    pub fn total(&self, value: usize) -> u64 {
        crate::fold::grow::total(self.samples.iter().map(|sample| sample.values[value]))
    }

    /// The frames of a sample, the innermost first.
    pub fn frames_of(&self, sample: &Sample) -> impl DoubleEndedIterator<Item = &Frame> {
        self.stacks[sample.stack as usize].iter().map(|frame| &self.frames[*frame as usize])
    }

    /// What is missing from it, as short clauses; none when nothing is.
    pub fn missing(&self) -> Vec<String> {
        let Flaws { without_stack, cut_stacks, broken_stacks, gone_stacks, unnamed_places } = self.flaws;
        let flaws = [
            (without_stack, "samples without a stack"),
            (cut_stacks, "stacks cut short"),
            (broken_stacks, "stacks that end where there are no frame pointers"),
            (gone_stacks, "stacks not named in time: their processes were gone"),
            (unnamed_places, "places in code without a name"),
        ];
        let mut missing: Vec<String> = flaws
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        let CompletenessBlock { lost, counted_only, truncated, unattributed, evicted, degraded, .. } =
            &self.completeness;
        for (what, counts) in
            [("lost", lost), ("only counted", counted_only), ("cut", truncated), ("evicted", evicted)]
        {
            // Of its stacks it has said so itself: these are the whole node's.
            let others = counts.iter().filter(|(name, _)| !OF_STACKS.contains(name));
            missing.extend(others.map(|(name, count)| format!("{what}: {count} {name}")));
        }
        if *unattributed > 0 {
            missing.push(format!("{unattributed} records of unknown processes"));
        }
        missing.extend(degraded.iter().cloned());
        missing
    }
}

/// Things by number, each once.
#[derive(Debug)]
pub(super) struct Numbered<T> {
    numbers: BTreeMap<T, u32>,
    things: Vec<T>,
}

impl<T: Clone + Ord> Numbered<T> {
    pub(super) fn new() -> Self {
        Numbered { numbers: BTreeMap::new(), things: Vec::new() }
    }

    /// The number of a thing, new or not.
    pub(super) fn of(&mut self, thing: T) -> u32 {
        let next = self.things.len() as u32;
        *self.numbers.entry(thing).or_insert_with_key(|thing| {
            self.things.push(thing.clone());
            next
        })
    }

    /// All of them, in the order of their numbers.
    pub(super) fn into_things(self) -> Vec<T> {
        self.things
    }
}
