//! Records to events. In: bytes of one record. Out: a typed value, or why there is none; never a panic.

pub mod fact;
pub mod raw_text;
