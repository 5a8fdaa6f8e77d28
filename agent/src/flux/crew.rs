//! The workers of a run: who does what next. In: pods that depart and numbers of pods that arrive. Out: the pods that
//! are there afterwards.

use super::pod::{Pod, Site, lock};
use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// What a worker does next.
enum Job {
    Arrive(usize),
    Depart(Pod),
    /// The next arrival is not due yet.
    Wait(Duration),
    Done,
}

/// What is to be done in one phase.
struct Queue {
    departures: VecDeque<Pod>,
    arrivals: Range<usize>,
    /// Time between arrivals; zero when they come as fast as it goes.
    interval: Duration,
    begun: Instant,
    arrived: u32,
    departed: u32,
}

impl Queue {
    /// Arrivals and departures take turns as long as there are both; arrivals keep to their rate.
    fn next(&mut self, winding_down: bool) -> Job {
        if winding_down {
            self.arrivals.end = self.arrivals.start;
        }
        let early = (self.begun + self.interval * self.arrived).saturating_duration_since(Instant::now());
        let turn = self.arrived <= self.departed || self.departures.is_empty();
        if !self.arrivals.is_empty() && early.is_zero() && turn {
            self.arrived += 1;
            return self.arrivals.next().map_or(Job::Done, Job::Arrive);
        }
        if let Some(pod) = self.departures.pop_front() {
            self.departed += 1;
            return Job::Depart(pod);
        }
        if self.arrivals.is_empty() { Job::Done } else { Job::Wait(early) }
    }
}

/// Lets pods depart and arrive together, and returns those that are there at the end.
///
/// # Errors
/// When not a single worker can be started. Nothing was done then, and the pods are given back.
pub(super) fn phase(
    site: &Site<'_>,
    departures: Vec<Pod>,
    arrivals: Range<usize>,
) -> Result<Vec<Pod>, (io::Error, Vec<Pod>)> {
    let jobs = departures.len() + arrivals.len();
    let interval = site.options.rate.map_or(Duration::ZERO, |rate| Duration::from_secs_f64(1.0 / rate));
    let (departures, begun) = (departures.into(), Instant::now());
    let some_arrive = !arrivals.is_empty();
    let queue = Mutex::new(Queue { departures, arrivals, interval, begun, arrived: 0, departed: 0 });
    let (live, last_arrival) = (Mutex::new(Vec::new()), Mutex::new(begun));
    let work = || {
        loop {
            let job = lock(&queue).next(site.stop.is_winding_down());
            match job {
                Job::Arrive(number) => {
                    let pod = site.arrive(number);
                    lock(&live).extend(pod);
                    *lock(&last_arrival) = Instant::now();
                }
                Job::Depart(pod) => site.depart(pod),
                Job::Wait(span) => drop(site.stop.sleep(span)),
                Job::Done => return,
            }
        }
    };
    let started = std::thread::scope(|scope| {
        let mut refused = None;
        let mut started = 0;
        for number in 0..site.options.concurrency.min(jobs) {
            let worker = std::thread::Builder::new().name(format!("flux-{number}"));
            match worker.spawn_scoped(scope, work) {
                Ok(_) => started += 1,
                Err(error) => refused = Some(error),
            }
        }
        // Fewer workers than asked for still do all the work.
        refused.filter(|_| started == 0)
    });
    if let Some(error) = started {
        let pods = lock(&queue).departures.drain(..).collect();
        return Err((error, pods));
    }
    if some_arrive {
        let span = lock(&last_arrival).saturating_duration_since(begun);
        site.tally().arriving_ns += u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
    }
    Ok(live.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(arrivals: Range<usize>, interval: Duration) -> Queue {
        let departures = VecDeque::new();
        Queue { departures, arrivals, interval, begun: Instant::now(), arrived: 0, departed: 0 }
    }

    #[test]
    fn arrivals_keep_to_their_rate() {
        let mut queue = queue(0..2, Duration::from_secs(600));
        assert!(matches!(queue.next(false), Job::Arrive(0)));
        assert!(matches!(queue.next(false), Job::Wait(span) if span > Duration::from_secs(500)));
        queue.begun -= Duration::from_secs(600);
        assert!(matches!(queue.next(false), Job::Arrive(1)));
        assert!(matches!(queue.next(false), Job::Done));
    }

    #[test]
    fn winding_down_drops_arrivals() {
        let mut queue = queue(0..1_000, Duration::ZERO);
        assert!(matches!(queue.next(false), Job::Arrive(0)));
        assert!(matches!(queue.next(true), Job::Done));
    }
}
