//! Cgroups that come and go, and processes that are moved between them.

use aya_ebpf::{
    macros::{btf_tracepoint, map},
    maps::PerCpuArray,
    programs::BtfTracePointContext,
};
use slowpod_ebpf::{
    abi::{
        Header, Kind, Miss,
        cgroup::{self as abi, CgroupMove, PATH_BYTES},
    },
    rules::verifier::opaque,
};

use super::{
    kernel::{
        Cgroup, OFF_CGROUP_KN, OFF_CGROUP_ROOT, OFF_CGROUP_ROOT_HIERARCHY, OFF_KN_ID, TaskStruct, identity,
        now_ns,
    },
    ring::{self, Ring},
    settings,
    text::{self, SLACK},
};

/// A record with room for its path.
#[repr(C)]
struct Whole {
    fixed: abi::Cgroup,
    path: [u8; PATH_BYTES + 8],
}
const _: () = assert!(SLACK <= 8);

#[map]
static CGROUP_SCRATCH: PerCpuArray<Whole> = PerCpuArray::with_max_entries(2, 0);

/// Longest path the kernel builds (`PATH_MAX`), in pieces of what a record holds.
const PIECES_MAX: u64 = 4096 / PATH_BYTES as u64;

#[btf_tracepoint(function = "cgroup_mkdir")]
pub fn cgroup_made(ctx: BtfTracePointContext) -> i32 {
    changed(ctx.arg(0), ctx.arg(1), 1);
    0
}

#[btf_tracepoint(function = "cgroup_rmdir")]
pub fn cgroup_gone(ctx: BtfTracePointContext) -> i32 {
    changed(ctx.arg(0), ctx.arg(1), 0);
    0
}

#[btf_tracepoint(function = "cgroup_attach_task")]
pub fn cgroup_moved(ctx: BtfTracePointContext) -> i32 {
    let cgroup: *const Cgroup = ctx.arg(0);
    let task: *const TaskStruct = ctx.arg(2);
    let whole_process = ctx.arg::<u8>(3);
    let Some((id, hierarchy)) = wanted(cgroup) else { return 0 };
    ring::send::<CgroupMove>(Ring::Life, |record| {
        // SAFETY: the reserved record, written in full.
        unsafe {
            record.write(CgroupMove {
                header: ring::header::<CgroupMove>(now_ns()),
                task: identity(task),
                cgroup_id: id,
                hierarchy,
                whole_process: u32::from(whole_process != 0),
            });
        }
    });
    0
}

/// A cgroup's id and hierarchy, if the hierarchy is the one that is watched.
#[inline(always)]
fn wanted(cgroup: *const Cgroup) -> Option<(u64, u32)> {
    let hierarchy = OFF_CGROUP_ROOT_HIERARCHY.probe(OFF_CGROUP_ROOT.probe(cgroup)?)?;
    if hierarchy != settings::SET_CGROUP_HIERARCHY.load() {
        return None;
    }
    Some((OFF_KN_ID.probe(OFF_CGROUP_KN.probe(cgroup)?)?, hierarchy))
}

/// `made` is 1 or 0; each has a scratch of its own.
#[inline(always)]
fn changed(cgroup: *const Cgroup, path: *const u8, made: u32) {
    let Some((id, hierarchy)) = wanted(cgroup) else { return };
    let Some(whole) = CGROUP_SCRATCH.get_ptr_mut(made) else { return };
    // SAFETY: this CPU's scratch; one program uses it, and it does not interrupt itself.
    let whole = unsafe { &mut *whole };
    let (path_len, path_cut) = match copy_end(whole, path) {
        Some(copied) => copied,
        None => {
            ring::miss(Miss::UserRead);
            (0, 0)
        }
    };
    let len = size_of::<abi::Cgroup>() as u64 + path_len;
    whole.fixed = abi::Cgroup {
        header: Header { ktime_ns: now_ns(), kind: Kind::Cgroup as u32, len_bytes: len as u32 },
        id,
        hierarchy,
        made,
        path_len: path_len as u32,
        path_cut,
    };
    ring::send_bytes(Ring::Life, Kind::Cgroup, (&raw const *whole).cast(), len);
}

/// Copies the path, or the end of one that is too long: that is where the container id is.
#[inline(always)]
fn copy_end(whole: &mut Whole, path: *const u8) -> Option<(u64, u32)> {
    let to = whole.path.as_mut_ptr();
    // SAFETY: the record has room for a path and what the helper needs beyond it.
    let copy = |skip: u64| unsafe {
        text::kernel_string::<{ PATH_BYTES as u64 }>(to, path.wrapping_add(skip as usize))
    };
    let mut copied = copy(0)?;
    if !copied.cut {
        return Some((copied.len, 0));
    }
    let mut skip = 0;
    let mut piece = 1;
    while copied.cut && piece < PIECES_MAX {
        piece = opaque(piece) + 1;
        skip += PATH_BYTES as u64;
        copied = copy(skip)?;
    }
    let last = copy(skip - PATH_BYTES as u64 + copied.len)?;
    Some((last.len, 1))
}
