//! The kernel object. On any target but BPF this is an empty program, so that the workspace builds and tests
//! everywhere with stable Rust.
#![cfg_attr(target_arch = "bpf", no_std)]
#![cfg_attr(target_arch = "bpf", no_main)]

#[cfg(not(target_arch = "bpf"))]
fn main() {}
