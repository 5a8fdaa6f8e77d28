//! A page fault of known length: the near end touches a page that userfaultfd(2) guards, and the far end, which
//! borrows the descriptor by pidfd_getfd(2), fills it in after a while. Needs root.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use crate::sys::{check, sleep_ns};

/// Ioctls and structs of linux/userfaultfd.h, which libc does not have.
const UFFD_API: u64 = 0xaa;
const UFFDIO_API: libc::Ioctl = 0xc018_aa3f_u32 as libc::Ioctl;
const UFFDIO_REGISTER: libc::Ioctl = 0xc020_aa00_u32 as libc::Ioctl;
const UFFDIO_ZEROPAGE: libc::Ioctl = 0xc020_aa04_u32 as libc::Ioctl;
const UFFDIO_REGISTER_MODE_MISSING: u64 = 1;

#[repr(C)]
struct Api {
    api: u64,
    features: u64,
    ioctls: u64,
}

/// `uffdio_register` and `uffdio_zeropage` have the same shape.
#[repr(C)]
struct Range {
    start: u64,
    len: u64,
    mode: u64,
    result: u64,
}

/// A page on which the first touch waits.
pub(crate) struct Fault {
    page: *mut u8,
    /// Closing it would resolve the fault.
    _descriptor: OwnedFd,
}

/// What the far end must know, in shared memory.
const PID: usize = 0;
const DESCRIPTOR: usize = 1;
const PAGE: usize = 2;
const PAGE_BYTES: usize = 3;

impl Fault {
    /// How many shared numbers it takes.
    pub(crate) const WORDS: usize = 4;

    /// Near end: maps and guards a page, and tells the far end where.
    pub(crate) fn prepare(shared: &[AtomicU64]) -> io::Result<Fault> {
        // SAFETY: plain numbers; the descriptor is checked before it is owned.
        let descriptor = unsafe {
            OwnedFd::from_raw_fd(check(libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC) as i32)?)
        };
        let mut api = Api { api: UFFD_API, features: 0, ioctls: 0 };
        // SAFETY: UFFDIO_API reads and writes one `Api`.
        check(unsafe { libc::ioctl(descriptor.as_raw_fd(), UFFDIO_API, &raw mut api) })?;
        // SAFETY: a plain number.
        let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
        let (prot, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new anonymous mapping; no memory of ours is touched.
        let page = unsafe { libc::mmap(std::ptr::null_mut(), bytes, prot, flags, -1, 0) };
        if page == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let mut range = Range {
            start: page.addr() as u64,
            len: bytes as u64,
            mode: UFFDIO_REGISTER_MODE_MISSING,
            result: 0,
        };
        // SAFETY: UFFDIO_REGISTER reads and writes one `Range`, which names the mapping above.
        check(unsafe { libc::ioctl(descriptor.as_raw_fd(), UFFDIO_REGISTER, &raw mut range) })?;
        let known = [
            (PID, u64::from(std::process::id())),
            (DESCRIPTOR, descriptor.as_raw_fd() as u64),
            (PAGE, page.addr() as u64),
            (PAGE_BYTES, bytes as u64),
        ];
        for (at, value) in known {
            shared[at].store(value, SeqCst);
        }
        Ok(Fault { page: page.cast(), _descriptor: descriptor })
    }

    /// Near end: the fault.
    pub(crate) fn touch(&self) {
        // SAFETY: the page is mapped readable for the life of the process.
        unsafe { self.page.read_volatile() };
    }

    /// Far end: waits, then fills the page with zeroes, which wakes the near end.
    pub(crate) fn resolve_after(shared: &[AtomicU64], amount_ns: u64) -> io::Result<()> {
        let number = |at: usize| shared[at].load(SeqCst);
        // SAFETY: plain numbers; both descriptors are checked before they are owned.
        let descriptor = unsafe {
            let process = check(libc::syscall(libc::SYS_pidfd_open, number(PID), 0) as i32)?;
            let process = OwnedFd::from_raw_fd(process);
            let borrowed =
                libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), number(DESCRIPTOR), 0) as i32;
            OwnedFd::from_raw_fd(check(borrowed)?)
        };
        sleep_ns(amount_ns);
        let mut range = Range { start: number(PAGE), len: number(PAGE_BYTES), mode: 0, result: 0 };
        // SAFETY: UFFDIO_ZEROPAGE reads and writes one `Range`, which names a guarded page of the near end.
        check(unsafe { libc::ioctl(descriptor.as_raw_fd(), UFFDIO_ZEROPAGE, &raw mut range) }).map(drop)
    }
}
