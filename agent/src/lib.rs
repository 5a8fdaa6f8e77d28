//! slowpod, the agent: stages in the order records flow through them.
//!
//! ```text
//!  kernel: probes --[abi record]--> rings     /proc, cgroupfs, clocks --> facts     a tape
//!                                     |                    |                          |
//!  attach   load, hook, one verdict per probe              |                          |
//!  capture  order, redact, merge -----+--------------------+--> records in time order-+
//!  decode   bytes to Event, closed enum, never panics
//!  enrich   who: process (tgid + start time), cgroup, pod, argv class
//!  fold     (State, Event) -> State: spawns, sync loops, netlink, losses
//!  findings Snapshot -> ranked causes
//!  views    (Snapshot, Query) -> bytes
//!  web, cli what people and programs ask
//! ```

pub mod agent;
pub mod attach;
pub mod capture;
pub mod cli;
pub mod client;
pub mod decode;
pub mod demand;
pub mod enrich;
pub mod failure;
pub mod findings;
pub mod flux;
pub mod fold;
pub mod memory;
pub mod pipeline;
pub mod views;
pub mod web;
