//! See `entries::go_table` and `entries::go_program`.
#![no_main]
#![allow(dead_code, reason = "a target uses two entries of all")]

extern crate slowpod;

#[path = "../entries.rs"]
mod entries;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let bytes = bytes.to_vec();
    entries::go_table(&bytes, &bytes);
    entries::go_program(&bytes);
});
