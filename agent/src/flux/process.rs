//! One plugin process. In: a command, what it reads, and how long it may take. Out: how it ended, what it wrote, and
//! its wall time. No thread per process: the time a plugin takes is the thing measured.

use super::stop::{Stop, Wish};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Most bytes kept of each of a plugin's outputs: a result has a few KiB.
const OUTPUT_BYTES_MAX: usize = 1 << 20;
/// How often a wait looks whether the user has given up. A process that ends wakes the wait at once.
const LOOK: Duration = Duration::from_millis(100);

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By itself, with this exit code.
    Code(i32),
    /// Killed by someone else with this signal.
    Signal(i32),
    /// Killed by us: it took too long.
    TimedOut,
    /// Killed by us: the user does not want to wait.
    GivenUp,
}

/// A process that ran.
#[derive(Debug)]
pub struct Ran {
    /// How it ended.
    pub ended: Ended,
    /// Its standard output, up to a bound.
    pub stdout: Vec<u8>,
    /// Its standard error, up to the same bound.
    pub stderr: Vec<u8>,
    /// From just before its start to just after its end, nanoseconds.
    pub wall_ns: u64,
}

/// Runs a process to its end. It gets a process group of its own: a timeout kills its children too, and the terminal's
/// Ctrl-C does not reach it.
///
/// A child of it that holds its outputs open is not waited for: what the process itself wrote is complete when it ends.
///
/// # Errors
/// When it cannot be started or watched.
pub fn run(command: &mut Command, input: &[u8], timeout: Duration, stop: &Stop) -> io::Result<Ran> {
    command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let begun = Instant::now();
    let mut child = command.spawn()?;
    let watched = watch(&mut child, input, begun + timeout, stop);
    if !matches!(watched, Ok((None, ..))) {
        kill_group(&child);
    }
    let status = child.wait()?;
    let wall_ns = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
    let (cut, mut out, mut err) = watched?;
    out.drain()?;
    err.drain()?;
    let ended = match (cut, status.signal()) {
        (Some(cut), _) => cut,
        (None, Some(signal)) => Ended::Signal(signal),
        (None, None) => Ended::Code(status.code().unwrap_or_default()),
    };
    Ok(Ran { ended, stdout: out.kept, stderr: err.kept, wall_ns })
}

/// Feeds and drains until the process has ended or is to be killed; in the latter case says as what it ends.
fn watch(
    child: &mut Child,
    mut input: &[u8],
    deadline: Instant,
    stop: &Stop,
) -> io::Result<(Option<Ended>, Output, Output)> {
    let pidfd = pidfd(child)?;
    let mut stdin = child.stdin.take().map(OwnedFd::from).map(File::from);
    let mut out = Output::new(child.stdout.take().map(OwnedFd::from))?;
    let mut err = Output::new(child.stderr.take().map(OwnedFd::from))?;
    if let Some(stdin) = &stdin {
        set_nonblocking(stdin.as_raw_fd())?;
    }
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok((Some(Ended::TimedOut), out, err));
        }
        if stop.wish() == Wish::GiveUp {
            return Ok((Some(Ended::GivenUp), out, err));
        }
        let mut fds = [
            waiting(pidfd.as_raw_fd(), libc::POLLIN),
            waiting(stdin.as_ref().map_or(-1, AsRawFd::as_raw_fd), libc::POLLOUT),
            waiting(out.raw(), libc::POLLIN),
            waiting(err.raw(), libc::POLLIN),
        ];
        poll(&mut fds, left.min(LOOK))?;
        if fds[1].revents != 0 && !feed(stdin.as_mut(), &mut input)? {
            stdin = None;
        }
        if fds[2].revents != 0 {
            out.drain()?;
        }
        if fds[3].revents != 0 {
            err.drain()?;
        }
        if fds[0].revents != 0 {
            return Ok((None, out, err));
        }
    }
}

/// Writes what fits; false when all is written, or the process does not listen any more (which is its right).
fn feed(stdin: Option<&mut File>, input: &mut &[u8]) -> io::Result<bool> {
    let Some(stdin) = stdin else { return Ok(false) };
    match stdin.write(input) {
        Ok(written) => {
            *input = &input[written..];
            Ok(!input.is_empty())
        }
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error),
    }
}

/// One of a process's outputs: what is kept of it.
struct Output {
    pipe: Option<File>,
    kept: Vec<u8>,
}

impl Output {
    fn new(pipe: Option<OwnedFd>) -> io::Result<Output> {
        if let Some(pipe) = &pipe {
            set_nonblocking(pipe.as_raw_fd())?;
        }
        Ok(Output { pipe: pipe.map(File::from), kept: Vec::new() })
    }

    fn raw(&self) -> RawFd {
        self.pipe.as_ref().map_or(-1, AsRawFd::as_raw_fd)
    }

