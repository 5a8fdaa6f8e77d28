//! What tracked threads wait for, beyond the cause that their time split has: told by `thing` as a thread leaves the CPU,
//! summed when it is back, and sent when it waits for something else or ends.
//!
//! Threads of CNI calls are followed in full; of all others only waits for file locks, which are rare. What everyone
//! else pays at a switch is one test of a number in a row that is at hand.

use aya_ebpf::{macros::map, maps::HashMap};
use core::ptr;
use slowpod_ebpf::abi::{
    Kind, Miss,
    settings::WAITERS_MAX,
    split::Cause,
    wait::{Thing, Wait},
};

use super::{
    kernel::{TaskStruct, address, current, identity},
    ring::{self, Ring},
    settings,
    tables::TaskRow,
    thing,
};

/// In [`TaskRow::evidence`]: all its waits are followed. Children and threads inherit it.
pub const FOLLOWED: u32 = 1;
/// It has a row here.
const HAS_ROW: u32 = 2;
/// It is blocked, and on what is in its row.
const WAITING: u32 = 4;

/// What is known of a thread's waits.
#[repr(C)]
pub struct Waiter {
    /// The wait that goes on, or is about to begin; only the fields that `thing` fills.
    pub present: Wait,
    /// Waits for one thing that are over and not yet told of.
    past: Wait,
    /// The kernel's mutex it ran into, and when.
    pub mutex: u64,
    /// See above.
    pub mutex_ns: u64,
    /// Its request for a file lock, while its tracepoint looks at it.
    pub request: u64,
    /// Who holds the file lock it ran into, as the lock's tracepoint found; 0 = none.
    pub holder: u32,
    /// How many are before it there.
    pub queue: u32,
}

/// By address of the thread's `task_struct`, as `TASKS`.
#[map]
static WAITERS: HashMap<u64, Waiter> = HashMap::with_max_entries(WAITERS_MAX, 0);

// Filled in after it was inserted: it is too large for a program's stack.
static NEW_WAITER: [u8; size_of::<Waiter>()] = [0; size_of::<Waiter>()];

/// What is known of a thread's waits.
#[inline(always)]
pub fn waiter(key: u64) -> Option<&'static mut Waiter> {
    // SAFETY: rows are never freed, only reused; a row is used by its thread and by the scheduler that switches it.
    WAITERS.get_ptr_mut(&key).map(|row| unsafe { &mut *row })
}

/// The same; a thread that has no row gets one.
#[inline(always)]
pub fn waiter_of(row: &mut TaskRow) -> Option<&'static mut Waiter> {
    let key = row.key;
    if row.evidence & HAS_ROW == 0 {
        // SAFETY: all-zero bytes are a row.
        let blank = unsafe { &*(&raw const NEW_WAITER).cast::<Waiter>() };
        if WAITERS.insert(&key, blank, 0).is_err() {
            ring::miss(Miss::WaitTableFull);
            return None;
        }
        row.evidence |= HAS_ROW;
    }
    waiter(key)
}

/// The running thread is about to sleep for this cause.
#[inline(always)]
pub fn begins(row: &mut TaskRow) {
    if row.evidence & FOLLOWED == 0 && row.cause != Cause::FileLock as u32 {
        return;
    }
    if waiter_of(row).is_some() && wait_begins(row.key, u64::from(row.cause)) != 0 {
        row.evidence |= WAITING;
    }
}

/// A thread is back, `now`, after `blocked_ns` of sleep that began at `since_ns`; in between it was ready.
#[inline(always)]
pub fn ends(row: &mut TaskRow, since_ns: u64, blocked_ns: u64, now: u64) {
    if row.evidence & WAITING != 0 {
        row.evidence &= !WAITING;
        wait_ends(row.key, since_ns, blocked_ns, now);
    }
}

/// A thread, the running one, has ended.
#[inline(always)]
pub fn thread_ended(row: &TaskRow, now: u64) {
    if row.evidence & HAS_ROW != 0 {
        wait_thread_ended(row.key, now);
    }
}

// Functions of their own, and known to the kernel as such: each is verified once, not in every state that a switch
// may be in.

/// 1 = what it waits for is worth telling.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn wait_begins(key: u64, cause: u64) -> u64 {
    // See `blocked`: on these kernels nothing tells the running thread, nor what it waits for.
    if settings::SET_HAVE_PT_REGS.load() == 0 {
        return 0;
    }
    let Some(row) = waiter(key) else { return 0 };
    u64::from(thing::find(row, current(), cause as u32))
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn wait_ends(key: u64, since_ns: u64, blocked_ns: u64, now: u64) -> u64 {
    let Some(row) = waiter(key) else { return 0 };
    // What the tracepoints said was about this wait.
    (row.mutex, row.holder, row.queue) = (0, 0, 0);
    let end_ns = since_ns.wrapping_add(blocked_ns);
    if row.past.waits == 0 || !same(&row.past.thing, &row.present.thing) {
        // Stamped when it is sent: its own end may lie further back than the reorder window reaches.
        tell(&mut row.past, now);
        // SAFETY: two fields of one map value.
        unsafe { ptr::copy_nonoverlapping(&raw const row.present, &raw mut row.past, 1) };
        row.past.first_ns = since_ns;
    }
    let past = &mut row.past;
    past.last_ns = end_ns;
    past.blocked_ns += blocked_ns;
    if past.longest_ns < blocked_ns {
        past.longest_ns = blocked_ns;
    }
    past.waits += 1;
    past.queue = row.present.queue;
    past.retransmits = row.present.retransmits;
    0
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn wait_thread_ended(key: u64, now: u64) -> u64 {
    if let Some(row) = waiter(key) {
        tell(&mut row.past, now);
    }
    // A missing row is what is wanted.
    let _ = WAITERS.remove(&key);
    0
}

/// Word by word: the verifier does not follow a loop over bytes that ends early.
#[inline(always)]
fn same(one: &Thing, other: &Thing) -> bool {
    const WORDS: usize = size_of::<Thing>() / 8;
    // SAFETY: plain numbers of the same size, aligned to 8 bytes.
    let (one, other) = unsafe {
        (&*ptr::from_ref(one).cast::<[u64; WORDS]>(), &*ptr::from_ref(other).cast::<[u64; WORDS]>())
    };
    let mut differing = 0;
    let mut word = 0;
    while word < WORDS {
        differing |= one[word] ^ other[word];
        word += 1;
    }
    differing == 0
}

/// Sends what is over. Who waited is filled in when it begins (`thing`).
#[inline(always)]
fn tell(past: &mut Wait, now: u64) {
    if past.waits == 0 {
        return;
    }
    past.header.ktime_ns = now;
    past.header.kind = Kind::Wait as u32;
    past.header.len_bytes = size_of::<Wait>() as u32;
    ring::send_bytes(Ring::Life, Kind::Wait, ptr::from_ref(past).cast(), size_of::<Wait>() as u64);
    past.waits = 0;
}

/// A new thread or process inherits whether it is followed.
#[inline(always)]
pub fn inherited(spawner: &TaskRow) -> u32 {
    spawner.evidence & FOLLOWED
}

/// The running thread's process does a CNI call: it is followed from now on.
#[inline(always)]
pub fn follow(task: *const TaskStruct) {
    if let Some(row) = super::tables::task(address(task)) {
        row.evidence |= FOLLOWED;
    }
}

/// Who waits.
#[inline(always)]
pub fn name(wait: &mut Wait, task: *const TaskStruct) {
    wait.task = identity(task);
}
