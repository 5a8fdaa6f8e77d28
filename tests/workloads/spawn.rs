//! Starting children in each of the ways there are, and the record kept of each.

use std::ffi::{CString, OsStr, c_char};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::str::FromStr;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;

use serde_json::{Value, json};

use crate::sys::{self, Pid, monotonic_ns};

/// A program to run, laid out as execve wants it, so that nothing is allocated between fork and exec.
pub(crate) struct Program {
    path: CString,
    /// Owns what `pointers` points to.
    _argv: Vec<CString>,
    pointers: Vec<*const c_char>,
}

// SAFETY: the pointers are into `_argv`'s heap blocks, which move with the struct and never change.
unsafe impl Send for Program {}
// SAFETY: as above; nothing is mutable.
unsafe impl Sync for Program {}

impl Program {
    /// A program by path, and its whole argv.
    ///
    /// # Panics
    /// When a string holds a NUL byte, which no argv can.
    pub(crate) fn new<S: AsRef<OsStr>>(path: impl AsRef<OsStr>, argv: &[S]) -> Program {
        let c_string = |text: &OsStr| CString::new(text.as_bytes()).expect("a NUL in an argument");
        let argv: Vec<_> = argv.iter().map(|word| c_string(word.as_ref())).collect();
        let pointers = argv.iter().map(|word| word.as_ptr()).chain([std::ptr::null()]).collect();
        Program { path: c_string(path.as_ref()), _argv: argv, pointers }
    }

    /// A shell command line.
    pub(crate) fn shell(script: &str) -> Program {
        Program::new("/bin/sh", &["sh", "-c", script])
    }

    /// Argv as execve and posix_spawn take it: NULL at the end.
    pub(crate) fn argv_pointers(&self) -> *const *const c_char {
        self.pointers.as_ptr()
    }

    /// Becomes the program; returns only the error.
    pub(crate) fn exec(&self) -> io::Error {
        // SAFETY: path and argv are NUL-terminated strings, argv ends with NULL, environ is the process's own.
        unsafe { libc::execve(self.path.as_ptr(), self.argv_pointers(), environ()) };
        io::Error::last_os_error()
    }
}

/// The environment that children get: this process's.
pub(crate) fn environ() -> *const *const c_char {
    unsafe extern "C" {
        static environ: *const *const c_char;
    }
    // SAFETY: set by libc at start; nothing here changes the environment.
    unsafe { environ }
}

/// The ways to start a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// posix_spawn: clone with CLONE_VM | CLONE_VFORK in today's C libraries.
    Spawn,
    /// fork, then execve.
    Fork,
    /// vfork, then execve.
    Vfork,
}

impl FromStr for How {
    type Err = io::Error;

    fn from_str(text: &str) -> io::Result<How> {
        match text {
            "spawn" => Ok(How::Spawn),
            "fork" => Ok(How::Fork),
            "vfork" => Ok(How::Vfork),
            _ => Err(io::Error::other("not one of spawn, fork, vfork")),
        }
    }
}

/// Exit code of a child that could not exec, as shells have it.
pub(crate) const NO_EXEC: i32 = 127;

/// Starts the program and returns its pid.
pub(crate) fn start(how: How, program: &Program) -> io::Result<Pid> {
    match how {
        How::Fork => sys::fork(|| {
            program.exec();
            NO_EXEC
        }),
        How::Vfork => vfork_exec(program),
        How::Spawn => {
            let mut pid = 0;
            // SAFETY: as for execve in `exec`; no file actions, no attributes.
            let error = unsafe {
                libc::posix_spawn(
                    &mut pid,
                    program.path.as_ptr(),
                    std::ptr::null(),
                    std::ptr::null(),
                    program.argv_pointers().cast(),
                    environ().cast(),
                )
            };
            if error == 0 { Ok(pid) } else { Err(io::Error::from_raw_os_error(error)) }
        }
    }
}

/// The vfork system call itself. The child runs on the caller's stack, so all it does is in this one block.
#[cfg(target_arch = "x86_64")]
fn vfork_exec(program: &Program) -> io::Result<Pid> {
    let returned: i64;
    // SAFETY: execve's arguments are valid (see `exec`). Parent: returns with the pid, having clobbered what a
    // system call does. Child: execve, or exit_group(127); it leaves neither the block nor a trace in memory.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "mov eax, {execve}",
            "syscall",
            "mov edi, {no_exec}",
            "mov eax, {exit_group}",
            "syscall",
            "ud2",
            "2:",
            execve = const libc::SYS_execve,
            exit_group = const libc::SYS_exit_group,
            no_exec = const NO_EXEC,
            inlateout("rax") libc::SYS_vfork => returned,
            in("rdi") program.path.as_ptr(),
            in("rsi") program.argv_pointers(),
            in("rdx") environ(),
            out("rcx") _,
            out("r11") _,
            options(nostack),
        );
    }
    if returned < 0 { Err(io::Error::from_raw_os_error(-returned as i32)) } else { Ok(returned as Pid) }
}

