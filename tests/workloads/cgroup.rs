//! Cgroups that come and go under one name, with children that run in them.

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::Work;
use crate::args::Args;
use crate::spawn::{Child, NO_EXEC, Program};
use crate::sys::{self, Pid, monotonic_ns};

pub(crate) const OPTIONS: &str = "[--rounds N] [--path RELATIVE] [--how move|clone-into] [--child-ms C]";

const ROUNDS_MAX: u64 = 10_000;
/// clone_args.flags (`linux/sched.h`); beyond 32 bits, so not in libc's CLONE_ constants of type int.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// N times: make the cgroup, run a child in it (moved there before its exec, or born there), remove it. Every
/// time it has the same path and another id.
pub(crate) fn prepare(args: &mut Args) -> Result<Work> {
    let rounds = args.count("--rounds", 3, ROUNDS_MAX)?;
    let path = PathBuf::from(args.text("--path", &format!("slowpod-workload-{}", std::process::id()))?);
    let how = args.text("--how", "move")?;
    let child_ms: u64 = args.value("--child-ms", 0)?;
    if !path.components().all(|part| matches!(part, Component::Normal(_))) {
        bail!("--path must be relative and without dots");
    }
    let born_inside = match how.as_str() {
        "move" => false,
        "clone-into" => true,
        other => bail!("--how is move or clone-into, not {other:?}"),
    };
    Ok(Box::new(move || {
        let root = cgroup2_root()?;
        let rounds = (0..rounds)
            .map(|round| run_round(&root, &path, round, born_inside, child_ms))
            .collect::<Result<Vec<_>>>()?;
        Ok(json!({ "cgroup_path": Path::new("/").join(&path), "root": root, "rounds": rounds }))
    }))
}

fn run_round(root: &Path, path: &Path, round: u64, born_inside: bool, child_ms: u64) -> Result<Value> {
    let begun_ns = monotonic_ns();
    let made = MadeDirectories::make(root, path)?;
    let made_ns = monotonic_ns();
    let directory = root.join(path);
    // On 64-bit kernels the cgroup's id is its directory's inode number.
    let cgroup_id = fs::metadata(&directory)?.ino();
    let tag = format!("cgroup-{round}");
    let program = if child_ms == 0 {
        Program::new("/bin/true", &["true", &tag])
    } else {
        Program::new("/bin/sleep", &["sleep", &format!("{}", child_ms as f64 / 1000.0)])
    };
    let child = if born_inside {
        let handle = fs::File::open(&directory)?;
        Child::run(|| fork_into(&handle, &program))
    } else {
        let procs = directory.join("cgroup.procs");
        Child::run(|| {
            sys::fork(|| {
                if fs::write(&procs, "0").is_ok() {
                    program.exec();
                }
                NO_EXEC
            })
        })
    };
    let child = child.context("a child in the cgroup")?.expect_exit(0)?;
    let removing_ns = monotonic_ns();
    made.remove()?;
    Ok(json!({
        "cgroup_id": cgroup_id,
        "begun_ns": begun_ns,
        "made_ns": made_ns,
        "removing_ns": removing_ns,
        "removed_ns": monotonic_ns(),
        "child": child.json(),
    }))
}

/// Where the cgroup2 hierarchy is mounted: the whole of /sys/fs/cgroup, or beside v1 ones.
fn cgroup2_root() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    mounts
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>())
        .find(|fields| fields.get(2) == Some(&"cgroup2"))
        .map(|fields| PathBuf::from(fields[1]))
        .context("no cgroup2 hierarchy is mounted")
}

/// Directories made here, outermost first, and removed again whatever happens.
struct MadeDirectories {
    paths: Vec<PathBuf>,
}

impl MadeDirectories {
    /// Makes what is missing of `root/path`; the last part must be.
    fn make(root: &Path, path: &Path) -> Result<MadeDirectories> {
        let mut made = MadeDirectories { paths: Vec::new() };
        let mut directory = root.to_owned();
        for part in path.components() {
            directory.push(part);
            match fs::create_dir(&directory) {
                Ok(()) => made.paths.push(directory.clone()),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => {
                    return Err(error).with_context(|| format!("making {}", directory.display()));
                }
            }
        }
        if made.paths.last() != Some(&directory) {
            bail!("{} is there already", directory.display());
        }
        Ok(made)
    }

    fn remove(mut self) -> Result<()> {
        while let Some(path) = self.paths.pop() {
            fs::remove_dir(&path).with_context(|| format!("removing {}", path.display()))?;
        }
        Ok(())
    }
}

impl Drop for MadeDirectories {
    fn drop(&mut self) {
        while let Some(path) = self.paths.pop() {
            if let Err(error) = fs::remove_dir(&path) {
                eprintln!("left behind {}: {error}", path.display());
            }
        }
    }
}

/// fork and exec, the child born in the cgroup behind the open directory (clone3, CLONE_INTO_CGROUP).
fn fork_into(cgroup: &fs::File, program: &Program) -> io::Result<Pid> {
    // SAFETY: all zeroes is a valid clone_args.
    let mut clone: libc::clone_args = unsafe { std::mem::zeroed() };
    clone.flags = CLONE_INTO_CGROUP;
    clone.exit_signal = libc::SIGCHLD as u64;
    clone.cgroup = cgroup.as_raw_fd() as u64;
    // SAFETY: `clone` is whole; without CLONE_VM this is fork, in a process of one thread.
    let returned = unsafe { libc::syscall(libc::SYS_clone3, &raw const clone, size_of_val(&clone)) };
    match sys::check(returned as i32)? {
        0 => {
            program.exec();
            sys::exit_now(NO_EXEC)
        }
        pid => Ok(pid),
    }
}
