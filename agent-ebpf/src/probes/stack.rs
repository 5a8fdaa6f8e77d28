//! Call stacks: walked at spawns, by the scheduler and by the sampling timer; sent once each, named by a hash.

use aya_ebpf::{
    EbpfContext,
    bindings::BPF_F_USER_STACK,
    helpers::generated::{bpf_get_stack, bpf_get_task_stack},
    macros::map,
    maps::{Array, LruHashMap, PerCpuArray},
    programs::BtfTracePointContext,
};
use core::ffi::c_void;
use slowpod_ebpf::rules::verifier::at_most;
use slowpod_ebpf::{
    abi::{
        Header, Kind, Miss, Task,
        settings::{STACKS_MAX, SYSCALL_SLOTS},
        stack::{FRAMES, Stack},
    },
    rules::hash,
};

use super::{
    frames::{self, Chain},
    kernel::{OFF_REGS_SYSCALL, TaskStruct, entry_regs},
    ring::{self, Ring},
};

/// A record with room for all its frames.
#[repr(C)]
struct Whole {
    fixed: Stack,
    frames: [u64; FRAMES],
    /// Not part of the record: the walk that fills it.
    chain: Chain,
}

/// A timer may interrupt a program that walks a stack, so it has a scratch of its own.
#[map]
static STACK_SCRATCH: PerCpuArray<Whole> = PerCpuArray::with_max_entries(2, 0);
/// Ids of stacks that the agent has been sent. The oldest are forgotten and sent again.
#[map]
static SENT: LruHashMap<u64, u32> = LruHashMap::with_max_entries(STACKS_MAX, 0);

/// Where stacks are put together, and where they go.
#[derive(Clone, Copy)]
pub struct Place {
    scratch: u32,
    ring: Ring,
}

impl Place {
    /// For spawners.
    pub const LIFE: Place = Place { scratch: 0, ring: Ring::Life };
    /// For threads that leave a CPU or come back: the scheduler interrupts no program that walks a stack.
    pub const SAMPLES: Place = Place { scratch: 0, ring: Ring::Samples };
    /// For threads that a timer found.
    pub const TIMER: Place = Place { scratch: 1, ring: Ring::Samples };
}

/// Frames in a scratch, and the walk that fills them.
#[inline(always)]
pub fn scratch(index: u32) -> Option<(&'static mut [u64; FRAMES], &'static mut Chain)> {
    let whole = STACK_SCRATCH.get_ptr_mut(index)?;
    // SAFETY: this CPU's scratch, in a map that is never freed; who uses it does not interrupt itself.
    unsafe { Some((&mut (*whole).frames, &mut (*whole).chain)) }
}

/// Whose frames.
#[derive(Clone, Copy, PartialEq)]
pub enum Side {
    User,
    Kernel,
}

/// Kernel stacks by the system call they are taken in, for those calls in which the kernel takes the same way each time:
/// to the fork of a spawner, to the sleep of one that waits for a child. Walking them costs more than all else that is done
/// with a spawn or a switch.
#[map]
static KERNEL_STACKS: Array<u64> = Array::with_max_entries(SYSCALL_SLOTS as u32, 0);

/// Id of the running thread's kernel stack, as it was when the first thread got there by the same system call; 0 = none.
#[inline(always)]
pub fn of_call(
    ctx: &BtfTracePointContext,
    place: Place,
    thread: *const TaskStruct,
    task: Task,
    now: u64,
) -> u64 {
    let call = entry_regs(thread).and_then(|regs| OFF_REGS_SYSCALL.of(regs));
    let Some(known) = call.and_then(|number| KERNEL_STACKS.get_ptr_mut(number as u32)) else {
        return id(ctx, place, thread, task, Side::Kernel, now);
    };
    // SAFETY: a slot of a map that is never freed. Two CPUs may both fill it, with the same number.
    unsafe {
        // Forgotten means: the agent may not know it any more.
        if *known == 0 || SENT.get_ptr(&*known).is_none() {
            *known = id(ctx, place, thread, task, Side::Kernel, now);
        }
        *known
    }
}

