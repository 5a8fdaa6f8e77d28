//! Samples as a tree from the root frames (pod, container, process) up to the innermost function. In: a profile.
//! Out: folded stacks, each once and in order.
//!
//! Stacks are merged before they are written: a million samples go through some thousand stacks, and what is too
//! narrow to be seen need not be drawn.

use super::model::{Frame, Profile};
use crate::fold::grow::Grow;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A tree over one or two profiles.
pub(super) struct Tree {
    names: Names,
    nodes: Vec<Node>,
}

/// Values of a first profile and of a second one.
pub(super) type Pair = [u64; 2];

#[derive(Default)]
struct Node {
    name: u32,
    children: BTreeMap<u32, u32>,
    /// Of the stacks that end here.
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
        Tree { names: Names::default(), nodes: vec![Node::default()] }
    }

    /// Adds one value of a profile's samples, as the first or the second of each pair.
    pub(super) fn add(&mut self, profile: &Profile, value: usize, side: usize) {
        // Samples that differ in thread or cause only are one.
        let mut sums: BTreeMap<(u32, u32), u64> = BTreeMap::new();
        for sample in &profile.samples {
            sums.entry((sample.owner, sample.stack)).or_default().grow(sample.values[value]);
        }
        let frames: Vec<u32> = profile.frames.iter().map(|frame| self.names.of(&shown(frame))).collect();
        let mut root = (u32::MAX, 0);
        for ((owner, stack), sum) in sums.into_iter().filter(|(_, sum)| *sum > 0) {
            if root.0 != owner {
                let roots = profile.owners[owner as usize].roots();
                let roots: Vec<u32> = roots.iter().map(|name| self.names.of(&part(name))).collect();
                root = (owner, roots.into_iter().fold(0, |node, name| self.child(node, name)));
            }
            let stack = profile.stacks[stack as usize].iter().rev();
            let leaf = stack.fold(root.1, |node, frame| self.child(node, frames[*frame as usize]));
            self.nodes[leaf as usize].own[side].grow(sum);
        }
    }

    fn child(&mut self, node: u32, name: u32) -> u32 {
        let next = self.nodes.len() as u32;
        let child = *self.nodes[node as usize].children.entry(name).or_insert(next);
        if child == next {
            self.nodes.push(Node { name, ..Node::default() });
        }
        child
    }

    /// Folded stacks in the order of their names, with their values. A branch that has less than `least` on both
    /// sides is not told apart: its value is its parent's own.
    pub(super) fn lines(&self, least: u64, mut line: impl FnMut(&str, Pair)) {
        let totals = self.totals();
        let mut text = String::new();
        self.walk(0, &totals, least, &mut text, &mut line);
    }

    /// The sum of each node and all above it. A child has a higher number than its parent.
    fn totals(&self) -> Vec<Pair> {
        let mut totals: Vec<Pair> = self.nodes.iter().map(|node| node.own).collect();
        for (number, node) in self.nodes.iter().enumerate().rev() {
            for child in node.children.values() {
                let child = totals[*child as usize];
                totals[number].iter_mut().zip(child).for_each(|(sum, more)| sum.grow(more));
            }
        }
        totals
    }

    /// The sum of everything.
    pub(super) fn total(&self) -> Pair {
        self.nodes.iter().fold([0, 0], |mut sum, node| {
            sum.iter_mut().zip(node.own).for_each(|(sum, own)| sum.grow(own));
            sum
        })
    }

    fn walk(
        &self,
        number: u32,
        totals: &[Pair],
        least: u64,
        text: &mut String,
        line: &mut impl FnMut(&str, Pair),
    ) {
        let node = &self.nodes[number as usize];
        let narrow = |child: &u32| totals[*child as usize].iter().all(|sum| *sum < least);
        let mut own = node.own;
        for child in node.children.values().filter(|child| narrow(child)) {
            own.iter_mut().zip(totals[*child as usize]).for_each(|(sum, more)| sum.grow(more));
        }
        if own != [0, 0] && !text.is_empty() {
            line(text, own);
        }
        let mut children: Vec<u32> = node.children.values().copied().filter(|child| !narrow(child)).collect();
        children.sort_by_key(|child| &self.names.names[self.nodes[*child as usize].name as usize]);
        for child in children {
            let before = text.len();
            if before > 0 {
                text.push(';');
            }
            text.push_str(&self.names.names[self.nodes[child as usize].name as usize]);
            // No deeper than what the kernel keeps of two stacks, and some notes and roots.
            self.walk(child, totals, least, text, line);
            text.truncate(before);
        }
    }
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
