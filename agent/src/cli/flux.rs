//! `flux`: hollow pods that run only CNI, to measure a CNI without kubelet or cluster.

use super::options::{self, Format};
use super::run::AttachArgs;
use super::{Failure, tables};
use crate::agent::{self, Agent};
use crate::capture::recent::Bounds;
use crate::flux::conflist::{self, Conflist};
use crate::flux::network::Means;
use crate::flux::report::Report;
use crate::flux::stop::Stop;
use crate::flux::verify::Control;
use crate::flux::{Flux, Options, PLUGIN_DIRS, clean, journal, netns, sandbox};
use crate::fold::Window;
use crate::pipeline;
use crate::views::findings::{FOCUS_CNI, FOCUS_NAME};
use crate::views::{self, Query};
use serde_json::{Map, Value};
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

/// The views that explain a run, in the order they are printed. A view of CNI calls belongs between the two.
const EXPLAINED_BY: [&str; 3] = ["findings", "cni", "storms"];
/// Rows per view.
const EXPLAINED_ROWS: usize = 5;
/// Bytes of records kept while a run goes on: a run of hundreds of pods, compressed.
const RECORDS_BYTES_MAX: usize = 128 << 20;
/// Longest run that is explained as a whole.
const RECORDS_KEPT_NS: u64 = 24 * 3_600_000_000_000;
/// How often the line on a terminal is drawn anew.
const REDRAW: Duration = Duration::from_millis(200);
/// Highest rate: one worker's smallest step is about a millisecond.
const RATE_MAX: f64 = 10_000.0;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The network: a CNI configuration list (or a single plugin's configuration).
    #[arg(long, value_name = "FILE", conflicts_with = "conf_dir")]
    conflist: Option<PathBuf>,
    /// Take the first configuration in this folder, as runtimes do.
    #[arg(long, value_name = "DIR", default_value = "/etc/cni/net.d")]
    conf_dir: PathBuf,
    /// Where the plugins' programs are; may be repeated [default: /opt/cni/bin and /usr/lib/cni].
    #[arg(long, value_name = "DIR")]
    plugin_dir: Vec<PathBuf>,
    /// Pods per round.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pods: u32,
    /// Most pods arriving or departing at once.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    concurrency: u32,
    /// Arrivals per second [default: as fast as it goes].
    #[arg(long, value_name = "PER_SECOND", value_parser = rate)]
    rate: Option<f64>,
    /// How long a round's pods stay once all have arrived [default: not at all].
    #[arg(long, value_name = "SPAN", value_parser = options::duration)]
    hold: Option<Duration>,
    /// Rounds; a round's pods depart while the next round's arrive.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rounds: u32,
    /// How often a failed ADD or DEL is tried again.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1_000))]
    retries: u32,
    /// Rest before a retry.
    #[arg(long, default_value = "500ms", value_name = "SPAN", value_parser = options::duration)]
    retry_backoff: Duration,
    /// Longest run of one plugin; it is killed then.
    #[arg(long, default_value = "60s", value_name = "SPAN", value_parser = options::duration)]
    timeout: Duration,
    /// An address that must answer from inside each pod: a ping, or with :PORT a TCP connect; may be repeated.
    #[arg(long, value_name = "ADDR[:PORT]")]
    verify: Vec<Control>,
    /// Longest wait for such an answer.
    #[arg(long, default_value = "10s", value_name = "SPAN", value_parser = options::duration)]
    verify_timeout: Duration,
    /// Also CHECK each pod.
    #[arg(long)]
    check: bool,
    /// Also look at TCP throughput and round trips between two pods of the first round.
    #[arg(long)]
    traffic: bool,
    /// Name of the interface in the pod.
    #[arg(long, default_value = "eth0", value_name = "NAME", value_parser = interface)]
    ifname: String,
    /// Do not run the loopback plugin.
    #[arg(long)]
    no_loopback: bool,
    /// Arguments by capability for plugins that ask for them, such as '{"portMappings": [...]}'.
    #[arg(long, value_name = "JSON", value_parser = object)]
    capability_args: Option<Map<String, Value>>,
    /// Name of the run, part of the pods' names [default: a random one].
    #[arg(long, value_name = "NAME", value_parser = run_name)]
    run: Option<String>,
    /// Attach slowpod to the run and end with what it finds.
    #[arg(long)]
    explain: bool,
    /// Output: table or json.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    /// Take away what killed runs have left (with --run: that one).
    #[arg(long)]
    clean: bool,
    /// With --clean: drop the notes on a run even when its plugins refuse.
    #[arg(long, requires = "clean")]
    forget: bool,
    /// Where notes for --clean are kept.
    #[arg(long, hide = true, default_value = journal::DIR, value_name = "DIR")]
    state_dir: PathBuf,
    /// Where network namespaces are bound.
    #[arg(long, hide = true, default_value = netns::DIR, value_name = "DIR")]
    netns_dir: PathBuf,
    /// How the agent attaches and what it keeps, with --explain.
    #[command(flatten)]
    attach: AttachArgs,
}

