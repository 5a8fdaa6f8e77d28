//! Bytes to events, and numbers to their standard names. Pure; never panics.

pub mod errno;
pub mod netlink_names;
