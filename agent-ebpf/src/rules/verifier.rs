//! Arithmetic in forms the kernel's verifier can follow after the optimiser is done with it.

/// The value, with its origin hidden from the optimiser: a bound checked afterwards is then checked on the
/// very register that is used, which is the one the verifier follows.
#[inline(always)]
pub fn opaque(value: u64) -> u64 {
    #[cfg(target_arch = "bpf")]
    {
        let mut hidden = value;
        // A move onto itself and no empty text: two source lines at one instruction are refused at load.
        // SAFETY: it changes nothing.
        unsafe { core::arch::asm!("{0} = {0}", inout(reg) hidden, options(nomem, nostack)) };
        hidden
    }
    #[cfg(not(target_arch = "bpf"))]
    core::hint::black_box(value)
}

/// The smaller of the two.
#[inline(always)]
pub fn at_most(value: u64, max: u64) -> u64 {
    let value = opaque(value);
    if value > max { max } else { value }
}
