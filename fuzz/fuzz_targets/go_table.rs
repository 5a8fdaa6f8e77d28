//! See `entries::go_table` and `entries::go_program`.
#![no_main]
#![allow(dead_code, reason = "a target uses two entries of all")]

extern crate slowpod;

#[path = "../entries.rs"]
mod entries;

libfuzzer_sys::fuzz_target!(|bytes: Vec<u8>| {
    entries::go_table(&bytes, &bytes);
    entries::go_program(&bytes);
});
