//! `storms`, `findings`, `cni`, `processes`, `netlink`, `sched`: ask a running agent, print a table or JSON.

use super::options::{self, Format};
use super::{Failure, tables};
use crate::client;
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
    /// Length of the window: 30, 1.5, 500ms, 5m.
    #[arg(
        short = 'd',
        long = "duration",
        visible_alias = "seconds",
        default_value = "60",
        value_name = "SPAN"
    )]
    duration: String,
    /// How long ago the window began (look-back).
    #[arg(long, value_name = "SPAN")]
    ago: Option<String>,
    /// Only this pod, by UID.
    #[arg(long)]
    pod: Option<String>,
    /// Only this process.
    #[arg(long)]
    pid: Option<u32>,
    /// Only processes of this kernel name.
    #[arg(long)]
    comm: Option<String>,
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

/// Asks for the view of this name.
///
/// # Errors
/// When no agent answers, or the agent refuses the question.
pub fn run(view: &str, args: Args) -> Result<(), Failure> {
    let path = args.path(view);
    loop {
        let body = client::get(&args.listen, &path).map_err(|error| Failure::Failed(error.to_string()))?;
        let text = match args.output {
            Format::Json => body,
            Format::Table => tables::render(view, &body, options::width())
                .map_err(|error| Failure::Failed(format!("the agent's answer does not parse: {error}")))?
                .into_bytes(),
        };
        if args.watch && std::io::stdout().is_terminal() && args.output == Format::Table {
            options::print(b"\x1b[H\x1b[2J")?;
        }
        options::print(&text)?;
        if !args.watch {
            return Ok(());
        }
        std::thread::sleep(WATCH);
    }
}

impl Args {
    fn path(&self, view: &str) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("seconds", &self.duration);
        let more = [
            ("ago", self.ago.clone()),
            ("pod", self.pod.clone()),
            ("pid", self.pid.map(|pid| pid.to_string())),
            ("comm", self.comm.clone()),
            ("limit", self.limit.map(|limit| limit.to_string())),
        ];
        for (name, value) in more.iter().filter_map(|(name, value)| Some((name, value.as_ref()?))) {
            query.append_pair(name, value);
        }
        format!("/api/v1/{view}?{}", query.finish())
    }
}
