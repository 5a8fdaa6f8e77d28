//! Who woke whom: a fixed part only, with a number in it that must stand for something.

use super::durations::check;
use super::{Garbled, fixed};
use slowpod_ebpf::abi::wakes::{self, Context};

/// Wake-ups of one process by another, or by an interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wakes {
    /// The record.
    pub fixed: wakes::Wakes,
    /// What ran when they happened.
    pub context: Context,
}

pub(super) fn wakes(bytes: &[u8]) -> Result<Wakes, Garbled> {
    let (fixed, _) = fixed::<wakes::Wakes>(bytes)?;
    check(&fixed.header, [fixed.count.blocked_ns])?;
    let number = fixed.key.context;
    let context = Context::from_u32(number).ok_or(Garbled::Number { kind: fixed.header.kind, number })?;
    Ok(Wakes { fixed, context })
}
