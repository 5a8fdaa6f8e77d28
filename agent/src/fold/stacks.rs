//! Call stacks by id. In: stack records. Out: frame addresses for what names a stack.

use crate::decode::Stack;
use std::collections::{BTreeMap, VecDeque};

/// Stacks kept; the one not used for longest makes room. Twice as many as the kernel remembers to have sent, so that
/// none it takes for known is missing here. 8,192 stacks of 30 frames are 3 MiB.
pub const STACKS_MAX: usize = 2 * slowpod_ebpf::abi::settings::STACKS_MAX as usize;

/// All stacks known.
#[derive(Clone, Debug, Default)]
pub struct Stacks {
    known: BTreeMap<u64, Held>,
    /// In order of arrival; one that was used since it last came to the front goes to the back once more.
    order: VecDeque<u64>,
    /// Stacks that had to make room.
    pub evicted: u64,
}

#[derive(Clone, Debug)]
struct Held {
    stack: Stack,
    used: bool,
}

impl Stacks {
    /// Adds a stack.
    pub fn put(&mut self, stack: Stack) {
        let id = stack.fixed.id;
        if self.known.insert(id, Held { stack, used: false }).is_none() {
            self.order.push_back(id);
            if self.order.len() > STACKS_MAX {
                self.make_room();
            }
        }
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

    fn make_room(&mut self) {
        while let Some(oldest) = self.order.pop_front() {
            match self.known.get_mut(&oldest) {
                Some(held) if held.used => {
                    held.used = false;
                    self.order.push_back(oldest);
                }
                _ => {
                    self.known.remove(&oldest);
                    self.evicted += 1;
                    return;
                }
            }
        }
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
        let mut stacks = Stacks::default();
        for id in 1..=3 * STACKS_MAX as u64 {
            stacks.put(stack(id));
            stacks.used(1);
            stacks.used(0);
        }
        assert_eq!((stacks.iter().len(), stacks.evicted), (STACKS_MAX, 2 * STACKS_MAX as u64));
        assert!(stacks.get(1).is_some() && stacks.get(2).is_none());
        assert!(stacks.get(3 * STACKS_MAX as u64).is_some());
    }

    #[test]
    fn room_is_made_even_when_all_are_used() {
        let mut stacks = Stacks::default();
        for id in 1..=STACKS_MAX as u64 + 1 {
            stacks.put(stack(id));
            (1..=id).rev().take(2).for_each(|id| stacks.used(id));
        }
        assert_eq!((stacks.iter().len(), stacks.evicted), (STACKS_MAX, 1));
    }
}
