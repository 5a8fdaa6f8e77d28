//! Execs out of the ordinary: of deleted and nameless files, of scripts, from a thread that is not the leader,
//! several in a row, and those that fail on the way.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::Work;
use crate::args::Args;
use crate::shared::Shared;
use crate::spawn::{Child, How, NO_EXEC, Program, children_json, environ, start};
use crate::sys::{self, gettid};

pub(crate) const CHAIN_OPTIONS: &str = "[--count N]";
pub(crate) const PATH_OPTIONS: &str = "[--count N] [--missing]";

const CHAIN_MAX: u64 = 1000;
const PATH_COUNT_MAX: u64 = 100_000;

/// Three execs of a file without a name: by descriptor after its unlink, by descriptor of a memfd, and by path
/// with the unlink while it runs.
pub(crate) fn prepare_deleted(_: &mut Args) -> Result<Work> {
    Ok(Box::new(|| {
        let scratch = tempfile::tempdir()?;
        let unlinked = copy_program("/bin/true", &scratch.path().join("unlinked"))?;
        let file = File::open(&unlinked)?;
        fs::remove_file(&unlinked)?;
        let memory = memory_file("slowpod-true", &fs::read("/bin/true")?)?;
        let running = copy_program("/bin/sleep", &scratch.path().join("removed-while-running"))?;

        let by_unlinked = exec_descriptor(&file, "unlinked")?;
        let by_memfd = exec_descriptor(&memory, "memfd")?;
        let program = Program::new(&running, &["sleep", "0.2"]);
        let removed = Child::run(|| {
            // posix_spawn returns once the exec is done.
            let pid = start(How::Spawn, &program)?;
            fs::remove_file(&running)?;
            Ok(pid)
        })?
        .expect_exit(0)?;
        Ok(json!({ "execs": [
            { "kind": "unlinked", "filename": format!("/dev/fd/{}", file.as_raw_fd()), "child": by_unlinked.json() },
            { "kind": "memfd", "filename": format!("/dev/fd/{}", memory.as_raw_fd()), "child": by_memfd.json() },
            { "kind": "removed-while-running", "filename": running, "child": removed.json() },
        ]}))
    }))
}

/// Copies a program, complete and closed for writing, so that it can be executed (else ETXTBSY).
fn copy_program(from: &str, to: &Path) -> Result<PathBuf> {
    fs::copy(from, to).with_context(|| format!("copying {from} to {}", to.display()))?;
    Ok(to.to_owned())
}

fn memory_file(name: &str, contents: &[u8]) -> Result<File> {
    let name = std::ffi::CString::new(name)?;
    // SAFETY: a NUL-terminated name; the descriptor is checked before it is owned.
    let mut file =
        unsafe { File::from_raw_fd(sys::check(libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC))?) };
    file.write_all(contents)?;
    Ok(file)
}

/// fexecve of the file, with argv `["true", KIND]`.
fn exec_descriptor(file: &File, kind: &str) -> io::Result<Child> {
    let program = Program::new("", &["true", kind]);
    Child::run(|| {
        sys::fork(|| {
            // SAFETY: argv and environ are as execve wants them.
            unsafe { libc::fexecve(file.as_raw_fd(), program.argv_pointers(), environ()) };
            NO_EXEC
        })
    })?
    .expect_exit(0)
}

/// Exit code of the script, to tell that it was the script that ran.
const SCRIPT_EXIT: i32 = 3;

/// A `#!` script run with two arguments; `argv` is what the kernel makes of it.
pub(crate) fn prepare_script(_: &mut Args) -> Result<Work> {
    Ok(Box::new(|| {
        let scratch = tempfile::tempdir()?;
        let script = scratch.path().join("script.sh");
        write_executable(&script, format!("#!/bin/sh -e\nexit {SCRIPT_EXIT}\n").as_bytes(), 0o755)?;
        let program = Program::new(&script, &["ignored-argv0", "first", "second"]);
        let child = Child::run(|| start(How::Spawn, &program))?.expect_exit(SCRIPT_EXIT)?;
        Ok(json!({
            "script": script,
            "argv": ["/bin/sh", "-e", script, "first", "second"],
            "exit_code": SCRIPT_EXIT,
            "child": child.json(),
        }))
    }))
}

