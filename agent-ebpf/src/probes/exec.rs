//! Programs that processes become, and execs that fail.

use aya_ebpf::{
    EbpfContext,
    helpers::{
        bpf_get_current_uid_gid,
        generated::{bpf_probe_read_kernel, bpf_probe_read_kernel_str},
    },
    macros::{btf_tracepoint, map, tracepoint},
    maps::PerCpuArray,
    programs::{BtfTracePointContext, TracePointContext},
};
use core::ptr;
use slowpod_ebpf::rules::verifier::at_most;
use slowpod_ebpf::{
    abi::{
        Header, Kind, Miss,
        exec::{
            ARGV_BYTES, Exec, ExecFail, FLAG_ARGV_CUT, FLAG_ARGV_UNREAD, FLAG_PATH_CUT, FLAG_SCRIPT,
            PATH_BYTES,
        },
        flood::BINARY_BYTES,
    },
    rules::path::{self, TAIL_BYTES},
};

use super::{
    kernel::{
        Binprm, OFF_BPRM_FILENAME, OFF_BPRM_INTERP, OFF_MM_ARG_END, OFF_MM_ARG_START, OFF_MNT_NS_INUM,
        OFF_NET_NS_INUM, OFF_NSPROXY_MNT, OFF_NSPROXY_NET, OFF_PID_NS_INUM, OFF_REGS_ARG0, OFF_REGS_ARG1,
        OFF_TASK_MM, OFF_TASK_NSPROXY, OFF_TASK_TGID, TaskStruct, address, cgroup_id, comm, current,
        entry_regs, identity, innermost_pid, is_own, now_ns,
    },
    ring::{self, Ring},
    tables::{self, ProcessRow},
    text::{self, SLACK},
    unwind,
};

/// A record with room for its text.
#[repr(C)]
struct Whole<T, const TEXT: usize> {
    fixed: T,
    text: [u8; TEXT],
    /// End of the path, to find the base name in.
    tail: [u64; TAIL_BYTES / 8],
}

type WholeExec = Whole<Exec, { PATH_BYTES + ARGV_BYTES + 8 }>;
type WholeFail = Whole<ExecFail, { PATH_BYTES + 8 }>;
const _: () = assert!(SLACK <= 8);

#[map]
static EXEC_SCRATCH: PerCpuArray<WholeExec> = PerCpuArray::with_max_entries(1, 0);
#[map]
static FAIL_SCRATCH: PerCpuArray<WholeFail> = PerCpuArray::with_max_entries(1, 0);

/// The new program is in place: its arguments can be read from its memory.
#[btf_tracepoint(function = "sched_process_exec")]
pub fn process_exec(ctx: BtfTracePointContext) -> i32 {
    let task: *const TaskStruct = ctx.arg(0);
    let old_tid: u32 = ctx.arg(1);
    let program: *const Binprm = ctx.arg(2);
    if is_own(task) {
        return 0;
    }
    if let Some(tgid) = OFF_TASK_TGID.of(task) {
        unwind::forget(tgid);
    }
    let Some(whole) = EXEC_SCRATCH.get_ptr_mut(0) else { return 0 };
    // SAFETY: this CPU's scratch; one program uses it, and it does not interrupt itself.
    let whole = unsafe { &mut *whole };
    let now = now_ns();
    let mut process = tables::process_of(task);
    if let Some(process) = &mut process {
        remember(process, program, whole, now);
        if process.detail == 0 {
            ring::only_count(Kind::Exec);
            return 0;
        }
    }
    let sent = send(task, old_tid, program, whole, now);
    if let Some(process) = process {
        process.exec_lost = u32::from(!sent);
    }
    0
}

/// Keeps in the process's row what its exit and the exact counts will need.
#[inline(always)]
fn remember(process: &mut ProcessRow, program: *const Binprm, whole: &mut WholeExec, now: u64) {
    process.exec_ns = now;
    process.execs += 1;
    if let Some(name) = OFF_BPRM_FILENAME.of(program) {
        base_name(&mut process.binary, name, whole);
    }
}

#[inline(always)]
fn base_name(binary: &mut [u8; BINARY_BYTES], path: *const u8, whole: &mut WholeExec) {
    // SAFETY: the text has this much room.
    let Some(copied) =
        (unsafe { text::kernel_string::<{ PATH_BYTES as u64 }>(whole.text.as_mut_ptr(), path) })
    else {
        return;
    };
    let skip = if copied.len > TAIL_BYTES as u64 { copied.len - TAIL_BYTES as u64 } else { 0 };
    let end = path.wrapping_add(skip as usize);
    whole.tail = [0; TAIL_BYTES / 8];
    *binary = [0; BINARY_BYTES];
    // SAFETY: both targets are as large as said; the helpers check the source.
    unsafe {
        bpf_probe_read_kernel(
            whole.tail.as_mut_ptr().cast(),
            at_most(copied.len - skip, TAIL_BYTES as u64) as u32,
            end.cast(),
        );
        let name = end.wrapping_add(path::base_name(&whole.tail) as usize);
        bpf_probe_read_kernel_str(binary.as_mut_ptr().cast(), BINARY_BYTES as u32, name.cast());
    }
}

