//! Names for what was seen: pure tables and rules, no I/O, no clock. In: plain values. Out: words.

pub mod argv_class;
pub mod text;
