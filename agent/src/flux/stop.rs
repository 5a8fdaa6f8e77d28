//! The user's wish to stop, shared by all threads of a run.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How far a run is to be cut short.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wish {
    /// Go on.
    #[default]
    GoOn,
    /// No more arrivals and no more retries; take everything away in order.
    WindDown,
    /// Do not wait for plugins either. What is then left is for `--clean`.
    GiveUp,
}

/// The wish. Once raised it does not sink.
#[derive(Debug, Default)]
pub struct Stop {
    wish: Mutex<Wish>,
    raised: Condvar,
}

impl Stop {
    /// Raises the wish by one step: what Ctrl-C does.
    pub fn press(&self) {
        let mut wish = self.lock();
        *wish = if *wish == Wish::GoOn { Wish::WindDown } else { Wish::GiveUp };
        self.raised.notify_all();
    }

    /// The wish now.
    pub fn wish(&self) -> Wish {
        *self.lock()
    }

    /// Whether nothing new is to be begun.
    pub fn is_winding_down(&self) -> bool {
        self.wish() >= Wish::WindDown
    }

    /// Sleeps, but not longer than until the run is to wind down. False when it was cut short.
    pub fn sleep(&self, span: Duration) -> bool {
        let until = Instant::now() + span;
        let mut wish = self.lock();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if *wish >= Wish::WindDown {
                return false;
            }
            if left.is_zero() {
                return true;
            }
            wish = self.raised.wait_timeout(wish, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Wish> {
        // A wish is one number: a panic elsewhere cannot have left it half written.
        self.wish.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_press_ends_a_sleep_and_a_second_gives_up() {
        let stop = Stop::default();
        assert!(stop.sleep(Duration::from_millis(1)));
        std::thread::scope(|scope| {
            let sleeper = scope.spawn(|| stop.sleep(Duration::from_secs(600)));
            stop.press();
            assert!(!sleeper.join().unwrap());
        });
        assert_eq!(stop.wish(), Wish::WindDown);
        stop.press();
        assert_eq!(stop.wish(), Wish::GiveUp);
    }
}
