//! Why a thread goes to sleep: what `rules::cause` needs to know, read from the thread as it leaves the CPU.

use aya_ebpf::{macros::map, maps::Array};
use slowpod_ebpf::{
    abi::split::Cause,
    rules::cause::{self, Blocked, Call, FileKind},
};

use super::{
    kernel::{
        BIT_TASK_IN_IOWAIT, File, OFF_FDT_FD, OFF_FDT_MAX_FDS, OFF_FILE_INODE, OFF_FILE_OPS,
        OFF_FILE_PRIVATE, OFF_FILES_FDT, OFF_INODE_MODE, OFF_INODE_SB, OFF_REGS_ARG0, OFF_REGS_ARG1,
        OFF_REGS_SYSCALL, OFF_SB_MAGIC, OFF_SK_FAMILY, OFF_SOCKET_SK, OFF_TASK_FILES, OFF_TASK_IN_IOWAIT,
        Regs, TaskStruct, address, current, entry_regs, probe,
    },
    settings,
    text::user_value,
};

/// Calls that are made rarely, and then wait for long.
#[derive(Clone, Copy, PartialEq)]
pub enum LongCall {
    /// Another one, or none.
    None = 0,
    /// For a child.
    Child = 1,
    /// For a file's lock.
    Lock = 2,
}

/// Why `task`, the running thread, is about to sleep: a [`Cause`] as its number.
#[inline(always)]
pub fn cause(task: *const TaskStruct) -> u32 {
    if in_iowait(task).unwrap_or(false) {
        return Cause::Disk as u32;
    }
    cause_by_call() as u32
}

// Functions of their own, and known to the kernel as such: each is verified once, not in every state that a switch may
// be in. And each is verified even if nobody calls it, so it is here that kernels without these helpers are told apart:
// where there are no registers, there is none that tells the running thread either (Linux 5.10).

/// Why the running thread is about to sleep, by the system call it is in.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn cause_by_call() -> u64 {
    if settings::SET_HAVE_PT_REGS.load() == 0 {
        return Cause::Other as u64;
    }
    let task = current();
    let Some(regs) = entry_regs(task) else { return Cause::Other as u64 };
    let Some(number) = OFF_REGS_SYSCALL.of(regs) else { return Cause::Other as u64 };
    let in_syscall = number >= 0;
    let call = if in_syscall { settings::call_class(number as u32) } else { Call::Unknown };
    let detail = match call {
        Call::Fcntl => second(regs),
        Call::Poll => second(regs) & 0xffff_ffff,
        Call::Select => first(regs),
        _ => 0,
    };
    let descriptor = match call {
        Call::Descriptor => first(regs),
        Call::Fcntl if !cause::fcntl_waits(detail) => first(regs),
        // It is the first field of `struct pollfd`.
        Call::Poll if detail == 1 => user_value::<u32>(first(regs)).map_or(NO_DESCRIPTOR, u64::from),
        _ => NO_DESCRIPTOR,
    };
    // One look for all of them: so it may be a direct one (`Field::of`).
    let file = match descriptor {
        NO_DESCRIPTOR => FileKind::Unknown,
        descriptor => own_file(task, descriptor as u32).and_then(kind_of).unwrap_or(FileKind::Unknown),
    };
    cause::cause(&Blocked { in_iowait: false, in_syscall, call, file, detail }) as u64
}

/// In the place of a descriptor: there is none.
const NO_DESCRIPTOR: u64 = u64::MAX;

/// The file behind a descriptor of the running thread.
#[inline(always)]
fn own_file(task: *const TaskStruct, fd: u32) -> Option<*const File> {
    let table = OFF_FILES_FDT.of(OFF_TASK_FILES.of(task)?)?;
    if fd >= OFF_FDT_MAX_FDS.of(table)? {
        return None;
    }
    let files = address(OFF_FDT_FD.of(table)?) as *const *const File;
    probe(files.wrapping_add(fd as usize)).filter(|file| !file.is_null())
}

/// Which [`LongCall`] the running thread is in.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn call_waits_long() -> u64 {
    if settings::SET_HAVE_PT_REGS.load() == 0 {
        return LongCall::None as u64;
    }
    let Some(regs) = entry_regs(current()) else { return LongCall::None as u64 };
    let number = OFF_REGS_SYSCALL.of(regs).unwrap_or(-1);
    if number < 0 {
        return LongCall::None as u64;
    }
    let call = match settings::call_class(number as u32) {
        Call::Wait => LongCall::Child,
        Call::Flock => LongCall::Lock,
        Call::Fcntl if cause::fcntl_waits(second(regs)) => LongCall::Lock,
        _ => LongCall::None,
    };
    call as u64
}

