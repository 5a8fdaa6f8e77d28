//! The slots of all threads, read from the kernel's memory without a call. In: the maps. Out: copies of rows.

use aya::{
    Ebpf,
    maps::{Map, MapData},
};
use slowpod_ebpf::abi::threads::{Owner, SLOTS, Slot};
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Every thread's slot, and who owns it.
#[derive(Debug)]
pub struct Threads {
    slots: Mapped<Slot>,
    owners: Mapped<Owner>,
}

impl Threads {
    /// Maps the arrays of a loaded object.
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Threads, String> {
        Ok(Threads { slots: Mapped::take(ebpf, "THREADS")?, owners: Mapped::take(ebpf, "OWNERS")? })
    }

    /// All slots that a thread has or had. The kernel goes on writing meanwhile: fields of one slot may be of
    /// two moments.
    pub fn slots(&self) -> impl Iterator<Item = (u32, Slot)> {
        (0..SLOTS).map(|number| (number, self.slots.read(number))).filter(|(_, slot)| slot.tid != 0)
    }

    /// The slot that a thread's id falls on, whoever has it.
    pub fn of(&self, tid: u32) -> Slot {
        self.slots.read(tid)
    }

    /// Who has a slot; `None` when that is not known yet.
    pub fn owner(&self, number: u32, slot: &Slot) -> Option<Owner> {
        Some(self.owners.read(number)).filter(|owner| owner.birth == slot.birth)
    }
}

/// A kernel array of `SLOTS` values in this process's memory, for reading.
#[derive(Debug)]
struct Mapped<T> {
    words: NonNull<AtomicU64>,
    /// Held open for programs that are loaded later.
    _map: MapData,
    values: PhantomData<T>,
}

// SAFETY: it owns its mapping, which any thread may read.
unsafe impl<T> Send for Mapped<T> {}

impl<T: FromBytes + IntoBytes + KnownLayout + Immutable> Mapped<T> {
    const WORDS: usize = size_of::<T>() / 8;
    const BYTES: usize = size_of::<T>() * SLOTS as usize;

    fn take(ebpf: &mut Ebpf, name: &str) -> Result<Self, String> {
        let Some(Map::Array(map)) = ebpf.take_map(name) else { return Err(format!("no array {name}")) };
        let fd = map.fd().as_fd().as_raw_fd();
        // SAFETY: a fresh mapping of a descriptor that is open for the call; it stays when that is closed.
        let at = unsafe {
            libc::mmap(std::ptr::null_mut(), Self::BYTES, libc::PROT_READ, libc::MAP_SHARED, fd, 0)
        };
        match NonNull::new(at.cast()) {
            Some(words) if at != libc::MAP_FAILED => Ok(Mapped { words, _map: map, values: PhantomData }),
            _ => Err(format!("array {name} cannot be mapped: {}", io::Error::last_os_error())),
        }
    }

    fn read(&self, number: u32) -> T {
        let mut value = T::new_zeroed();
        let first = (number % SLOTS) as usize * Self::WORDS;
        for (index, bytes) in value.as_mut_bytes().chunks_exact_mut(8).enumerate() {
            // SAFETY: inside the mapping, which is aligned to pages; the kernel writes whole words.
            let word = unsafe { self.words.add(first + index).as_ref() }.load(Ordering::Relaxed);
            bytes.copy_from_slice(&word.to_ne_bytes());
        }
        value
    }
}

impl<T> Drop for Mapped<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `take`, which nothing else refers to.
        unsafe { libc::munmap(self.words.as_ptr().cast(), size_of::<T>() * SLOTS as usize) };
    }
}
