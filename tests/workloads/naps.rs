//! A thread that sleeps often and shortly: each time too short for a record of its own.

use anyhow::Result;
use serde_json::json;

use crate::Work;
use crate::args::Args;
use crate::sys::{monotonic_ns, sleep_ns};

pub(crate) const OPTIONS: &str = "[--count N] [--nap-us N]";
const COUNT_MAX: u64 = 1_000_000;
/// So long that a process has a row of waits of its own from here on.
const OLD_ENOUGH_NS: u64 = 2_100_000_000;

/// `--count` naps of `--nap-us` microseconds, once the process is no newcomer any more.
pub(crate) fn prepare(args: &mut Args) -> Result<Work> {
    let count = args.count("--count", 2_000, COUNT_MAX)?;
    let nap_ns = args.count("--nap-us", 300, 1_000_000)? * 1_000;
    Ok(Box::new(move || {
        sleep_ns(OLD_ENOUGH_NS);
        let begin_ns = monotonic_ns();
        let mut away_ns = 0;
        for _ in 0..count {
            let before_ns = monotonic_ns();
            sleep_ns(nap_ns);
            away_ns += monotonic_ns() - before_ns;
        }
        Ok(json!({ "naps": count, "begin_ns": begin_ns, "end_ns": monotonic_ns(), "away_ns": away_ns }))
    }))
}
