//! An agent that runs while something is measured: started, asked over HTTP, its cost read from /proc, stopped.

use crate::sh;
use anyhow::{Context, bail};
use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Longest wait for an agent to attach, and for it to go. The issue's own limit is 0.3 s.
const MAX_WAIT: Duration = Duration::from_secs(10);
/// How often it is asked whether it is there.
const POLL: Duration = Duration::from_millis(2);
/// Longest wait for an answer.
const MAX_ANSWER: Duration = Duration::from_secs(10);

/// A running agent. Dropping one that was not stopped kills it.
pub(super) struct Agent {
    child: Child,
    address: SocketAddr,
    started: Instant,
}

impl Agent {
    /// Starts an agent on a free port; it need not be attached yet when this returns.
    pub(super) fn start(program: &Path) -> anyhow::Result<Agent> {
        // The port is free again when the listener is dropped, and nobody else is looking for one meanwhile.
        let address = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?;
        let log = File::create(sh::target_dir().join("bench-agent.log"))?;
        let mut command = Command::new(program);
        command.args(["run", "--listen", &address.to_string()]).stdin(Stdio::null());
        command.stdout(log.try_clone()?).stderr(log);
        let started = Instant::now();
        let child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        Ok(Agent { child, address, started })
    }

    /// Starts an agent and waits until it is attached.
    pub(super) fn attached(program: &Path) -> anyhow::Result<Agent> {
        let mut agent = Agent::start(program)?;
        agent.wait_until("attached", Agent::is_attached)?;
        Ok(agent)
    }

    /// Whether it is attached by now.
    pub(super) fn is_attached(&self) -> bool {
        matches!(self.get("/readyz"), Ok((200, _)))
    }

    /// Waits until something holds and returns the time since the agent's start.
    pub(super) fn wait_until(
        &mut self,
        what: &str,
        holds: impl Fn(&Agent) -> bool,
    ) -> anyhow::Result<Duration> {
        while !holds(self) {
            if let Some(status) = self.child.try_wait()? {
                bail!("the agent ended ({status}) before it was {what}; see target/bench-agent.log");
            }
            if self.started.elapsed() > MAX_WAIT {
                bail!("the agent is not {what} after {MAX_WAIT:?}; see target/bench-agent.log");
            }
            std::thread::sleep(POLL);
        }
        Ok(self.started.elapsed())
    }

    /// Status and body of a GET.
    pub(super) fn get(&self, path: &str) -> anyhow::Result<(u16, String)> {
        let mut stream = TcpStream::connect_timeout(&self.address, MAX_ANSWER)?;
        stream.set_read_timeout(Some(MAX_ANSWER))?;
        // HTTP/1.0, so that the answer comes in one piece and ends with the connection.
        let request = format!("GET {path} HTTP/1.0\r\nHost: {}\r\n\r\n", self.address);
        stream.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        split(&String::from_utf8_lossy(&answer)).with_context(|| format!("no HTTP answer to {path}"))
    }

    /// A JSON answer.
    pub(super) fn json(&self, path: &str) -> anyhow::Result<serde_json::Value> {
        let (status, body) = self.get(path)?;
        if status != 200 {
            bail!("{path} answers {status}: {body}");
        }
        serde_json::from_str(&body).with_context(|| format!("{path} answers no JSON"))
    }

    /// Its process id.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Nanoseconds its threads have spent on CPUs so far (`/proc/PID/task/*/schedstat`, first field).
    pub(super) fn cpu_ns(&self) -> anyhow::Result<u64> {
        let mut sum_ns = 0;
        for thread in std::fs::read_dir(format!("/proc/{}/task", self.pid()))? {
            // A thread that ends meanwhile takes its time along; the agent's threads live as long as it does.
            let text = std::fs::read_to_string(thread?.path().join("schedstat")).unwrap_or_default();
            sum_ns += text.split(' ').next().and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
        }
        Ok(sum_ns)
    }

    /// Asks it to go, and waits until it has: after this nothing of it is attached.
    pub(super) fn stop(mut self) -> anyhow::Result<()> {
        let pid = i32::try_from(self.pid()).context("a pid is a positive int")?;
        // SAFETY: kill takes two numbers and touches no memory; the child is ours and not reaped yet.
        unsafe { libc::kill(pid, libc::SIGTERM) };
        let asked = Instant::now();
        while asked.elapsed() < MAX_WAIT {
            if let Some(status) = self.child.try_wait()? {
                return went_well(status);
            }
            std::thread::sleep(POLL);
        }
        bail!("the agent has not ended {MAX_WAIT:?} after SIGTERM")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Both fail when it has ended already, which is how it should be.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn went_well(status: ExitStatus) -> anyhow::Result<()> {
    if status.success() {
        return Ok(());
    }
    bail!("the agent ended badly ({status}); see target/bench-agent.log")
}

/// Takes an HTTP answer apart.
fn split(answer: &str) -> Option<(u16, String)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_an_answer_apart() {
        let answer = "HTTP/1.0 503 Service Unavailable\r\ncontent-length: 3\r\n\r\nno\n";
        assert_eq!(split(answer), Some((503, "no\n".to_owned())));
        assert_eq!(split("garbage"), None);
    }
}
