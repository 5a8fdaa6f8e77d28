//! Who wakes whom. Hooked only while a client asks.
//!
//! A thread that is interrupted has woken nobody: hooks around interrupts say what really runs. They are hooked
//! ends first, and an end without a beginning changes nothing.

use aya_ebpf::{
    macros::{btf_tracepoint, map},
    maps::{HashMap, PerCpuArray},
    programs::BtfTracePointContext,
};
use slowpod_ebpf::abi::{
    Miss, Task,
    settings::WAKE_ROWS_MAX,
    threads::BLOCKED,
    wakes::{Context, WakeCount, WakeKey},
};

use super::{
    kernel::{OFF_TASK_PID, TaskStruct, add, current, identity, is_own, now_ns},
    ring, threads,
};

/// Numbers of softirqs (`linux/interrupt.h`): `TIMER_SOFTIRQ`,
const TIMER: u32 = 1;
/// `NET_TX_SOFTIRQ` and `NET_RX_SOFTIRQ`,
const NET_TX: u32 = 2;
const NET_RX: u32 = 3;
/// `BLOCK_SOFTIRQ`,
const BLOCK: u32 = 4;
/// `HRTIMER_SOFTIRQ`.
const HRTIMER: u32 = 8;

const BPF_NOEXIST: u64 = 1;

/// What a CPU is in the middle of.
#[repr(C)]
pub struct Interrupts {
    /// In the timer's interrupt: 1.
    timer: u32,
    /// In a device's interrupt: 1.
    device: u32,
    /// In the softirq of this number, plus one; 0 = in none.
    softirq: u32,
    /// Zero.
    reserved: u32,
}

#[map]
static INTERRUPTS: PerCpuArray<Interrupts> = PerCpuArray::with_max_entries(1, 0);
#[map]
static WAKES: HashMap<WakeKey, WakeCount> = HashMap::with_max_entries(WAKE_ROWS_MAX, 0);

#[inline(always)]
fn interrupts() -> Option<&'static mut Interrupts> {
    // SAFETY: this CPU's own, of a map that is never freed; interrupts nest, and each sets its own word.
    INTERRUPTS.get_ptr_mut(0).map(|own| unsafe { &mut *own })
}

/// A thread is being woken, by whatever runs.
#[btf_tracepoint(function = "sched_waking")]
pub fn sched_waking(ctx: BtfTracePointContext) -> i32 {
    let woken: *const TaskStruct = ctx.arg(0);
    if is_own(woken) {
        return 0;
    }
    let running = current();
    let context = context(running);
    let waker = match context {
        Context::Thread | Context::Network => Task { tid: 0, ..identity(running) },
        _ => Task::default(),
    };
    let woken_task = Task { tid: 0, ..identity(woken) };
    let key = WakeKey { waker, woken: woken_task, context: context as u32, reserved: 0 };
    count(&key, blocked_ns(woken));
    0
}

#[inline(always)]
fn context(running: *const TaskStruct) -> Context {
    let Some(own) = interrupts() else { return Context::Thread };
    if own.timer != 0 {
        return Context::Timer;
    }
    if own.device != 0 {
        return Context::Device;
    }
    match own.softirq.wrapping_sub(1) {
        TIMER | HRTIMER => Context::Timer,
        NET_TX | NET_RX => Context::Network,
        BLOCK => Context::Device,
        u32::MAX if OFF_TASK_PID.of(running).unwrap_or(0) == 0 => Context::Idle,
        u32::MAX => Context::Thread,
        _ => Context::Softirq,
    }
}

/// How long the woken thread has been blocked; 0 when it was not seen to block.
#[inline(always)]
fn blocked_ns(woken: *const TaskStruct) -> u64 {
    let Some(slot) = threads::slot(OFF_TASK_PID.of(woken).unwrap_or(0)) else { return 0 };
    if slot.birth != threads::birth(woken) || slot.state != BLOCKED {
        return 0;
    }
    let now = now_ns();
    if now > slot.since_ns { now - slot.since_ns } else { 0 }
}

#[inline(always)]
fn count(key: &WakeKey, blocked_ns: u64) {
    let row = WAKES.get_ptr_mut(key).or_else(|| {
        // Another CPU may have been faster: then its row is found below.
        let _ = WAKES.insert(key, &WakeCount { wakes: 0, blocked_ns: 0 }, BPF_NOEXIST);
        WAKES.get_ptr_mut(key)
    });
    match row {
        // SAFETY: the agent removes rows only while nothing is hooked; numbers only grow by atomic adds.
        Some(row) => unsafe {
            add(&raw mut (*row).wakes, 1);
            add(&raw mut (*row).blocked_ns, blocked_ns);
        },
        None => ring::miss(Miss::WakeTableFull),
    }
}

#[btf_tracepoint(function = "local_timer_entry")]
pub fn timer_begins(_: BtfTracePointContext) -> i32 {
    if let Some(own) = interrupts() {
        own.timer = 1;
    }
    0
}

#[btf_tracepoint(function = "local_timer_exit")]
pub fn timer_ends(_: BtfTracePointContext) -> i32 {
    if let Some(own) = interrupts() {
        own.timer = 0;
    }
    0
}

#[btf_tracepoint(function = "irq_handler_entry")]
pub fn device_begins(_: BtfTracePointContext) -> i32 {
    if let Some(own) = interrupts() {
        own.device = 1;
    }
    0
}

#[btf_tracepoint(function = "irq_handler_exit")]
pub fn device_ends(_: BtfTracePointContext) -> i32 {
    if let Some(own) = interrupts() {
        own.device = 0;
    }
    0
}

#[btf_tracepoint(function = "softirq_entry")]
pub fn softirq_begins(ctx: BtfTracePointContext) -> i32 {
    let number: u32 = ctx.arg(0);
    if let Some(own) = interrupts() {
        own.softirq = number.wrapping_add(1);
    }
    0
}

#[btf_tracepoint(function = "softirq_exit")]
pub fn softirq_ends(_: BtfTracePointContext) -> i32 {
    if let Some(own) = interrupts() {
        own.softirq = 0;
    }
    0
}