/// Why `task` was away, told as it comes back: its entry into the kernel is still on its stack. Its memory is
/// not at hand, so a poll on one descriptor stays a poll.
#[inline(always)]
pub fn cause_of_returning(task: *const TaskStruct) -> Cause {
    if in_iowait(task).unwrap_or(false) {
        return Cause::Disk;
    }
    let Some(regs) = entry_regs(task) else { return Cause::Other };
    let Some(number) = OFF_REGS_SYSCALL.of(regs) else { return Cause::Other };
    let in_syscall = number >= 0;
    let call = if in_syscall { settings::call_class(number as u32) } else { Call::Unknown };
    let (file, detail) = match call {
        Call::Descriptor => (file_kind(task, first(regs)), 0),
        Call::Fcntl => fcntl(task, regs),
        Call::Poll => (FileKind::Unknown, second(regs) & 0xffff_ffff),
        Call::Select => (FileKind::Unknown, first(regs)),
        _ => (FileKind::Unknown, 0),
    };
    cause::cause(&Blocked { in_iowait: false, in_syscall, call, file, detail })
}

/// Which long call the running thread, which is about to sleep, is in.
#[inline(always)]
pub fn long_call() -> LongCall {
    match call_waits_long() {
        1 => LongCall::Child,
        2 => LongCall::Lock,
        _ => LongCall::None,
    }
}

#[inline(always)]
fn in_iowait(task: *const TaskStruct) -> Option<bool> {
    let byte = OFF_TASK_IN_IOWAIT.of(task)?;
    Some(byte & (1 << (BIT_TASK_IN_IOWAIT.offset()? & 7)) != 0)
}

#[inline(always)]
fn first(regs: *const Regs) -> u64 {
    OFF_REGS_ARG0.of(regs).unwrap_or(0)
}

#[inline(always)]
fn second(regs: *const Regs) -> u64 {
    OFF_REGS_ARG1.of(regs).unwrap_or(0)
}

#[inline(always)]
fn fcntl(task: *const TaskStruct, regs: *const Regs) -> (FileKind, u64) {
    let command = second(regs);
    let file = if cause::fcntl_waits(command) { FileKind::Unknown } else { file_kind(task, first(regs)) };
    (file, command)
}

#[inline(always)]
fn file_kind(task: *const TaskStruct, fd: u64) -> FileKind {
    open_file(task, fd as u32).and_then(kind_of).unwrap_or(FileKind::Unknown)
}

/// The file behind a descriptor of the thread.
#[inline(always)]
pub fn open_file(task: *const TaskStruct, fd: u32) -> Option<*const File> {
    let table = OFF_FILES_FDT.probe(OFF_TASK_FILES.probe(task)?)?;
    if fd >= OFF_FDT_MAX_FDS.probe(table)? {
        return None;
    }
    probe(OFF_FDT_FD.probe(table)?.wrapping_add(fd as usize)).filter(|file| !file.is_null())
}

/// Addresses of the operations that all pipes and all sockets have and nothing else has, once one of them was met: so most
/// files that threads block on are told by one read less.
#[map]
static KNOWN_OPS: Array<u64> = Array::with_max_entries(2, 0);
const PIPES: u32 = 0;
const SOCKETS: u32 = 1;

/// What an open file is.
#[inline(always)]
fn kind_of(file: *const File) -> Option<FileKind> {
    let ops = OFF_FILE_OPS.probe(file)?;
    if is_known(PIPES, ops) {
        return Some(FileKind::Pipe);
    }
    if is_known(SOCKETS, ops) {
        return socket_kind(file);
    }
    let inode = OFF_FILE_INODE.probe(file)?;
    let mode = u32::from(OFF_INODE_MODE.probe(inode)?);
    if cause::is_socket(mode) {
        know(SOCKETS, ops);
        return socket_kind(file);
    }
    if cause::is_fifo(mode) {
        know(PIPES, ops);
        return Some(FileKind::Pipe);
    }
    let magic = OFF_SB_MAGIC.probe(OFF_INODE_SB.probe(inode)?)?;
    Some(cause::file_kind(mode, magic))
}

#[inline(always)]
fn socket_kind(file: *const File) -> Option<FileKind> {
    let family = OFF_SK_FAMILY.probe(OFF_SOCKET_SK.probe(OFF_FILE_PRIVATE.probe(file)?)?)?;
    Some(cause::socket_kind(family))
}

#[inline(always)]
fn is_known(whose: u32, ops: u64) -> bool {
    // SAFETY: a number in a map that is never freed.
    ops != 0 && KNOWN_OPS.get_ptr(whose).is_some_and(|known| unsafe { *known == ops })
}

#[inline(always)]
fn know(whose: u32, ops: u64) {
    if let Some(known) = KNOWN_OPS.get_ptr_mut(whose) {
        // SAFETY: as above; all CPUs write the same number.
        unsafe { *known = ops };
    }
}
