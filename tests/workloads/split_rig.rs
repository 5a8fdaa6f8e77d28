//! The parts of the split scenario, and what they need: files, sockets and locks that reach across two processes.
//! The near end is the measured child; the far end is the helper that keeps it waiting.

use std::ffi::c_void;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;

use crate::netlink_socket::{NetlinkSocket, SendCall, message};
use crate::shared::{Shared, Stage};
use crate::split_fault::Fault;
use crate::sys::{self, check, sleep_ns};

/// What a child can spend its time on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Cpu,
    Sleep,
    Flock,
    Fcntl,
    Pipe,
    Unix,
    Tcp,
    Futex,
    Netlink,
    Poll,
    Epoll,
    Child,
    Vfork,
    PageFault,
    RunQueue,
    Fsync,
}

/// A part's option, its name in the truth, and the cause it blocks on (DESIGN §2's word; None = it does not block).
pub(crate) struct PartInfo {
    pub(crate) part: Part,
    pub(crate) option: &'static str,
    pub(crate) name: &'static str,
    pub(crate) cause: Option<&'static str>,
}

const fn row(part: Part, option: &'static str, name: &'static str, cause: Option<&'static str>) -> PartInfo {
    PartInfo { part, option, name, cause }
}

/// All parts, in the order they are done.
pub(crate) const PARTS: &[PartInfo] = &[
    row(Part::Cpu, "--cpu-ms", "cpu", None),
    row(Part::Sleep, "--sleep-ms", "sleep", Some("sleep")),
    row(Part::Flock, "--flock-ms", "flock", Some("file_lock")),
    row(Part::Fcntl, "--fcntl-ms", "fcntl", Some("file_lock")),
    row(Part::Pipe, "--pipe-ms", "pipe", Some("pipe")),
    row(Part::Unix, "--unix-ms", "unix", Some("unix_socket")),
    row(Part::Tcp, "--tcp-ms", "tcp", Some("inet")),
    row(Part::Futex, "--futex-ms", "futex", Some("futex")),
    row(Part::Netlink, "--netlink-ms", "netlink", Some("netlink")),
    row(Part::Poll, "--poll-ms", "poll", Some("poll")),
    row(Part::Epoll, "--epoll-ms", "epoll", Some("poll")),
    row(Part::Child, "--child-ms", "child", Some("child_wait")),
    row(Part::Vfork, "--vfork-ms", "vfork", Some("child_wait")),
    row(Part::PageFault, "--page-fault-ms", "page_fault", Some("page_fault")),
    row(Part::RunQueue, "--runqueue-ms", "runqueue", None),
    row(Part::Fsync, "--fsync-bytes", "fsync", Some("disk")),
];

/// Everything both ends share, made before either is forked.
pub(crate) struct Rig {
    directory: tempfile::TempDir,
    pipe: (io::PipeReader, io::PipeWriter),
    /// poll and epoll wait for the first, and for the pipe above, which stays quiet then.
    polled: (io::PipeReader, io::PipeWriter),
    polled_again: (io::PipeReader, io::PipeWriter),
    unix: (UnixStream, UnixStream),
    tcp: (TcpStream, TcpStream),
    netlink: (NetlinkSocket, NetlinkSocket),
    word: Stage,
    numbers: Shared,
}

/// Place of the near end's CPU in the shared numbers; the page fault's places follow.
const CPU: usize = 0;
const FAULT: usize = 1;
const NUMBERS: usize = FAULT + Fault::WORDS;

/// Locks that the far end holds from the start.
pub(crate) struct HeldLocks {
    flock: File,
    fcntl: File,
}

/// What the near end made ready for a part before its clock started, and puts back after.
pub(crate) struct Near {
    fault: Option<Fault>,
    affinity: Option<libc::cpu_set_t>,
}

