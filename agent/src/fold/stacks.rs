//! Call stacks by id. In: stack records. Out: frame addresses for what names a stack.

use crate::decode::Stack;
use std::collections::{BTreeMap, VecDeque};

/// Stacks kept; the oldest make room. 4,096 stacks of 30 frames are 1 MiB.
pub const STACKS_MAX: usize = 4_096;

/// All stacks known.
#[derive(Clone, Debug, Default)]
pub struct Stacks {
    known: BTreeMap<u64, Stack>,
    order: VecDeque<u64>,
    /// Stacks that had to make room.
    pub evicted: u64,
}

impl Stacks {
    /// Adds a stack.
    pub fn put(&mut self, stack: Stack) {
        let id = stack.fixed.id;
        if self.known.insert(id, stack).is_none() {
            self.order.push_back(id);
            if self.order.len() > STACKS_MAX
                && let Some(oldest) = self.order.pop_front()
            {
                self.known.remove(&oldest);
                self.evicted += 1;
            }
        }
    }

    /// The stack with this id.
    pub fn get(&self, id: u64) -> Option<&Stack> {
        self.known.get(&id)
    }

    /// All, by id.
    pub fn iter(&self) -> impl Iterator<Item = &Stack> {
        self.known.values()
    }
}
