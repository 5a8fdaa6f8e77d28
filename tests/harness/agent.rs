//! The agent as a process of its own: started, waited for, asked over HTTP, and ended in order.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use slowpod::client::{self, ClientError};

use crate::netns::die_with_test;
use crate::truth::Truth;

/// Longest wait for the agent to attach, to have read what a test did, or to end.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a wait asks again. The agent answers the same question anew once a second.
const LOOK: Duration = Duration::from_millis(50);

/// Starts the agent: `agent!()`, or with more options of `slowpod run`: `agent!("--ring-kib", "64")`. A macro for the
/// same reason as [`crate::workload!`].
#[macro_export]
macro_rules! agent {
    ($($option:expr),* $(,)?) => {
        $crate::agent::Agent::start(&$crate::agent::binary(env!("CARGO_BIN_EXE_workload")), &[$($option),*])
    };
}

/// The agent's program: the one that `SLOWPOD_BIN` names, else the one built beside the workload.
pub fn binary(workload: &str) -> PathBuf {
    let beside = || Path::new(workload).with_file_name("slowpod");
    std::env::var_os("SLOWPOD_BIN").map_or_else(beside, PathBuf::from)
}

/// A running agent. Dropping it asks it to end, and fails the test when it does not end well.
pub struct Agent {
    child: Child,
    address: String,
    said: Arc<Mutex<String>>,
}

impl Agent {
    /// Starts `slowpod run` on a free port with these further options, and waits until it is ready.
    ///
    /// # Panics
    /// When it does not get there; with what it said.
    pub fn start(program: &Path, options: &[&str]) -> Agent {
        let mut command = Command::new(program);
        command.args(["run", "--listen", "127.0.0.1:0"]).args(options);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let started = die_with_test(&mut command).spawn();
        let mut child = started.unwrap_or_else(|error| {
            panic!("{}: {error}; `cargo build -p slowpod` makes it", program.display())
        });
        let mut lines = BufReader::new(child.stderr.take().expect("stderr was piped")).lines();
        let mut early = String::new();
        let address = lines.by_ref().map_while(Result::ok).find_map(|line| {
            early += &format!("{line}\n");
            Some(line.strip_prefix("listening on http://")?.trim_end_matches('/').to_owned())
        });
        let Some(address) = address else {
            let status = child.wait();
            panic!("the agent does not say where it listens ({status:?}); it said:\n{early}");
        };
        let said = Arc::new(Mutex::new(early));
        let more = Arc::clone(&said);
        // Reads on to the end, so that the agent never stands still in a write.
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                *more.lock().expect("no one panics with it") += &format!("{line}\n");
            }
        });
        let agent = Agent { child, address, said };
        // From its first word on: a client that is quick must not be turned away.
        agent.get("/readyz").unwrap_or_else(|error| panic!("not ready: {error}\n{}", agent.said()));
        agent
    }

    /// Pid of the agent.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where it listens: `127.0.0.1:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// What it has written to stderr so far.
    pub fn said(&self) -> String {
        self.said.lock().expect("no one panics with it").clone()
    }

    /// Its answer to a path.
    ///
    /// # Errors
    /// What the agent refuses, or how the connection fails.
    ///
    /// # Panics
    /// When the answer is not JSON.
    pub fn get(&self, path: &str) -> Result<Truth, ClientError> {
        let body = client::get(&self.address, path)?;
        let value: Value =
            serde_json::from_slice(&body).unwrap_or_else(|error| panic!("{path} answers no JSON: {error}"));
        Ok(Truth::new(value))
    }

    /// Its answer once it has read everything up to an instant of CLOCK_MONOTONIC.
    ///
    /// # Panics
    /// When it refuses, or falls behind by more than half a minute.
    pub fn view_at(&self, path: &str, ktime_ns: u64) -> Truth {
        self.view_when(path, |answer| answer.number("/window/until_ktime_ns") > ktime_ns)
    }

    /// Its first answer for which something holds.
    ///
    /// # Panics
    /// When it refuses, or nothing of the kind comes for half a minute; then with the last answer.
    pub fn view_when(&self, path: &str, holds: impl Fn(&Truth) -> bool) -> Truth {
        let mut last = None;
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            let answer = self.get(path).unwrap_or_else(|error| panic!("{path}: {error}\n{}", self.said()));
            if holds(&answer) {
                return answer;
            }
            last = Some(answer);
            std::thread::sleep(LOOK);
        }
        panic!("{path} never answers as awaited; last: {last:?}\n{}", self.said());
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// When it cannot be sent.
    pub fn signal(&self, signal: i32) {
        // SAFETY: plain numbers; the child is not yet reaped, so the pid is its own.
        let returned = unsafe { libc::kill(self.pid() as libc::pid_t, signal) };
        assert_eq!(returned, 0, "signal {signal} to the agent");
    }

    /// How it ended, once it has.
    ///
    /// # Panics
    /// When it does not end in half a minute.
    pub fn await_end(&mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return status,
                Ok(None) if begun.elapsed() < PATIENCE => std::thread::sleep(LOOK / 10),
                Ok(None) => panic!("the agent does not end; it said:\n{}", self.said()),
                Err(error) => panic!("waiting for the agent: {error}"),
            }
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Ok(Some(_)) = self.child.try_wait() {
            // Ended by the test, which has looked at how.
            return;
        }
        if std::thread::panicking() {
            eprintln!("the agent said:\n{}", self.said());
            // No second panic: that would hide the first.
            let _ = self.child.kill();
            let _ = self.child.wait();
            return;
        }
        self.signal(libc::SIGTERM);
        let status = self.await_end();
        assert!(status.success(), "the agent ended badly ({status}); it said:\n{}", self.said());
    }
}

/// Now, by CLOCK_MONOTONIC: the clock of the agent's instants.
pub fn monotonic_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel fills the timespec, which lives until the call returns; this clock is always there.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
