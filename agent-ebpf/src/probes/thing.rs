//! What the running thread is about to wait for: the file, socket or mutex behind the system call it is in.

use aya_ebpf::helpers::generated::bpf_probe_read_kernel_str;
use core::ptr;
use slowpod_ebpf::{
    abi::{
        split::Cause,
        wait::{NAME_BYTES, NAME_PARTS, PART_BYTES, THING_MUTEX, Wait},
    },
    rules::{
        cause::{AF_INET, AF_INET6, AF_NETLINK, AF_UNIX, Call, is_socket},
        op::Op,
        verifier::{at_most, opaque},
    },
};

use super::{
    blocked,
    kernel::{
        File, Mutex, OFF_DENTRY_NAME, OFF_DENTRY_PARENT, OFF_FILE_DENTRY, OFF_FILE_INODE, OFF_FILE_PRIVATE,
        OFF_INODE_INO, OFF_INODE_MODE, OFF_INODE_SB, OFF_MUTEX_OWNER, OFF_PID_NUMBERS, OFF_REGS_ARG0,
        OFF_REGS_SYSCALL, OFF_SB_DEV, OFF_SK_DADDR, OFF_SK_DPORT, OFF_SK_FAMILY, OFF_SK_NUM, OFF_SK_PEER_PID,
        OFF_SK_PROTOCOL, OFF_SK_RCV_SADDR, OFF_SK_STATE, OFF_SK_V6_DADDR, OFF_SK_V6_RCV_SADDR, OFF_SOCKET_SK,
        OFF_TASK_TGID, OFF_TCP_TOTAL_RETRANS, OFF_UNIX_ADDR, OFF_UNIX_ADDR_LEN, OFF_UNIX_ADDR_NAME,
        OFF_UNIX_PEER, OFF_UPID_NR, Regs, Sock, TaskStruct, Upid, address, entry_regs, now_ns,
    },
    messages, settings,
    text::user_value,
    wait::{self, Waiter},
};

/// `IPPROTO_TCP`.
const TCP: u16 = 6;
/// `TCP_SYN_SENT` of `net/tcp_states.h`: the connection is being made.
const TCP_SYN_SENT: u8 = 2;
/// Between running into a mutex and going to sleep over it lie microseconds; what is older was got without sleep.
const MUTEX_FRESH_NS: u64 = 1_000_000;
/// Descriptors of a poll that are looked at: those a plugin opens first.
const POLLED_MAX: u64 = 48;

/// Puts what `task`, the running thread, waits for into its row. False when there is nothing to tell beyond the cause.
#[inline(always)]
pub fn find(row: &mut Waiter, task: *const TaskStruct, cause: u32) -> bool {
    let present = &raw mut row.present;
    // SAFETY: a field of a map value.
    unsafe { ptr::write_bytes(present, 0, 1) };
    let present = &mut row.present;
    wait::name(present, task);
    present.thing.cause = cause as u8;
    let Some(regs) = entry_regs(task) else { return false };
    let number = OFF_REGS_SYSCALL.of(regs).unwrap_or(-1);
    let call = if number < 0 { Call::Unknown } else { settings::call_class(number as u32) };
    present.thing.op = if number < 0 { Op::Other as u8 } else { settings::call_op(number as u32) };
    if cause == Cause::Disk as u32 {
        file_of(present, task, regs, call);
        return true;
    }
    if cause == Cause::FileLock as u32 {
        file_of(present, task, regs, call);
        present.thing.holder = row.holder;
        present.queue = row.queue;
        return true;
    }
    if cause == Cause::Netlink as u32 {
        netlink(present, task, regs);
        mutex(row);
        return true;
    }
    if cause == Cause::Inet as u32 || cause == Cause::Unix as u32 {
        return descriptor(regs, call).is_some_and(|fd| socket_of(present, task, fd));
    }
    if cause == Cause::Poll as u32 {
        return polled(present, task);
    }
    cause == Cause::Other as u32 && mutex(row)
}

