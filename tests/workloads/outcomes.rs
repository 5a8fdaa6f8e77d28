//! How children end: by signals and by exit codes.

use anyhow::{Result, bail};
use serde_json::{Value, json};

use crate::Work;
use crate::args::Args;
use crate::spawn::{Child, How, Program, start};
use crate::sys::{self, monotonic_ns};

pub(crate) const EXIT_OPTIONS: &str = "N";

/// The signals, with their names.
const SIGNALS: [(i32, &str); 4] = [
    (libc::SIGTERM, "SIGTERM"),
    (libc::SIGKILL, "SIGKILL"),
    (libc::SIGSEGV, "SIGSEGV"),
    (libc::SIGABRT, "SIGABRT"),
];

/// One `sleep 30` per signal, killed by it right after its exec; no core is written.
pub(crate) fn prepare_signals(_: &mut Args) -> Result<Work> {
    Ok(Box::new(|| {
        sys::no_cores()?;
        let deaths = SIGNALS
            .iter()
            .map(|&(signal, name)| {
                let program = Program::new("/bin/sleep", &["sleep", "30"]);
                let spawn_ns = monotonic_ns();
                // posix_spawn returns when the child has called exec.
                let pid = start(How::Spawn, &program)?;
                sys::kill(pid, signal)?;
                let child = Child::reap(pid, spawn_ns)?.expect_signal(signal)?;
                Ok(json!({ "signal": signal, "name": name, "child": child.json() }))
            })
            .collect::<Result<Vec<Value>>>()?;
        Ok(json!({ "deaths": deaths }))
    }))
}

/// One shell that exits with the code given.
pub(crate) fn prepare_exit_code(args: &mut Args) -> Result<Work> {
    let code: u8 = match args.word() {
        Some(word) => word.parse()?,
        None => bail!("which exit code?"),
    };
    Ok(Box::new(move || {
        let program = Program::shell(&format!("exit {code}"));
        let child = Child::run(|| start(How::Spawn, &program))?.expect_exit(code.into())?;
        Ok(json!({ "exit_code": code, "child": child.json() }))
    }))
}
