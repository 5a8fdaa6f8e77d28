//! `diagnose`: attach, watch, print ranked findings, leave nothing behind.

use super::live::{self, Signals, Until};
use super::options::{self, Format};
use super::{Failure, tables};
use crate::capture::recent::Bounds;
use crate::fold::Window;
use crate::views::{self, Query, completeness};
use crate::{agent, pipeline};
use std::io::{IsTerminal, Write};
use std::time::Duration;

/// Bytes of records kept while watching: a storm at full speed for ten minutes, compressed.
const RECORDS_BYTES_MAX: usize = 128 << 20;

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How long to watch; Ctrl-C ends it early and still prints.
    #[arg(short, long, default_value = "30s", value_parser = options::duration, value_name = "SPAN")]
    duration: Duration,
    /// Output: table (plain words) or json.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    /// Fail with exit code 5 when data are missing.
    #[arg(long)]
    strict: bool,
    /// How the agent attaches and what it keeps.
    #[command(flatten)]
    attach: super::run::AttachArgs,
}

/// Diagnoses this node.
///
/// # Errors
/// What attaching gives; with `--strict`, missing data.
pub fn run(args: Args) -> Result<(), Failure> {
    let keep = args.duration + Duration::from_secs(60);
    let keep_ns = u64::try_from(keep.as_nanos()).unwrap_or(u64::MAX);
    let bounds = Bounds { keep_ns, bytes_max: RECORDS_BYTES_MAX };
    let signals = Signals::catch()?;
    let agent = agent::start(agent::Options { bounds, ..args.attach.options() })?;
    live::print_probes(&agent);
    signals.wait(Until::Passed(args.duration), &agent, |gone| show_progress(gone, args.duration, &agent));
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[K");
    }
    let hub = agent.hub();
    agent.stop()?;
    let snapshot = pipeline::answer(&hub.excerpt(&Window::ALL), Window::ALL);
    let view = views::named("findings").ok_or_else(|| Failure::Failed("there is no view findings".into()))?;
    let body = (view.render)(&snapshot, &Query::default());
    options::print(&tables::text(view.name, body, args.output)?)?;
    if args.strict && !completeness::completeness(&snapshot).complete {
        return Err(Failure::Incomplete("data are missing; the completeness block says which".into()));
    }
    Ok(())
}

/// Says on a terminal how far the watch is; a pipe gets no such line.
fn show_progress(gone: Duration, whole: Duration, agent: &agent::Agent) {
    let mut err = std::io::stderr();
    if !err.is_terminal() {
        return;
    }
    let spawns: u64 = agent.hub().pulse().loss.received.get("spawn").copied().unwrap_or(0);
    let (gone, whole) = (gone.as_secs_f64().min(whole.as_secs_f64()), whole.as_secs_f64());
    let _ = write!(err, "\r\x1b[Kwatching: {gone:.0} of {whole:.0} s, {spawns} processes spawned");
    let _ = err.flush();
}
