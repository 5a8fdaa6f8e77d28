//! The globals that the agent sets before it loads the programs (`abi::settings::globals`).

use aya_ebpf::{Global, macros::map, maps::Array};
use core::ptr;
use slowpod_ebpf::rules::verifier::opaque;
use slowpod_ebpf::{
    abi::settings::{AWAY_MIN_NS, Knob, LIFE_RING_BYTES, NETLINK_RING_BYTES, SYSCALL_SLOTS},
    rules::cause::Call,
};

#[unsafe(no_mangle)]
pub static SET_LIFE_RING_BYTES: Global<u64> = Global::new(LIFE_RING_BYTES as u64);
#[unsafe(no_mangle)]
pub static SET_NETLINK_RING_BYTES: Global<u64> = Global::new(NETLINK_RING_BYTES as u64);
#[unsafe(no_mangle)]
pub static SET_OWN_TGID: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub static SET_CGROUP_SOURCE: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub static SET_CGROUP_HIERARCHY: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub static SET_USE_SCHED_INFO: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub static SET_HAVE_PT_REGS: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub static SET_SWITCH_HAS_STATE: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub static SET_SPAWN_STACKS: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub static SET_AWAY_MIN_NS: Global<u64> = Global::new(AWAY_MIN_NS);
#[unsafe(no_mangle)]
pub static SET_SEND_CALLS: Global<[u32; 5]> = Global::new([u32::MAX; 5]);
#[unsafe(no_mangle)]
pub static SET_RECEIVE_CALLS: Global<[u32; 2]> = Global::new([u32::MAX; 2]);
#[unsafe(no_mangle)]
static SET_SYSCALL_CLASS: Global<[u8; SYSCALL_SLOTS]> = Global::new([0; SYSCALL_SLOTS]);
#[unsafe(no_mangle)]
static SET_SYSCALL_OP: Global<[u8; SYSCALL_SLOTS]> = Global::new([0; SYSCALL_SLOTS]);

#[map]
static KNOBS: Array<u64> = Array::with_max_entries(Knob::COUNT, 0);

/// What a knob is set to.
#[inline(always)]
pub fn knob(knob: Knob) -> u64 {
    KNOBS.get(knob as u32).copied().unwrap_or(0)
}

/// What a system call may block on.
#[inline(always)]
pub fn call_class(syscall: u32) -> Call {
    Call::from_u8(slot(&SET_SYSCALL_CLASS, syscall))
}

/// The number of what a system call is called, as an `Op`.
#[inline(always)]
pub fn call_op(syscall: u32) -> u8 {
    slot(&SET_SYSCALL_OP, syscall)
}

/// A system call's slot; 0 for a number beyond the table.
#[inline(always)]
fn slot(table: &'static Global<[u8; SYSCALL_SLOTS]>, syscall: u32) -> u8 {
    let slot = opaque(u64::from(syscall));
    if slot >= SYSCALL_SLOTS as u64 {
        return 0;
    }
    let table = ptr::from_ref(table).cast::<u8>();
    // SAFETY: `slot` is inside the table. Volatile, since the agent sets what looks like a constant here.
    unsafe { ptr::read_volatile(table.add(slot as usize)) }
}
