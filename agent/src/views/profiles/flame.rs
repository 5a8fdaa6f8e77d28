//! Samples as a tree from the root frames (pod, container, process) up to the innermost function. In: a profile.
//! Out: folded stacks, each once and in order.
//!
//! No tree is built: sorted by the names of their frames, the stacks of a branch lie beside each other, and a branch that
//! is too narrow to be seen is never gone into.

use super::model::{Frame, Profile};
use crate::fold::grow::Grow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// The stacks of one or two profiles.
#[derive(Default)]
pub(super) struct Tree {
    names: Names,
    /// The paths of all stacks, one behind the other: numbers of names, outermost first.
    frames: Vec<u32>,
    stacks: Vec<Stack>,
}

/// Values of a first profile and of a second one.
pub(super) type Pair = [u64; 2];

/// A path, which may be there several times.
struct Stack {
    path: Range<usize>,
    /// Of what ends there.
    own: Pair,
}

#[derive(Default)]
struct Names {
    numbers: BTreeMap<Arc<str>, u32>,
    names: Vec<Arc<str>>,
}

impl Names {
    fn of(&mut self, name: &str) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let (name, number): (Arc<str>, _) = (name.into(), self.names.len() as u32);
        self.names.push(name.clone());
        self.numbers.insert(name, number);
        number
    }
}

impl Tree {
    pub(super) fn new() -> Self {
        Tree::default()
    }

    /// Adds one value of a profile's samples, as the first or the second of each pair.
    pub(super) fn add(&mut self, profile: &Profile, value: usize, side: usize) {
        let samples = profile.samples.iter().map(|sample| (sample.owner, sample.stack, sample.values[value]));
        let mut samples: Vec<(u32, u32, u64)> = samples.filter(|(.., value)| *value > 0).collect();
        samples.sort_unstable();
        let frames: Vec<u32> = profile.frames.iter().map(|frame| self.names.of(&shown(frame))).collect();
        let (mut roots, mut roots_of) = (Vec::new(), u32::MAX);
        // Samples that differ in thread or cause only are one.
        for same in samples.chunk_by(|one, other| (one.0, one.1) == (other.0, other.1)) {
            let (owner, stack, _) = same[0];
            if roots_of != owner {
                let names = profile.owners[owner as usize].roots();
                (roots, roots_of) = (names.iter().map(|name| self.names.of(&part(name))).collect(), owner);
            }
            let begin = self.frames.len();
            self.frames.extend(&roots);
            let stack = profile.stacks[stack as usize].iter().rev();
            self.frames.extend(stack.map(|frame| frames[*frame as usize]));
            let mut own = [0, 0];
            same.iter().for_each(|(.., value)| own[side].grow(*value));
            self.stacks.push(Stack { path: begin..self.frames.len(), own });
        }
    }

    /// The sum of everything.
    pub(super) fn total(&self) -> Pair {
        self.stacks.iter().fold([0, 0], |sum, stack| plus(sum, stack.own))
    }

    /// Folded stacks in the order of their names, with their values. A branch that has less than `least` on both
    /// sides is not told apart: its value is its parent's own.
    pub(super) fn lines(mut self, least: u64, mut line: impl FnMut(&str, Pair)) {
        self.sort();
        let mut below = vec![[0, 0]];
        for stack in &self.stacks {
            below.push(plus(below[below.len() - 1], stack.own));
        }
        let sorted = Sorted { names: &self.names.names, frames: &self.frames, stacks: &self.stacks, below };
        sorted.walk(0..self.stacks.len(), 0, least, &mut String::new(), &mut line);
    }

    /// Brings the stacks into the order of their names, so that each branch is a range of them.
    fn sort(&mut self) {
        let names = &self.names.names;
        let mut order: Vec<u32> = (0..names.len() as u32).collect();
        order.sort_unstable_by_key(|number| &names[*number as usize]);
        let mut rank = vec![0; names.len()];
        for (place, number) in order.iter().enumerate() {
            rank[*number as usize] = place as u32;
        }
        self.frames.iter_mut().for_each(|frame| *frame = rank[*frame as usize]);
        self.names.names = order.iter().map(|number| names[*number as usize].clone()).collect();
        let Tree { frames, stacks, .. } = self;
        stacks.sort_unstable_by(|one, other| frames[one.path.clone()].cmp(&frames[other.path.clone()]));
    }
}

/// Stacks in the order of their names.
struct Sorted<'a> {
    names: &'a [Arc<str>],
    frames: &'a [u32],
    stacks: &'a [Stack],
    /// For each stack, and behind the last, the sum of all before it.
    below: Vec<Pair>,
}

impl Sorted<'_> {
    /// Goes through a branch: stacks that have their first `depth` frames in common, which `text` names.
    fn walk(
        &self,
        branch: Range<usize>,
        depth: usize,
        least: u64,
        text: &mut String,
        line: &mut impl FnMut(&str, Pair),
    ) {
        let frame = |at: usize| self.frames[self.stacks[at].path.clone()].get(depth).copied();
        // Those that end here come before all that go on.
        let mut at =
            branch.start + self.stacks[branch.clone()].partition_point(|stack| stack.path.len() == depth);
        let mut own = self.sum(branch.start..at);
        let mut children = Vec::new();
        while at < branch.end {
            let begin = at;
            let child = frame(begin);
            at += self.stacks[begin..branch.end]
                .partition_point(|stack| self.frames[stack.path.clone()].get(depth).copied() == child);
            let sum = self.sum(begin..at);
            match child {
                Some(child) if sum.iter().any(|sum| *sum >= least) => children.push((child, begin..at)),
                _ => own = plus(own, sum),
            }
        }
        if own != [0, 0] && !text.is_empty() {
            line(text, own);
        }
        for (child, branch) in children {
            let before = text.len();
            if before > 0 {
                text.push(';');
            }
            text.push_str(&self.names[child as usize]);
            // No deeper than what the kernel keeps of two stacks, and some notes and roots.
            self.walk(branch, depth + 1, least, text, line);
            text.truncate(before);
        }
    }

    fn sum(&self, of: Range<usize>) -> Pair {
        let (end, begin) = (self.below[of.end], self.below[of.start]);
        [end[0] - begin[0], end[1] - begin[1]]
    }
}

fn plus(mut sum: Pair, more: Pair) -> Pair {
    sum.iter_mut().zip(more).for_each(|(sum, more)| sum.grow(more));
    sum
}

/// A frame as flame graphs write it: `_[k]` marks the kernel's, `_[i]` what was inlined.
fn shown(frame: &Frame) -> String {
    let mark = match frame {
        Frame { kernel: true, .. } => "_[k]",
        Frame { inlined: true, .. } => "_[i]",
        Frame { .. } => "",
    };
    format!("{}{mark}", part(&frame.name))
}

/// A name as a part of a folded stack, in which `;` parts frames.
fn part(name: &str) -> String {
    if name.is_empty() { "[unnamed]".into() } else { name.replace(';', ":") }
}
