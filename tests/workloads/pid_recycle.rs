//! One pid, several processes, within a second.

use std::io;

use anyhow::{Context, Result};
use serde_json::json;

use crate::Work;
use crate::args::Args;
use crate::spawn::{Child, NO_EXEC, Program, children_json};
use crate::sys::{self, Pid};

pub(crate) const OPTIONS: &str = "[--times N]";

const TIMES_MAX: u64 = 1000;
/// How often another process may take the pid meanwhile before this gives up.
const TRIES: usize = 10;

/// N children in turn that all get the same pid (clone3 with set_tid; needs root), each with its own argv
/// `["true", "recycled-I"]`.
pub(crate) fn prepare(args: &mut Args) -> Result<Work> {
    let times = args.count("--times", 3, TIMES_MAX)?;
    Ok(Box::new(move || {
        let mut last_error = None;
        for _ in 0..TRIES {
            // A pid that was just used is not given out again soon: pids go round.
            let free = Child::run(|| sys::fork(|| 0))?.pid;
            match recycle(free, times) {
                Ok(children) => {
                    return Ok(json!({ "pid_recycled": free, "children": children_json(&children) }));
                }
                Err(error) if error.raw_os_error() == Some(libc::EEXIST) => last_error = Some(error),
                Err(error) => return Err(error).context("clone3 with set_tid (needs CAP_SYS_ADMIN)"),
            }
        }
        Err(last_error.unwrap_or_else(|| io::Error::other("no try"))).context("the pid was taken each time")
    }))
}

fn recycle(pid: Pid, times: u64) -> io::Result<Vec<Child>> {
    (0..times)
        .map(|time| {
            let program = Program::new("/bin/true", &["true", &format!("recycled-{time}")]);
            Child::run(|| fork_as(pid, &program))?.expect_exit(0)
        })
        .collect()
}

/// fork and exec under a pid of choice.
fn fork_as(pid: Pid, program: &Program) -> io::Result<Pid> {
    // SAFETY: all zeroes is a valid clone_args.
    let mut clone: libc::clone_args = unsafe { std::mem::zeroed() };
    clone.exit_signal = libc::SIGCHLD as u64;
    clone.set_tid = (&raw const pid).addr() as u64;
    clone.set_tid_size = 1;
    // SAFETY: `clone` is whole and points to one pid; without CLONE_VM this is fork, in a process of one thread.
    let returned = unsafe { libc::syscall(libc::SYS_clone3, &raw const clone, size_of_val(&clone)) };
    match sys::check(returned as i32)? {
        0 => {
            program.exec();
            sys::exit_now(NO_EXEC)
        }
        pid => Ok(pid),
    }
}
