//! Children whose parents are not who they seem: forks without exec, double forks, CLONE_PARENT, dead parents.

use std::ffi::c_void;
use std::io;

use anyhow::{Result, bail};
use serde_json::json;

use crate::Work;
use crate::args::Args;
use crate::shared::{Shared, Stage};
use crate::spawn::{Child, How, NO_EXEC, Program, children_json};
use crate::sys::{self, Pid, getppid, monotonic_ns, sleep_ns};

pub(crate) const FORK_OPTIONS: &str = "[--count N] [--how fork|vfork]";

const FORK_COUNT_MAX: u64 = 1_000_000;
const NS_PER_MS: u64 = 1_000_000;

/// Three children that never become another program: a fork and a vfork that exit, and a fork whose exec fails.
pub(crate) fn prepare_exit_before_exec(_: &mut Args) -> Result<Work> {
    Ok(Box::new(|| {
        let nothing = Program::new("/nonexistent/program", &["program"]);
        let children = [
            ("fork", Child::run(|| sys::fork(|| 7))?.expect_exit(7)?),
            ("vfork", Child::run(|| vfork_and_exit(8))?.expect_exit(8)?),
            (
                "exec-failed",
                Child::run(|| {
                    sys::fork(|| {
                        nothing.exec();
                        NO_EXEC
                    })
                })?
                .expect_exit(NO_EXEC)?,
            ),
        ];
        let children: Vec<_> =
            children.iter().map(|(kind, child)| json!({ "kind": kind, "child": child.json() })).collect();
        Ok(json!({ "spawns": children.len(), "exec_fails": 1, "children": children }))
    }))
}

fn vfork_and_exit(code: usize) -> io::Result<Pid> {
    extern "C" fn exit_code(argument: *mut c_void) -> i32 {
        argument.addr() as i32
    }
    sys::vfork_call(exit_code, std::ptr::without_provenance_mut(code))
}

/// N children one after the other that exit at once, without exec.
pub(crate) fn prepare_fork_only(args: &mut Args) -> Result<Work> {
    let count = args.count("--count", 1000, FORK_COUNT_MAX)?;
    let how = args.value("--how", How::Fork)?;
    if how == How::Spawn {
        bail!("--how spawn always calls exec");
    }
    Ok(Box::new(move || {
        let children = (0..count)
            .map(|_| {
                let fork = || if how == How::Fork { sys::fork(|| 0) } else { vfork_and_exit(0) };
                Child::run(fork)?.expect_exit(0)
            })
            .collect::<io::Result<Vec<_>>>()?;
        Ok(json!({ "spawns": count, "children": children_json(&children) }))
    }))
}

/// Places in shared memory.
const CHILD_PID: usize = 0;
/// Its parent's pid just before its exec.
const PPID: usize = 1;
const SPAWN_NS: usize = 2;
const WORDS: usize = 3;

/// In a middle process: leaves the pid for this one; returns the middle's own exit code.
fn publish(shared: &Shared, forked: io::Result<Pid>) -> i32 {
    match forked {
        Ok(pid) => {
            shared.put(CHILD_PID, pid as u64);
            0
        }
        Err(error) => {
            eprintln!("second fork: {error}");
            1
        }
    }
}

/// Longest life of an orphan.
const ORPHAN_LIMIT_S: u32 = 10;

/// As daemons do: a middle process forks and exits; its child, orphaned, goes on and calls exec. This process
/// adopts it.
pub(crate) fn prepare_double_fork(_: &mut Args) -> Result<Work> {
    Ok(Box::new(|| {
        sys::adopt_orphans()?;
        let (shared, middle_gone) = (Shared::new(WORDS)?, Stage::new()?);
        let program = Program::new("/bin/true", &["true", "double-fork"]);
        let middle = Child::run(|| {
            sys::fork(|| {
                shared.put(SPAWN_NS, monotonic_ns());
                let daemon = sys::fork(|| {
                    // Nobody ends an orphan that waits for a process which was killed.
                    sys::end_after_seconds(ORPHAN_LIMIT_S);
                    middle_gone.wait_for(1);
                    shared.put(PPID, getppid() as u64);
                    program.exec();
                    NO_EXEC
                });
                publish(&shared, daemon)
            })
        })?
        .expect_exit(0)?;
        middle_gone.raise(1);
        let daemon = Child::reap(shared.get(CHILD_PID) as Pid, shared.get(SPAWN_NS))?.expect_exit(0)?;
        Ok(json!({
            "middle": middle.json(),
            "daemon": daemon.json(),
            "spawner_pid": middle.pid,
            "ppid": shared.get(PPID),
        }))
    }))
}