impl Rig {
    /// Makes all of it; the parent's own copies live as long as the run.
    pub(crate) fn new() -> io::Result<Rig> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let near = TcpStream::connect(listener.local_addr()?)?;
        let (far, _) = listener.accept()?;
        far.set_nodelay(true)?;
        Ok(Rig {
            directory: tempfile::tempdir()?,
            pipe: io::pipe()?,
            polled: io::pipe()?,
            polled_again: io::pipe()?,
            unix: UnixStream::pair()?,
            tcp: (near, far),
            netlink: (
                NetlinkSocket::open(libc::NETLINK_USERSOCK)?,
                NetlinkSocket::open(libc::NETLINK_USERSOCK)?,
            ),
            word: Stage::new()?,
            numbers: Shared::new(NUMBERS)?,
        })
    }

    fn open_lock(&self, name: &str) -> io::Result<File> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(self.directory.path().join(name))
    }

    /// Far end: takes the locks that the near end will wait for.
    pub(crate) fn hold_locks(&self) -> io::Result<HeldLocks> {
        let held = HeldLocks { flock: self.open_lock("flock")?, fcntl: self.open_lock("fcntl")? };
        held.flock.lock()?;
        lock_by_fcntl(&held.fcntl, libc::F_WRLCK)?;
        Ok(held)
    }

    /// Near end: what must be ready before the part's clock starts.
    pub(crate) fn near(&self, part: Part) -> io::Result<Near> {
        let mut near = Near { fault: None, affinity: None };
        if part == Part::PageFault {
            near.fault = Some(Fault::prepare(&self.numbers[FAULT..])?);
        }
        if part == Part::RunQueue {
            let cpu = sys::current_cpu()?;
            near.affinity = Some(sys::affinity()?);
            sys::pin_to(cpu)?;
            self.numbers.put(CPU, cpu as u64);
        }
        Ok(near)
    }

    /// Far end: lets the near end wait `amount`, then lets go. `done` says when the near end is through.
    pub(crate) fn far(
        &self,
        part: Part,
        amount: u64,
        held: &HeldLocks,
        done: impl Fn() -> bool,
    ) -> io::Result<()> {
        match part {
            Part::Cpu | Part::Sleep | Part::Child | Part::Vfork | Part::Fsync => Ok(()),
            Part::RunQueue => compete_on(self.numbers.get(CPU) as usize, done),
            Part::PageFault => Fault::resolve_after(&self.numbers[FAULT..], amount),
            Part::Flock => after(amount, || held.flock.unlock()),
            Part::Fcntl => after(amount, || lock_by_fcntl(&held.fcntl, libc::F_UNLCK)),
            Part::Pipe => after(amount, || (&self.pipe.1).write_all(b"x")),
            Part::Unix => after(amount, || (&self.unix.1).write_all(b"x")),
            Part::Tcp => after(amount, || (&self.tcp.1).write_all(b"x")),
            Part::Poll => after(amount, || (&self.polled.1).write_all(b"x")),
            Part::Epoll => after(amount, || (&self.polled_again.1).write_all(b"x")),
            Part::Futex => after(amount, || {
                self.word.raise(1);
                Ok(())
            }),
            Part::Netlink => after(amount, || {
                let (near, far) = &self.netlink;
                far.send(&message(NLMSG_MIN_TYPE, 0, 1, b""), near.port()?, SendCall::Sendto)
            }),
        }
    }
}

/// Lowest message type that is not netlink's own (`linux/netlink.h`).
const NLMSG_MIN_TYPE: u16 = 16;

fn after(amount_ns: u64, let_go: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    sleep_ns(amount_ns);
    let_go()
}

/// Keeps the CPU busy until told.
fn compete_on(cpu: usize, done: impl Fn() -> bool) -> io::Result<()> {
    let before = sys::affinity()?;
    sys::pin_to(cpu)?;
    while !done() {
        std::hint::spin_loop();
    }
    sys::set_affinity(&before)
}

