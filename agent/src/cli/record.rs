//! `record`: what happens from now on, into a file; its suffix says what: a tape of everything, or a profile.

use super::filters::Filters;
use super::live::{self, Signals, Until};
use super::{Failure, options};
use crate::agent::{self, Agent};
use crate::capture::facts::clock::ktime_ns;
use crate::client;
use crate::demand::{DEFAULT_HZ, MAX_HZ};
use crate::fold::Window;
use crate::pipeline::answer;
use crate::views::profiles::{self, Kind, PROFILES, model::Profile, params, svg};
use crate::views::query::LIMIT_DEFAULT;
use crate::views::{Query, profiles::Format};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Longest wait, after the window, for its last records and for the names of the stacks in them.
const LATE_MAX: Duration = Duration::from_secs(1);
/// What a running agent may take to answer once the window is over.
const ANSWER_MAX: Duration = Duration::from_secs(60);

const PPROF_PATH: &str = "/debug/pprof/";
const FLAMEGRAPH_PATH: &str = "/flamegraph/";

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How long to record; Ctrl-C ends it early.
    #[arg(short, long, default_value = "30s", value_parser = options::duration, value_name = "SPAN")]
    duration: Duration,
    /// The file to write; its suffix says what: .tape, .pb.gz (for `go tool pprof`), .svg (a flame graph), .folded or
    /// .txt.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Kind of profile (default: profile).
    #[arg(short, long, value_parser = kind, value_name = "KIND")]
    kind: Option<&'static Kind>,
    /// CPU samples per second (default: 99).
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_HZ)))]
    hz: Option<u32>,
    /// Whose profile.
    #[command(flatten)]
    filters: Filters,
    /// Take the profile from the agent that listens there, instead of attaching.
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// How the agent attaches and what it keeps.
    #[command(flatten)]
    attach: super::run::AttachArgs,
}

fn kind(name: &str) -> Result<&'static Kind, String> {
    let names: Vec<&str> = PROFILES.iter().map(|kind| kind.name).collect();
    profiles::named(name).ok_or_else(|| format!("there are: {}", names.join(", ")))
}

/// What a file is to hold.
enum Content {
    Tape,
    Profile(Format),
}

/// Records.
///
/// # Errors
/// What attaching or writing gives. A disk that fills up ends the recording; what was written stays readable.
pub fn run(args: Args) -> Result<(), Failure> {
    let format = match content(&args.output)? {
        Content::Tape => return tape(&args),
        Content::Profile(format) => format,
    };
    let shown = args.output.display();
    let cannot = |error| Failure::Failed(format!("cannot write {shown}: {error}"));
    // Before the window: it must not be over when it turns out that there is no such directory.
    let is_new = !args.output.exists();
    let mut file =
        File::options().write(true).create(true).truncate(false).open(&args.output).map_err(cannot)?;
    let bytes = match taken(&args, format) {
        Ok(bytes) => bytes,
        Err(failure) => {
            if is_new {
                let _ = std::fs::remove_file(&args.output);
            }
            return Err(failure);
        }
    };
    if file.metadata().is_ok_and(|file| file.is_file()) {
        file.set_len(0).map_err(cannot)?;
    }
    file.write_all(&bytes).map_err(cannot)?;
    let what = match format {
        Format::Pprof => format!("; `go tool pprof {shown}` opens it"),
        Format::Svg => "; a browser opens it".to_owned(),
        Format::Folded | Format::Text => String::new(),
    };
    eprintln!("wrote {shown} ({} bytes){what}", bytes.len());
    Ok(())
}

/// The profile as bytes, from a running agent or by attaching.
fn taken(args: &Args, format: Format) -> Result<Vec<u8>, Failure> {
    if let Some(address) = &args.listen {
        return ask(args, format, address);
    }
    let profile = watch(args)?;
    if profile.samples.is_empty() {
        eprintln!("no samples: in this window nothing passed the filters that was to be sampled");
    }
    // The other formats say it themselves.
    if matches!(format, Format::Folded) {
        profile.missing().iter().for_each(|missing| eprintln!("missing: {missing}"));
    }
    Ok(format.encode(&profile, LIMIT_DEFAULT, svg_style(args.profile())))
}

fn svg_style(kind: &Kind) -> svg::Style {
    svg::Style { value: kind.default_value, ..svg::Style::default() }
}

fn content(output: &Path) -> Result<Content, Failure> {
    let name = output.file_name().unwrap_or_default().to_string_lossy();
    let of = [
        (".tape", Content::Tape),
        (".pb.gz", Content::Profile(Format::Pprof)),
        (".svg", Content::Profile(Format::Svg)),
        (".folded", Content::Profile(Format::Folded)),
        (".txt", Content::Profile(Format::Text)),
    ];
    let found = of.into_iter().find(|(suffix, _)| name.ends_with(suffix) && name.len() > suffix.len());
    found.map(|(_, content)| content).ok_or_else(|| {
        let shown = output.display();
        Failure::Usage(format!(
            "{shown}: the suffix says what to write: .tape, .pb.gz, .svg, .folded or .txt"
        ))
    })
}

