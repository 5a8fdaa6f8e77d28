//! `record`: everything that enters, onto a tape.

use super::live::{self, Signals, Until};
use super::{Failure, options};
use crate::agent;
use std::path::PathBuf;
use std::time::Duration;

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How long to record; Ctrl-C ends it early.
    #[arg(short, long, default_value = "30s", value_parser = options::duration, value_name = "SPAN")]
    duration: Duration,
    /// The file to write; its suffix says what: `.tape`.
    #[arg(short, long, value_name = "FILE.tape")]
    output: PathBuf,
    /// How the agent attaches and what it keeps.
    #[command(flatten)]
    attach: super::run::AttachArgs,
}

/// Records.
///
/// # Errors
/// What attaching or writing gives. A disk that fills up ends the recording; what was written stays readable.
pub fn run(args: Args) -> Result<(), Failure> {
    if args.output.extension().is_none_or(|suffix| suffix != "tape") {
        let shown = args.output.display();
        return Err(Failure::Usage(format!(
            "{shown}: the suffix says what to write; this version writes .tape"
        )));
    }
    let options = agent::Options { tape: Some(args.output.clone()), ..args.attach.options() };
    let signals = Signals::catch()?;
    let agent = agent::start(options)?;
    live::print_probes(&agent);
    signals.wait(Until::Passed(args.duration), &agent, |_| {});
    agent.stop()?;
    let bytes = std::fs::metadata(&args.output)?.len();
    let shown = args.output.display();
    eprintln!("wrote {shown} ({bytes} bytes); `slowpod replay {shown} storms` answers from it");
    Ok(())
}
