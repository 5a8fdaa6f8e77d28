//! Why a thread blocked, told from the system call it was in and the file behind that call's descriptor.

use crate::abi::split::Cause;

/// What a system call may block on. Numbers of the table in [`crate::abi::settings::globals::SYSCALL_CLASS`].
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Not in the table, or one that hardly blocks.
    Unknown = 0,
    /// First argument is a descriptor; the file's kind decides (read, write, recvmsg, connect, accept ...).
    Descriptor = 1,
    /// flock.
    Flock = 2,
    /// fcntl: a lock when the command is one of the waiting lock commands.
    Fcntl = 3,
    /// futex and its kin.
    Futex = 4,
    /// wait4, waitid.
    Wait = 5,
    /// fsync, fdatasync, sync, syncfs, msync, sync_file_range.
    Sync = 6,
    /// nanosleep, clock_nanosleep.
    Sleep = 7,
    /// poll, ppoll: first argument points to descriptors, second says how many.
    Poll = 8,
    /// select, pselect6: first argument is the highest descriptor + 1.
    Select = 9,
    /// epoll_wait and its kin.
    Epoll = 10,
    /// clone, clone3, vfork, fork: blocked until a vfork child lets go.
    Clone = 11,
    /// Calls on paths (open, stat, unlink, rename, execve ...): the file system.
    Path = 12,
    /// mmap, munmap, mprotect, brk, madvise: the memory-map lock.
    Memory = 13,
    /// pause, sigsuspend, rt_sigtimedwait.
    Signal = 14,
}

/// What kind of file a descriptor stands for.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// No descriptor, or it could not be looked up.
    Unknown = 0,
    /// Regular file, directory, block device.
    Disk = 1,
    /// Pipe or FIFO.
    Pipe = 2,
    /// Unix-domain socket.
    Unix = 3,
    /// TCP, UDP, raw, over IPv4 or IPv6.
    Inet = 4,
    /// Netlink socket.
    Netlink = 5,
    /// A socket of another family, a character device, an anonymous inode (eventfd, timerfd, inotify).
    Other = 6,
}

/// `S_IFMT` and the file types of `inode.i_mode` (POSIX `sys/stat.h`).
const S_IFMT: u32 = 0o170_000;
const S_IFIFO: u32 = 0o010_000;
const S_IFDIR: u32 = 0o040_000;
const S_IFBLK: u32 = 0o060_000;
const S_IFREG: u32 = 0o100_000;
const S_IFSOCK: u32 = 0o140_000;
/// Unix sockets' family (`linux/socket.h`).
pub const AF_UNIX: u16 = 1;
/// IPv4's.
pub const AF_INET: u16 = 2;
/// IPv6's.
pub const AF_INET6: u16 = 10;
/// Netlink's socket family (`linux/socket.h`).
pub const AF_NETLINK: u16 = 16;
/// `super_block.s_magic` of anonymous inodes (`linux/magic.h`); from 6.16 their mode says regular file.
pub const ANON_INODE_MAGIC: u64 = 0x0904_1934;

/// Whether a file of this mode is a socket.
#[inline(always)]
pub const fn is_socket(mode: u32) -> bool {
    mode & S_IFMT == S_IFSOCK
}

/// Whether a mode is that of a pipe, whatever its file system.
#[inline(always)]
pub const fn is_fifo(mode: u32) -> bool {
    mode & S_IFMT == S_IFIFO
}

/// Kind of a file that is not a socket, from its inode's mode and its file system's magic number.
#[inline(always)]
pub const fn file_kind(mode: u32, fs_magic: u64) -> FileKind {
    if fs_magic == ANON_INODE_MAGIC {
        return FileKind::Other;
    }
    match mode & S_IFMT {
        S_IFIFO => FileKind::Pipe,
        S_IFREG | S_IFDIR | S_IFBLK => FileKind::Disk,
        _ => FileKind::Other,
    }
}

/// Kind of a socket, from its family.
#[inline(always)]
pub const fn socket_kind(family: u16) -> FileKind {
    match family {
        AF_UNIX => FileKind::Unix,
        AF_INET | AF_INET6 => FileKind::Inet,
        AF_NETLINK => FileKind::Netlink,
        _ => FileKind::Other,
    }
}

/// Whether an fcntl command waits for a lock: `F_SETLKW`, `F_SETLKW64` (32-bit) or `F_OFD_SETLKW`.
#[inline(always)]
pub const fn fcntl_waits(command: u64) -> bool {
    matches!(command as u32, 7 | 14 | 38)
}

/// What was known of a thread at the instant it blocked.
#[derive(Clone, Copy, Debug)]
pub struct Blocked {
    /// `task_struct.in_iowait`: it waits for block I/O.
    pub in_iowait: bool,
    /// False when it came into the kernel by a fault, not by a system call.
    pub in_syscall: bool,
    /// What the call may block on.
    pub call: Call,
    /// Kind of the file behind the call's descriptor (for `Poll`, of the only or first one).
    pub file: FileKind,
    /// Second argument for `Fcntl`; number of descriptors for `Poll` and `Select`.
    pub detail: u64,
}

