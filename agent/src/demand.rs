//! Who wants CPU samples more often than they are taken all the time. In: wishes of clients, held while they listen.
//! Out: the rate that serves all of them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a client gets that does not say: what `perf` and Go's profiler come nearest to, and no divisor of anything
/// periodic.
pub const DEFAULT_HZ: u32 = 99;
/// Most that a client can ask for. At 5 us a sample this is half a percent of every CPU.
pub const MAX_HZ: u32 = 999;

/// Wishes that are held now, by rate.
#[derive(Debug, Default)]
pub struct Demand {
    wishes: Mutex<BTreeMap<u32, usize>>,
}

/// A wish. It ends when this is dropped.
#[derive(Debug)]
pub struct Wish {
    demand: Arc<Demand>,
    hz: u32,
}

impl Demand {
    /// Wishes for `hz` samples a second on each CPU, at most [`MAX_HZ`], from the next tick on.
    pub fn wish(self: &Arc<Self>, hz: u32) -> Wish {
        let hz = hz.clamp(1, MAX_HZ);
        *self.lock().entry(hz).or_default() += 1;
        Wish { demand: Arc::clone(self), hz }
    }

    /// The highest rate wished for; `None` while nobody wishes.
    pub fn hz(&self) -> Option<u32> {
        self.lock().last_key_value().map(|(hz, _)| *hz)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, usize>> {
        self.wishes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Wish {
    fn drop(&mut self) {
        let mut wishes = self.demand.lock();
        if let Some(held) = wishes.get_mut(&self.hz) {
            *held -= 1;
            if *held == 0 {
                wishes.remove(&self.hz);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_wish_wins_for_as_long_as_it_is_held() {
        let demand = Arc::new(Demand::default());
        assert_eq!(demand.hz(), None);
        let (first, low) = (demand.wish(DEFAULT_HZ), demand.wish(49));
        let (second, high) = (demand.wish(DEFAULT_HZ), demand.wish(1_000_000));
        assert_eq!(demand.hz(), Some(MAX_HZ));
        drop(high);
        drop(first);
        assert_eq!(demand.hz(), Some(DEFAULT_HZ), "the second client goes on");
        drop(second);
        assert_eq!(demand.hz(), Some(49));
        drop(low);
        assert_eq!(demand.hz(), None);
    }
}
