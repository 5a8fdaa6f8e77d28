//! Standard names of netlink protocols and messages. In: numbers as they stand in message headers. Out:
//! `RTM_NEWROUTE`, `IPSET_CMD_ADD`, `IPVS_CMD_NEW_DEST`.
//!
//! Numbers that have no name here, because a newer kernel has more, are shown as such behind the prefix that
//! their neighbours have: `RTM_0x7f`.

mod generic;
mod netfilter;
mod protocols;

use super::name_list::nth;
use netfilter::SUBSYSTEMS;
use slowpod_ebpf::rules::netlink::{NETLINK_GENERIC, NETLINK_NETFILTER, NLMSG_MIN_TYPE};
use std::borrow::Cow;

/// Names of consecutive numbers.
struct Names {
    /// What is put before a number without a name.
    prefix: &'static str,
    /// Number of the first name.
    first: u16,
    names: &'static str,
}

impl Names {
    fn get(&self, number: u16) -> Cow<'static, str> {
        let place = number.checked_sub(self.first);
        match place.and_then(|place| nth(self.names, usize::from(place))) {
            Some(name) => Cow::Borrowed(name),
            None => Cow::Owned(format!("{}0x{number:x}", self.prefix)),
        }
    }
}

/// Netlink protocols by number (`linux/netlink.h`, `NETLINK_*`).
const PROTOCOLS: &str = "\
    ROUTE UNUSED USERSOCK FIREWALL SOCK_DIAG NFLOG XFRM SELINUX ISCSI AUDIT FIB_LOOKUP CONNECTOR NETFILTER \
    IP6_FW DNRTMSG KOBJECT_UEVENT GENERIC - SCSITRANSPORT ECRYPTFS RDMA CRYPTO SMC";
/// Messages of every protocol, below [`NLMSG_MIN_TYPE`] (`linux/netlink.h`).
static CONTROL: Names =
    Names { prefix: "NLMSG_", first: 1, names: "NLMSG_NOOP NLMSG_ERROR NLMSG_DONE NLMSG_OVERRUN" };
/// What frames a batch of netfilter messages (`linux/netfilter/nfnetlink.h`).
static BATCH: Names =
    Names { prefix: "NFNL_MSG_", first: 16, names: "NFNL_MSG_BATCH_BEGIN NFNL_MSG_BATCH_END" };
/// The one generic netlink family whose number is fixed: it tells the others'.
const GENL_ID_CTRL: u16 = 0x10;

/// Name of a netlink protocol without its `NETLINK_`: `ROUTE`, `NETFILTER`; `0x17` for one without a name.
pub fn family(protocol: u16) -> Cow<'static, str> {
    match nth(PROTOCOLS, usize::from(protocol)) {
        Some(name) => Cow::Borrowed(name),
        None => Cow::Owned(format!("0x{protocol:x}")),
    }
}

/// Name of the netfilter subsystem that a message is for (`ipset`, `nftables`, `conntrack`); `None` for other
/// protocols, control messages and subsystems without a name.
pub fn subsystem(protocol: u16, message_type: u16) -> Option<&'static str> {
    let subsystem = message_type >> 8;
    let named = protocol == NETLINK_NETFILTER && subsystem != 0;
    named.then(|| SUBSYSTEMS.get(usize::from(subsystem)).map(|(name, _)| *name))?
}

/// Standard name of a message. `command` is generic netlink's, else ignored; `genl_family` knows the name of
/// a generic netlink family by its number, which every boot hands out anew. A generic command without a
/// standard name is shown as `GENL nl80211/5`, or `GENL 0x1c/5` when the family is not known either.
pub fn message_name<'a>(
    protocol: u16,
    message_type: u16,
    command: u16,
    genl_family: &dyn Fn(u16) -> Option<&'a str>,
) -> Cow<'static, str> {
    if message_type < NLMSG_MIN_TYPE {
        return CONTROL.get(message_type);
    }
    match protocol {
        NETLINK_NETFILTER => netfilter_name(message_type),
        NETLINK_GENERIC => generic_name(message_type, command, genl_family),
        0 => protocols::ROUTE.get(message_type),
        4 => protocols::SOCK_DIAG.get(message_type),
        6 => protocols::XFRM.get(message_type),
        7 => protocols::SELINUX.get(message_type),
        9 => protocols::AUDIT.get(message_type),
        21 => protocols::CRYPTO.get(message_type),
        _ => Cow::Owned(format!("{} 0x{message_type:x}", family(protocol))),
    }
}

fn netfilter_name(message_type: u16) -> Cow<'static, str> {
    // The subsystem is the high byte, the message the low one.
    let (subsystem, message) = (message_type >> 8, message_type & 0xff);
    match SUBSYSTEMS.get(usize::from(subsystem)) {
        Some((_, Some(names))) => names.get(message),
        Some((_, None)) => BATCH.get(message_type),
        None => Cow::Owned(format!("NFNL_0x{message_type:x}")),
    }
}

fn generic_name<'a>(
    family: u16,
    command: u16,
    genl_family: &dyn Fn(u16) -> Option<&'a str>,
) -> Cow<'static, str> {
    let name = if family == GENL_ID_CTRL { Some("nlctrl") } else { genl_family(family) };
    match (name.and_then(generic::commands), name) {
        (Some(names), _) => names.get(command),
        (None, Some(name)) => Cow::Owned(format!("GENL {name}/{command}")),
        (None, None) => Cow::Owned(format!("GENL 0x{family:x}/{command}")),
    }
}

#[cfg(test)]
mod tests;
