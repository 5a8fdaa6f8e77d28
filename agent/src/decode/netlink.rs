//! Netlink records: a fixed part only, with a duration in it.

use super::durations::check;
use super::{Garbled, fixed};
use slowpod_ebpf::abi::netlink::NetlinkSend;

pub(super) fn netlink_send(bytes: &[u8]) -> Result<NetlinkSend, Garbled> {
    let (send, _) = fixed::<NetlinkSend>(bytes)?;
    check(&send.header, [send.inside_ns])?;
    Ok(send)
}