/// As runc does: a process clones with CLONE_PARENT, so its child is its sibling: this process's child.
pub(crate) fn prepare_clone_parent(_: &mut Args) -> Result<Work> {
    Ok(Box::new(|| {
        let shared = Shared::new(WORDS)?;
        let program = Program::new("/bin/true", &["true", "clone-parent"]);
        let spawner = Child::run(|| {
            sys::fork(|| {
                shared.put(SPAWN_NS, monotonic_ns());
                let sibling = clone_parent(|| {
                    shared.put(PPID, getppid() as u64);
                    program.exec();
                    NO_EXEC
                });
                publish(&shared, sibling)
            })
        })?
        .expect_exit(0)?;
        let sibling = Child::reap(shared.get(CHILD_PID) as Pid, shared.get(SPAWN_NS))?.expect_exit(0)?;
        let ppid = shared.get(PPID);
        if ppid != u64::from(std::process::id()) {
            bail!("the sibling's parent is {ppid}, not this process");
        }
        Ok(json!({
            "spawner": spawner.json(),
            "sibling": sibling.json(),
            "spawner_pid": spawner.pid,
            "ppid": ppid,
        }))
    }))
}

/// fork, but as a child of this process's parent.
fn clone_parent(body: impl FnOnce() -> i32) -> io::Result<Pid> {
    let flags = libc::CLONE_PARENT | libc::SIGCHLD;
    // SAFETY: no stack and no CLONE_VM: as fork, in a process of one thread. All other arguments are unused.
    let returned = unsafe { libc::syscall(libc::SYS_clone, flags as libc::c_long, 0, 0, 0, 0) };
    match sys::check(returned as i32)? {
        0 => sys::exit_now(body()),
        pid => Ok(pid),
    }
}

/// Orphans that a killed parent leaves.
const ORPHANS: usize = 3;
/// How long each lives on before its exec.
const ORPHAN_NS: u64 = 100 * NS_PER_MS;

/// A process with three children is killed; they live on under this process, and call exec.
pub(crate) fn prepare_parent_dies_first(_: &mut Args) -> Result<Work> {
    Ok(Box::new(|| {
        sys::adopt_orphans()?;
        let (shared, ready) = (Shared::new(ORPHANS * WORDS)?, Stage::new()?);
        let program = Program::new("/bin/true", &["true", "orphan"]);
        let parent_spawn_ns = monotonic_ns();
        let parent_pid = sys::fork(|| {
            for orphan in 0..ORPHANS {
                shared.put(orphan * WORDS + SPAWN_NS, monotonic_ns());
                let pid = sys::fork(|| {
                    sleep_ns(ORPHAN_NS);
                    shared.put(orphan * WORDS + PPID, getppid() as u64);
                    program.exec();
                    NO_EXEC
                });
                let Ok(pid) = pid else { return 1 };
                shared.put(orphan * WORDS + CHILD_PID, pid as u64);
            }
            ready.raise(1);
            // Killed meanwhile; bounded in case it is not.
            sleep_ns(50 * ORPHAN_NS);
            1
        })?;
        ready.wait_for(1);
        sys::kill(parent_pid, libc::SIGKILL)?;
        let parent = Child::reap(parent_pid, parent_spawn_ns)?.expect_signal(libc::SIGKILL)?;
        let orphans = (0..ORPHANS)
            .map(|orphan| {
                let number = |at: usize| shared.get(orphan * WORDS + at);
                let child = Child::reap(number(CHILD_PID) as Pid, number(SPAWN_NS))?.expect_exit(0)?;
                if number(PPID) != u64::from(std::process::id()) {
                    return Err(io::Error::other("an orphan was adopted by another process, or none"));
                }
                Ok(child)
            })
            .collect::<io::Result<Vec<_>>>()?;
        Ok(json!({
            "parent": parent.json(), "orphans": children_json(&orphans), "spawner_pid": parent.pid,
        }))
    }))
}
