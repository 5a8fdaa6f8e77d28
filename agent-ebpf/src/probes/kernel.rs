//! Reading fields of kernel structures whose layout the agent finds out at load (`abi::offsets`).
//!
//! Each field is a read-only global that holds its offset. The verifier knows the global's value, so a load
//! through it is as checked and as cheap as one compiled with the kernel's headers, and the code behind a
//! field that this kernel lacks is dropped before it is checked.

use aya_ebpf::{
    Global,
    helpers::{
        bpf_get_current_cgroup_id,
        generated::{
            bpf_get_current_task_btf, bpf_ktime_get_boot_ns, bpf_ktime_get_ns, bpf_probe_read_kernel,
            bpf_task_pt_regs,
        },
    },
};
use core::{arch::asm, marker::PhantomData, mem::MaybeUninit, ptr};
use slowpod_ebpf::{
    abi::{COMM_BYTES, Task, offsets::MISSING},
    rules::{comm::up_to_nul, verifier::opaque},
};

use super::settings;

/// Kernel structures, opaque: only their fields below are ever read.
macro_rules! structures {
    ($($name:ident)*) => {$(
        #[repr(C)]
        pub struct $name([u8; 0]);
    )*};
}
structures! {
    TaskStruct Signal Mm Binprm NsProxy MountNs NetNs PidNs Pid Upid Regs Files FdTable File Inode SuperBlock
    Socket Sock FileLock Mutex Dentry TcpSock UnixSock UnixAddress CfsRq Rq CssSet Css Cgroup CgroupRoot Kernfs
}

/// A field of type `V` in structure `S`.
#[repr(transparent)]
pub struct Field<S, V> {
    offset: Global<u32>,
    types: PhantomData<fn(*const S) -> V>,
}

impl<S, V: Copy> Field<S, V> {
    const fn new() -> Self {
        Self { offset: Global::new(MISSING), types: PhantomData }
    }

    /// Reads the field by a load the verifier checks; `base` must be a pointer whose type it knows. `None`
    /// when this kernel has no such field. A null or stale base reads as zero.
    #[inline(always)]
    pub fn of(&self, base: *const S) -> Option<V> {
        let address = self.within(base)?;
        // SAFETY: the verifier accepts this load only if it is one of a field, and the kernel's exception
        // table turns a fault into zero.
        Some(unsafe { ptr::read_volatile(address) })
    }

    /// Reads the field with a helper. `None` also when the address cannot be read.
    ///
    /// For bases whose type the verifier does not know; and for fields that are pointers, wherever 20 ns do
    /// not matter: for each direct load of a pointer the verifier searches all types of the kernel, several
    /// times a millisecond, and that is most of the time it takes to attach.
    #[inline(always)]
    pub fn probe(&self, base: *const S) -> Option<V> {
        probe(self.within(base)?)
    }

    /// Address of the field.
    #[inline(always)]
    pub fn within(&self, base: *const S) -> Option<*const V> {
        match self.offset.load() {
            MISSING => None,
            offset => Some(base.cast::<u8>().wrapping_add(offset as usize).cast()),
        }
    }

    /// The bare offset.
    #[inline(always)]
    pub fn offset(&self) -> Option<u32> {
        match self.offset.load() {
            MISSING => None,
            offset => Some(offset),
        }
    }
}

