//! Why a thread that waits is blocked, as the kernel programs would tell it. In: `/proc/TGID/task/TID/{stat,syscall}`
//! and what the call's descriptor is a link to. Out: a cause.
//!
//! No file of the process is opened: a descriptor's kind is told by its link and by what the kernel has in memory, so that
//! a file system that does not answer keeps nobody waiting. Format: proc_pid_syscall(5).

use super::proc::{Directory, Stat, TEXT_BYTES_MAX};
use crate::attach::syscalls;
use slowpod_ebpf::abi::split::Cause;
use slowpod_ebpf::rules::cause::{self, Blocked, Call, FileKind};
use std::ffi::{CStr, CString};
use std::path::Path;

/// Longest name of a socket's protocol there is to know, with its NUL.
const PROTOCOL_BYTES: usize = 32;

/// How a thread was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Gone, running, or one of the kernel's own.
    NotWaiting,
    /// It waits.
    Waits(Cause),
}

/// A thread's doings at this moment. The reader waits while the process is in the middle of an exec: call this from a thread that
/// may.
pub fn look(proc: &Path, tgid: u32, tid: u32) -> Found {
    let path = proc.join(format!("{tgid}/task/{tid}"));
    let Ok(directory) = Directory::open(&path) else { return Found::NotWaiting };
    let Ok(stat) = directory.read(c"stat", TEXT_BYTES_MAX) else { return Found::NotWaiting };
    if !Stat::parse(&stat).is_some_and(|stat| stat.waits()) {
        return Found::NotWaiting;
    }
    // Without the privilege to look (or a kernel that tells) it waits all the same.
    let call = directory.read(c"syscall", TEXT_BYTES_MAX).unwrap_or_default();
    Found::Waits(why(&call, |descriptor| file_kind(&path, descriptor)))
}

/// The cause, from the line that tells the call. `file` finds the kind of a descriptor's file.
fn why(line: &[u8], file: impl FnOnce(u64) -> FileKind) -> Cause {
    let text = std::str::from_utf8(line).unwrap_or_default();
    let mut words = text.split_ascii_whitespace();
    let Some(number) = words.next().and_then(|word| word.parse::<i64>().ok()) else { return Cause::Other };
    let mut argument = || u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok();
    let call = usize::try_from(number).map_or(Call::Unknown, syscalls::class);
    let (first, second) = (argument().unwrap_or(0), argument().unwrap_or(0));
    let file = match call {
        Call::Descriptor | Call::Fcntl => file(first),
        _ => FileKind::Unknown,
    };
    let detail = if call == Call::Select { first } else { second };
    cause::cause(&Blocked { in_iowait: false, in_syscall: number >= 0, call, file, detail })
}

/// Kind of the file behind a descriptor of the thread that `task` is the directory of.
fn file_kind(task: &Path, descriptor: u64) -> FileKind {
    let path = task.join(format!("fd/{descriptor}"));
    let Ok(link) = std::fs::read_link(&path) else { return FileKind::Unknown };
    let Ok(name) = CString::new(path.into_os_string().into_encoded_bytes()) else { return FileKind::Unknown };
    // Neither a path nor one of these: eventfd, timerfd, pidfd and their kin.
    let link = link.as_os_str().as_encoded_bytes();
    if ![&b"/"[..], b"pipe:", b"socket:"].iter().any(|begin| link.starts_with(begin)) {
        return FileKind::Other;
    }
    match mode(&name) {
        Some(mode) if cause::is_socket(mode) => socket_kind(&name),
        Some(mode) => cause::file_kind(mode, 0),
        None => FileKind::Unknown,
    }
}

/// A file's mode as the kernel has it, without asking its file system.
fn mode(path: &CStr) -> Option<u32> {
    // SAFETY: plain numbers, of which zeros are a value.
    let mut found: libc::statx = unsafe { std::mem::zeroed() };
    let flags = libc::AT_STATX_DONT_SYNC | libc::AT_NO_AUTOMOUNT;
    // SAFETY: the path ends in NUL, and the result has room.
    let failed = unsafe { libc::statx(libc::AT_FDCWD, path.as_ptr(), flags, libc::STATX_TYPE, &mut found) };
    (failed == 0).then_some(u32::from(found.stx_mode))
}

