//! What happens when things go wrong: ends of every kind, refusals, floods, clock steps, damaged tapes, hostile
//! names and hostile clients. Each test bounds its waits and leaves nothing behind.

mod bpf;
mod clock;
mod cni;
mod codes;
mod flood;
mod hostile;
mod http;
mod lifecycle;
mod recorder;
mod secrets;
mod stalled;
mod tape;
mod verbs;

use std::io::Read;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use harness::netns::die_with_test;
use harness::truth::Truth;
use harness::workload;

/// Longest wait for anything here.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a wait looks again.
const LOOK: Duration = Duration::from_millis(10);

/// Waits until something is there.
///
/// # Panics
/// When it never is.
fn until<T>(what: &str, mut there: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(result) = there() {
            return result;
        }
        assert!(begun.elapsed() < PATIENCE, "never came: {what}");
        std::thread::sleep(LOOK);
    }
}

/// Path of the agent's program.
fn program() -> String {
    harness::agent::binary(env!("CARGO_BIN_EXE_workload")).to_str().expect("a path in UTF-8").to_owned()
}

/// The agent's program with these arguments.
fn slowpod(args: &[&str]) -> Command {
    let mut command = Command::new(program());
    command.args(args);
    command
}

/// How a command ended, and what it said.
struct Ended {
    status: ExitStatus,
    out: String,
    err: String,
}

impl Ended {
    /// Its exit code; a signal's death has none.
    fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// What it printed, as JSON.
    fn json(&self) -> Truth {
        let parsed = serde_json::from_str(&self.out);
        Truth::new(parsed.unwrap_or_else(|error| panic!("{error}: {}\n{}", self.out, self.err)))
    }

    /// Its output, once it is known to have ended well.
    fn ok(self) -> Ended {
        assert_eq!(self.code(), Some(0), "{}\n{}", self.out, self.err);
        self
    }
}

/// A command under way whose output is kept. Dropping it kills it.
struct Started {
    child: Child,
    out: Kept,
    err: Kept,
}

impl Started {
    fn new(command: &mut Command) -> Started {
        die_with_test(command).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let out = Kept::new(child.stdout.take().expect("stdout was piped"));
        let err = Kept::new(child.stderr.take().expect("stderr was piped"));
        Started { child, out, err }
    }

    /// Starts the agent's program, and waits until it says that all its probes are attached.
    fn attached(command: &mut Command) -> Started {
        let mut started = Started::new(command);
        until("a word on probes", || {
            let ended = started.child.try_wait().expect("a status");
            assert_eq!(ended, None, "{}", started.err.text());
            started.err.text().contains("attached ").then_some(())
        });
        started
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    fn signal(&self, signal: i32) {
        // SAFETY: plain numbers; the child is not yet reaped, so the pid is its own.
        assert_eq!(unsafe { libc::kill(self.pid() as libc::pid_t, signal) }, 0);
    }

    fn finish(mut self) -> Ended {
        let status = until("the command's end", || self.child.try_wait().expect("a status"));
        Ended { status, out: self.out.whole(), err: self.err.whole() }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // Both fail harmlessly when it has ended and was reaped.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a pipe has given so far; read on and on, so that nobody stands still in a write.
struct Kept {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Kept {
    fn new(mut from: impl Read + Send + 'static) -> Kept {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&bytes);
        let reader = std::thread::spawn(move || {
            let mut some = [0; 4_096];
            while let Ok(got @ 1..) = from.read(&mut some) {
                kept.lock().expect("no one panics with it").extend_from_slice(&some[..got]);
            }
        });
        Kept { bytes, reader: Some(reader) }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().expect("no one panics with it")).into_owned()
    }

    /// All of it, once the other end is closed.
    fn whole(&mut self) -> String {
        if let Some(reader) = self.reader.take() {
            reader.join().expect("readers do not panic");
        }
        self.text()
    }
}

/// Runs a command to its end.
fn run(command: &mut Command) -> Ended {
    Started::new(command).finish()
}

/// The daemon that a process is of, in an answer of `storms`.
fn daemon_of(storms: &Truth, pid: u32) -> Option<Truth> {
    let is_it = |member: &Truth| *member == Truth::new(pid.into());
    storms.list("/daemons").into_iter().find(|daemon| daemon.list("/pids").iter().any(is_it))
}

/// Spawns of one binary in a daemon's or a loop's classes: all, and of them those only counted.
fn spawns_in(block: &Truth, binary: &str) -> (u64, u64) {
    let classes = block.list("/classes");
    let of_binary =
        classes.iter().filter(|class| class.text("/argv_class").split(' ').next() == Some(binary));
    of_binary.fold((0, 0), |(all, counted), class| {
        (all + class.number("/spawns"), counted + class.number("/counted"))
    })
}

/// Spawns of one binary by the daemon that a process is of, in an answer of `storms`.
fn spawns_of(storms: &Truth, pid: u32, binary: &str) -> (u64, u64) {
    daemon_of(storms, pid).map_or((0, 0), |daemon| spawns_in(&daemon, binary))
}

/// The sync loop that a workload's run is, among its daemon's latest, in an answer of `storms`.
fn loop_of(storms: &Truth, run: &Truth) -> Option<Truth> {
    let within = run.number("/start_ns")..run.number("/end_ns");
    let loops = daemon_of(storms, run.number("/pid") as u32)?.list("/latest_loops");
    loops.into_iter().find(|own| within.contains(&own.number("/start/ktime_ns")))
}

/// Children of `/bin/true` by one process, as the workload `storm` makes them.
fn storm(count: u64) -> Truth {
    workload!("storm").option("--count", count).option("--how", "threads").word("--brief").run()
}

/// The same by the workload `loop`: for slowpod another daemon, while all storms of one test are one.
fn other_storm(count: u64) -> Truth {
    workload!("loop").option("--bursts", 1).option("--per-burst", count).run()
}

/// A few programs from a shell: a third daemon.
fn small_shell() -> Truth {
    workload!("shell").option("--count", 10).run()
}