    /// Takes what is there now. Beyond the bound it is read and dropped, so that the writer does not stand still.
    fn drain(&mut self) -> io::Result<()> {
        let mut buffer = [0; 16_384];
        while let Some(pipe) = &mut self.pipe {
            match pipe.read(&mut buffer) {
                Ok(0) => self.pipe = None,
                Ok(read) => {
                    let room = OUTPUT_BYTES_MAX - self.kept.len();
                    self.kept.extend_from_slice(&buffer[..read.min(room)]);
                    // One that never stops writing must not keep us from looking at the clock.
                    if read > room {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn kill_group(child: &Child) {
    if let Ok(group) = libc::pid_t::try_from(child.id()) {
        // SAFETY: plain numbers. The child is not yet waited for, so the group's number is still its own.
        unsafe { libc::kill(-group, libc::SIGKILL) };
    }
}

/// A descriptor that becomes readable when the child ends.
fn pidfd(child: &Child) -> io::Result<OwnedFd> {
    // SAFETY: plain numbers; the child is not yet waited for.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, child.id(), 0) };
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given us this descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn set_nonblocking(fd: RawFd) -> io::Result<()> {
    // SAFETY: plain numbers on a descriptor that is open.
    let done = unsafe {
        let flags = libc::fcntl(fd, libc::F_GETFL);
        flags >= 0 && libc::fcntl(fd, libc::F_SETFL, flags | libc::O_NONBLOCK) == 0
    };
    if done { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A descriptor of -1 is not looked at.
fn waiting(fd: RawFd, events: libc::c_short) -> libc::pollfd {
    libc::pollfd { fd, events, revents: 0 }
}

fn poll(fds: &mut [libc::pollfd], timeout: Duration) -> io::Result<()> {
    // Rounded up: a wait of less than a millisecond must not become a busy loop.
    let millis = libc::c_int::try_from(timeout.as_millis() + 1).unwrap_or(libc::c_int::MAX);
    // SAFETY: the pointer and the length are of the same slice, which lives until the call returns.
    let ready = unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, millis) };
    match ready {
        -1 if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => Ok(()),
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, input: &[u8], timeout: Duration) -> Ran {
        run(Command::new("/bin/sh").args(["-c", script]), input, timeout, &Stop::default()).unwrap()
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn both_outputs_and_the_exit_code_come_back() {
        let ran = sh("cat; echo oops >&2; exit 3", b"hello", LONG);
        assert_eq!(
            (ran.ended, ran.stdout.as_slice(), ran.stderr.as_slice()),
            (Ended::Code(3), &b"hello"[..], &b"oops\n"[..])
        );
        assert_eq!(sh("kill -9 $$", b"", LONG).ended, Ended::Signal(9));
    }

    #[test]
    fn a_process_that_does_not_read_a_large_input_is_no_error() {
        assert_eq!(sh("exec <&-; exit 0", &vec![b'x'; 1 << 20], LONG).ended, Ended::Code(0));
    }

    #[test]
    fn a_process_that_hangs_is_killed_with_its_children() {
        let ran = sh("sleep 600 & echo $!; wait", b"", Duration::from_secs(1));
        assert_eq!(ran.ended, Ended::TimedOut);
        assert!(ran.wall_ns >= 1_000_000_000 && ran.wall_ns < 60_000_000_000, "{}", ran.wall_ns);
        let child: i32 = String::from_utf8(ran.stdout).unwrap().trim().parse().unwrap();
        // Killed, it still needs a CPU to end, and is a zombie until its new parent has waited for it.
        let begun = std::time::Instant::now();
        let is_gone = || {
            let state = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
            state.is_empty() || state.contains(") Z ")
        };
        while !is_gone() {
            assert!(begun.elapsed() < LONG, "{child} lives on");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn a_child_that_keeps_the_output_open_is_not_waited_for() {
        let ran = sh("sleep 5 & echo done", b"", LONG);
        assert_eq!((ran.ended, ran.stdout.as_slice()), (Ended::Code(0), &b"done\n"[..]));
        assert!(ran.wall_ns < 4_000_000_000);
    }

    #[test]
    fn endless_output_is_bounded() {
        let ran = sh("exec yes", b"", Duration::from_millis(200));
        assert_eq!((ran.ended, ran.stdout.len()), (Ended::TimedOut, OUTPUT_BYTES_MAX));
    }

    #[test]
    fn giving_up_does_not_wait_for_the_timeout() {
        let stop = Stop::default();
        stop.press();
        stop.press();
        let ran = run(Command::new("/bin/sleep").arg("600"), b"", LONG, &stop).unwrap();
        assert_eq!(ran.ended, Ended::GivenUp);
    }
}
