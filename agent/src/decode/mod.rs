//! Bytes to [`Event`]. In: one record's bytes, from the kernel or from a tape. Out: the event, or why the
//! bytes are none. One file per probe, with the names of `agent-ebpf/src/abi/`; nothing here panics.

pub mod cgroup;
pub mod cni;
mod durations;
pub mod errno;
pub mod exec;
mod exit;
pub mod fact;
mod flood;
mod name_list;
mod netlink;
pub mod netlink_names;
pub mod output;
pub mod queue;
pub mod raw_text;
mod reap;
pub mod sample;
mod wait;
mod wakes;

use slowpod_ebpf::abi::{
    self, Header, Kind, cgroup::CgroupMove, exit::Exit, flood::Flood, netlink::NetlinkError,
    netlink::NetlinkSend, queue::Pushed, reap::Reap, spawn::Spawn, wait::Wait,
};
use zerocopy::{FromBytes, Immutable, KnownLayout};

pub use cgroup::Cgroup;
pub use cni::Cni;
pub use exec::{Exec, ExecFail};
pub use fact::Fact;
pub use output::Output;
pub use queue::RunQueue;
pub use sample::Sample;
pub use wakes::Wakes;

/// Everything that can have happened. Closed: every stage matches it whole.
#[derive(Debug)]
pub enum Event<'a> {
    /// A process or thread was made.
    Spawn(Spawn),
    /// A process became another program.
    Exec(Exec<'a>),
    /// An exec failed.
    ExecFail(ExecFail<'a>),
    /// A process ended.
    Exit(Box<Exit>),
    /// A parent collected a child.
    Reap(Reap),
    /// A netlink message was sent.
    NetlinkSend(NetlinkSend),
    /// The kernel refused a netlink request.
    NetlinkError(NetlinkError),
    /// A cgroup was made or removed.
    Cgroup(Cgroup<'a>),
    /// A process was moved to another cgroup.
    CgroupMove(CgroupMove),
    /// A stack was seen for the first time.
    Stack(Stack),
    /// Counts of what was not sent as records.
    Flood(Box<Flood>),
    /// A program was started to do a CNI call.
    Cni(Box<Cni>),
    /// What a thread did or waited for, with its stacks.
    Sample(Box<Sample>),
    /// Waits in run queues.
    RunQueue(Box<RunQueue>),
    /// Who ran while others waited.
    Pushed(Pushed),
    /// A thread was blocked, and on what.
    Wait(Box<Wait>),
    /// A CNI plugin wrote to its standard output or error.
    Output(Box<Output>),
    /// Who woke whom.
    Wakes(Box<Wakes>),
    /// A fact from outside the kernel.
    Fact(Box<Fact>),
}

/// A call stack and the id that other records name it by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stack {
    /// The fixed part of the record.
    pub fixed: abi::stack::Stack,
    /// Frame addresses, innermost first.
    pub frames: Vec<u64>,
}

/// Why bytes are not a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Garbled {
    /// Fewer bytes than the record's own length, or than its kind needs.
    #[error("record of kind {kind} is cut: {have_bytes} bytes")]
    Short {
        /// The record's kind number; 0 when not even the header was whole.
        kind: u32,
        /// Bytes there were.
        have_bytes: usize,
    },
    /// A kind number this version does not know.
    #[error("record of unknown kind {0}")]
    UnknownKind(u32),
    /// A duration that is none: a difference that went below zero, or rubbish.
    #[error("record of kind {kind} holds a duration of {ns} ns")]
    Duration {
        /// The record's kind number.
        kind: u32,
        /// The first such duration.
        ns: u64,
    },
    /// A number that stands for nothing this version knows, where one of a list must be.
    #[error("record of kind {kind} holds the unknown number {number}")]
    Number {
        /// The record's kind number.
        kind: u32,
        /// The number.
        number: u32,
    },
    /// A fact whose JSON does not parse.
    #[error("fact does not parse: {0}")]
    Fact(String),
}

/// The header of the record that `bytes` start with.
pub fn header(bytes: &[u8]) -> Result<Header, Garbled> {
    let (header, _) =
        abi::prefix::<Header>(bytes).ok_or(Garbled::Short { kind: 0, have_bytes: bytes.len() })?;
    let len = header.len_bytes as usize;
    if len < size_of::<Header>() || len > bytes.len() {
        return Err(Garbled::Short { kind: header.kind, have_bytes: bytes.len() });
    }
    Ok(header)
}

/// The record that `bytes` start with, as an event.
pub fn event(bytes: &[u8]) -> Result<(Header, Event<'_>), Garbled> {
    let header = header(bytes)?;
    let bytes = &bytes[..header.len_bytes as usize];
    let kind = Kind::from_u32(header.kind).ok_or(Garbled::UnknownKind(header.kind))?;
    let event = match kind {
        Kind::Spawn => Event::Spawn(fixed(bytes)?.0),
        Kind::Exec => Event::Exec(exec::exec(bytes)?),
        Kind::ExecFail => Event::ExecFail(exec::exec_fail(bytes)?),
        Kind::Exit => Event::Exit(Box::new(exit::exit(bytes)?)),
        Kind::Reap => Event::Reap(reap::reap(bytes)?),
        Kind::NetlinkSend => Event::NetlinkSend(netlink::netlink_send(bytes)?),
        Kind::NetlinkError => Event::NetlinkError(fixed(bytes)?.0),
        Kind::Cgroup => Event::Cgroup(cgroup::cgroup(bytes)?),
        Kind::CgroupMove => Event::CgroupMove(fixed(bytes)?.0),
        Kind::Stack => Event::Stack(stack(bytes)?),
        Kind::Flood => Event::Flood(Box::new(flood::flood(bytes)?)),
        Kind::Cni => Event::Cni(Box::new(cni::cni(bytes)?)),
        Kind::Sample => Event::Sample(Box::new(sample::sample(bytes)?)),
        Kind::RunQueue => Event::RunQueue(Box::new(queue::run_queue(bytes)?)),
        Kind::Pushed => Event::Pushed(queue::pushed(bytes)?),
        Kind::Wait => Event::Wait(Box::new(wait::wait(bytes)?)),
        Kind::Output => Event::Output(Box::new(output::output(bytes)?)),
        Kind::Wakes => Event::Wakes(Box::new(wakes::wakes(bytes)?)),
        Kind::Fact => {
            Event::Fact(Box::new(fact::decode(bytes).map_err(|error| Garbled::Fact(error.to_string()))?))
        }
    };
    Ok((header, event))
}

/// A record's fixed part and the bytes after it.
fn fixed<T: FromBytes + KnownLayout + Immutable>(bytes: &[u8]) -> Result<(T, &[u8]), Garbled> {
    abi::prefix::<T>(bytes).ok_or_else(|| short(bytes))
}

/// The first `len` of the bytes after a fixed part, and the rest.
fn part<'a>(record: &[u8], rest: &'a [u8], len: usize) -> Result<(&'a [u8], &'a [u8]), Garbled> {
    rest.split_at_checked(len).ok_or_else(|| short(record))
}

fn short(record: &[u8]) -> Garbled {
    let kind = abi::prefix::<Header>(record).map_or(0, |(header, _)| header.kind);
    Garbled::Short { kind, have_bytes: record.len() }
}

fn stack(bytes: &[u8]) -> Result<Stack, Garbled> {
    let (fixed, rest) = fixed::<abi::stack::Stack>(bytes)?;
    let (frames, _) = part(bytes, rest, fixed.depth as usize * 8)?;
    let frames = frames.chunks_exact(8).map(|word| word.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b)));
    Ok(Stack { fixed, frames: frames.collect() })
}
