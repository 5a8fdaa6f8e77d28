//! `storms`, `findings`, `cni`, `pods`, `pod`, `processes`, `netlink`, `sched`, `wakers`: ask a running agent, print a table or JSON.

use super::filters::Filters;
use super::options::{self, Format};
use super::{Failure, tables};
use crate::client;
use crate::views::{self, View};
use std::io::IsTerminal;
use std::time::Duration;

/// How often `--watch` asks again.
const WATCH: Duration = Duration::from_secs(2);

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where the agent listens.
    #[arg(long, default_value = "127.0.0.1:6060", value_name = "ADDR")]
    listen: String,
    /// Length of the window: 30, 1.5, 500ms, 5m (default: 60 s; of what is looked at only when asked, 5 s).
    #[arg(short = 'd', long = "duration", visible_alias = "seconds", value_name = "SPAN")]
    duration: Option<String>,
    /// How long ago the window began (look-back).
    #[arg(long, value_name = "SPAN")]
    ago: Option<String>,
    /// Whose.
    #[command(flatten)]
    filters: Filters,
    /// Most rows.
    #[arg(long)]
    limit: Option<u32>,
    /// Output: table or json.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    /// Ask again every two seconds until interrupted.
    #[arg(long)]
    watch: bool,
}

/// Arguments of `pods`.
#[derive(Debug, clap::Args)]
pub struct Pods {
    #[command(flatten)]
    show: Args,
    /// How long a start may take before it counts as too slow (default: 5 s).
    #[arg(long, value_name = "SPAN")]
    over: Option<String>,
}

/// Arguments of `pod`.
#[derive(Debug, clap::Args)]
pub struct Pod {
    /// The pod: its UID, its name, or NAMESPACE/NAME.
    #[arg(value_name = "UID|NAME")]
    uid_or_name: String,
    #[command(flatten)]
    show: Args,
}

/// Asks for the view of this name.
///
/// # Errors
/// When no agent answers, or the agent refuses the question.
pub fn run(view: &'static str, args: Args) -> Result<(), Failure> {
    ask(view, &[], args)
}

/// Asks for pods' starts.
///
/// # Errors
/// As [`run`].
pub fn pods(args: Pods) -> Result<(), Failure> {
    let over = args.over.as_deref().map(|over| ("over", over));
    ask("pods", over.as_slice(), args.show)
}

/// Asks for one pod's starts.
///
/// # Errors
/// As [`run`].
pub fn pod(args: Pod) -> Result<(), Failure> {
    ask("pod", &[("uid", &args.uid_or_name)], args.show)
}

/// Asks for the view of this name, with parameters of its own.
fn ask(view: &'static str, own: &[(&str, &str)], args: Args) -> Result<(), Failure> {
    let path = args.path(views::named(view).expect("a verb asks for a view that there is"), own);
    // The answer may come when the window is over.
    let window = args.duration.as_deref().and_then(|text| options::duration(text).ok());
    let longest = client::ANSWER_MAX + window.unwrap_or_default();
    loop {
        let body = client::get_within(&args.listen, &path, longest)?;
        let text = tables::text(view, body, args.output)?;
        if args.watch && std::io::stdout().is_terminal() && args.output == Format::Table {
            options::print(b"\x1b[H\x1b[2J")?;
        }
        if !options::print_on(&text)? || !args.watch {
            return Ok(());
        }
        std::thread::sleep(WATCH);
    }
}

impl Args {
    fn path(&self, view: &View, own: &[(&str, &str)]) -> String {
        let more = [
            ("seconds", self.duration.clone()),
            ("ago", self.ago.clone()),
            ("limit", self.limit.map(|limit| limit.to_string())),
        ];
        let given = more.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let given: Vec<_> = given.chain(self.filters.pairs()).collect();
        let given = given.iter().map(|(name, value)| (*name, value.as_str()));
        view.url(&own.iter().copied().chain(given).collect::<Vec<_>>())
    }
}
