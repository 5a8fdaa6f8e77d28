//! The kernel's rings, read in bounded bites. In: records as the kernel programs put them there.
//! Out: their bytes, undecoded.
//!
//! The programs do not wake a reader for each record: a wake-up costs more than the record. They wake it once
//! a ring fills past a mark; below that the reader comes by on its own timer.

use aya::maps::{MapData, RingBuf};
use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    time::Duration,
};

/// Most bytes handed out by one [`Rings::drain`], per ring: a quarter of a ring, so that a reader under load
/// gets to its other work.
pub const DRAIN_BYTES: usize = 1 << 20;

/// The rings, and a way to wait for them.
pub struct Rings {
    rings: [Ring; 3],
    epoll: OwnedFd,
    unread: bool,
}

/// One ring, and how full it was found.
struct Ring {
    name: &'static str,
    ring: RingBuf<MapData>,
    size_bytes: u64,
    /// Bytes taken since it was last found empty.
    waiting_bytes: u64,
    /// Most such bytes.
    high_water_bytes: u64,
}

/// What one [`Rings::drain`] took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Records.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Whether it stopped at its bound with more to read.
    pub more: bool,
}

impl Rings {
    /// Takes over the ring maps, of these sizes in bytes.
    ///
    /// # Errors
    /// When the kernel gives no epoll instance.
    pub fn new(
        life: (RingBuf<MapData>, u32),
        netlink: (RingBuf<MapData>, u32),
        samples: (RingBuf<MapData>, u32),
    ) -> io::Result<Rings> {
        // SAFETY: no pointers; the descriptor is checked before it is owned.
        let epoll = match unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) } {
            -1 => return Err(io::Error::last_os_error()),
            // SAFETY: just opened, owned by no one else.
            fd => unsafe { OwnedFd::from_raw_fd(fd) },
        };
        let rings =
            [("life", life), ("netlink", netlink), ("samples", samples)].map(|(name, (ring, size))| Ring {
                name,
                ring,
                size_bytes: u64::from(size),
                waiting_bytes: 0,
                high_water_bytes: 0,
            });
        for ring in &rings {
            // Edge-triggered: only a wake-up by a program ends a wait, not the mere presence of records.
            register(&epoll, ring.ring.as_fd(), (libc::EPOLLIN | libc::EPOLLET) as u32)?;
        }
        Ok(Rings { rings, epoll, unread: false })
    }

    /// Waits until a ring has filled past its mark, `other` can be read, or `timeout` is over, whichever is
    /// first. Returns at once when the last drain left something behind.
    ///
    /// # Errors
    /// When the kernel refuses to wait; a signal is no error.
    pub fn wait(&self, timeout: Duration) -> io::Result<()> {
        if self.unread {
            return Ok(());
        }
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; EVENTS];
        let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: the buffer is as long as said.
        let got = unsafe {
            libc::epoll_wait(self.epoll.as_raw_fd(), events.as_mut_ptr(), EVENTS as i32, timeout_ms)
        };
        match got {
            -1 => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => Ok(()),
                error => Err(error),
            },
            _ => Ok(()),
        }
    }

    /// Lets `other` (an eventfd that says "stop", say) end waits too.
    ///
    /// # Errors
    /// When the kernel cannot wait for such a descriptor.
    pub fn also_wake_on(&self, other: BorrowedFd<'_>) -> io::Result<()> {
        register(&self.epoll, other, libc::EPOLLIN as u32)
    }

    /// Hands out what is in the rings, in order within each ring, at most [`DRAIN_BYTES`] of each.
    pub fn drain(&mut self, each: &mut impl FnMut(&[u8])) -> Drained {
        let mut drained = Drained::default();
        for ring in &mut self.rings {
            let mut bytes = 0;
            let mut more = false;
            loop {
                if bytes >= DRAIN_BYTES {
                    more = true;
                    break;
                }
                let Some(record) = ring.ring.next() else { break };
                bytes += record.len() + RECORD_OVERHEAD_BYTES;
                drained.records += 1;
                drained.bytes += record.len() as u64;
                each(&record);
            }
            ring.waiting_bytes += bytes as u64;
            ring.high_water_bytes = ring.high_water_bytes.max(ring.waiting_bytes);
            if !more {
                ring.waiting_bytes = 0;
            }
            drained.more |= more;
        }
        self.unread = drained.more;
        drained
    }

    /// Per ring: most bytes found waiting, and its size. What came while it was being read counts too.
    pub fn sizes(&self) -> BTreeMap<&'static str, (u64, u64)> {
        self.rings.iter().map(|ring| (ring.name, (ring.high_water_bytes, ring.size_bytes))).collect()
    }
}

/// The kernel's header in front of each record in a ring.
const RECORD_OVERHEAD_BYTES: usize = 8;

/// Rings and one more descriptor.
const EVENTS: usize = 4;

fn register(epoll: &OwnedFd, fd: BorrowedFd<'_>, events: u32) -> io::Result<()> {
    let mut event = libc::epoll_event { events, u64: 0 };
    // SAFETY: both descriptors are open, and the event outlives the call.
    let failed =
        unsafe { libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd.as_raw_fd(), &mut event) };
    if failed != 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
