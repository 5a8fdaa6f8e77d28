//! Putting records into the rings, and counting every one that should have gone there.

use aya_ebpf::{
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    macros::map,
    maps::{PerCpuArray, RingBuf},
};
use core::slice;
use slowpod_ebpf::abi::{
    Header, Kind, Miss, Tally,
    settings::{LIFE_RING_BYTES, NETLINK_RING_BYTES, SAMPLES_RING_BYTES, WAKE_MARK_PERCENT},
};

use super::settings;

#[map]
static LIFE: RingBuf = RingBuf::with_byte_size(LIFE_RING_BYTES, 0);
#[map]
static NETLINK: RingBuf = RingBuf::with_byte_size(NETLINK_RING_BYTES, 0);
#[map]
static SAMPLES: RingBuf = RingBuf::with_byte_size(SAMPLES_RING_BYTES, 0);
#[map]
static TALLY: PerCpuArray<Tally> = PerCpuArray::with_max_entries(Kind::KERNEL_SLOTS as u32, 0);
#[map]
static MISSES: PerCpuArray<u64> = PerCpuArray::with_max_entries(Miss::SLOTS as u32, 0);

/// The kernel's header in front of each record in a ring.
const RECORD_OVERHEAD_BYTES: u64 = 8;

/// Which ring a record goes to.
#[derive(Clone, Copy, PartialEq)]
pub enum Ring {
    Life,
    Netlink,
    Samples,
}

impl Ring {
    #[inline(always)]
    fn map(self) -> &'static RingBuf {
        match self {
            Ring::Life => &LIFE,
            Ring::Netlink => &NETLINK,
            Ring::Samples => &SAMPLES,
        }
    }

    #[inline(always)]
    fn size_bytes(self) -> u64 {
        match self {
            Ring::Life => settings::SET_LIFE_RING_BYTES.load(),
            Ring::Netlink => settings::SET_NETLINK_RING_BYTES.load(),
            Ring::Samples => u64::from(SAMPLES_RING_BYTES),
        }
    }

    /// Whether more than `percent` of the ring is waiting to be read.
    #[inline(always)]
    pub fn is_past(self, percent: u64) -> bool {
        self.map().query(u64::from(BPF_RB_AVAIL_DATA)) > self.size_bytes() * percent / 100
    }

    /// Flags for a submit. Only the record that crosses the mark wakes the reader; the others leave it to the
    /// reader's timer, since each wake-up costs its producer more than the whole program.
    #[inline(always)]
    fn wake_flags(self, record_bytes: u64, reserved: bool) -> u64 {
        let mark = self.size_bytes() * WAKE_MARK_PERCENT / 100;
        let waiting = self.map().query(u64::from(BPF_RB_AVAIL_DATA));
        let own = record_bytes + RECORD_OVERHEAD_BYTES;
        let (before, after) =
            if reserved { (waiting.wrapping_sub(own), waiting) } else { (waiting, waiting + own) };
        // A reader that has overtaken us meanwhile makes `before` wrap to a large number: no wake-up.
        if before < mark && after >= mark {
            u64::from(BPF_RB_FORCE_WAKEUP)
        } else {
            u64::from(BPF_RB_NO_WAKEUP)
        }
    }
}

/// A record of one size, and its kind.
pub trait Record {
    const KIND: Kind;
}

macro_rules! records {
    ($($kind:ident: $record:path,)*) => {$(
        impl Record for $record { const KIND: Kind = Kind::$kind; }
    )*};
}
records! {
    Spawn: slowpod_ebpf::abi::spawn::Spawn,
    Exit: slowpod_ebpf::abi::exit::Exit,
    Reap: slowpod_ebpf::abi::reap::Reap,
    NetlinkError: slowpod_ebpf::abi::netlink::NetlinkError,
    CgroupMove: slowpod_ebpf::abi::cgroup::CgroupMove,
    Sample: slowpod_ebpf::abi::sample::Sample,
}

/// Header of a record of a fixed size.
#[inline(always)]
pub fn header<T: Record>(ktime_ns: u64) -> Header {
    Header { ktime_ns, kind: T::KIND as u32, len_bytes: size_of::<T>() as u32 }
}

/// Sends a record of a fixed size; `fill` must write all of it. False when the ring is full.
#[inline(always)]
pub fn send<T: Record + 'static>(ring: Ring, fill: impl FnOnce(*mut T)) -> bool {
    let Some(mut entry) = ring.map().reserve::<T>(0) else {
        tally(T::KIND, |tally| tally.dropped += 1);
        return false;
    };
    fill(entry.as_mut_ptr());
    entry.submit(ring.wake_flags(size_of::<T>() as u64, true));
    tally(T::KIND, |tally| tally.submitted += 1);
    true
}

/// Sends the first `len` bytes of a record that was put together elsewhere. `len` must be bounded in a way
/// the verifier follows. False when the ring is full.
#[inline(always)]
pub fn send_bytes(ring: Ring, kind: Kind, record: *const u8, len: u64) -> bool {
    let flags = ring.wake_flags(len, false);
    // SAFETY: the verifier checks that `len` bytes are there.
    let bytes = unsafe { slice::from_raw_parts(record, len as usize) };
    let sent = ring.map().output::<[u8]>(bytes, flags).is_ok();
    tally(kind, |tally| if sent { tally.submitted += 1 } else { tally.dropped += 1 });
    sent
}

/// Counts a happening that is not sent, on purpose.
#[inline(always)]
pub fn only_count(kind: Kind) {
    tally(kind, |tally| tally.counted += 1);
}

#[inline(always)]
fn tally(kind: Kind, change: impl FnOnce(&mut Tally)) {
    if let Some(tally) = TALLY.get_ptr_mut(kind as u32) {
        // SAFETY: this CPU's slot of a map that is never freed.
        let tally = unsafe { &mut *tally };
        tally.seen += 1;
        change(tally);
    }
}

/// Counts something that could not be held or read.
#[inline(always)]
pub fn miss(reason: Miss) {
    if let Some(count) = MISSES.get_ptr_mut(reason as u32) {
        // SAFETY: as in `tally`.
        unsafe { *count += 1 };
    }
}