/// What vfork is on architectures without such a call.
#[cfg(not(target_arch = "x86_64"))]
fn vfork_exec(program: &Program) -> io::Result<Pid> {
    extern "C" fn become_program(program: *mut std::ffi::c_void) -> i32 {
        // SAFETY: `vfork_exec` holds the reference until the child has called exec or ended.
        unsafe { &*program.cast::<Program>() }.exec();
        NO_EXEC
    }
    sys::vfork_call(become_program, std::ptr::from_ref(program).cast_mut().cast())
}

/// One child from before its start to after its reap, on this program's clock.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Child {
    pub(crate) pid: Pid,
    /// Just before the call that made it.
    pub(crate) spawn_ns: u64,
    /// Just after the wait that reaped it.
    pub(crate) reaped_ns: u64,
    /// As wait4 gives it: exit code << 8, or the signal (| 0x80 with a core).
    pub(crate) status: i32,
}

/// How many numbers [`Child::store`] needs.
pub(crate) const CHILD_WORDS: usize = 4;

impl Child {
    /// Starts a child by `start`, and waits for it.
    pub(crate) fn run(start: impl FnOnce() -> io::Result<Pid>) -> io::Result<Child> {
        let spawn_ns = monotonic_ns();
        Child::reap(start()?, spawn_ns)
    }

    /// Waits for a child that was started at `spawn_ns`.
    pub(crate) fn reap(pid: Pid, spawn_ns: u64) -> io::Result<Child> {
        let status = sys::wait(pid)?;
        Ok(Child { pid, spawn_ns, reaped_ns: monotonic_ns(), status })
    }

    /// Fails unless the child ended with this exit code.
    pub(crate) fn expect_exit(self, code: i32) -> io::Result<Child> {
        if self.status == code << 8 {
            return Ok(self);
        }
        Err(io::Error::other(format!(
            "child {} ended with status {:#x}, not exit code {code}",
            self.pid, self.status
        )))
    }

    /// Fails unless the child died of this signal.
    pub(crate) fn expect_signal(self, signal: i32) -> io::Result<Child> {
        if self.status == signal {
            return Ok(self);
        }
        Err(io::Error::other(format!(
            "child {} ended with status {:#x}, not signal {signal}",
            self.pid, self.status
        )))
    }

    /// Keeps the record in shared memory.
    pub(crate) fn store(&self, words: &[AtomicU64]) {
        for (word, value) in
            words.iter().zip([self.pid as u64, self.spawn_ns, self.reaped_ns, self.status as u64])
        {
            word.store(value, SeqCst);
        }
    }

    /// Reads a record that [`Child::store`] wrote.
    pub(crate) fn load(words: &[AtomicU64]) -> Child {
        let number = |at: usize| words[at].load(SeqCst);
        Child { pid: number(0) as Pid, spawn_ns: number(1), reaped_ns: number(2), status: number(3) as i32 }
    }

    /// The record as the scenarios print it.
    pub(crate) fn json(&self) -> Value {
        json!({
            "pid": self.pid, "spawn_ns": self.spawn_ns, "reaped_ns": self.reaped_ns, "status": self.status,
        })
    }
}

/// Records of several children.
pub(crate) fn children_json(children: &[Child]) -> Value {
    children.iter().map(Child::json).collect()
}

/// Sum of the children's times from spawn to reap.
pub(crate) fn sum_ns(children: &[Child]) -> u64 {
    children.iter().map(|child| child.reaped_ns - child.spawn_ns).sum()
}

/// Time with at least one of the children under way: the union of their intervals.
pub(crate) fn busy_ns(children: &[Child]) -> u64 {
    let mut intervals: Vec<_> = children.iter().map(|child| (child.spawn_ns, child.reaped_ns)).collect();
    intervals.sort_unstable();
    let (mut busy, mut covered_to) = (0, 0);
    for (from, to) in intervals {
        busy += to.saturating_sub(from.max(covered_to));
        covered_to = covered_to.max(to);
    }
    busy
}
