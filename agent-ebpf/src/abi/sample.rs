//! What threads did or waited for, with their stacks.
//!
//! The kernel sends one record for each tick of a CPU's timer and for each long wait; the agent sums what is alike
//! over about a second, so that the flight recorder holds a row per second in place of each happening.

use super::{COMM_BYTES, Header, Task};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// What a sample counts.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SampleKind {
    /// A timer found the thread on a CPU.
    OnCpu = 1,
    /// The thread was away from the CPU, blocked, until it was woken.
    OffCpu = 2,
    /// The thread was ready and waited for a CPU.
    RunQueue = 3,
}

impl SampleKind {
    /// All kinds, in numeric order.
    pub const ALL: [SampleKind; 3] = [SampleKind::OnCpu, SampleKind::OffCpu, SampleKind::RunQueue];

    /// The kind a number stands for; `None` for a number no kind has.
    pub fn from_u32(number: u32) -> Option<SampleKind> {
        SampleKind::ALL.into_iter().find(|kind| *kind as u32 == number)
    }

    /// Name in metrics, JSON and scenes.
    pub const fn name(self) -> &'static str {
        match self {
            SampleKind::OnCpu => "on_cpu",
            SampleKind::OffCpu => "off_cpu",
            SampleKind::RunQueue => "run_queue",
        }
    }
}

/// What one thread did, or those of a process with the same name and the same stacks did together.
///
/// `value_ns` is the weight: samples taken at different rates add up, and so do waits of any length.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Sample {
    /// `header.ktime_ns` is the instant it happened, or a wait ended; of a sum, when the sum was closed.
    pub header: Header,
    /// The thread; in a sum, one of them.
    pub task: Task,
    /// The cgroup it ran in.
    pub cgroup_id: u64,
    /// Its user stack, as a [`super::stack::Stack::id`]; 0 = none was taken.
    pub user_stack: u64,
    /// Its kernel stack, likewise.
    pub kernel_stack: u64,
    /// How often: timer ticks for [`SampleKind::OnCpu`], waits that ended for the others. 0 with
    /// [`FLAG_GOES_ON`].
    pub count: u64,
    /// How long, together: ticks times their period, or the waits' lengths.
    pub value_ns: u64,
    /// [`SampleKind::OnCpu`]: what one tick stands for; 0 in a sum over ticks of different rates, and for the others.
    pub period_ns: u64,
    /// When the first of what it counts began (monotonic ns).
    pub begun_ns: u64,
    /// A [`SampleKind`] as a number.
    pub kind: u32,
    /// [`SampleKind::OffCpu`]: a [`super::split::Cause`] number. 0 for the others.
    pub cause: u32,
    /// Bits: [`FLAG_GOES_ON`], [`FLAG_PREEMPTED`], [`FLAG_LONG`].
    pub flags: u32,
    /// Zero.
    pub reserved: u32,
    /// The thread's name.
    pub comm: [u8; COMM_BYTES],
}
const _: () = assert!(size_of::<Sample>() == 120);

/// A wait that had not ended when the row was drained: the part of it up to then that no earlier row holds.
pub const FLAG_GOES_ON: u32 = 1;
/// [`SampleKind::RunQueue`]: the thread had not blocked but was taken off the CPU.
pub const FLAG_PREEMPTED: u32 = 2;
/// [`SampleKind::OffCpu`]: each of the waits took [`super::settings::LONG_BLOCK_NS`] or more, told before or not. Set in sums.
pub const FLAG_LONG: u32 = 4;
