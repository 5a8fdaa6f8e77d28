//! Sample records: a fixed part only, with numbers in it that must stand for something.

use super::durations::check;
use super::{Garbled, fixed};
use slowpod_ebpf::abi::sample::{self, SampleKind};
use slowpod_ebpf::abi::split::Cause;

/// What a thread did or waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The record.
    pub fixed: sample::Sample,
    /// What it counts.
    pub kind: SampleKind,
    /// What was waited for; [`Cause::Other`] for time that was no wait of the thread's own.
    pub cause: Cause,
}

pub(super) fn sample(bytes: &[u8]) -> Result<Sample, Garbled> {
    let (fixed, _) = fixed::<sample::Sample>(bytes)?;
    check(&fixed.header, [fixed.value_ns, fixed.period_ns])?;
    let unknown = |number| Garbled::Number { kind: fixed.header.kind, number };
    let kind = SampleKind::from_u32(fixed.kind).ok_or_else(|| unknown(fixed.kind))?;
    let cause = match kind {
        SampleKind::OnCpu | SampleKind::RunQueue => Some(Cause::Other),
        SampleKind::OffCpu => Cause::ALL.get(fixed.cause as usize).copied(),
    };
    Ok(Sample { fixed, kind, cause: cause.ok_or_else(|| unknown(fixed.cause))? })
}
