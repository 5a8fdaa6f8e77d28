//! Who wants more than is looked at all the time: CPU samples more often, or who wakes whom. In: wishes of clients, held
//! while they listen. Out: the rate that serves all of them, and whether anybody asks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a client gets that does not say: what `perf` and Go's profiler come nearest to, and no divisor of anything
/// periodic.
pub const DEFAULT_HZ: u32 = 99;
/// Most that a client can ask for. At 7 us a sample (`cargo xtask bench --only programs`) this is 0.7 % of every CPU.
pub const MAX_HZ: u32 = 999;

/// Wishes that are held now, by rate.
#[derive(Debug, Default)]
pub struct Demand {
    wishes: Mutex<BTreeMap<u32, usize>>,
    wakes: Mutex<Wakes>,
}

/// Who wants to know who wakes whom, and how that stands.
#[derive(Debug, Default)]
struct Wakes {
    wishes: usize,
    watch: Watch,
}

/// How it stands with what is only looked at while somebody asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Watch {
    /// It is not looked at, or not yet.
    #[default]
    Off,
    /// It is looked at.
    On,
    /// It cannot be looked at, and why.
    Refused(String),
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
        *lock(&self.wishes).entry(hz).or_default() += 1;
        Wish { demand: Arc::clone(self), hz }
    }

    /// The highest rate wished for; `None` while nobody wishes.
    pub fn hz(&self) -> Option<u32> {
        lock(&self.wishes).last_key_value().map(|(hz, _)| *hz)
    }

    /// Wishes to know who wakes whom, from when [`Demand::wakes`] says so.
    pub fn wish_wakes(self: &Arc<Self>) -> WakesWish {
        let mut wakes = lock(&self.wakes);
        wakes.wishes += 1;
        // What was refused to others may be had now.
        if matches!(wakes.watch, Watch::Refused(_)) {
            wakes.watch = Watch::Off;
        }
        WakesWish { demand: Arc::clone(self) }
    }

    /// Whether anybody wishes to know who wakes whom.
    pub fn wants_wakes(&self) -> bool {
        lock(&self.wakes).wishes > 0
    }

    /// How it stands with who wakes whom.
    pub fn wakes(&self) -> Watch {
        lock(&self.wakes).watch.clone()
    }

    /// Says how it stands from now on.
    pub fn wakes_are(&self, watch: Watch) {
        lock(&self.wakes).watch = watch;
    }

    /// Says that nobody looks any more; false when somebody wishes for it again.
    pub fn wakes_end(&self) -> bool {
        let mut wakes = lock(&self.wakes);
        if wakes.wishes == 0 {
            wakes.watch = Watch::Off;
        }
        wakes.wishes == 0
    }
}

/// A wish to know who wakes whom. It ends when this is dropped.
#[derive(Debug)]
pub struct WakesWish {
    demand: Arc<Demand>,
}

impl Drop for WakesWish {
    fn drop(&mut self) {
        lock(&self.demand.wakes).wishes -= 1;
    }
}

/// What is inside is plain data, usable after a panic elsewhere.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Wish {
    fn drop(&mut self) {
        let mut wishes = lock(&self.demand.wishes);
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

    #[test]
    fn what_is_looked_at_ends_with_the_last_wish_and_not_before() {
        let demand = Arc::new(Demand::default());
        assert!(!demand.wants_wakes() && demand.wakes_end());
        let (first, second) = (demand.wish_wakes(), demand.wish_wakes());
        demand.wakes_are(Watch::On);
        drop(first);
        assert!(demand.wants_wakes() && !demand.wakes_end());
        assert_eq!(demand.wakes(), Watch::On, "the second still looks");
        drop(second);
        assert!(!demand.wants_wakes() && demand.wakes_end());
        assert_eq!(demand.wakes(), Watch::Off);
        demand.wakes_are(Watch::Refused("no hook".into()));
        let _third = demand.wish_wakes();
        assert_eq!(demand.wakes(), Watch::Off, "it is tried again");
    }
}