#[inline(always)]
fn send(
    task: *const TaskStruct,
    old_tid: u32,
    program: *const Binprm,
    whole: &mut WholeExec,
    now: u64,
) -> bool {
    let mut flags = 0;
    let path = OFF_BPRM_FILENAME.of(program).unwrap_or(ptr::null());
    if OFF_BPRM_INTERP.of(program).is_some_and(|interpreter| address(interpreter) != address(path)) {
        flags |= FLAG_SCRIPT;
    }
    let text = whole.text.as_mut_ptr();
    let mut path_len = 0;
    // SAFETY: the text has room for both, and for what the helper needs beyond the first.
    if let Some(copied) = unsafe { text::kernel_string::<{ PATH_BYTES as u64 }>(text, path) } {
        path_len = copied.len;
        flags |= if copied.cut { FLAG_PATH_CUT } else { 0 };
    }
    let argv = argv(task);
    let mut argv_len = at_most(argv.len, ARGV_BYTES as u64);
    if argv.len > ARGV_BYTES as u64 {
        flags |= FLAG_ARGV_CUT;
    }
    // SAFETY: as above.
    if !unsafe { text::user_bytes(text.add(path_len as usize), argv_len, argv.start) } {
        ring::miss(Miss::UserRead);
        flags |= FLAG_ARGV_UNREAD;
        argv_len = 0;
    }
    let len = size_of::<Exec>() as u64 + path_len + argv_len;
    let namespaces = namespaces(task);
    whole.fixed = Exec {
        header: Header { ktime_ns: now, kind: Kind::Exec as u32, len_bytes: len as u32 },
        task: identity(task),
        cgroup_id: cgroup_id(task),
        old_tid,
        uid: bpf_get_current_uid_gid() as u32,
        mount_ns: namespaces.mount,
        pid_ns: namespaces.pid,
        net_ns: namespaces.net,
        flags,
        argv_total_bytes: at_most(argv.len, u64::from(u32::MAX)) as u32,
        path_len: path_len as u16,
        argv_len: argv_len as u16,
        comm: comm(task),
    };
    ring::send_bytes(Ring::Life, Kind::Exec, (&raw const *whole).cast(), len)
}

struct Argv {
    start: u64,
    len: u64,
}

#[inline(always)]
fn argv(task: *const TaskStruct) -> Argv {
    let range = || {
        let memory = OFF_TASK_MM.of(task)?;
        Some((OFF_MM_ARG_START.of(memory)?, OFF_MM_ARG_END.of(memory)?))
    };
    match range() {
        Some((start, end)) if end > start => Argv { start, len: end - start },
        _ => Argv { start: 0, len: 0 },
    }
}

#[derive(Default)]
struct Namespaces {
    mount: u32,
    pid: u32,
    net: u32,
}

#[inline(always)]
fn namespaces(task: *const TaskStruct) -> Namespaces {
    let mut found = Namespaces::default();
    if let Some(proxy) = OFF_TASK_NSPROXY.of(task) {
        found.mount = OFF_NSPROXY_MNT.of(proxy).and_then(|ns| OFF_MNT_NS_INUM.of(ns)).unwrap_or(0);
        found.net = OFF_NSPROXY_NET.of(proxy).and_then(|ns| OFF_NET_NS_INUM.of(ns)).unwrap_or(0);
    }
    found.pid = innermost_pid(task).and_then(|(_, ns)| OFF_PID_NS_INUM.probe(ns)).unwrap_or(0);
    found
}

#[tracepoint]
pub fn execve_exit(ctx: TracePointContext) -> u32 {
    exec_returned(&ctx, Call::Execve)
}

#[tracepoint]
pub fn execveat_exit(ctx: TracePointContext) -> u32 {
    exec_returned(&ctx, Call::Execveat)
}

#[derive(Clone, Copy, PartialEq)]
enum Call {
    Execve,
    Execveat,
}

#[inline(always)]
fn exec_returned(ctx: &TracePointContext, call: Call) -> u32 {
    let result = syscall_result(ctx);
    let task = current();
    if result >= 0 || is_own(task) {
        return 0;
    }
    if let Some(process) = tables::process_of(task) {
        process.exec_fails += 1;
        if process.detail == 0 {
            ring::only_count(Kind::ExecFail);
            return 0;
        }
    }
    let Some(whole) = FAIL_SCRATCH.get_ptr_mut(0) else { return 0 };
    // SAFETY: this CPU's scratch. The two programs that share it run in system calls and with preemption off.
    let whole = unsafe { &mut *whole };
    let (mut path_len, mut flags) = (0, 0);
    let path = entry_regs(task).and_then(|regs| match call {
        Call::Execve => OFF_REGS_ARG0.of(regs),
        Call::Execveat => OFF_REGS_ARG1.of(regs),
    });
    // SAFETY: the text has this much room.
    match path
        .and_then(|path| unsafe { text::user_string::<{ PATH_BYTES as u64 }>(whole.text.as_mut_ptr(), path) })
    {
        Some(copied) => {
            path_len = copied.len;
            flags |= if copied.cut { FLAG_PATH_CUT } else { 0 };
        }
        None => ring::miss(Miss::UserRead),
    }
    let len = size_of::<ExecFail>() as u64 + path_len;
    whole.fixed = ExecFail {
        header: Header { ktime_ns: now_ns(), kind: Kind::ExecFail as u32, len_bytes: len as u32 },
        task: identity(task),
        cgroup_id: cgroup_id(task),
        errno: result.unsigned_abs() as u32,
        flags,
        path_len: path_len as u32,
        reserved: 0,
        comm: comm(task),
    };
    ring::send_bytes(Ring::Life, Kind::ExecFail, (&raw const *whole).cast(), len);
    0
}

/// The result of the system call that returns: `long ret`, in every `sys_exit_*` tracepoint's format.
#[inline(always)]
pub fn syscall_result(ctx: &TracePointContext) -> i64 {
    const RESULT_OFFSET: usize = 16;
    // SAFETY: inside the tracepoint's data, which the verifier checks.
    unsafe { ptr::read_volatile(ctx.as_ptr().cast::<u8>().add(RESULT_OFFSET).cast::<i64>()) }
}
