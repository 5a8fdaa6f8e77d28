//! `demo`: one command for a newcomer without Kubernetes. Runs the agent, has a small proxy daemon play its
//! resync, prints what slowpod finds, then serves the pages until interrupted.

use super::live::{self, Signals};
use super::options;
use super::run::{self, Serving};
use super::{Failure, tables};
use crate::fold::Window;
use crate::views::{self, Query};
use crate::{agent, pipeline, web};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// What has to reach the agent's records after the daemon is done.
const SETTLE: Duration = Duration::from_millis(700);

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where to serve the pages.
    #[arg(long, default_value = "127.0.0.1:6060", value_name = "ADDR")]
    listen: String,
    /// Services the daemon holds.
    #[arg(long, default_value_t = 200)]
    services: u32,
    /// Resyncs it plays.
    #[arg(long, default_value_t = 3)]
    resyncs: u32,
    /// Print the finding and stop, without serving pages.
    #[arg(long)]
    once: bool,
}

/// Plays the demo.
///
/// # Errors
/// What attaching, listening or starting the daemon gives.
pub fn run(args: Args) -> Result<(), Failure> {
    // Listen first: a port that is taken should not cost an attach.
    let listen = || {
        let listen = web::Listen { address: args.listen.clone(), ..web::Listen::default() };
        web::bind(&listen).map_err(|error| Failure::Failed(error.to_string()))
    };
    let bound = if args.once { None } else { Some(listen()?) };
    let signals = Signals::catch()?;
    let agent = agent::start(agent::Options::default())?;
    let serving = bound.map(|bound| Serving::over(bound, &agent)).transpose()?;
    live::print_probes(&agent);
    let mut daemon = Daemon::start(&args)?;
    eprintln!(
        "playing {} resyncs of a proxy daemon with {} services, two `ipset add` each, by {}",
        args.resyncs,
        args.services,
        if daemon.stand_in {
            "a stand-in (install ipset, and run as root, for the real one)"
        } else {
            "the real ipset in a network namespace of its own"
        }
    );
    let clock = daemon.play(args.resyncs)?;
    std::thread::sleep(SETTLE);
    for (number, (wall, in_children)) in clock.iter().enumerate() {
        let share = 100.0 * in_children.as_secs_f64() / wall.as_secs_f64().max(1e-9);
        let (wall, children) = (wall.as_secs_f64(), in_children.as_secs_f64());
        eprintln!(
            "the daemon's own clock: resync {number} took {wall:.3} s, {children:.3} s in children ({share:.0} %)"
        );
    }
    let window = Window::ALL;
    let snapshot = pipeline::answer(&agent.hub().excerpt(&window), window);
    for name in ["findings", "storms"] {
        let view = views::named(name).ok_or_else(|| Failure::Failed(format!("there is no view {name}")))?;
        let body = (view.render)(&snapshot, &Query { pid: None, limit: Some(3), ..Query::default() });
        let text = tables::render(name, &body, options::width());
        options::print(text.map_err(|error| Failure::Failed(error.to_string()))?.as_bytes())?;
    }
    match serving {
        Some(serving) => {
            eprintln!("\nthe same as pages: {}   (Ctrl-C ends)", serving.url());
            run::serve_until(serving, agent, signals)
        }
        None => agent.stop(),
    }
}

/// The daemon's process. Ends when dropped.
struct Daemon {
    child: Child,
    answers: BufReader<std::process::ChildStdout>,
    stand_in: bool,
}

impl Daemon {
    fn start(args: &Args) -> Result<Daemon, Failure> {
        let mut child = Command::new("/proc/self/exe")
            .arg0("demo-proxy")
            .args(["demo-daemon", "--services", &args.services.to_string()])
            .args(["--resyncs", &args.resyncs.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().ok_or_else(|| Failure::Failed("the daemon has no output".into()))?;
        let mut daemon = Daemon { child, answers: BufReader::new(stdout), stand_in: false };
        daemon.stand_in = daemon.next_line()? != "ready ipset";
        Ok(daemon)
    }

    /// Has it play, and returns per resync its own clock: wall time, and time in children.
    fn play(&mut self, resyncs: u32) -> Result<Vec<(Duration, Duration)>, Failure> {
        if let Some(stdin) = &mut self.child.stdin {
            stdin.write_all(b"go\n")?;
        }
        let mut clock = Vec::new();
        for _ in 0..resyncs {
            let line = self.next_line()?;
            let mut words = line.split(' ').skip(2).map(|word| word.parse().map(Duration::from_nanos));
            match (words.next(), words.next()) {
                (Some(Ok(wall)), Some(Ok(in_children))) => clock.push((wall, in_children)),
                _ => return Err(Failure::Failed(format!("the demo's daemon said {line:?}"))),
            }
        }
        Ok(clock)
    }

    fn next_line(&mut self) -> Result<String, Failure> {
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            return Err(Failure::Failed("the demo's daemon ended early".into()));
        }
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Closing its input ends it; the signal is for one that hangs.
        drop(self.child.stdin.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
