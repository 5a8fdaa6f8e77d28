//! A program under test that runs beside the test: its lines, and its certain end.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::netns::die_with_test;
use crate::truth::Truth;

/// How long a test waits for one line or for an end before it fails.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// How often a wait for an end looks again.
const LOOK: Duration = Duration::from_millis(5);

/// A running program that prints lines of JSON. Dropping it kills it, by its own pid, and reaps it.
pub struct Running {
    name: String,
    child: Child,
    lines: Receiver<String>,
}

impl Running {
    /// Starts the command with its stdin and stdout at the test's end; its stderr goes to the test's.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(mut command: Command) -> Running {
        let name = command.get_program().to_string_lossy().into_owned();
        die_with_test(&mut command).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("starting {name}: {error}"));
        let stdout = BufReader::new(child.stdout.take().expect("stdout was piped"));
        let (sender, lines) = channel();
        // Reads to the end even when the test does not listen, so that the program never stands still.
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Running { name, child, lines }
    }

    /// Pid of the program.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a line to its stdin.
    ///
    /// # Panics
    /// When it does not take it.
    pub fn say(&mut self, line: &str) {
        let stdin = self.child.stdin.as_mut().expect("stdin was piped");
        writeln!(stdin, "{line}").unwrap_or_else(|error| panic!("{} does not listen: {error}", self.name));
    }

    /// Its next line; None when it has closed its stdout.
    ///
    /// # Panics
    /// When none comes in [`PATIENCE`], or it is not JSON.
    pub fn next_line(&mut self) -> Option<Truth> {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => {
                let value: Value = serde_json::from_str(&line)
                    .unwrap_or_else(|error| panic!("{} printed {line:?}: {error}", self.name));
                Some(Truth::new(value))
            }
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("{} printed nothing for {PATIENCE:?}", self.name),
        }
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// When it cannot be sent.
    pub fn signal(&self, signal: i32) {
        // SAFETY: plain numbers; the child is not yet reaped, so the pid is its own.
        let returned = unsafe { libc::kill(self.pid() as libc::pid_t, signal) };
        assert_eq!(returned, 0, "signal {signal} to {}", self.name);
    }

    /// Closes its stdin and waits for its end; returns the lines not yet read, and how it ended.
    ///
    /// # Panics
    /// When it has not ended in [`PATIENCE`].
    pub fn finish(mut self) -> (Vec<Truth>, ExitStatus) {
        drop(self.child.stdin.take());
        let rest = std::iter::from_fn(|| self.next_line()).collect();
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return (rest, status),
                Ok(None) if Instant::now() < deadline => std::thread::sleep(LOOK),
                Ok(None) => panic!("{} did not end", self.name),
                Err(error) => panic!("waiting for {}: {error}", self.name),
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail harmlessly when it has ended and was reaped.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
