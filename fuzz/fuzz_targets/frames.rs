//! See `entries::frames`.
#![no_main]
#![allow(dead_code, reason = "a target uses one entry of all")]

extern crate slowpod;

#[path = "../entries.rs"]
mod entries;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| entries::frames(&bytes.to_vec()));