/// Why it blocked.
#[inline(always)]
pub fn cause(blocked: &Blocked) -> Cause {
    if blocked.in_iowait {
        return Cause::Disk;
    }
    if !blocked.in_syscall {
        return Cause::PageFault;
    }
    match blocked.call {
        Call::Descriptor => of_file(blocked.file),
        Call::Flock => Cause::FileLock,
        Call::Fcntl if fcntl_waits(blocked.detail) => Cause::FileLock,
        Call::Fcntl => of_file(blocked.file),
        Call::Futex => Cause::Futex,
        Call::Wait | Call::Clone => Cause::ChildWait,
        Call::Sync | Call::Path => Cause::Disk,
        Call::Sleep => Cause::Sleep,
        Call::Poll => match blocked.detail {
            0 => Cause::Sleep,
            1 => match of_file(blocked.file) {
                Cause::Other => Cause::Poll,
                known => known,
            },
            _ => Cause::Poll,
        },
        Call::Select if blocked.detail == 0 => Cause::Sleep,
        Call::Select | Call::Epoll => Cause::Poll,
        Call::Memory => Cause::PageFault,
        Call::Signal => Cause::Sleep,
        Call::Unknown => Cause::Other,
    }
}

#[inline(always)]
const fn of_file(kind: FileKind) -> Cause {
    match kind {
        FileKind::Disk => Cause::Disk,
        FileKind::Pipe => Cause::Pipe,
        FileKind::Unix => Cause::Unix,
        FileKind::Inet => Cause::Inet,
        FileKind::Netlink => Cause::Netlink,
        FileKind::Unknown | FileKind::Other => Cause::Other,
    }
}

impl Call {
    /// The class a number stands for; an unknown number is `Unknown`.
    #[inline(always)]
    pub const fn from_u8(number: u8) -> Call {
        match number {
            1 => Call::Descriptor,
            2 => Call::Flock,
            3 => Call::Fcntl,
            4 => Call::Futex,
            5 => Call::Wait,
            6 => Call::Sync,
            7 => Call::Sleep,
            8 => Call::Poll,
            9 => Call::Select,
            10 => Call::Epoll,
            11 => Call::Clone,
            12 => Call::Path,
            13 => Call::Memory,
            14 => Call::Signal,
            _ => Call::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocked(call: Call, file: FileKind, detail: u64) -> Cause {
        cause(&Blocked { in_iowait: false, in_syscall: true, call, file, detail })
    }

    #[test]
    fn the_call_alone_names_the_cause() {
        for (call, expected) in [
            (Call::Flock, Cause::FileLock),
            (Call::Futex, Cause::Futex),
            (Call::Wait, Cause::ChildWait),
            (Call::Clone, Cause::ChildWait),
            (Call::Sync, Cause::Disk),
            (Call::Sleep, Cause::Sleep),
            (Call::Epoll, Cause::Poll),
            (Call::Path, Cause::Disk),
            (Call::Memory, Cause::PageFault),
            (Call::Unknown, Cause::Other),
        ] {
            assert_eq!(blocked(call, FileKind::Unknown, 0), expected, "{call:?}");
        }
    }

    #[test]
    fn descriptors_go_by_the_file_behind_them() {
        for (mode, family, expected) in [
            (0o100_644, 0, Cause::Disk),
            (0o010_600, 0, Cause::Pipe),
            (0o140_777, AF_UNIX, Cause::Unix),
            (0o140_777, AF_INET6, Cause::Inet),
            (0o140_777, AF_NETLINK, Cause::Netlink),
            (0o140_777, 40, Cause::Other),
            (0o020_620, 0, Cause::Other),
        ] {
            let kind = if is_socket(mode) { socket_kind(family) } else { file_kind(mode, 0xef53) };
            assert_eq!(blocked(Call::Descriptor, kind, 0), expected, "mode {mode:o} family {family}");
        }
        assert_eq!(file_kind(0o100_600, ANON_INODE_MAGIC), FileKind::Other);
    }

    #[test]
    fn fcntl_is_a_lock_only_when_it_waits_for_one() {
        assert_eq!(blocked(Call::Fcntl, FileKind::Disk, 7), Cause::FileLock);
        assert_eq!(blocked(Call::Fcntl, FileKind::Disk, 38), Cause::FileLock);
        assert_eq!(blocked(Call::Fcntl, FileKind::Disk, 6), Cause::Disk);
    }

    #[test]
    fn a_poll_on_nothing_is_a_sleep_and_on_one_file_that_file() {
        assert_eq!(blocked(Call::Poll, FileKind::Unknown, 0), Cause::Sleep);
        assert_eq!(blocked(Call::Poll, FileKind::Netlink, 1), Cause::Netlink);
        assert_eq!(blocked(Call::Poll, FileKind::Inet, 2), Cause::Poll);
        assert_eq!(blocked(Call::Select, FileKind::Unknown, 0), Cause::Sleep);
    }

    #[test]
    fn block_io_wins_over_the_call_and_faults_have_no_call() {
        let io = Blocked {
            in_iowait: true,
            in_syscall: true,
            call: Call::Futex,
            file: FileKind::Unknown,
            detail: 0,
        };
        assert_eq!(cause(&io), Cause::Disk);
        assert_eq!(cause(&Blocked { in_iowait: false, in_syscall: false, ..io }), Cause::PageFault);
    }

    #[test]
    fn call_numbers_round_trip() {
        for number in 0..=255u8 {
            let call = Call::from_u8(number);
            assert!(call as u8 == number || call == Call::Unknown);
        }
        assert_eq!(Call::from_u8(14), Call::Signal);
    }
}
