//! Copying text of unknown length into records.

use aya_ebpf::helpers::generated::{bpf_probe_read_kernel_str, bpf_probe_read_user, bpf_probe_read_user_str};
use core::{ffi::c_long, mem::MaybeUninit};
use slowpod_ebpf::rules::verifier::at_most;

/// Room needed beyond what is kept: the NUL, and one byte by which a longer string is told from one that
/// just fits.
pub const SLACK: usize = 2;

/// A string as far as it was copied.
#[derive(Clone, Copy)]
pub struct Copied {
    /// Bytes copied, without the NUL; at most what was asked for.
    pub len: u64,
    /// Whether there is more of it.
    pub cut: bool,
}

/// Copies at most `MAX` bytes of a kernel string. `to` must have room for [`SLACK`] more. `None` when it could not
/// be read.
///
/// # Safety
/// As above.
#[inline(always)]
pub unsafe fn kernel_string<const MAX: u64>(to: *mut u8, from: *const u8) -> Option<Copied> {
    // SAFETY: the caller promises the room; the helper checks the source.
    copied::<MAX>(unsafe { bpf_probe_read_kernel_str(to.cast(), MAX as u32 + SLACK as u32, from.cast()) })
}

/// The same for a string of the running process.
///
/// # Safety
/// As above.
#[inline(always)]
pub unsafe fn user_string<const MAX: u64>(to: *mut u8, from: u64) -> Option<Copied> {
    // SAFETY: as above.
    copied::<MAX>(unsafe { bpf_probe_read_user_str(to.cast(), MAX as u32 + SLACK as u32, from as *const _) })
}

#[inline(always)]
fn copied<const MAX: u64>(result: c_long) -> Option<Copied> {
    if result <= 0 {
        return None;
    }
    let len = result as u64 - 1;
    Some(Copied { len: at_most(len, MAX), cut: len > MAX })
}

/// Copies `len` bytes of the running process's memory. False when they could not be read.
///
/// # Safety
/// `to` must have room for them.
#[inline(always)]
pub unsafe fn user_bytes(to: *mut u8, len: u64, from: u64) -> bool {
    // SAFETY: the caller promises the room; the helper checks the source.
    unsafe { bpf_probe_read_user(to.cast(), len as u32, from as *const _) == 0 }
}

/// One number of the running process's memory; `None` when it is not there or not in memory just now.
#[inline(always)]
pub fn user_value<T: Copy>(from: u64) -> Option<T> {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: the helper checks the source and brings no page in; the destination is ours.
    let failed =
        unsafe { bpf_probe_read_user(value.as_mut_ptr().cast(), size_of::<T>() as u32, from as *const _) };
    // SAFETY: the helper filled it.
    (failed == 0).then(|| unsafe { value.assume_init() })
}