/// The descriptor a call waits for.
#[inline(always)]
fn descriptor(regs: *const Regs, call: Call) -> Option<u32> {
    let first = OFF_REGS_ARG0.of(regs)?;
    match call {
        Call::Descriptor | Call::Flock | Call::Fcntl | Call::Sync => Some(first as u32),
        Call::Poll => user_value::<i32>(first).map(|fd| fd as u32),
        _ => None,
    }
}

/// Device, inode and name of the file behind the call's descriptor; calls on paths leave none.
#[inline(always)]
fn file_of(present: &mut Wait, task: *const TaskStruct, regs: *const Regs, call: Call) {
    let Some(file) = descriptor(regs, call).and_then(|fd| blocked::open_file(task, fd)) else { return };
    let inode = OFF_FILE_INODE.probe(file);
    let Some(inode) = inode else { return };
    present.thing.ino = OFF_INODE_INO.probe(inode).unwrap_or(0);
    present.thing.dev = OFF_INODE_SB.probe(inode).and_then(|sb| OFF_SB_DEV.probe(sb)).unwrap_or(0);
    path(present, file);
}

/// The last parts of a file's path. A root is called `/`.
#[inline(always)]
fn path(present: &mut Wait, file: *const File) {
    let Some(mut dentry) = OFF_FILE_DENTRY.probe(file) else { return };
    let name = (&raw mut present.name).cast::<u8>();
    let mut part = 0;
    while part < NAME_PARTS {
        let Some(text) = OFF_DENTRY_NAME.probe(dentry) else { return };
        // SAFETY: the part lies inside the name; the helper checks the source.
        unsafe {
            bpf_probe_read_kernel_str(name.add(part * PART_BYTES).cast(), PART_BYTES as u32, text.cast());
        }
        let Some(parent) = OFF_DENTRY_PARENT.probe(dentry) else { return };
        if address(parent) == address(dentry) {
            return;
        }
        dentry = parent;
        part += 1;
    }
}

/// The socket a descriptor stands for.
#[inline(always)]
fn socket(task: *const TaskStruct, fd: u32) -> Option<*const Sock> {
    let file = blocked::open_file(task, fd)?;
    let mode = u32::from(OFF_INODE_MODE.probe(OFF_FILE_INODE.probe(file)?)?);
    if !is_socket(mode) {
        return None;
    }
    OFF_SOCKET_SK.probe(OFF_FILE_PRIVATE.probe(file)?)
}

/// Both ends of a socket of TCP and its kin, or of a unix socket. False for others.
#[inline(always)]
fn socket_of(present: &mut Wait, task: *const TaskStruct, fd: u32) -> bool {
    let Some(sk) = socket(task, fd) else { return false };
    let Some(family) = OFF_SK_FAMILY.probe(sk) else { return false };
    present.thing.family = family;
    match family {
        AF_INET | AF_INET6 => inet(present, sk, family),
        AF_UNIX => unix(present, sk),
        _ => return false,
    }
    true
}

#[inline(always)]
fn inet(present: &mut Wait, sk: *const Sock, family: u16) {
    present.thing.remote_port = OFF_SK_DPORT.probe(sk).unwrap_or(0).swap_bytes();
    present.local_port = OFF_SK_NUM.probe(sk).unwrap_or(0);
    if family == AF_INET {
        first_four(&mut present.thing.remote, OFF_SK_DADDR.probe(sk));
        first_four(&mut present.local, OFF_SK_RCV_SADDR.probe(sk));
    } else {
        present.thing.remote = OFF_SK_V6_DADDR.probe(sk).unwrap_or([0; 16]);
        present.local = OFF_SK_V6_RCV_SADDR.probe(sk).unwrap_or([0; 16]);
    }
    if OFF_SK_PROTOCOL.probe(sk) == Some(TCP) {
        present.retransmits = OFF_TCP_TOTAL_RETRANS.probe(sk.cast()).unwrap_or(0);
        if OFF_SK_STATE.probe(sk) == Some(TCP_SYN_SENT) {
            present.thing.op = Op::Connect as u8;
        }
    }
}

#[inline(always)]
fn first_four(to: &mut [u8; 16], from: Option<[u8; 4]>) {
    let [a, b, c, d] = from.unwrap_or([0; 4]);
    (to[0], to[1], to[2], to[3]) = (a, b, c, d);
}

