//! `cargo xtask test`: the one test command. In: nothing but the tree. Out: every check and every tier, in order, a
//! table of them, and a closing line.

mod libtest;
pub(crate) mod setup;
mod tiers;

use crate::sh;
use anyhow::{Context, bail};
use std::time::{Duration, Instant};

/// Options of `cargo xtask test`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Run these tiers only: checks, unit, or a test target of tests/Cargo.toml (replay, web, kernel, ...).
    #[arg(long)]
    tier: Vec<String>,
    /// Install nothing; tiers whose tools are missing are not run.
    #[arg(long)]
    no_install: bool,
    /// Succeed although some tiers could not run. Refused under CI=true.
    #[arg(long)]
    allow_missing: bool,
}

/// What became of one tier.
#[derive(Debug)]
struct Outcome {
    tier: String,
    counts: libtest::Counts,
    took: Duration,
    /// Why it was not run at all.
    not_run: Option<String>,
}

/// Runs the tiers and prints the table and the closing line.
///
/// # Errors
/// When no such tier exists or a tier cannot be started. When a test failed, or a tier could not run and that is not
/// allowed, it ends the program with code 1 itself.
pub(crate) fn run(options: Options) -> anyhow::Result<()> {
    let allow_missing = options.allow_missing && !sh::is_ci();
    let known = tiers::all()?;
    if let Some(unknown) = options.tier.iter().find(|tier| !known.contains(tier)) {
        bail!("no tier {unknown:?}; there are: {}", known.join(", "));
    }
    let chosen: Vec<&str> = known
        .iter()
        .filter(|tier| options.tier.is_empty() || options.tier.contains(tier))
        .map(String::as_str)
        .collect();
    setup::prepare(&chosen, !options.no_install);
    // Not after half an hour of what can run.
    if let Some(why) = setup::lacking(&chosen) {
        eprintln!("\nSOME TIERS CANNOT RUN HERE: {why}\n");
    }
    let how = tiers::How { install: !options.no_install, rebuilt_object: chosen.contains(&"checks") };
    let mut outcomes = Vec::new();
    for tier in chosen {
        let started = Instant::now();
        let not_run = setup::lacking(&[tier]);
        let counts = match not_run {
            Some(_) => libtest::Counts::default(),
            None => tiers::run(tier, how).with_context(|| format!("tier {tier}"))?,
        };
        outcomes.push(Outcome { tier: tier.to_owned(), counts, took: started.elapsed(), not_run });
    }
    print!("{}", table(&outcomes));
    let verdict = verdict(&outcomes, allow_missing);
    if let Err(reason) = &verdict {
        println!("FAILED: {reason}");
    }
    println!("{}", closing_line(&outcomes));
    if verdict.is_err() {
        // Not as an error, whose text would come after the closing line.
        std::process::exit(1);
    }
    Ok(())
}

/// The table, a line for each tier.
fn table(outcomes: &[Outcome]) -> String {
    let mut text = format!("\n{:<12}{:>8}{:>8}{:>9}{:>10}\n", "tier", "passed", "failed", "ignored", "time");
    for Outcome { tier, counts, took, not_run } in outcomes {
        match not_run {
            Some(why) => text += &format!("{tier:<12}NOT RUN: {why}\n"),
            None => {
                text += &format!(
                    "{tier:<12}{:>8}{:>8}{:>9}{:>8.1} s\n",
                    counts.passed,
                    counts.failed,
                    counts.ignored,
                    took.as_secs_f64()
                );
            }
        }
    }
    text + "\n"
}

/// The last line of the whole run.
fn closing_line(outcomes: &[Outcome]) -> String {
    let passed: u32 = outcomes.iter().map(|outcome| outcome.counts.passed).sum();
    let failed: u32 = outcomes.iter().map(|outcome| outcome.counts.failed).sum();
    format!("{passed} passed, {failed} failed")
}

/// Whether the run as a whole succeeded.
fn verdict(outcomes: &[Outcome], allow_missing: bool) -> anyhow::Result<()> {
    let missing = outcomes.iter().filter(|outcome| outcome.not_run.is_some()).count();
    if outcomes.iter().any(|outcome| outcome.counts.failed > 0) {
        bail!("some tests failed");
    }
    if outcomes.iter().any(|outcome| outcome.counts.ignored > 0) {
        bail!("some tests are marked #[ignore]: a test runs or is not there");
    }
    if missing > 0 && !allow_missing {
        bail!("{missing} tiers were NOT RUN (see the table; --allow-missing accepts that outside CI)");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(passed: u32, failed: u32, ignored: u32, not_run: Option<&str>) -> Outcome {
        let counts = libtest::Counts { passed, failed, ignored };
        let not_run = not_run.map(str::to_owned);
        Outcome { tier: "kernel".to_owned(), counts, took: Duration::from_secs(2), not_run }
    }

    #[test]
    fn closes_with_the_sums() {
        let outcomes = [outcome(3, 0, 0, None), outcome(4, 1, 0, None), outcome(0, 0, 0, Some("no root"))];
        let text = table(&outcomes);
        assert_eq!(closing_line(&outcomes), "7 passed, 1 failed");
        assert!(text.contains("kernel      NOT RUN: no root\n"), "{text}");
    }

    #[test]
    fn what_failed_was_left_out_or_did_not_run_is_no_success() {
        assert!(verdict(&[outcome(3, 0, 0, None)], false).is_ok());
        assert!(verdict(&[outcome(3, 1, 0, None)], true).is_err());
        assert!(verdict(&[outcome(3, 0, 1, None)], true).is_err());
        assert!(verdict(&[outcome(0, 0, 0, Some("no root"))], false).is_err());
        assert!(verdict(&[outcome(0, 0, 0, Some("no root"))], true).is_ok());
    }
}
