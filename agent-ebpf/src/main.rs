//! The kernel object. On any target but BPF this is an empty program, so that the workspace builds and tests
//! everywhere with stable Rust.
#![cfg_attr(target_arch = "bpf", no_std)]
#![cfg_attr(target_arch = "bpf", no_main)]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]
#![cfg_attr(
    target_arch = "bpf",
    expect(unreachable_pub, reason = "a program has no API: `pub` marks what the other files use")
)]

#[cfg(target_arch = "bpf")]
mod probes;

/// The helpers the programs call are open to GPL-compatible programs only; the sources are
/// "Apache-2.0 OR MIT", which is.
#[cfg(target_arch = "bpf")]
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 4] = *b"GPL\0";

/// Never runs: the verifier refuses a program that could get here.
#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
