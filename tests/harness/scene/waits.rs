//! What threads waited for, and what CNI plugins said. In: words. Out: records.

use super::names;
use super::records::{Cast, bytes, header, with_tail};
use super::words::Words;
use slowpod_ebpf::abi::wait::{PART_BYTES, THING_MUTEX, Wait};
use slowpod_ebpf::abi::{Kind, output::FLAG_UNPARSED, output::Output, split::Cause};
use slowpod_ebpf::rules::cause::{AF_INET, AF_INET6, AF_NETLINK, AF_UNIX};
use slowpod_ebpf::rules::op::Op;
use std::net::{IpAddr, SocketAddr};
use zerocopy::FromZeros;

impl Cast {
    pub(super) fn waited(&mut self, words: &mut Words, now_ns: u64) -> Result<Vec<u8>, String> {
        let task = self.life(words)?.task;
        let cause = words.must("a cause")?;
        let cause = Cause::ALL.into_iter().find(|known| known.name() == cause);
        let cause = cause.ok_or("this is no cause")?;
        let op = words.must("a call")?;
        let op = Op::ALL.into_iter().find(|known| known.name() == op).ok_or("this is no call")?;
        let blocked_ns = words.span("for")?.ok_or("say for= how long")?;
        let mut wait = Wait::new_zeroed();
        (wait.header, wait.task) = (header(Kind::Wait, now_ns), task);
        (wait.thing.cause, wait.thing.op) = (cause as u8, op as u8);
        (wait.first_ns, wait.last_ns) = (now_ns - blocked_ns, now_ns);
        wait.blocked_ns = blocked_ns;
        wait.waits = words.count("waits", 1)?;
        wait.longest_ns = blocked_ns / u64::from(wait.waits);
        wait.queue = words.count("queue", 0)?;
        wait.retransmits = words.count("retransmits", 0)?;
        (wait.thing.dev, wait.thing.ino) = (words.count("dev", 0)?, words.count("ino", 0)?);
        if let Some(holder) = words.text("holder")? {
            wait.thing.holder = self.pid_of(&holder)?;
        }
        if words.flag("mutex") {
            wait.thing.flags = THING_MUTEX;
        }
        let path = words.text("path")?.unwrap_or_default();
        if let Some(remote) = words.text("to")? {
            let remote: SocketAddr = remote.parse().map_err(|_| "to= takes address:port")?;
            wait.thing.remote_port = remote.port();
            match remote.ip() {
                IpAddr::V4(ip) => {
                    wait.thing.family = AF_INET;
                    wait.thing.remote[..4].copy_from_slice(&ip.octets());
                }
                IpAddr::V6(ip) => (wait.thing.family, wait.thing.remote) = (AF_INET6, ip.octets()),
            }
        } else if let Some(message) = words.text("message")? {
            wait.thing.family = AF_NETLINK;
            wait.thing.message_type = names::message(&message)?.0;
            let protocol = words.text("protocol")?.unwrap_or_else(|| "ROUTE".into());
            wait.thing.protocol = names::family(&protocol)?;
        } else if words.flag("unix") {
            wait.thing.family = AF_UNIX;
            wait.name_len = path.len() as u16;
            wait.name.get_mut(..path.len()).ok_or("this path is too long")?.copy_from_slice(path.as_bytes());
        } else {
            let parts = path.split('/').rev().filter(|part| !part.is_empty()).chain(["/"]);
            for (part, room) in parts.zip(wait.name.chunks_mut(PART_BYTES)).filter(|_| !path.is_empty()) {
                room.get_mut(..part.len()).ok_or("a part is too long")?.copy_from_slice(part.as_bytes());
            }
        }
        Ok(bytes(wait))
    }

    pub(super) fn says(&mut self, words: &mut Words, now_ns: u64) -> Result<Vec<u8>, String> {
        let task = self.life(words)?.task;
        let text = words.bytes("what it says")?;
        let mut fixed = Output::new_zeroed();
        (fixed.header, fixed.task) = (header(Kind::Output, now_ns), task);
        fixed.fd = words.count("fd", 1)?;
        fixed.len = text.len() as u32;
        fixed.written = words.count("written", fixed.len)?;
        fixed.flags = if text.is_empty() { FLAG_UNPARSED } else { 0 };
        Ok(with_tail(bytes(fixed), &[&text]))
    }
}
