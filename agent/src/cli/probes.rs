//! `probes`: try every probe on this kernel, say how each fares, and let go of all of them.

use super::options::{self, Format};
use super::{Failure, tables};
use crate::agent;
use crate::fold::{Limits, State, Window};
use crate::views::{self, Query};

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Output: table or json.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    /// How the agent would attach.
    #[command(flatten)]
    attach: super::run::AttachArgs,
}

/// Tries the probes.
///
/// # Errors
/// When the agent could not run here; the verdicts are printed all the same where there are any.
pub fn run(args: Args) -> Result<(), Failure> {
    let tried = agent::try_probes(&args.attach.options());
    if tried.probes.is_empty() {
        return tried.outcome;
    }
    let mut state = State::new(Window::ALL, Limits::LIVE);
    for probe in tried.probes {
        state.probes.insert(probe.probe.clone(), probe);
    }
    let view = views::named("probes").ok_or_else(|| Failure::Failed("there is no view probes".into()))?;
    let body = (view.render)(&state.finish(0), &Query::default());
    options::print(&tables::text(view.name, body, args.output)?)?;
    tried.outcome
}
