//! Call stacks by id. In: stack records. Out: frame addresses for what names a stack.

use crate::decode::Stack;
use std::collections::{BTreeMap, VecDeque};

/// All stacks known, up to a bound; the one not used for longest makes room.
#[derive(Clone, Debug, Default)]
pub struct Stacks {
    known: BTreeMap<u64, Held>,
    /// In order of arrival; one that was used since it last came to the front goes to the back once more.
    order: VecDeque<u64>,
    max: usize,
    /// Stacks that had to make room.
    pub evicted: u64,
}

#[derive(Clone, Debug)]
struct Held {
    stack: Stack,
    used: bool,
}

impl Stacks {
    /// An empty table of at most so many stacks. A thousand of 30 frames take 0.4 MB.
    pub fn new(max: usize) -> Self {
        Stacks { max, ..Stacks::default() }
    }

    /// Adds a stack; returns the id of the one that made room.
    pub fn put(&mut self, stack: Stack) -> Option<u64> {
        let id = stack.fixed.id;
        if self.known.insert(id, Held { stack, used: false }).is_some() {
            return None;
        }
        self.order.push_back(id);
        if self.order.len() > self.max { self.make_room() } else { None }
    }

    /// Says that a record named this stack; 0 is none.
    pub fn used(&mut self, id: u64) {
        if id != 0
            && let Some(held) = self.known.get_mut(&id)
        {
            held.used = true;
        }
    }

    /// The stack with this id.
    pub fn get(&self, id: u64) -> Option<&Stack> {
        self.known.get(&id).map(|held| &held.stack)
    }

    /// All, by id.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Stack> {
        self.known.values().map(|held| &held.stack)
    }

    /// Stacks known, and how many may be.
    pub fn size(&self) -> (usize, usize) {
        (self.known.len(), self.max)
    }

    fn make_room(&mut self) -> Option<u64> {
        while let Some(oldest) = self.order.pop_front() {
            match self.known.get_mut(&oldest) {
                Some(held) if held.used => {
                    held.used = false;
                    self.order.push_back(oldest);
                }
                _ => {
                    self.known.remove(&oldest);
                    self.evicted += 1;
                    return Some(oldest);
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::FromZeros;

    fn stack(id: u64) -> Stack {
        let mut fixed = slowpod_ebpf::abi::stack::Stack::new_zeroed();
        fixed.id = id;
        Stack { fixed, frames: vec![id] }
    }

    #[test]
    fn what_is_used_outlives_what_is_not() {
        let mut stacks = Stacks::new(100);
        for id in 1..=300 {
            let forgotten = stacks.put(stack(id));
            assert_eq!(forgotten.is_some(), id > 100);
            stacks.used(1);
            stacks.used(0);
        }
        assert_eq!((stacks.size(), stacks.evicted), ((100, 100), 200));
        assert!(stacks.get(1).is_some() && stacks.get(2).is_none() && stacks.get(300).is_some());
    }

    #[test]
    fn room_is_made_even_when_all_are_used() {
        let mut stacks = Stacks::new(100);
        for id in 1..=101 {
            stacks.put(stack(id));
            (1..=id).rev().take(2).for_each(|id| stacks.used(id));
        }
        assert_eq!((stacks.iter().len(), stacks.evicted), (100, 1));
    }
}
