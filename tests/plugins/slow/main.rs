//! `slow-cni`: a CNI plugin that is slow in a known way, on demand, and says so by its own clock. For tests only.
//!
//! Its configuration holds `slow`: a list of phases done in order for ADD (and for the other commands named in `on`).
//! With `log`, each phase is one JSON line in that file: the ground truth; of waits the parts of `span.rs`. A phase is one of
//!
//! ```json
//! { "do": "lock",  "path": "/f", "ms": 20 }            take a shared flock, keep it for so long
//! { "do": "fsync", "path": "/dir", "bytes": 4096 }     write a file of its own and sync it
//! { "do": "tcp",   "address": "127.0.0.1:1" }          ask a server, wait for its answer
//! { "do": "unix",  "path": "/sock" }                   ask a daemon, wait for its answer
//! { "do": "rtnl",  "ms": 500 }                         ask the kernel for what takes RTNL, for so long
//! { "do": "spawn", "program": "true", "args": [], "times": 5 }
//! { "do": "sleep", "ms": 20 }   { "do": "burn", "ms": 20 }
//! { "do": "fail",  "code": 11, "msg": "...", "details": "...", "times": 2, "state": "/dir" }   per container
//! { "do": "print", "text": "..." }                     write this and end well: garbage, or nothing
//! { "do": "exit",  "code": 3 }   { "do": "die", "signal": 9 }   { "do": "hang" }
//! ```

mod log;
mod phases;
mod rtnl;
mod span;

use phases::Phase;
use serde_json::{Value, json};
use std::io::Read;
use std::process::ExitCode;

/// Versions it speaks.
const VERSIONS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// An error as CNI has it: code, message, details.
pub(crate) struct CniError {
    code: u64,
    msg: String,
    details: String,
}

impl CniError {
    /// The configuration cannot be used (code 7 of the specification).
    pub(crate) fn config(msg: impl Into<String>) -> CniError {
        CniError { code: 7, msg: msg.into(), details: String::new() }
    }

    /// Something failed while doing its work (codes from 100 are the plugin's own).
    pub(crate) fn io(what: &str, error: &std::io::Error) -> CniError {
        CniError { code: 100, msg: what.into(), details: error.to_string() }
    }
}

fn main() -> ExitCode {
    let command = std::env::var("CNI_COMMAND").unwrap_or_default();
    let mut input = String::new();
    let config = std::io::stdin()
        .read_to_string(&mut input)
        .map_err(|error| CniError::io("reading the configuration", &error))
        .and_then(|_| serde_json::from_str(&input).map_err(|error| CniError::config(error.to_string())));
    match config.and_then(|config: Value| answer(&command, &config)) {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(answer)) => {
            println!("{answer}");
            ExitCode::SUCCESS
        }
        Err(CniError { code, msg, details }) => {
            println!("{}", json!({ "cniVersion": "1.0.0", "code": code, "msg": msg, "details": details }));
            ExitCode::FAILURE
        }
    }
}

/// Does what the command asks; what is to be printed.
fn answer(command: &str, config: &Value) -> Result<Option<Value>, CniError> {
    if command == "VERSION" {
        return Ok(Some(json!({ "cniVersion": "1.0.0", "supportedVersions": VERSIONS })));
    }
    let slowed = match config["on"].as_array() {
        Some(commands) => commands.iter().any(|on| on == command),
        None => command == "ADD",
    };
    if slowed {
        for phase in config["slow"].as_array().into_iter().flatten() {
            let began_ns = log::now_ns();
            let truth = Phase::read(phase)?.run()?;
            log::write(config, command, phase, began_ns, truth)?;
        }
    }
    // A plugin in a chain hands on what came before it.
    Ok((command == "ADD").then(|| match config.get("prevResult") {
        Some(result) => result.clone(),
        None => json!({ "cniVersion": config["cniVersion"], "interfaces": [], "ips": [] }),
    }))
}