impl Args {
    fn profile(&self) -> &'static Kind {
        self.kind.unwrap_or(&profiles::profile::KIND)
    }

    fn rate(&self) -> u32 {
        self.hz.unwrap_or(DEFAULT_HZ)
    }
}

fn tape(args: &Args) -> Result<(), Failure> {
    if args.listen.is_some() {
        return Err(Failure::Usage("a tape is made by attaching: leave out --listen".into()));
    }
    if args.kind.is_some() || args.hz.is_some() || args.filters.pairs().next().is_some() {
        let why = "a tape holds everything that enters: --kind, --hz and filters are for profiles, or for replaying it";
        return Err(Failure::Usage(why.into()));
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

/// Attaches, and takes a profile of what happens meanwhile.
fn watch(args: &Args) -> Result<Profile, Failure> {
    let query = query(args)?;
    let options = args.attach.options();
    let bounds = agent::Options::default().bounds;
    // The window must not outgrow the recorder.
    let keep_ns = bounds.keep_ns.max(u64::try_from(args.duration.as_nanos()).unwrap_or(u64::MAX));
    let options = agent::Options { bounds: crate::capture::recent::Bounds { keep_ns, ..bounds }, ..options };
    let signals = Signals::catch()?;
    let agent = agent::start(options)?;
    live::print_probes(&agent);
    let hub = agent.hub();
    let wish = hub.demand().wish(args.rate());
    let from_ns = ktime_ns();
    signals.wait(Until::Passed(args.duration), &agent, |_| {});
    let window = Window { from_ns, until_ns: ktime_ns() };
    await_records(&agent, window.until_ns);
    drop(wish);
    let snapshot = answer(&hub.excerpt(&window), window);
    agent.stop()?;
    Ok(profiles::profile(args.profile(), &snapshot, &query))
}

/// Waits until the records up to an instant are in, and some of the time that naming takes.
fn await_records(agent: &Agent, until_ns: u64) {
    let begun = Instant::now();
    let hub = agent.hub();
    let named_ns = until_ns.saturating_add(u64::try_from(LATE_MAX.as_nanos()).unwrap_or(u64::MAX) / 2);
    while hub.recorded_until_ns() < named_ns && begun.elapsed() < LATE_MAX && !agent.failed() {
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn query(args: &Args) -> Result<Query, Failure> {
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(args.filters.pairs()).finish();
    Query::parse(&query, params::PPROF).map_err(|error| Failure::Usage(error.to_string()))
}

/// Has a running agent take it.
fn ask(args: &Args, format: Format, address: &str) -> Result<Vec<u8>, Failure> {
    query(args)?;
    let seconds = args.duration.as_secs_f64().to_string();
    let filters: Vec<(&str, String)> = args.filters.pairs().collect();
    let get = |path: &str, more: &[(&str, &str)]| {
        let own = filters.iter().map(|(name, value)| (*name, value.as_str()));
        let query = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(own.chain(more.iter().copied()))
            .finish();
        let path = format!("{path}{}?{query}", args.profile().name);
        client::get_within(address, &path, args.duration + ANSWER_MAX)
    };
    let rate = args.rate().to_string();
    let live = [("seconds", seconds.as_str()), ("hz", &rate)];
    Ok(match format {
        Format::Pprof => get(PPROF_PATH, &live)?,
        Format::Svg => get(FLAMEGRAPH_PATH, &live)?,
        Format::Folded => get(FLAMEGRAPH_PATH, &[live[0], live[1], ("format", "folded")])?,
        // As Go's handlers, the agent gives no text of a window that lasts: it is asked for again when it is over.
        Format::Text => {
            get(PPROF_PATH, &live)?;
            get(PPROF_PATH, &[live[0], ("ago", &seconds), ("debug", "1")])?
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_suffix_says_what_to_write() {
        for (name, is_tape) in
            [("a.tape", true), ("a.pb.gz", false), ("/x/a.b.svg", false), ("a.folded", false)]
        {
            let content = content(Path::new(name)).unwrap();
            assert_eq!(matches!(content, Content::Tape), is_tape, "{name}");
        }
        for name in ["a", "a.gz", ".svg", "a.svg/", "a.png", "tape"] {
            let is_folder = name.ends_with('/');
            assert_eq!(content(Path::new(name)).is_err(), !is_folder, "{name}");
        }
    }
}
