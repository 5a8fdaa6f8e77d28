//! Spawns of which start alone was told: exec and end found the ring full. In: the kernel's exact counts of them, by
//! binary, and the children a sweep found gone. Out: for each such child a binary.
//!
//! Neither says which child was which binary, and either may come first; what is exact is how many there were.

use std::collections::VecDeque;
use std::sync::Arc;

/// Most that wait to be brought together: a ring's worth of starts.
const WAITING_MAX: usize = 65_536;

/// A child that was found gone, and has no program yet.
#[derive(Clone, Debug)]
pub(super) struct Gone {
    /// [`super::loops::Loop::number`] of its loop.
    pub(super) loop_number: u64,
    /// Class it stands under meanwhile.
    pub(super) class: Arc<str>,
}

/// Those of one daemon that have not been brought together.
#[derive(Clone, Debug, Default)]
pub(super) struct Nameless {
    counted: VecDeque<(Arc<str>, u64)>,
    gone: VecDeque<Gone>,
}

impl Nameless {
    /// A child was found gone: the binary it was, if that is known.
    pub(super) fn gone(&mut self, gone: Gone) -> Option<Arc<str>> {
        let Some((binary, left)) = self.counted.front_mut() else {
            if self.gone.len() < WAITING_MAX {
                self.gone.push_back(gone);
            }
            return None;
        };
        let binary = binary.clone();
        *left -= 1;
        if *left == 0 {
            self.counted.pop_front();
        }
        Some(binary)
    }

    /// So many were of this binary: those among the children found gone.
    pub(super) fn counted(&mut self, binary: &Arc<str>, count: u64) -> impl Iterator<Item = Gone> + use<> {
        let known = usize::try_from(count).unwrap_or(usize::MAX).min(self.gone.len());
        let left = count - known as u64;
        if left > 0 && self.counted.len() < WAITING_MAX {
            self.counted.push_back((binary.clone(), left));
        }
        self.gone.drain(..known).collect::<Vec<_>>().into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whichever_comes_first_each_child_gets_one_binary() {
        let mut nameless = Nameless::default();
        let (child, binary) = (|n| Gone { loop_number: n, class: "sh (no exec)".into() }, "true".into());
        assert_eq!(nameless.gone(child(1)), None);
        assert_eq!(nameless.counted(&binary, 3).map(|gone| gone.loop_number).collect::<Vec<_>>(), [1]);
        assert_eq!(nameless.gone(child(2)), Some(binary.clone()));
        assert_eq!(nameless.gone(child(2)), Some(binary.clone()));
        assert_eq!(nameless.gone(child(2)), None, "a fork that never called exec");
    }
}
