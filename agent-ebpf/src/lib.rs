//! What the kernel programs and the agent agree on: record layouts, hooks, kernel field offsets and the
//! pure rules both sides may use. In: nothing. Out: types, tables and functions without side effects.
//!
//! The kernel binary (`main.rs`) and the agent both depend on this library, so no structure is ever written
//! twice. It is `no_std` and names neither aya nor aya-ebpf.
#![no_std]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

#[cfg(test)]
extern crate std;

pub mod abi;
pub mod rules;