const EXAMPLES: &str = "Examples:
  slowpod flux --conflist bridge.conflist --pods 100 --concurrency 20 --verify 10.1.0.1
  slowpod flux --pods 50 --rounds 10 --hold 5s --rate 20     arrivals and departures together
  slowpod flux --conflist bridge.conflist --pods 30 --explain     and why it takes so long
  slowpod flux --clean     after a run that was killed";

/// Runs hollow pods, or cleans up after them.
///
/// # Errors
/// When a run cannot begin; when pods did not get their network or could not be taken away.
pub fn run(args: Args) -> Result<(), Failure> {
    let stop = Arc::new(Stop::default());
    press_on_signals(&stop)?;
    if args.clean {
        return clean_up(&args, &stop);
    }
    let list = match &args.conflist {
        Some(file) => Conflist::from_file(file)?,
        None => Conflist::from_dir(&args.conf_dir)?,
    };
    let flux = Flux::prepare(args.options()?, list, &stop)?;
    let agent = args.explain.then(|| agent::start(args.agent_options())).transpose()?;
    let report = with_progress(&flux, args.total(), || flux.run(&stop))?;
    // What was measured is printed even when it cannot be explained.
    let explained = agent.map_or_else(|| Ok(Vec::new()), explain);
    let (explained, failed) = explained.map_or_else(|failure| (Vec::new(), Err(failure)), |it| (it, Ok(())));
    print(&report, explained, args.output)?;
    verdict(&report).and(failed)
}

impl Args {
    fn options(&self) -> Result<Options, Failure> {
        let plugin_dirs = match self.plugin_dir.as_slice() {
            [] => PLUGIN_DIRS.map(PathBuf::from).to_vec(),
            given => given.to_vec(),
        };
        Ok(Options {
            run: self.run.clone().map_or_else(sandbox::new_run, Ok)?,
            pods: self.pods as usize,
            rounds: self.rounds as usize,
            concurrency: self.concurrency as usize,
            rate: self.rate,
            hold: self.hold.unwrap_or_default(),
            retries: self.retries,
            retry_backoff: self.retry_backoff,
            verify: self.verify.clone(),
            verify_timeout: self.verify_timeout,
            check: self.check,
            traffic: self.traffic,
            loopback: !self.no_loopback,
            means: Means {
                plugin_dirs,
                ifname: self.ifname.clone(),
                capability_args: self.capability_args.clone().unwrap_or_default(),
                timeout: self.timeout,
            },
            netns_dir: self.netns_dir.clone(),
            journal_dir: self.state_dir.clone(),
        })
    }

    fn agent_options(&self) -> agent::Options {
        let bounds = Bounds { keep_ns: RECORDS_KEPT_NS, bytes_max: RECORDS_BYTES_MAX };
        agent::Options { bounds, ..self.attach.options() }
    }

    fn total(&self) -> u64 {
        u64::from(self.pods) * u64::from(self.rounds)
    }
}

/// Ctrl-C and SIGTERM: the first ends arrivals, the second the wait for plugins.
fn press_on_signals(stop: &Arc<Stop>) -> Result<(), Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Caught from here on: a signal during the first ADD must not end the process.
    let (mut interrupt, mut terminate) = {
        let _guard = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    let stop = Arc::clone(stop);
    std::thread::Builder::new().name("flux-signals".into()).spawn(move || {
        runtime.block_on(async {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                let is_first = !stop.is_winding_down();
                stop.press();
                if is_first {
                    let clear = if std::io::stderr().is_terminal() { "\r\x1b[K" } else { "" };
                    let words = "taking all pods away; once more: do not wait for it";
                    // Nobody may listen any more; the next signal counts all the same.
                    let _ = writeln!(std::io::stderr(), "{clear}{words}");
                }
            }
        });
    })?;
    Ok(())
}

/// Runs `work`, with a line on how far it is on a terminal; a pipe gets none.
fn with_progress<T>(flux: &Flux, total: u64, work: impl FnOnce() -> T) -> T {
    if !std::io::stderr().is_terminal() {
        return work();
    }
    std::thread::scope(|scope| {
        let (done, ended) = channel::<()>();
        scope.spawn(move || {
            while ended.recv_timeout(REDRAW) == Err(RecvTimeoutError::Timeout) {
                let now = flux.progress();
                let (begun, ready, deleted) = (now.begun, now.ready, now.deleted);
                let bar = bar(begun + deleted, 2 * total);
                let _ = write!(
                    std::io::stderr(),
                    "\r\x1b[K{bar} {begun} of {total} pods begun, {ready} ready, {deleted} taken away"
                );
            }
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        });
        let result = work();
        drop(done);
        result
    })
}

fn bar(done: u64, whole: u64) -> String {
    const WIDTH: u64 = 24;
    let filled = (done * WIDTH / whole.max(1)).min(WIDTH) as usize;
    format!("[{}{}]", "#".repeat(filled), ".".repeat(WIDTH as usize - filled))
}

