//! The ways to be slow, or to fail. In: a phase of the configuration. Out: what it measured of itself, as JSON.

use crate::span::{Account, cpu_ns};
use crate::{CniError, rtnl};
use serde::Deserialize;
use serde_json::{Value, json};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// What is written at once for `fsync`.
static CHUNK: [u8; 64 << 10] = [0x5a; 64 << 10];

/// One phase.
#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Phase {
    Lock {
        path: PathBuf,
        ms: u64,
    },
    Fsync {
        path: PathBuf,
        bytes: usize,
    },
    Tcp {
        address: String,
    },
    Unix {
        path: PathBuf,
    },
    Spawn {
        program: String,
        #[serde(default)]
        args: Vec<String>,
        times: u32,
    },
    Rtnl {
        ms: u64,
    },
    Sleep {
        ms: u64,
    },
    Burn {
        ms: u64,
    },
    Fail {
        code: u64,
        msg: String,
        #[serde(default)]
        details: String,
        times: u64,
        state: PathBuf,
    },
    Print {
        text: String,
    },
    Exit {
        code: i32,
    },
    Die {
        signal: i32,
    },
    Hang {},
}

impl Phase {
    pub(crate) fn read(phase: &Value) -> Result<Phase, CniError> {
        Phase::deserialize(phase).map_err(|error| CniError::config(format!("{phase}: {error}")))
    }

    /// Does it.
    pub(crate) fn run(self) -> Result<Value, CniError> {
        let io = |what: &'static str| move |error: io::Error| CniError::io(what, &error);
        match self {
            Phase::Lock { path, ms } => lock(&path, ms).map_err(io("the lock")),
            Phase::Fsync { path, bytes } => fsync(&path, bytes).map_err(io("the file")),
            Phase::Tcp { address } => ask(|| TcpStream::connect(&address)).map_err(io("the server")),
            Phase::Unix { path } => ask(|| UnixStream::connect(&path)).map_err(io("the daemon")),
            Phase::Spawn { program, args, times } => spawn(&program, &args, times).map_err(io("the program")),
            Phase::Rtnl { ms } => rtnl::ask(Duration::from_millis(ms)).map_err(io("the kernel")),
            Phase::Sleep { ms } => {
                std::thread::sleep(Duration::from_millis(ms));
                Ok(json!({}))
            }
            Phase::Burn { ms } => {
                let until_ns = cpu_ns() + ms * 1_000_000;
                while cpu_ns() < until_ns {}
                Ok(json!({ "cpu_ns": cpu_ns() }))
            }
            Phase::Fail { code, msg, details, times, state } => {
                let failed = count(&state).map_err(io("the state"))?;
                if failed <= times {
                    Err(CniError { code, msg, details })
                } else {
                    Ok(json!({ "attempt": failed }))
                }
            }
            Phase::Print { text } => {
                print!("{text}");
                let _ = io::stdout().flush();
                std::process::exit(0)
            }
            Phase::Exit { code } => std::process::exit(code),
            Phase::Die { signal } => {
                // SAFETY: plain numbers; our own pid.
                unsafe { libc::kill(libc::getpid(), signal) };
                Err(CniError::config(format!("signal {signal} does not end a process")))
            }
            Phase::Hang {} => loop {
                std::thread::sleep(Duration::from_secs(3_600));
            },
        }
    }
}

/// Waits for the lock, keeps it; tells how long it waited.
fn lock(path: &Path, ms: u64) -> io::Result<Value> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
    let truth = timed(|| file.lock())?;
    std::thread::sleep(Duration::from_millis(ms));
    file.unlock()?;
    Ok(truth)
}

/// Writes a file of this process's own and syncs it; tells how long the sync took, and for how long it was blocked until
/// the file was gone again.
fn fsync(dir: &Path, bytes: usize) -> io::Result<Value> {
    let path = dir.join(format!("slow-cni-{}", std::process::id()));
    let mut file = File::create(&path)?;
    let written = (|| {
        let mut left = bytes;
        while left > 0 {
            let next = left.min(CHUNK.len());
            file.write_all(&CHUNK[..next])?;
            left -= next;
        }
        timed(|| file.sync_all())
    })();
    let removed = timed(|| {
        std::fs::remove_file(&path)?;
        drop(file);
        Ok(())
    });
    let mut truth = written?;
    truth["removing_ns"] = removed?["blocked_ns"].take();
    Ok(truth)
}

/// Connects, sends one line and waits for the end of the answer.
fn ask<Peer: Read + Write>(connect: impl FnOnce() -> io::Result<Peer>) -> io::Result<Value> {
    let mut answer = Vec::new();
    let mut truth = timed(|| {
        let mut peer = connect()?;
        peer.write_all(b"add\n")?;
        peer.read_to_end(&mut answer)
    })?;
    truth["bytes"] = answer.len().into();
    Ok(truth)
}

/// Does something, and tells how long it took and of what.
fn timed<T>(work: impl FnOnce() -> io::Result<T>) -> io::Result<Value> {
    let mut account = Account::default();
    account.of(work)?;
    Ok(account.truth())
}

/// Runs a program several times, one after the other; a failed run fails the phase.
fn spawn(program: &str, args: &[String], times: u32) -> io::Result<Value> {
    timed(|| {
        for _ in 0..times {
            let status =
                Command::new(program).args(args).stdin(Stdio::null()).stdout(Stdio::null()).status()?;
            if !status.success() {
                return Err(io::Error::other(format!("{program} ended with {status}")));
            }
        }
        Ok(())
    })
}

/// Counts this container's attempts in a file of its own; the number of this one, from 1.
fn count(dir: &Path) -> io::Result<u64> {
    let container = std::env::var("CNI_CONTAINERID").unwrap_or_default();
    if container.is_empty() || container.contains('/') {
        return Err(io::Error::other("CNI_CONTAINERID is no name of a file"));
    }
    let path = dir.join(container);
    let before = match std::fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        text => text?.trim().parse().map_err(io::Error::other)?,
    };
    std::fs::write(path, format!("{}\n", before + 1))?;
    Ok(before + 1)
}
