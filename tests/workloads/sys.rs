//! System calls as safe functions. The program keeps to one thread wherever it forks, so that a forked child
//! may run ordinary code.

use std::ffi::c_void;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

pub(crate) use libc::pid_t as Pid;

/// Exit code of a forked child whose body panicked.
const PANICKED: i32 = 101;

/// A system call's return value as a result: -1 is an error, and errno says which.
pub(crate) fn check(returned: i32) -> io::Result<i32> {
    if returned < 0 { Err(io::Error::last_os_error()) } else { Ok(returned) }
}

/// Nanoseconds of CLOCK_MONOTONIC, the clock of the kernel's own time stamps (`bpf_ktime_get_ns`).
pub(crate) fn monotonic_ns() -> u64 {
    clock_ns(libc::CLOCK_MONOTONIC)
}

/// CPU time of the calling thread, nanoseconds.
pub(crate) fn thread_cpu_ns() -> u64 {
    clock_ns(libc::CLOCK_THREAD_CPUTIME_ID)
}

fn clock_ns(clock: libc::clockid_t) -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a timespec to write to.
    let returned = unsafe { libc::clock_gettime(clock, &mut now) };
    assert_eq!(returned, 0, "clock {clock}");
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Spends this much CPU time on the calling thread.
pub(crate) fn burn_cpu_ns(amount_ns: u64) {
    let until = thread_cpu_ns() + amount_ns;
    while thread_cpu_ns() < until {}
}

/// Sleeps by clock_nanosleep, however often a signal interrupts.
pub(crate) fn sleep_ns(amount_ns: u64) {
    std::thread::sleep(Duration::from_nanos(amount_ns));
}

/// Time the calling thread has waited in run queues since it began, nanoseconds: the kernel's own account
/// (`/proc/thread-self/schedstat`, second number).
pub(crate) fn run_delay_ns() -> io::Result<u64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    text.split_whitespace()
        .nth(1)
        .and_then(|number| number.parse().ok())
        .ok_or_else(|| io::Error::other(format!("schedstat: {text:?}")))
}

/// CPU time of this process and of all children that were waited for, nanoseconds.
pub(crate) fn family_cpu_ns() -> u64 {
    [libc::RUSAGE_SELF, libc::RUSAGE_CHILDREN].into_iter().map(rusage_ns).sum()
}

/// CPU time of all children that were waited for, and of theirs, nanoseconds.
pub(crate) fn children_cpu_ns() -> u64 {
    rusage_ns(libc::RUSAGE_CHILDREN)
}

fn rusage_ns(who: i32) -> u64 {
    // SAFETY: all zeroes is a valid rusage, and getrusage writes to it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(who, &mut usage);
        usage
    };
    let micros = |t: libc::timeval| t.tv_sec as u64 * 1_000_000 + t.tv_usec as u64;
    (micros(usage.ru_utime) + micros(usage.ru_stime)) * 1000
}

/// Id of the calling thread.
pub(crate) fn gettid() -> Pid {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::gettid() }
}

/// Id of the parent.
pub(crate) fn getppid() -> Pid {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::getppid() }
}

/// Forks. The child runs `body` and ends with its result as exit code, without unwinding into the parent's code.
pub(crate) fn fork(body: impl FnOnce() -> i32) -> io::Result<Pid> {
    // SAFETY: the program has one thread here (module docs), so the child may do what it likes.
    match check(unsafe { libc::fork() })? {
        0 => exit_now(catch_unwind(AssertUnwindSafe(body)).unwrap_or(PANICKED)),
        pid => Ok(pid),
    }
}

/// Ends the process at once: no destructors, no buffers.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: never returns, so nothing of this process is used after it.
    unsafe { libc::_exit(code) }
}

/// Size of the stack a [`vfork_call`] child gets.
const STACK_BYTES: usize = 64 * 1024;

/// clone(CLONE_VM | CLONE_VFORK), which is vfork with a stack of its own: the caller stands still until the
/// child has ended. `body` must not allocate, panic or change memory but through atomics.
pub(crate) fn vfork_call(body: extern "C" fn(*mut c_void) -> i32, argument: *mut c_void) -> io::Result<Pid> {
    let mut stack = vec![0u128; STACK_BYTES / size_of::<u128>()];
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: the stack outlives the child, which has left it when clone returns; `body` is a valid function.
    check(unsafe { libc::clone(body, stack.as_mut_ptr_range().end.cast(), flags, argument) })
}

/// Waits for one child and returns its wait status.
pub(crate) fn wait(pid: Pid) -> io::Result<i32> {
    let mut status = 0;
    loop {
        // SAFETY: `status` is an int to write to.
        match check(unsafe { libc::waitpid(pid, &mut status, 0) }) {
            Ok(_) => return Ok(status),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Sends a signal.
pub(crate) fn kill(pid: Pid, signal: i32) -> io::Result<()> {
    // SAFETY: plain numbers; the pid is a child not yet waited for.
    check(unsafe { libc::kill(pid, signal) }).map(drop)
}

/// Has the kernel kill this process when the one that forked it ends.
pub(crate) fn die_with_parent() -> io::Result<()> {
    prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64)
}

/// Makes this process the new parent of orphans below it, so that it learns how they ended.
pub(crate) fn adopt_orphans() -> io::Result<()> {
    prctl(libc::PR_SET_CHILD_SUBREAPER, 1)
}

fn prctl(option: i32, value: u64) -> io::Result<()> {
    // SAFETY: both options used here take one plain number.
    check(unsafe { libc::prctl(option, value, 0, 0, 0) }).map(drop)
}

/// Moves the calling thread (and so, in a process of one thread, the process) into a new network namespace,
/// which ends with its last process.
pub(crate) fn enter_own_netns() -> io::Result<()> {
    // SAFETY: a plain number.
    check(unsafe { libc::unshare(libc::CLONE_NEWNET) }).map(drop)
}

/// The CPU the calling thread is on.
pub(crate) fn current_cpu() -> io::Result<usize> {
    // SAFETY: takes nothing.
    check(unsafe { libc::sched_getcpu() }).map(|cpu| cpu as usize)
}

/// Ties the calling thread to one CPU.
pub(crate) fn pin_to(cpu: usize) -> io::Result<()> {
    // SAFETY: all zeroes is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `cpu` came from `current_cpu`, below CPU_SETSIZE.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    set_affinity(&set)
}

/// The CPUs the calling thread may use.
pub(crate) fn affinity() -> io::Result<libc::cpu_set_t> {
    // SAFETY: all zeroes is the empty set, and the call fills it.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        check(libc::sched_getaffinity(0, size_of_val(&set), &mut set))?;
        Ok(set)
    }
}

/// Lets the calling thread use these CPUs.
pub(crate) fn set_affinity(set: &libc::cpu_set_t) -> io::Result<()> {
    // SAFETY: `set` is a whole set.
    check(unsafe { libc::sched_setaffinity(0, size_of_val(set), set) }).map(drop)
}

/// Sets the smallest core size that stops cores on disk and core pipes alike (core(5): a limit of 1 is special
/// to pipes, and below a page for files).
pub(crate) fn no_cores() -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: 1, rlim_max: 1 };
    // SAFETY: `limit` is a whole rlimit.
    check(unsafe { libc::setrlimit(libc::RLIMIT_CORE, &limit) }).map(drop)
}

/// Has the kernel end this process after so many seconds, whatever it is doing then.
pub(crate) fn end_after_seconds(seconds: u32) {
    // SAFETY: a plain number.
    unsafe { libc::alarm(seconds) };
}
