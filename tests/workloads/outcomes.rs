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

/// One `sleep 30` per signal, killed by it once it sleeps; no core is written.
pub(crate) fn prepare_signals(_: &mut Args) -> Result<Work> {
    Ok(Box::new(|| {
        sys::no_cores()?;
        let deaths = SIGNALS
            .iter()
            .map(|&(signal, name)| {
                let program = Program::new("/bin/sleep", &["sleep", "30"]);
                let spawn_ns = monotonic_ns();
                let pid = start(How::Spawn, &program)?;
                // posix_spawn returns in the midst of the child's exec, which a signal would undo.
                await_asleep(pid)?;
                sys::kill(pid, signal)?;
                let child = Child::reap(pid, spawn_ns)?.expect_signal(signal)?;
                Ok(json!({ "signal": signal, "name": name, "child": child.json() }))
            })
            .collect::<Result<Vec<Value>>>()?;
        Ok(json!({ "deaths": deaths }))
    }))
}

/// Waits until a process blocks where signals reach it: state `S` of proc_pid_stat(5), which no exec is in.
fn await_asleep(pid: sys::Pid) -> Result<()> {
    loop {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        match stat.rsplit(") ").next().and_then(|rest| rest.chars().next()) {
            Some('S') => return Ok(()),
            Some('Z' | 'X') => bail!("child {pid} ended by itself"),
            _ => sys::sleep_ns(100_000),
        }
    }
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
