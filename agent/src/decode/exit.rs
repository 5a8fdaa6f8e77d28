//! Exit records: a fixed part only, with durations in it.

use super::durations::{check, parts};
use super::{Garbled, fixed};
use slowpod_ebpf::abi::exit::Exit;

pub(super) fn exit(bytes: &[u8]) -> Result<Exit, Garbled> {
    let (exit, _) = fixed::<Exit>(bytes)?;
    check(&exit.header, [exit.thread_ns])?;
    check(&exit.header, parts(&exit.main))?;
    check(&exit.header, parts(&exit.threads))?;
    Ok(exit)
}