/// Kind of a socket, by what the kernel calls its protocol.
fn socket_kind(path: &CStr) -> FileKind {
    let mut name = [0_u8; PROTOCOL_BYTES];
    // SAFETY: both names end in NUL, and the buffer is as long as said.
    let len = unsafe {
        libc::getxattr(path.as_ptr(), c"system.sockprotoname".as_ptr(), name.as_mut_ptr().cast(), name.len())
    };
    let Ok(len) = usize::try_from(len) else { return FileKind::Unknown };
    let name = name[..len].split(|byte| *byte == 0).next().unwrap_or_default();
    // `struct proto.name`: newer kernels write UNIX-STREAM, and everything over IPv6 ends in `v6`.
    let begins = |kinds: &[&str]| kinds.iter().any(|kind| name.starts_with(kind.as_bytes()));
    if begins(&["UNIX"]) {
        FileKind::Unix
    } else if begins(&["NETLINK"]) {
        FileKind::Netlink
    } else if begins(&["TCP", "UDP", "MPTCP", "RAW", "PING", "SCTP"]) {
        FileKind::Inet
    } else {
        FileKind::Other
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;
    use std::time::{Duration, Instant};

    fn line(number: libc::c_long, first: u64, second: u64) -> String {
        format!("{number} {first:#x} {second:#x} 0x0 0x0 0x0 0x0 0x7ffc0 0x7f010\n")
    }

    #[test]
    fn the_line_tells_the_cause() {
        let of = |line: &str, kind: FileKind| why(line.as_bytes(), |_| kind);
        assert_eq!(of(&line(libc::SYS_clock_nanosleep, 0, 0), FileKind::Unknown), Cause::Sleep);
        assert_eq!(of(&line(libc::SYS_futex, 0x7f00, 0x80), FileKind::Unknown), Cause::Futex);
        assert_eq!(of(&line(libc::SYS_wait4, u64::MAX, 0), FileKind::Unknown), Cause::ChildWait);
        assert_eq!(of(&line(libc::SYS_flock, 3, 2), FileKind::Disk), Cause::FileLock);
        assert_eq!(of(&line(libc::SYS_fcntl, 3, 7), FileKind::Disk), Cause::FileLock, "F_SETLKW");
        assert_eq!(of(&line(libc::SYS_read, 3, 0x7f00), FileKind::Netlink), Cause::Netlink);
        assert_eq!(of(&line(libc::SYS_ppoll, 0x7f00, 2), FileKind::Unknown), Cause::Poll);
        assert_eq!(of(&line(libc::SYS_pselect6, 0, 0), FileKind::Unknown), Cause::Sleep);
        assert_eq!(of("-1 0x7ffc0 0x7f010\n", FileKind::Unknown), Cause::PageFault);
        for odd in ["", "running\n", "999999999 0x0\n", "0 x y\n", "99999999999999999999999\n"] {
            assert_eq!(of(odd, FileKind::Unknown), Cause::Other, "{odd}");
        }
    }

    #[test]
    fn a_thread_that_reads_what_nobody_writes() {
        let (mut reads, writes) = UnixStream::pair().unwrap();
        let (told, tid) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            // SAFETY: it takes nothing and always succeeds.
            told.send(unsafe { libc::gettid() }.cast_unsigned()).unwrap();
            reads.read(&mut [0]).unwrap()
        });
        let (own, tid) = (std::process::id(), tid.recv().unwrap());
        let found = || look(Path::new("/proc"), own, tid);
        let begun = Instant::now();
        while found() != Found::Waits(Cause::Unix) && begun.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(found(), Found::Waits(Cause::Unix));
        drop(writes);
        thread.join().unwrap();
        assert_eq!(found(), Found::NotWaiting, "gone");
    }

    #[test]
    fn kinds_of_files() {
        let (reads, _writes) = std::io::pipe().unwrap();
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let file = tempfile::tempfile().unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        let of = |descriptor: &dyn AsRawFd| {
            file_kind(Path::new("/proc/self"), u64::try_from(descriptor.as_raw_fd()).unwrap())
        };
        assert_eq!(
            [of(&reads), of(&udp), of(&file), of(&null)],
            [FileKind::Pipe, FileKind::Inet, FileKind::Disk, FileKind::Other]
        );
        assert_eq!(file_kind(Path::new("/proc/self"), u64::MAX), FileKind::Unknown);
    }
}
