//! The plugin's own clock: one JSON line per phase.

use crate::CniError;
use serde_json::{Value, json};
use std::fs::OpenOptions;
use std::io::Write;

/// Nanoseconds of CLOCK_MONOTONIC, the clock of the kernel's own time stamps.
pub(crate) fn now_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a timespec to write to. CLOCK_MONOTONIC is always there.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Adds a phase to the log, when there is one. `truth` is what the phase says of itself.
pub(crate) fn write(
    config: &Value,
    command: &str,
    phase: &Value,
    began_ns: u64,
    truth: Value,
) -> Result<(), CniError> {
    let Some(path) = config["log"].as_str() else { return Ok(()) };
    let line = json!({
        "pid": std::process::id(),
        "command": command,
        "container_id": std::env::var("CNI_CONTAINERID").unwrap_or_default(),
        "do": phase["do"],
        "began_ns": began_ns,
        "ended_ns": now_ns(),
        "truth": truth,
    });
    let opened = OpenOptions::new().append(true).create(true).open(path);
    // One write in append mode: plugins that run at once do not mix their lines.
    let written = opened.and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()));
    written.map_err(|error| CniError::io("writing the log", &error))
}
