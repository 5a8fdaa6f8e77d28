//! The wall clock is stepped while the agent runs: only wall-time labels may notice.

use std::time::{Duration, Instant};

use harness::agent;
use harness::truth::Truth;

use super::{LOOK, daemon_of, spawns_in, storm};

const STEP: i64 = 3_600;

/// The wall clock, stepped forth; dropping it steps it back by as much, so that what passed meanwhile stays passed.
struct SteppedClock;

impl SteppedClock {
    fn new() -> SteppedClock {
        step(STEP);
        SteppedClock
    }
}

impl Drop for SteppedClock {
    fn drop(&mut self) {
        step(-STEP);
    }
}

fn step(seconds: i64) {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the timespec lives until both calls have returned.
    let failed = unsafe {
        libc::clock_gettime(libc::CLOCK_REALTIME, &mut time);
        time.tv_sec += seconds;
        libc::clock_settime(libc::CLOCK_REALTIME, &time)
    };
    assert_eq!(failed, 0, "this test needs CAP_SYS_TIME: {}", std::io::Error::last_os_error());
}

/// Seconds of an RFC 3339 time since its midnight.
fn second_of_day(time: &str) -> i64 {
    let part = |from: usize| time[from..from + 2].parse::<i64>().expect("digits");
    part(11) * 3_600 + part(14) * 60 + part(17)
}

/// By how much the wall time of one instant is ahead of another's, beyond what passed between them.
fn ahead_s(later: &Truth, earlier: &Truth) -> i64 {
    let wall = second_of_day(later.text("/time")) - second_of_day(earlier.text("/time"));
    let passed = later.number("/ktime_ns").abs_diff(earlier.number("/ktime_ns")) / 1_000_000_000;
    (wall - passed as i64).rem_euclid(86_400)
}

/// Lets the agent look at the clock, which it does at each tick, and a loop end.
fn pause() {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(1_100) {
        std::thread::sleep(LOOK);
    }
}

#[test]
fn durations_and_windows_do_not_see_a_step_and_labels_follow_it() {
    let agent = agent!();
    let before = storm(60);
    pause();
    let stepped = SteppedClock::new();
    pause();
    let during = storm(60);
    agent.view_at("/api/v1/storms?seconds=60", during.number("/end_ns"));
    drop(stepped);
    pause();
    let after = storm(60);

    let storms = agent.view_at("/api/v1/storms?ago=60s&seconds=60", after.number("/end_ns"));
    let daemon = daemon_of(&storms, after.number("/pid") as u32).expect("the storms are in the window");
    let loops = daemon.list("/latest_loops");
    let starts = [&before, &during, &after].map(|storm| {
        let within = storm.number("/start_ns")..storm.number("/end_ns");
        let own = loops.iter().find(|own| within.contains(&own.number("/start/ktime_ns")));
        let own = own.unwrap_or_else(|| panic!("no loop begins in {within:?}: {daemon}"));
        let truth = storm.number("/storm_end_ns") - storm.number("/storm_start_ns");
        let seen = own.number("/duration_ns");
        assert_eq!(spawns_in(own, "true"), (60, 0), "{own}");
        assert!(seen.abs_diff(truth) < truth / 5 + 20_000_000, "{seen} ns where the storm took {truth}");
        Truth::new(own.at("/start").clone())
    });
    let [before, during, after] = starts;
    assert!((STEP - 2..=STEP + 2).contains(&ahead_s(&during, &before)), "{during} {before}");
    assert!([0, 1, 2, 86_399, 86_398].contains(&ahead_s(&after, &before)), "{after} {before}");
    let covered = storms.at("/window/covered_seconds").as_f64().expect("seconds");
    assert!(covered < 60.0, "{covered}");
}