macro_rules! fields {
    ($($global:ident: $structure:ty => $value:ty,)*) => {$(
        #[unsafe(no_mangle)]
        pub static $global: Field<$structure, $value> = Field::new();
    )*};
}
fields! {
    OFF_TASK_PID: TaskStruct => u32,
    OFF_TASK_TGID: TaskStruct => u32,
    OFF_TASK_COMM: TaskStruct => [u64; 2],
    OFF_TASK_MM: TaskStruct => *const Mm,
    OFF_TASK_STATE: TaskStruct => u32,
    OFF_TASK_START_BOOTTIME: TaskStruct => u64,
    OFF_TASK_GROUP_LEADER: TaskStruct => *const TaskStruct,
    OFF_TASK_EXIT_CODE: TaskStruct => u32,
    OFF_TASK_SIGNAL: TaskStruct => *const Signal,
    OFF_SIGNAL_FLAGS: Signal => u32,
    OFF_SIGNAL_GROUP_EXIT_CODE: Signal => u32,
    OFF_TASK_NSPROXY: TaskStruct => *const NsProxy,
    OFF_NSPROXY_MNT: NsProxy => *const MountNs,
    OFF_NSPROXY_NET: NsProxy => *const NetNs,
    OFF_MNT_NS_INUM: MountNs => u32,
    OFF_NET_NS_INUM: NetNs => u32,
    OFF_PID_NS_INUM: PidNs => u32,
    OFF_TASK_THREAD_PID: TaskStruct => *const Pid,
    OFF_PID_LEVEL: Pid => u32,
    OFF_PID_NUMBERS: Pid => [u8; 0],
    OFF_PID_NUMBERS_1: Pid => [u8; 0],
    OFF_UPID_NR: Upid => u32,
    OFF_UPID_NS: Upid => *const PidNs,
    OFF_MM_ARG_START: Mm => u64,
    OFF_MM_ARG_END: Mm => u64,
    OFF_MM_ENV_START: Mm => u64,
    OFF_MM_ENV_END: Mm => u64,
    OFF_BPRM_FILENAME: Binprm => *const u8,
    OFF_BPRM_INTERP: Binprm => *const u8,
    OFF_TASK_IN_IOWAIT: TaskStruct => u8,
    BIT_TASK_IN_IOWAIT: TaskStruct => u8,
    OFF_TASK_LAST_QUEUED: TaskStruct => u64,
    OFF_TASK_RUN_DELAY: TaskStruct => u64,
    OFF_TASK_LAST_ARRIVAL: TaskStruct => u64,
    OFF_TASK_SUM_EXEC: TaskStruct => u64,
    OFF_TASK_CFS_RQ: TaskStruct => *const CfsRq,
    OFF_CFS_RQ_RQ: CfsRq => *const Rq,
    OFF_RQ_CLOCK: Rq => u64,
    OFF_REGS_SYSCALL: Regs => i32,
    OFF_REGS_ARG0: Regs => u64,
    OFF_REGS_ARG1: Regs => u64,
    OFF_REGS_ARG2: Regs => u64,
    OFF_REGS_ARG3: Regs => u64,
    OFF_REGS_IP: Regs => u64,
    OFF_REGS_SP: Regs => u64,
    OFF_REGS_FRAME: Regs => u64,
    OFF_REGS_CALL_ARG0: Regs => u64,
    OFF_REGS_CALL_RESULT: Regs => u64,
    OFF_TASK_FILES: TaskStruct => *const Files,
    OFF_FILES_FDT: Files => *const FdTable,
    OFF_FDT_MAX_FDS: FdTable => u32,
    OFF_FDT_FD: FdTable => *const *const File,
    OFF_FILE_OPS: File => u64,
    OFF_FILE_INODE: File => *const Inode,
    OFF_FILE_PRIVATE: File => *const Socket,
    OFF_INODE_MODE: Inode => u16,
    OFF_INODE_SB: Inode => *const SuperBlock,
    OFF_SB_MAGIC: SuperBlock => u64,
    OFF_SOCKET_SK: Socket => *const Sock,
    OFF_SK_FAMILY: Sock => u16,
    OFF_SK_PROTOCOL: Sock => u16,
    OFF_LOCK_BLOCKER: FileLock => *const FileLock,
    OFF_LOCK_PID: FileLock => u32,
    OFF_MUTEX_OWNER: Mutex => u64,
    OFF_INODE_INO: Inode => u64,
    OFF_SB_DEV: SuperBlock => u32,
    OFF_FILE_DENTRY: File => *const Dentry,
    OFF_DENTRY_PARENT: Dentry => *const Dentry,
    OFF_DENTRY_NAME: Dentry => *const u8,
    OFF_SK_STATE: Sock => u8,
    OFF_SK_DPORT: Sock => u16,
    OFF_SK_NUM: Sock => u16,
    OFF_SK_DADDR: Sock => [u8; 4],
    OFF_SK_RCV_SADDR: Sock => [u8; 4],
    OFF_SK_V6_DADDR: Sock => [u8; 16],
    OFF_SK_V6_RCV_SADDR: Sock => [u8; 16],
    OFF_SK_PEER_PID: Sock => *const Pid,
    OFF_TCP_TOTAL_RETRANS: TcpSock => u32,
    OFF_UNIX_PEER: UnixSock => *const UnixSock,
    OFF_UNIX_ADDR: UnixSock => *const UnixAddress,
    OFF_UNIX_ADDR_LEN: UnixAddress => u32,
    OFF_UNIX_ADDR_NAME: UnixAddress => [u8; 0],
    OFF_TASK_CGROUPS: TaskStruct => *const CssSet,
    OFF_CSS_SET_DEFAULT: CssSet => *const Cgroup,
    OFF_CSS_SET_SUBSYS: CssSet => [u8; 0],
    OFF_CSS_CGROUP: Css => *const Cgroup,
    OFF_CGROUP_KN: Cgroup => *const Kernfs,
    OFF_KN_ID: Kernfs => u64,
    OFF_CGROUP_ROOT: Cgroup => *const CgroupRoot,
    OFF_CGROUP_ROOT_HIERARCHY: CgroupRoot => u32,
}