fn write_executable(path: &Path, contents: &[u8], mode: u32) -> io::Result<()> {
    OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?.write_all(contents)
}

/// A child whose second thread calls exec: the process keeps its pid, and the thread's id is gone.
pub(crate) fn prepare_from_thread(_: &mut Args) -> Result<Work> {
    Ok(Box::new(|| {
        let program = Program::new("/bin/true", &["true", "exec-from-thread"]);
        let shared = Shared::new(1)?;
        let child = Child::run(|| {
            sys::fork(|| {
                std::thread::scope(|scope| {
                    scope.spawn(|| {
                        shared.put(0, gettid() as u64);
                        program.exec();
                        sys::exit_now(NO_EXEC)
                    });
                });
                // Not reached: the exec ends this thread, which is waiting for the other.
                1
            })
        })?
        .expect_exit(0)?;
        Ok(json!({ "child": child.json(), "exec_tid": shared.get(0) }))
    }))
}

/// One child that becomes `env` N times, and `true` at last: N + 1 execs under one pid.
pub(crate) fn prepare_chain(args: &mut Args) -> Result<Work> {
    let count = args.count("--count", 3, CHAIN_MAX)? as usize;
    Ok(Box::new(move || {
        let argv: Vec<_> = std::iter::repeat_n("/usr/bin/env", count).chain(["/bin/true"]).collect();
        let program = Program::new("/usr/bin/env", &argv);
        let child = Child::run(|| start(How::Spawn, &program))?.expect_exit(0)?;
        Ok(json!({ "execs": count + 1, "child": child.json() }))
    }))
}

/// Directories on the search path.
const DIRECTORIES: usize = 6;
/// The one with a file that may not be executed.
const FORBIDDEN: usize = 2;
/// The tool that is searched for.
const TOOL: &str = "tool";

/// N children that search a path of six directories for a tool, as execvp does: ENOENT everywhere but in the
/// third (EACCES) and the last (found, unless `--missing`: then they exit with 127).
pub(crate) fn prepare_path_search(args: &mut Args) -> Result<Work> {
    let count = args.count("--count", 10, PATH_COUNT_MAX)?;
    let missing = args.flag("--missing");
    Ok(Box::new(move || path_search(count, missing)))
}

fn path_search(count: u64, missing: bool) -> Result<Value> {
    let scratch = tempfile::tempdir()?;
    let paths: Vec<_> = (0..DIRECTORIES).map(|n| scratch.path().join(format!("d{n}")).join(TOOL)).collect();
    for path in &paths {
        fs::create_dir(path.parent().context("a tool has a directory")?)?;
    }
    write_executable(&paths[FORBIDDEN], b"", 0o644)?;
    if !missing {
        copy_program("/bin/true", &paths[DIRECTORIES - 1])?;
    }
    let attempts: Vec<_> = paths.iter().map(|path| Program::new(path, &[TOOL, "search"])).collect();
    let expected: Vec<_> = (0..DIRECTORIES)
        .map(|n| match n {
            FORBIDDEN => Some(libc::EACCES),
            n if n == DIRECTORIES - 1 && !missing => None,
            _ => Some(libc::ENOENT),
        })
        .collect();
    let children = (0..count)
        .map(|_| {
            Child::run(|| sys::fork(|| search(&attempts, &expected)))?.expect_exit(if missing {
                NO_EXEC
            } else {
                0
            })
        })
        .collect::<io::Result<Vec<_>>>()?;
    let fails: Vec<_> = paths
        .iter()
        .zip(&expected)
        .filter_map(|(path, errno)| {
            errno.map(|errno| json!({ "path": path, "errno": errno, "count": count }))
        })
        .collect();
    if fails.is_empty() {
        bail!("a search that never fails is none");
    }
    Ok(json!({
        "spawns": count,
        "found": (!missing).then(|| &paths[DIRECTORIES - 1]),
        "exec_fails": fails.len() as u64 * count,
        "fails": fails,
        "children": children_json(&children),
    }))
}

/// Tries each in turn; exit code 1 when one fails otherwise than expected.
fn search(attempts: &[Program], expected: &[Option<i32>]) -> i32 {
    for (attempt, expected) in attempts.iter().zip(expected) {
        if attempt.exec().raw_os_error() != *expected {
            return 1;
        }
    }
    NO_EXEC
}