impl Near {
    /// Spends the part's time. The far end starts counting when the stage is raised, just before this.
    pub(crate) fn spend(&self, rig: &Rig, part: Part, amount: u64) -> io::Result<()> {
        let mut byte = [0];
        match part {
            Part::Cpu | Part::RunQueue => {
                sys::burn_cpu_ns(amount);
                Ok(())
            }
            Part::Sleep => {
                sleep_ns(amount);
                Ok(())
            }
            Part::Flock => rig.open_lock("flock")?.lock(),
            Part::Fcntl => lock_by_fcntl(&rig.open_lock("fcntl")?, libc::F_WRLCK),
            Part::Pipe => (&rig.pipe.0).read_exact(&mut byte),
            Part::Unix => (&rig.unix.0).read_exact(&mut byte),
            Part::Tcp => (&rig.tcp.0).read_exact(&mut byte),
            Part::Futex => {
                rig.word.wait_for(1);
                Ok(())
            }
            Part::Netlink => rig.netlink.0.receive(&mut [0; 64]).map(drop),
            Part::Poll => poll([rig.polled.0.as_raw_fd(), rig.pipe.0.as_raw_fd()]),
            Part::Epoll => epoll([rig.polled_again.0.as_raw_fd(), rig.pipe.0.as_raw_fd()]),
            Part::Child => wait_for_child(amount),
            Part::Vfork => wait_for_vfork(amount),
            Part::PageFault => {
                self.fault.as_ref().ok_or_else(|| io::Error::other("no page to fault on"))?.touch();
                Ok(())
            }
            Part::Fsync => write_and_sync(rig, amount),
        }
    }

    /// Puts back what the part changed.
    pub(crate) fn restore(self) -> io::Result<()> {
        self.affinity.as_ref().map_or(Ok(()), sys::set_affinity)
    }
}

/// fcntl(F_SETLKW) on the whole file; the lock belongs to the process and goes with the first close.
fn lock_by_fcntl(file: &File, kind: i32) -> io::Result<()> {
    // SAFETY: all zeroes is a valid flock: from the start, to the end.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = kind as i16;
    // SAFETY: F_SETLKW takes a flock to read.
    check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLKW, &raw const lock) }).map(drop)
}

/// Waits until either is readable.
fn poll(fds: [RawFd; 2]) -> io::Result<()> {
    let mut fds = fds.map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 });
    // SAFETY: two pollfds.
    check(unsafe { libc::poll(fds.as_mut_ptr(), 2, -1) }).map(drop)
}

/// The same by epoll, which is closed with the process.
fn epoll(fds: [RawFd; 2]) -> io::Result<()> {
    let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 0 };
    // SAFETY: plain numbers, and one event to read or write.
    unsafe {
        let epoll = check(libc::epoll_create1(libc::EPOLL_CLOEXEC))?;
        for fd in fds {
            check(libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &mut event))?;
        }
        check(libc::epoll_wait(epoll, &mut event, 1, -1)).map(drop)
    }
}

/// A child of the child, which sleeps.
fn wait_for_child(amount_ns: u64) -> io::Result<()> {
    let pid = sys::fork(|| {
        sleep_ns(amount_ns);
        0
    })?;
    sys::wait(pid).map(drop)
}

/// A vfork child that sleeps: this thread is held inside clone.
fn wait_for_vfork(amount_ns: u64) -> io::Result<()> {
    extern "C" fn sleep(request: *mut c_void) -> i32 {
        // SAFETY: points to the timespec below, whose owner stands still meanwhile.
        unsafe { libc::nanosleep(request.cast(), std::ptr::null_mut()) }
    }
    let mut request = libc::timespec {
        tv_sec: (amount_ns / 1_000_000_000) as i64,
        tv_nsec: (amount_ns % 1_000_000_000) as i64,
    };
    let pid = sys::vfork_call(sleep, (&raw mut request).cast())?;
    sys::wait(pid).map(drop)
}

/// Chunk of the file that is written and synced.
const CHUNK_BYTES: u64 = 64 * 1024;

fn write_and_sync(rig: &Rig, bytes: u64) -> io::Result<()> {
    let mut file = File::create(rig.directory.path().join("synced"))?;
    let chunk = [0x5a; CHUNK_BYTES as usize];
    let mut left = bytes;
    while left > 0 {
        let now = left.min(CHUNK_BYTES);
        file.write_all(&chunk[..now as usize])?;
        left -= now;
    }
    file.sync_all()
}