/// Reads kernel memory with a helper; `None` when it cannot be read.
#[inline(always)]
pub fn probe<T: Copy>(address: *const T) -> Option<T> {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: the helper checks the source; the destination is ours and as large as said.
    let failed =
        unsafe { bpf_probe_read_kernel(value.as_mut_ptr().cast(), size_of::<T>() as u32, address.cast()) };
    // SAFETY: the helper filled it.
    (failed == 0).then(|| unsafe { value.assume_init() })
}

/// A pointer as a plain number. The optimiser must not treat the two as one, since the verifier does not.
#[inline(always)]
pub fn address<T>(pointer: *const T) -> u64 {
    opaque(pointer as u64)
}

/// `CLOCK_MONOTONIC`, nanoseconds.
#[inline(always)]
pub fn now_ns() -> u64 {
    // SAFETY: no preconditions.
    unsafe { bpf_ktime_get_ns() }
}

/// Whether a thread belongs to a program; kernel threads have no memory of their own.
#[inline(always)]
pub fn is_user(task: *const TaskStruct) -> bool {
    memory(task) != 0
}

/// Address of a thread's memory map; 0 = it has none.
#[inline(always)]
pub fn memory(task: *const TaskStruct) -> u64 {
    OFF_TASK_MM.probe(task).map_or(0, address)
}

/// The running thread.
#[inline(always)]
pub fn current() -> *const TaskStruct {
    // SAFETY: no preconditions.
    unsafe { bpf_get_current_task_btf() }.cast_const().cast()
}

/// The registers a thread entered the kernel with; `None` on kernels before 5.15.
#[inline(always)]
pub fn entry_regs(task: *const TaskStruct) -> Option<*const Regs> {
    if settings::SET_HAVE_PT_REGS.load() == 0 {
        return None;
    }
    // SAFETY: the verifier checks that it is a task.
    Some(unsafe { bpf_task_pt_regs(task.cast_mut().cast()) } as *const Regs)
}

/// Who a thread is.
#[inline(always)]
pub fn identity(task: *const TaskStruct) -> Task {
    let start_ns = OFF_TASK_GROUP_LEADER.probe(task).and_then(|leader| OFF_TASK_START_BOOTTIME.probe(leader));
    Task {
        start_ns: start_ns.unwrap_or(0),
        tgid: OFF_TASK_TGID.of(task).unwrap_or(0),
        tid: OFF_TASK_PID.of(task).unwrap_or(0),
    }
}

