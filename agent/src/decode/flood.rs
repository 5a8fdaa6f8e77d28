//! Flood records: a fixed part only, with durations in it.

use super::durations::check;
use super::{Garbled, fixed};
use slowpod_ebpf::abi::flood::Flood;

pub(super) fn flood(bytes: &[u8]) -> Result<Flood, Garbled> {
    let (flood, _) = fixed::<Flood>(bytes)?;
    let count = &flood.count;
    check(&flood.header, [count.wall_ns, count.on_cpu_ns, count.runnable_ns, count.blocked_ns])?;
    Ok(flood)
}