/// Detaches, and answers over the whole run: name of view and its JSON.
fn explain(agent: Agent) -> Result<Vec<(&'static str, Vec<u8>)>, Failure> {
    let hub = agent.hub();
    agent.stop()?;
    let snapshot = pipeline::answer(&hub.excerpt(&Window::ALL), Window::ALL);
    let render = |name: &'static str| {
        let view = views::named(name).ok_or_else(|| Failure::Failed(format!("there is no view {name}")))?;
        let focus = (name == "findings").then(|| (FOCUS_NAME, FOCUS_CNI.to_owned()));
        let query =
            Query { limit: Some(EXPLAINED_ROWS), more: focus.into_iter().collect(), ..Query::default() };
        Ok((name, (view.render)(&snapshot, &query)))
    };
    EXPLAINED_BY.into_iter().map(render).collect()
}

fn print(report: &Report, explained: Vec<(&'static str, Vec<u8>)>, format: Format) -> Result<(), Failure> {
    let unreadable = |error: serde_json::Error| Failure::Failed(error.to_string());
    let mut report = serde_json::to_value(report).map_err(unreadable)?;
    match format {
        Format::Json => {
            let explained =
                explained.into_iter().map(|(name, body)| Ok((name, serde_json::from_slice(&body)?)));
            let explained: Map<String, Value> = explained
                .map(|entry: Result<(&str, Value), _>| entry.map(|(name, body)| (name.to_owned(), body)))
                .collect::<Result<_, _>>()
                .map_err(unreadable)?;
            if !explained.is_empty() {
                report["explained"] = Value::Object(explained);
            }
            options::print(format!("{report}\n").as_bytes())
        }
        Format::Table => {
            let bodies = [("flux", report.to_string().into_bytes())].into_iter().chain(explained);
            let texts = bodies.map(|(name, body)| tables::render(name, &body, options::width()));
            let texts: Vec<String> = texts.collect::<Result<_, _>>().map_err(unreadable)?;
            options::print(texts.join("\n").as_bytes())
        }
    }
}

/// A run in which pods did not get what they came for fails, so that scripts notice. One that the user ended is fine as
/// long as nothing is left.
fn verdict(report: &Report) -> Result<(), Failure> {
    let mut wrong = Vec::new();
    if !report.left_behind.is_empty() {
        let count = report.left_behind.len();
        wrong.push(format!("{count} pods could not be taken away: `slowpod flux --clean` tries again"));
    }
    let pods = &report.pods;
    if !report.interrupted {
        let without = pods.begun - pods.ready;
        if without > 0 {
            wrong.push(format!("{without} of {} pods got no network", pods.begun));
        }
        if report.latency.verified_ready.is_some()
            || report.failures.iter().any(|row| row.stage.starts_with("verify"))
        {
            let unproven = pods.ready - pods.verified;
            if unproven > 0 {
                wrong.push(format!("in {unproven} of {} pods the network did not work", pods.ready));
            }
        }
    }
    if pods.address_conflicts > 0 {
        wrong.push(format!("{} addresses were given to two pods at once", pods.address_conflicts));
    }
    if wrong.is_empty() { Ok(()) } else { Err(Failure::Failed(wrong.join("; "))) }
}

fn clean_up(args: &Args, stop: &Stop) -> Result<(), Failure> {
    let cleaned = clean::clean(&args.state_dir, args.run.as_deref(), args.forget, stop)?;
    let mut text = String::new();
    for run in &cleaned {
        text.push_str(&format!("run {}: {} pods taken away\n", run.run, run.pods));
    }
    if cleaned.is_empty() {
        text.push_str("no run has left anything\n");
    }
    options::print(text.as_bytes())?;
    let left: Vec<String> = cleaned
        .iter()
        .flat_map(|run| run.left.iter().map(move |why| format!("run {}: {why}", run.run)))
        .collect();
    if left.is_empty() { Ok(()) } else { Err(Failure::Failed(left.join("\n"))) }
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate| (0.001..=RATE_MAX).contains(rate));
    rate.ok_or_else(|| format!("pods per second, from 0.001 to {RATE_MAX}"))
}

fn interface(text: &str) -> Result<String, String> {
    let named = conflist::is_interface_name(text).then(|| text.to_owned());
    named.ok_or_else(|| "up to 15 letters, without white space, `/` and `:`".to_owned())
}

fn run_name(text: &str) -> Result<String, String> {
    let is_fine = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let named = ((1..=20).contains(&text.len()) && text.bytes().all(is_fine)).then(|| text.to_owned());
    named.ok_or_else(|| "up to 20 lower-case letters, digits and `-`".to_owned())
}

fn object(text: &str) -> Result<Map<String, Value>, String> {
    serde_json::from_str(text).map_err(|error| format!("not a JSON object: {error}"))
}
