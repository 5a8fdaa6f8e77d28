//! Pure judgement shared by the kernel programs and the agent: plain values in, plain values out.
//! Unit-tested on the host; the kernel programs call the same functions.

pub mod cause;
pub mod comm;
pub mod env;
pub mod hash;
pub mod netlink;
pub mod op;
pub mod path;
pub mod unwind;
pub mod verifier;
pub mod wait;
