//! Wait records: a fixed part only, with durations in it.

use super::durations::check;
use super::{Garbled, fixed};
use slowpod_ebpf::abi::wait::Wait;

pub(super) fn wait(bytes: &[u8]) -> Result<Wait, Garbled> {
    let (wait, _) = fixed::<Wait>(bytes)?;
    check(&wait.header, [wait.blocked_ns, wait.longest_ns, wait.last_ns.wrapping_sub(wait.first_ns)])?;
    Ok(wait)
}
