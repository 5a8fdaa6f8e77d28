//! Kernel structure fields the programs read, and the globals their offsets are put in.
//!
//! The kernel object holds one read-only global per row; the agent finds each field in
//! `/sys/kernel/btf/vmlinux` and sets the global before load. A field that no spelling finds stays
//! [`MISSING`]: the verifier then drops the code that needs it, and the probe's verdict says so.

/// Value of an offset global whose field this kernel does not have.
pub const MISSING: u32 = u32::MAX;

/// One field and where its offset goes.
#[derive(Clone, Copy, Debug)]
pub struct Offset {
    /// Name of the global in the kernel object (u32).
    pub global: &'static str,
    /// Spellings, newest first: `struct.member.member`; the offset is that of the last member from the start
    /// of the struct. `member[2]` steps to an element of an array; `|bit` at the end asks for the bit number
    /// (0 to 7) of a bitfield inside its byte.
    pub spellings: &'static [&'static str],
}

const fn row(global: &'static str, spellings: &'static [&'static str]) -> Offset {
    Offset { global, spellings }
}

/// Every field the kernel programs may read.
pub const OFFSETS: &[Offset] = &[
    row("OFF_TASK_PID", &["task_struct.pid"]),
    row("OFF_TASK_TGID", &["task_struct.tgid"]),
    row("OFF_TASK_COMM", &["task_struct.comm"]),
    row("OFF_TASK_MM", &["task_struct.mm"]),
    row("OFF_TASK_STATE", &["task_struct.__state", "task_struct.state"]),
    row("OFF_TASK_START_BOOTTIME", &["task_struct.start_boottime", "task_struct.real_start_time"]),
    row("OFF_TASK_GROUP_LEADER", &["task_struct.group_leader"]),
    row("OFF_TASK_EXIT_CODE", &["task_struct.exit_code"]),
    row("OFF_TASK_SIGNAL", &["task_struct.signal"]),
    row("OFF_SIGNAL_FLAGS", &["signal_struct.flags"]),
    row("OFF_SIGNAL_GROUP_EXIT_CODE", &["signal_struct.group_exit_code"]),
    row("OFF_TASK_NSPROXY", &["task_struct.nsproxy"]),
    row("OFF_NSPROXY_MNT", &["nsproxy.mnt_ns"]),
    row("OFF_NSPROXY_NET", &["nsproxy.net_ns"]),
    row("OFF_MNT_NS_INUM", &["mnt_namespace.ns.inum"]),
    row("OFF_NET_NS_INUM", &["net.ns.inum"]),
    row("OFF_PID_NS_INUM", &["pid_namespace.ns.inum"]),
    row("OFF_TASK_THREAD_PID", &["task_struct.thread_pid"]),
    row("OFF_PID_LEVEL", &["pid.level"]),
    row("OFF_PID_NUMBERS", &["pid.numbers"]),
    // With the one above: how far apart the levels are.
    row("OFF_PID_NUMBERS_1", &["pid.numbers[1]"]),
    row("OFF_UPID_NR", &["upid.nr"]),
    row("OFF_UPID_NS", &["upid.ns"]),
    row("OFF_MM_ARG_START", &["mm_struct.arg_start"]),
    row("OFF_MM_ARG_END", &["mm_struct.arg_end"]),
    row("OFF_MM_ENV_START", &["mm_struct.env_start"]),
    row("OFF_MM_ENV_END", &["mm_struct.env_end"]),
    row("OFF_BPRM_FILENAME", &["linux_binprm.filename"]),
    row("OFF_BPRM_INTERP", &["linux_binprm.interp"]),
    row("OFF_TASK_IN_IOWAIT", &["task_struct.in_iowait"]),
    row("BIT_TASK_IN_IOWAIT", &["task_struct.in_iowait|bit"]),
    row("OFF_TASK_LAST_QUEUED", &["task_struct.sched_info.last_queued"]),
    row("OFF_TASK_RUN_DELAY", &["task_struct.sched_info.run_delay"]),
    row("OFF_TASK_LAST_ARRIVAL", &["task_struct.sched_info.last_arrival"]),
    row("OFF_TASK_SUM_EXEC", &["task_struct.se.sum_exec_runtime"]),
    row("OFF_TASK_CFS_RQ", &["task_struct.se.cfs_rq"]),
    row("OFF_CFS_RQ_RQ", &["cfs_rq.rq"]),
    row("OFF_RQ_CLOCK", &["rq.clock"]),
    // The registers a thread entered the kernel with: x86-64, then arm64. The first argument of arm64 is
    // overwritten by the result, so it is kept twice.
    row("OFF_REGS_SYSCALL", &["pt_regs.orig_ax", "pt_regs.syscallno"]),
    row("OFF_REGS_ARG0", &["pt_regs.di", "pt_regs.orig_x0"]),
    row("OFF_REGS_ARG1", &["pt_regs.si", "pt_regs.regs[1]"]),
    row("OFF_REGS_ARG2", &["pt_regs.dx", "pt_regs.regs[2]"]),
    row("OFF_REGS_ARG3", &["pt_regs.r10", "pt_regs.regs[3]"]),
    // Of x86-64 only: return addresses on arm64's stacks may be signed, which the kernel's own walk knows to undo.
    row("OFF_REGS_IP", &["pt_regs.ip"]),
    row("OFF_REGS_SP", &["pt_regs.sp"]),
    row("OFF_REGS_FRAME", &["pt_regs.bp"]),
    // The registers of a call inside the kernel, as kprobes see them.
    row("OFF_REGS_CALL_ARG0", &["pt_regs.di", "pt_regs.regs[0]"]),
    row("OFF_REGS_CALL_RESULT", &["pt_regs.ax", "pt_regs.regs[0]"]),
    row("OFF_TASK_FILES", &["task_struct.files"]),
    row("OFF_FILES_FDT", &["files_struct.fdt"]),
    row("OFF_FDT_MAX_FDS", &["fdtable.max_fds"]),
    row("OFF_FDT_FD", &["fdtable.fd"]),
    row("OFF_FILE_OPS", &["file.f_op"]),
    row("OFF_FILE_INODE", &["file.f_inode"]),
    row("OFF_FILE_PRIVATE", &["file.private_data"]),
    row("OFF_INODE_MODE", &["inode.i_mode"]),
    row("OFF_INODE_SB", &["inode.i_sb"]),
    row("OFF_SB_MAGIC", &["super_block.s_magic"]),
    row("OFF_SOCKET_SK", &["socket.sk"]),
    row("OFF_SK_FAMILY", &["sock.__sk_common.skc_family"]),
    row("OFF_SK_PROTOCOL", &["sock.sk_protocol"]),
    // What a thread waits for. `file_lock_core` came with 6.9, where it is the lock's first member.
    row("OFF_LOCK_BLOCKER", &["file_lock.c.flc_blocker", "file_lock.fl_blocker", "file_lock.fl_next"]),
    row("OFF_LOCK_PID", &["file_lock.c.flc_pid", "file_lock.fl_pid"]),
    row("OFF_MUTEX_OWNER", &["mutex.owner"]),
    row("OFF_INODE_INO", &["inode.i_ino"]),
    row("OFF_SB_DEV", &["super_block.s_dev"]),
    row("OFF_FILE_DENTRY", &["file.f_path.dentry"]),
    row("OFF_DENTRY_PARENT", &["dentry.d_parent"]),
    row("OFF_DENTRY_NAME", &["dentry.d_name.name"]),
    row("OFF_SK_STATE", &["sock.__sk_common.skc_state"]),
    row("OFF_SK_DPORT", &["sock.__sk_common.skc_dport"]),
    row("OFF_SK_NUM", &["sock.__sk_common.skc_num"]),
    row("OFF_SK_DADDR", &["sock.__sk_common.skc_daddr"]),
    row("OFF_SK_RCV_SADDR", &["sock.__sk_common.skc_rcv_saddr"]),
    row("OFF_SK_V6_DADDR", &["sock.__sk_common.skc_v6_daddr"]),
    row("OFF_SK_V6_RCV_SADDR", &["sock.__sk_common.skc_v6_rcv_saddr"]),
    row("OFF_SK_PEER_PID", &["sock.sk_peer_pid"]),
    row("OFF_TCP_TOTAL_RETRANS", &["tcp_sock.total_retrans"]),
    row("OFF_UNIX_PEER", &["unix_sock.peer"]),
    row("OFF_UNIX_ADDR", &["unix_sock.addr"]),
    row("OFF_UNIX_ADDR_LEN", &["unix_address.len"]),
    row("OFF_UNIX_ADDR_NAME", &["unix_address.name"]),
    row("OFF_TASK_CGROUPS", &["task_struct.cgroups"]),
    row("OFF_CSS_SET_DEFAULT", &["css_set.dfl_cgrp"]),
    row("OFF_CSS_SET_SUBSYS", &["css_set.subsys"]),
    row("OFF_CSS_CGROUP", &["cgroup_subsys_state.cgroup"]),
    row("OFF_CGROUP_KN", &["cgroup.kn"]),
    row("OFF_KN_ID", &["kernfs_node.id"]),
    row("OFF_CGROUP_ROOT", &["cgroup.root"]),
    row("OFF_CGROUP_ROOT_HIERARCHY", &["cgroup_root.hierarchy_id"]),
];
