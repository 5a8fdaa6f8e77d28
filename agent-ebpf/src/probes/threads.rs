//! The slots of all threads, and who owns them (`abi::threads`).

use aya_ebpf::{bindings::BPF_F_MMAPABLE, macros::map, maps::Array};
use slowpod_ebpf::abi::{
    Miss,
    threads::{DEAD, Owner, SLOTS, Slot},
};

use super::{
    kernel::{OFF_TASK_START_BOOTTIME, TaskStruct, cgroup_id, comm, identity},
    ring,
};

#[map]
static THREADS: Array<Slot> = Array::with_max_entries(SLOTS, BPF_F_MMAPABLE);
#[map]
static OWNERS: Array<Owner> = Array::with_max_entries(SLOTS, BPF_F_MMAPABLE);

/// What a slot keeps of a thread's birth. (Its address would do as well, but cannot be shortened: the verifier
/// does not let a pointer be shifted.)
#[inline(always)]
pub fn birth(thread: *const TaskStruct) -> u32 {
    (OFF_TASK_START_BOOTTIME.of(thread).unwrap_or(0) >> 10) as u32
}

/// The slot that a thread's id falls on, whoever has it.
#[inline(always)]
pub fn slot(tid: u32) -> Option<&'static mut Slot> {
    // SAFETY: a slot of a map that is never freed. A thread's slot is written by the scheduler under the lock of
    // its run queue; threads that share a slot may spoil each other's sums, never memory.
    THREADS.get_ptr_mut(tid & (SLOTS - 1)).map(|slot| unsafe { &mut *slot })
}

/// Who has the slot.
#[inline(always)]
pub fn owner(tid: u32) -> Option<&'static mut Owner> {
    // SAFETY: as above.
    OWNERS.get_ptr_mut(tid & (SLOTS - 1)).map(|owner| unsafe { &mut *owner })
}

/// Gives the slot to the running thread.
#[inline(always)]
pub fn take(slot: &mut Slot, current: *const TaskStruct, tid: u32, now: u64) {
    if slot.tid != 0 && slot.state != DEAD {
        ring::miss(Miss::ThreadSlotShared);
    }
    *slot = Slot { birth: birth(current), tid, since_ns: now, ..Slot::default() };
    look_at_owner(slot, current);
}

/// Writes down who the running thread is: names and cgroups change in a thread's life.
#[inline(always)]
pub fn look_at_owner(slot: &Slot, current: *const TaskStruct) {
    if let Some(owner) = owner(slot.tid) {
        owner.task = identity(current);
        owner.cgroup_id = cgroup_id(current);
        owner.comm = comm(current);
        owner.birth = slot.birth;
    }
}
