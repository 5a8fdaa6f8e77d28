//! Draws a flame graph of a made-up profile: how long that takes is the truth.

use std::time::Instant;

use anyhow::{Result, bail};
use serde_json::{Value, json};
use slowpod::fold::{Limits, State, Window};
use slowpod::views::Query;
use slowpod::views::profiles::model::{Frame, Profile, Sample};
use slowpod::views::profiles::owner::Owner;
use slowpod::views::profiles::{self, svg};

use crate::Work;
use crate::args::Args;

pub(crate) const OPTIONS: &str = "[--samples N] [--frames N]";
const SAMPLES_MAX: u64 = 10_000_000;
/// Processes, and functions of each: a large node's.
const PROCESSES: u64 = 100;
const FUNCTIONS: u64 = 400;
/// Different stacks: more than a window keeps.
const STACKS: u64 = 100_000;

/// `--samples` samples with stacks of `--frames` frames.
pub(crate) fn prepare(args: &mut Args) -> Result<Work> {
    let samples = args.count("--samples", 1_000_000, SAMPLES_MAX)?;
    let frames = args.count("--frames", 50, 127)?;
    Ok(Box::new(move || run(samples, frames)))
}

fn run(samples: u64, frames: u64) -> Result<Value> {
    let profile = made(samples, frames);
    let begun = Instant::now();
    let picture = svg::encode(&profile, None, svg::Style { value: 1, ..svg::Style::default() });
    let render_ns = begun.elapsed().as_nanos() as u64;
    let drawn = String::from_utf8_lossy(&picture).matches("<title>").count();
    if drawn < 2 {
        bail!(
            "nothing was drawn: {}",
            String::from_utf8_lossy(&picture).chars().take(600).collect::<String>()
        );
    }
    Ok(json!({ "samples": samples, "render_ns": render_ns, "drawn": drawn, "bytes": picture.len() }))
}

/// Numbers that look random and are the same in each run.
fn dice(state: &mut u64, below: u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) % below
}

fn made(samples: u64, depth: u64) -> Profile {
    let snapshot = State::new(Window::ALL, Limits::WINDOW).finish(0);
    let empty = profiles::profile(&profiles::profile::KIND, &snapshot, &Query::default());
    let named = |number: u64| Frame {
        name: format!("github.com/example/project/package{}.(*Type).Function{number}", number % 40).into(),
        ..Frame::default()
    };
    let mut state = 7;
    // Stacks share their beginnings, as those of true programs do.
    let stack = |state: &mut u64| -> Box<[u32]> {
        let first = dice(state, PROCESSES) as u32;
        let mut frames = vec![first];
        let branches = depth.saturating_sub(20);
        for at in 1..depth {
            let choices = if at < branches { 2 } else { 6 };
            let step = dice(state, choices);
            frames.push(((u64::from(first) + at * 7 + step) % FUNCTIONS) as u32);
        }
        frames.reverse();
        frames.into()
    };
    let stacks: Vec<Box<[u32]>> = (0..STACKS).map(|_| stack(&mut state)).collect();
    let sample = |number: u64| Sample {
        owner: stacks[(number % STACKS) as usize].last().copied().unwrap_or(0) % PROCESSES as u32,
        thread: None,
        cause: None,
        stack: (number % STACKS) as u32,
        values: [1, 10_101_010, 0],
    };
    let samples = (0..samples).map(sample).collect();
    let owner =
        |pid: u64| Owner { pid: pid as u32 + 1, process: format!("daemon-{pid}").into(), ..Owner::default() };
    Profile {
        frames: (0..FUNCTIONS).map(named).collect(),
        stacks,
        owners: (0..PROCESSES).map(owner).collect(),
        samples,
        ..empty
    }
}