/// Who listens, or made the pair; and the address that was bound.
#[inline(always)]
fn unix(present: &mut Wait, sk: *const Sock) {
    let numbers = OFF_SK_PEER_PID.probe(sk).and_then(|pid| OFF_PID_NUMBERS.within(pid));
    let number = numbers.and_then(|numbers| OFF_UPID_NR.probe(numbers.cast::<Upid>()));
    present.thing.holder = number.unwrap_or(0);
    let bound = OFF_UNIX_PEER.probe(sk.cast()).and_then(|peer| OFF_UNIX_ADDR.probe(peer));
    let Some(bound) = bound.filter(|bound| !bound.is_null()) else { return };
    let Some(len) = OFF_UNIX_ADDR_LEN.probe(bound) else { return };
    let Some(name) = OFF_UNIX_ADDR_NAME.within(bound) else { return };
    /// `sun_family`, before the path.
    const FAMILY_BYTES: u64 = 2;
    if u64::from(len) <= FAMILY_BYTES {
        return;
    }
    let len = at_most(u64::from(len) - FAMILY_BYTES, NAME_BYTES as u64);
    let to = (&raw mut present.name).cast::<u8>();
    let from = name.cast::<u8>().wrapping_add(FAMILY_BYTES as usize);
    // SAFETY: the name has the room; the helper checks the source.
    let failed =
        unsafe { aya_ebpf::helpers::generated::bpf_probe_read_kernel(to.cast(), len as u32, from.cast()) };
    if failed == 0 {
        present.name_len = len as u16;
    }
}

/// Protocol and first message of a netlink send; of a receive the protocol alone.
#[inline(always)]
fn netlink(present: &mut Wait, task: *const TaskStruct, regs: *const Regs) {
    present.thing.family = AF_NETLINK;
    let fd = OFF_REGS_ARG0.of(regs).unwrap_or(0) as u32;
    present.thing.protocol = socket(task, fd).and_then(|sk| OFF_SK_PROTOCOL.probe(sk)).unwrap_or(0);
    if let Some(call) = messages::send_call(regs) {
        present.thing.message_type = messages::first_type(regs, call).unwrap_or(0);
    }
}

/// The mutex the thread has just run into, and its owner. False when there is none.
#[inline(always)]
fn mutex(row: &mut Waiter) -> bool {
    let mutex = row.mutex;
    if mutex == 0 || now_ns().wrapping_sub(row.mutex_ns) > MUTEX_FRESH_NS {
        return false;
    }
    let thing = &mut row.present.thing;
    thing.flags = THING_MUTEX;
    /// The low bits of `mutex.owner` are flags (`kernel/locking/mutex.h`).
    const OWNER_FLAGS: u64 = 7;
    let owner = OFF_MUTEX_OWNER.probe(mutex as *const Mutex).unwrap_or(0) & !OWNER_FLAGS;
    if owner != 0 {
        thing.holder = OFF_TASK_TGID.probe(owner as *const TaskStruct).unwrap_or(0);
    }
    true
}

/// What a poll on several descriptors waits for, as far as the process has but one connection: the first to
/// another host, else the first to a daemon. (A Go program polls all it has; its other descriptors are pipes.)
#[inline(always)]
fn polled(present: &mut Wait, task: *const TaskStruct) -> bool {
    let mut fd = 2;
    while fd < POLLED_MAX {
        // Hidden, so that this stays a loop.
        fd = opaque(fd) + 1;
        if let Some(sk) = socket(task, fd as u32) {
            let family = OFF_SK_FAMILY.probe(sk).unwrap_or(0);
            if family == AF_INET || family == AF_INET6 {
                if OFF_SK_DPORT.probe(sk).unwrap_or(0) != 0 {
                    present.thing.family = family;
                    inet(present, sk, family);
                    return true;
                }
            } else if family == AF_UNIX
                && present.thing.family == 0
                && OFF_SK_PEER_PID.probe(sk).is_some_and(|pid| !pid.is_null())
            {
                present.thing.family = family;
                unix(present, sk);
            }
        }
    }
    present.thing.family != 0
}
