//! Who woke whom: counted in the kernel while a client asks, since a hook at every wake-up of the machine is more than
//! can be spent all the time. The agent reads the counts on a tick; what they grew by enters as these records.

use super::{Header, Task};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// What ran when a thread was woken.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context {
    /// A thread, of a process or of the kernel: it did the waking.
    Thread = 0,
    /// The timer's interrupt: a sleep or a time-out was over.
    Timer = 1,
    /// A device's interrupt.
    Device = 2,
    /// The network's part of an interrupt, or of a send to the same machine: then the thread that runs is the sender.
    Network = 3,
    /// Some other part of an interrupt.
    Softirq = 4,
    /// The idle loop of a CPU.
    Idle = 5,
}

impl Context {
    /// All, in numeric order.
    pub const ALL: [Context; 6] =
        [Context::Thread, Context::Timer, Context::Device, Context::Network, Context::Softirq, Context::Idle];

    /// The context a number stands for; `None` for a number that stands for none.
    pub fn from_u32(number: u32) -> Option<Context> {
        Context::ALL.into_iter().find(|context| *context as u32 == number)
    }
}

/// Who woke whom: processes, so `tid` is 0.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct WakeKey {
    /// Of [`Context::Thread`] and [`Context::Network`] the process that ran; else zeroes.
    pub waker: Task,
    /// The process of the thread that was woken.
    pub woken: Task,
    /// A [`Context`] number.
    pub context: u32,
    /// Zero.
    pub reserved: u32,
}
const _: () = assert!(size_of::<WakeKey>() == 40);

/// How often, and after how long.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct WakeCount {
    /// Times.
    pub wakes: u64,
    /// How long the threads had been blocked by then, as far as that is known.
    pub blocked_ns: u64,
}
const _: () = assert!(size_of::<WakeCount>() == 16);

/// Growth of one row of [`WakeKey`], entered as a record by the agent.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Wakes {
    /// When the row was read.
    pub header: Header,
    /// Who woke whom.
    pub key: WakeKey,
    /// Growth.
    pub count: WakeCount,
}
const _: () = assert!(size_of::<Wakes>() == 72);