/// Id of the stack of `thread`, which is the running one, that the agent can be sure to have been sent; 0 = none. Handed
/// over rather than asked for here: the helper that tells the running thread is younger than Linux 5.10.
#[inline(always)]
pub fn id(
    ctx: &impl EbpfContext,
    place: Place,
    thread: *const TaskStruct,
    task: Task,
    side: Side,
    now: u64,
) -> u64 {
    if side == Side::User
        && let Some(depth) = frames::walk(thread, task, place.scratch)
    {
        return sent(place, task, side, now, depth);
    }
    let flags = match side {
        Side::User => u64::from(BPF_F_USER_STACK),
        Side::Kernel => 0,
    };
    walked(place, task, side, now, |frames, bytes| {
        // SAFETY: the helper writes at most as many bytes as it is given.
        unsafe { bpf_get_stack(ctx.as_ptr(), frames, bytes, flags) }
    })
}

/// Id of the kernel stack of a thread that is not running; 0 = none.
#[inline(always)]
pub fn of_other(thread: *const TaskStruct, task: Task, now: u64) -> u64 {
    walked(Place::SAMPLES, task, Side::Kernel, now, |frames, bytes| {
        // SAFETY: as above; the verifier checks that it is a task.
        unsafe { bpf_get_task_stack(thread.cast_mut().cast(), frames, bytes, 0) }
    })
}

#[inline(always)]
fn walked(place: Place, task: Task, side: Side, now: u64, walk: impl FnOnce(*mut c_void, u32) -> i64) -> u64 {
    let Some(whole) = STACK_SCRATCH.get_ptr_mut(place.scratch) else { return 0 };
    // SAFETY: this CPU's scratch; who uses it does not interrupt itself.
    let whole = unsafe { &mut *whole };
    let bytes = walk(whole.frames.as_mut_ptr().cast(), size_of::<[u64; FRAMES]>() as u32);
    if bytes <= 0 {
        // An empty stack is no failure: a program that a timer found in its own code has none in the kernel.
        if bytes < 0 {
            ring::miss(Miss::StackWalk);
        }
        return 0;
    }
    sent(place, task, side, now, bytes as u64 / 8)
}

/// Id of the stack of this depth in the scratch, after it was sent if it had not been; 0 when that failed.
#[inline(always)]
fn sent(place: Place, task: Task, side: Side, now: u64, depth: u64) -> u64 {
    let Some(whole) = STACK_SCRATCH.get_ptr_mut(place.scratch) else { return 0 };
    // SAFETY: as above.
    let whole = unsafe { &mut *whole };
    whole.fixed = Stack {
        header: Header { ktime_ns: now, kind: Kind::Stack as u32, len_bytes: 0 },
        task,
        id: 0,
        depth: 0,
        user: u32::from(side == Side::User),
    };
    stack_sent(place.scratch, u64::from(place.ring == Ring::Life), depth)
}

// Functions of their own, and known to the kernel as such: each is verified once, not in every state that its callers
// may be in.

/// Finishes the record in a scratch and sends it, unless the agent has it.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn stack_sent(scratch: u32, with_life: u64, depth: u64) -> u64 {
    let Some(whole) = STACK_SCRATCH.get_ptr_mut(scratch) else { return 0 };
    // SAFETY: as above.
    let whole = unsafe { &mut *whole };
    let depth = at_most(depth, FRAMES as u64);
    let seed = match whole.fixed.user {
        0 => hash::START,
        _ => hash::step(hash::START, u64::from(whole.fixed.task.tgid)),
    };
    let id = hash::id(stack_hash(scratch, seed, depth));
    if SENT.get_ptr(&id).is_some() {
        return id;
    }
    let len = size_of::<Stack>() as u64 + depth * 8;
    (whole.fixed.id, whole.fixed.depth, whole.fixed.header.len_bytes) = (id, depth as u32, len as u32);
    let ring = if with_life != 0 { Ring::Life } else { Ring::Samples };
    if !ring::send_bytes(ring, Kind::Stack, (&raw const *whole).cast(), len) {
        return 0;
    }
    if SENT.insert(&id, &1, 0).is_err() {
        ring::miss(Miss::StackTableFull);
    }
    id
}

/// Goes on with a hash over the frames in the scratch.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn stack_hash(scratch: u32, seed: u64, depth: u64) -> u64 {
    let Some(whole) = STACK_SCRATCH.get_ptr(scratch) else { return 0 };
    let mut hash = seed;
    let mut index = 0;
    while index < FRAMES {
        if index as u64 >= depth {
            break;
        }
        // SAFETY: this CPU's scratch, and inside the array.
        hash = hash::step(hash, unsafe { (*whole).frames[index] });
        index += 1;
    }
    hash
}
