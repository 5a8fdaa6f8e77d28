//! `replay`: answer from a tape, through the same pipeline as live.

use super::options::{self, Format};
use super::{Failure, tables};
use crate::capture::CaptureError;
use crate::capture::tape::Reader;
use crate::fold::{Limits, State, Window};
use crate::pipeline;
use crate::views::{self, Query, View};
use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The tape.
    tape: PathBuf,
    /// What to answer: findings, storms, top, processes, netlink, cni, cni_sandbox, pods, pod, sched, sched_heatmap,
    /// wakers, probes.
    #[arg(default_value = "findings")]
    view: String,
    /// Parameters as in a URL, such as `seconds=10&ago=1m&limit=5`; `ago` counts back from the tape's end.
    /// Without `seconds` the answer covers the whole tape.
    #[arg(short, long, default_value = "", value_name = "QUERY")]
    query: String,
    /// Output: table or json.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    /// Fail with exit code 5 when the tape is damaged.
    #[arg(long)]
    strict: bool,
}

/// Answers from a tape.
///
/// # Errors
/// A file that is not a tape, a view that does not exist, a query that makes no sense.
pub fn run(args: Args) -> Result<(), Failure> {
    let names = || views::VIEWS.iter().map(|view| view.name).collect::<Vec<_>>().join(", ");
    let view = views::named(&args.view).ok_or_else(|| {
        Failure::Usage(format!("no view is called {:?}; there are: {}", args.view, names()))
    })?;
    let query = Query::parse(&args.query, view.params).map_err(|error| Failure::Usage(error.to_string()))?;
    if let Some(name) = view.in_path().find(|name| query.own(name).is_none()) {
        return Err(Failure::Usage(format!("the view {} needs --query {name}=...", view.name)));
    }
    let (body, damage) = answer(&args.tape, view, &query)?;
    options::print(&tables::text(view.name, body, args.output)?)?;
    match damage {
        Some(damage) if args.strict => Err(Failure::Incomplete(damage)),
        Some(damage) => {
            eprintln!("slowpod: {damage}");
            Ok(())
        }
        None => Ok(()),
    }
}

/// A view's answer from a tape, and what is wrong with the tape.
fn answer(path: &PathBuf, view: &View, query: &Query) -> Result<(Vec<u8>, Option<String>), Failure> {
    let unreadable = |error: CaptureError| Failure::Failed(format!("{}: {error}", path.display()));
    let open = || {
        let file = File::open(path).map_err(CaptureError::from).map_err(unreadable)?;
        Reader::new(BufReader::new(file)).map_err(unreadable)
    };
    // A window counts back from the tape's end, so that has to be known first.
    let window = if query.seconds_ns.is_none() && query.ago_ns.is_none() {
        Window::ALL
    } else {
        let mut all = State::new(Window::ALL, Limits::LIVE);
        pipeline::fold_all(&mut open()?, &mut all).map_err(unreadable)?;
        query.window(all.covered.1)
    };
    let mut state = State::new(window, Limits::WINDOW);
    let mut reader = open()?;
    pipeline::fold_all(&mut reader, &mut state).map_err(unreadable)?;
    let until_ns = state.covered.1.min(window.until_ns);
    let snapshot = state.finish(until_ns);
    let damage = reader.damage.map(|damage| {
        format!(
            "{} is damaged from byte {} on; the answer covers the {} records before it",
            path.display(),
            damage.at_byte,
            damage.records
        )
    });
    Ok(((view.render)(&snapshot, query), damage))
}
