//! Which system call a thread was blocked in, in the words people use for it.

/// What a thread was doing. Numbers of the table in [`crate::abi::settings::globals::SYSCALL_OP`].
#[repr(u8)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Op {
    /// None of those below, or no system call.
    #[default]
    Other = 0,
    /// read, readv, pread64, getdents64 and their kin.
    Read = 1,
    /// write, writev, pwrite64 and their kin.
    Write = 2,
    /// fsync, fdatasync, sync_file_range, msync, sync, syncfs.
    Sync = 3,
    /// open, openat, creat.
    Open = 4,
    /// unlink, rmdir.
    Unlink = 5,
    /// rename, link, symlink, mkdir, mknod.
    Rename = 6,
    /// stat, access, readlink.
    Stat = 7,
    /// execve: the program is read.
    Exec = 8,
    /// connect; also a poll for a connection that is being made.
    Connect = 9,
    /// accept.
    Accept = 10,
    /// sendto, sendmsg, sendmmsg.
    Send = 11,
    /// recvfrom, recvmsg, recvmmsg.
    Receive = 12,
    /// poll, select, epoll: until one of several descriptors is ready.
    Poll = 13,
    /// flock, fcntl: until a lock is free.
    Lock = 14,
    /// close.
    Close = 15,
    /// ioctl.
    Ioctl = 16,
    /// mount, umount.
    Mount = 17,
}

impl Op {
    /// All, in numeric order.
    pub const ALL: [Op; 18] = [
        Op::Other,
        Op::Read,
        Op::Write,
        Op::Sync,
        Op::Open,
        Op::Unlink,
        Op::Rename,
        Op::Stat,
        Op::Exec,
        Op::Connect,
        Op::Accept,
        Op::Send,
        Op::Receive,
        Op::Poll,
        Op::Lock,
        Op::Close,
        Op::Ioctl,
        Op::Mount,
    ];

    /// The one a number stands for; an unknown number is [`Op::Other`].
    pub fn from_u8(number: u8) -> Op {
        Op::ALL.get(usize::from(number)).copied().unwrap_or_default()
    }

    /// Name in JSON and text.
    pub const fn name(self) -> &'static str {
        match self {
            Op::Other => "other",
            Op::Read => "read",
            Op::Write => "write",
            Op::Sync => "fsync",
            Op::Open => "open",
            Op::Unlink => "unlink",
            Op::Rename => "rename",
            Op::Stat => "stat",
            Op::Exec => "exec",
            Op::Connect => "connect",
            Op::Accept => "accept",
            Op::Send => "send",
            Op::Receive => "receive",
            Op::Poll => "poll",
            Op::Lock => "lock",
            Op::Close => "close",
            Op::Ioctl => "ioctl",
            Op::Mount => "mount",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_round_trip() {
        for (number, op) in Op::ALL.into_iter().enumerate() {
            assert_eq!(op as usize, number);
            assert_eq!(Op::from_u8(number as u8), op);
        }
        assert_eq!(Op::from_u8(200), Op::Other);
    }
}
