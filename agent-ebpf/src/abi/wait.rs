//! What a thread was blocked on, beyond the cause: the lock and its holder, the device, the peer.

use super::{Header, Task};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Parts kept of a file's path, and bytes of each with its NUL: the base name, then directories upwards.
pub const NAME_PARTS: usize = 4;
/// See [`NAME_PARTS`]. Names of lock files and of the directories around them are shorter.
pub const PART_BYTES: usize = 32;
/// Bytes of a name. A path of a unix socket takes 108 (`sun_path`, unix(7)).
pub const NAME_BYTES: usize = NAME_PARTS * PART_BYTES;

/// The thing waited for. Two waits on equal things of one thread are told of as one.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Thing {
    /// [`super::split::Cause`] number, as the time split has it.
    pub cause: u8,
    /// [`crate::rules::op::Op`] number.
    pub op: u8,
    /// Family of the socket (`AF_UNIX` 1, `AF_INET` 2, `AF_INET6` 10, `AF_NETLINK` 16); 0 = no socket.
    pub family: u16,
    /// Who has it: holder of the file lock or of the kernel's mutex, process at a unix socket's other end. A
    /// process id; 0 = nobody is known.
    pub holder: u32,
    /// Device of the file (`s_dev`: major << 20 | minor); 0 = no file.
    pub dev: u32,
    /// Port at the other end, host byte order; 0 = none.
    pub remote_port: u16,
    /// Netlink protocol.
    pub protocol: u16,
    /// Inode of the file; of a lock or a unix socket too. 0 = none.
    pub ino: u64,
    /// Address at the other end, network byte order; IPv4 takes the first four bytes.
    pub remote: [u8; 16],
    /// Type of the first netlink message of the send.
    pub message_type: u16,
    /// Bits: [`THING_MUTEX`].
    pub flags: u16,
    /// Zero.
    pub reserved: u32,
}
const _: () = assert!(size_of::<Thing>() == 48);

/// In [`Thing::flags`]: it waited for a mutex of the kernel; in a netlink send to `ROUTE`, for RTNL.
pub const THING_MUTEX: u16 = 1;

/// A thread's waits for one thing, one after the other. Emitted when it waits for something else, or ends. Threads
/// of CNI calls are told of in full, other tracked threads only for file locks.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Wait {
    /// `header.ktime_ns` is when the record was sent.
    pub header: Header,
    /// The thread.
    pub task: Task,
    /// What it waited for.
    pub thing: Thing,
    /// When the first wait began.
    pub first_ns: u64,
    /// When the last wait ended.
    pub last_ns: u64,
    /// Blocked in all; time in a run queue after the wake-up is not in it.
    pub blocked_ns: u64,
    /// Longest single wait.
    pub longest_ns: u64,
    /// How many waits.
    pub waits: u32,
    /// Of a file lock: how many were before it, the holder included, when its last wait began.
    pub queue: u32,
    /// Of a TCP socket: segments sent again in the connection's life (`tcp_sock.total_retrans`).
    pub retransmits: u32,
    /// This end's port, host byte order.
    pub local_port: u16,
    /// Of a unix socket: bytes of its address; abstract ones begin with NUL.
    pub name_len: u16,
    /// This end's address, as [`Thing::remote`].
    pub local: [u8; 16],
    /// Of a file: [`NAME_PARTS`] parts of its path from the base name upwards, each NUL-padded. Of a unix socket: its
    /// address.
    pub name: [u8; NAME_BYTES],
}
const _: () = assert!(size_of::<Wait>() == 272);
