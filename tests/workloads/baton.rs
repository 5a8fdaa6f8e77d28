//! A chain of three processes: the first sleeps and writes to a pipe, the second reads that and writes to the next, the
//! third reads that. Each turn wakes each of them once, by the timer or by the one before.

use std::io::{self, PipeReader, PipeWriter, Read, Write};

use anyhow::Result;
use serde_json::{Value, json};

use crate::Work;
use crate::args::Args;
use crate::spawn::Child;
use crate::sys;

pub(crate) const OPTIONS: &str = "[--turns N] [--pause-ms N]";
const TURNS_MAX: u64 = 100_000;

/// `--turns` turns, one every `--pause-ms`: long enough that whoever is woken has gone to sleep before.
pub(crate) fn prepare(args: &mut Args) -> Result<Work> {
    let turns = args.count("--turns", 100, TURNS_MAX)?;
    let pause_ns = args.count("--pause-ms", 5, 1_000)? * 1_000_000;
    Ok(Box::new(move || run(turns, pause_ns)))
}

fn run(turns: u64, pause_ns: u64) -> Result<Value> {
    let (from_first, mut to_second) = io::pipe()?;
    let (from_second, to_third) = io::pipe()?;
    let second = sys::fork(|| ended(pass(from_first, Some(to_third), turns)))?;
    let third = sys::fork(|| ended(pass(from_second, None, turns)))?;
    for _ in 0..turns {
        sys::sleep_ns(pause_ns);
        to_second.write_all(b"x")?;
    }
    for pid in [second, third] {
        Child::reap(pid, 0)?.expect_exit(0)?;
    }
    Ok(json!({ "turns": turns, "second": second, "third": third, "pause_ns": pause_ns }))
}

fn ended(passed: io::Result<()>) -> i32 {
    i32::from(passed.is_err())
}

/// Passes on what comes.
fn pass(mut from: PipeReader, mut to: Option<PipeWriter>, turns: u64) -> io::Result<()> {
    sys::die_with_parent()?;
    for _ in 0..turns {
        from.read_exact(&mut [0])?;
        if let Some(to) = &mut to {
            to.write_all(b"x")?;
        }
    }
    Ok(())
}