/// Whether a thread belongs to the agent itself, which is not watched.
#[inline(always)]
pub fn is_own(task: *const TaskStruct) -> bool {
    let own = settings::SET_OWN_TGID.load();
    own != 0 && OFF_TASK_TGID.of(task) == Some(own)
}

/// A thread's comm.
#[inline(always)]
pub fn comm(task: *const TaskStruct) -> [u8; COMM_BYTES] {
    let words = up_to_nul(OFF_TASK_COMM.of(task).unwrap_or([0; 2]));
    // SAFETY: plain bytes of the same size.
    unsafe { core::mem::transmute::<[u64; 2], [u8; COMM_BYTES]>(words) }
}

/// The cgroup the running thread is in: of the v2 hierarchy, or of the v1 controller the agent chose.
#[inline(always)]
pub fn cgroup_id(current: *const TaskStruct) -> u64 {
    match settings::SET_CGROUP_SOURCE.load() {
        // SAFETY: no preconditions.
        0 => unsafe { bpf_get_current_cgroup_id() },
        controller => cgroup_v1_id(current, controller - 1).unwrap_or(0),
    }
}

/// The cgroup that any thread is in, as [`cgroup_id`].
#[inline(always)]
pub fn cgroup_id_of(task: *const TaskStruct) -> Option<u64> {
    match settings::SET_CGROUP_SOURCE.load() {
        0 => OFF_KN_ID.probe(OFF_CGROUP_KN.probe(OFF_CSS_SET_DEFAULT.probe(OFF_TASK_CGROUPS.probe(task)?)?)?),
        controller => cgroup_v1_id(task, controller - 1),
    }
}

#[inline(always)]
fn cgroup_v1_id(task: *const TaskStruct, controller: u32) -> Option<u64> {
    let subsys = OFF_CSS_SET_SUBSYS.within(OFF_TASK_CGROUPS.probe(task)?)?;
    let css = probe(subsys.cast::<*const Css>().wrapping_add(controller as usize))?;
    OFF_KN_ID.probe(OFF_CGROUP_KN.probe(OFF_CSS_CGROUP.probe(css)?)?)
}

/// The thread's pid as its own innermost pid namespace counts it, and that namespace.
#[inline(always)]
pub fn innermost_pid(task: *const TaskStruct) -> Option<(u32, *const PidNs)> {
    // With the helper: Linux 5.10 takes no offset that it does not know to a pointer whose type it does.
    let pid = OFF_TASK_THREAD_PID.probe(task)?;
    let level = OFF_PID_LEVEL.probe(pid)?;
    let stride = OFF_PID_NUMBERS_1.offset()?.wrapping_sub(OFF_PID_NUMBERS.offset()?);
    let numbers: *const u8 = OFF_PID_NUMBERS.within(pid)?.cast();
    let upid: *const Upid = numbers.wrapping_add(level as usize * stride as usize).cast();
    Some((OFF_UPID_NR.probe(upid)?, OFF_UPID_NS.probe(upid)?))
}

/// Nanoseconds since boot, sleep included: the clock of `start_boottime`.
#[inline(always)]
pub fn since_boot_ns() -> u64 {
    // SAFETY: no preconditions.
    unsafe { bpf_ktime_get_boot_ns() }
}

/// [`add`] for numbers of 32 bits.
#[inline(always)]
pub fn add32(number: *mut u32, amount: u32) {
    // SAFETY: one atomic add; the verifier checks the address.
    unsafe { asm!("lock *(u32 *)({0} + 0) += {1}", in(reg) number, in(reg) amount, options(nostack)) };
}

/// Adds to a number in a map that other CPUs may be adding to. (Rust offers no such operation for this
/// target.)
#[inline(always)]
pub fn add(number: *mut u64, amount: u64) {
    // SAFETY: one atomic add; the verifier checks the address.
    unsafe { asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) number, in(reg) amount, options(nostack)) };
}
