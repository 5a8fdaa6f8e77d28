//! The requests of `netlink-storm`: one kind of message each, of several protocols, and how the kernel answers.

use std::io;
use std::str::FromStr;

use crate::netlink_socket::{attribute, message};

/// What is asked, all of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// RTM_GETLINK of the loopback device.
    GetLink,
    /// RTM_NEWROUTE, each a new unreachable route.
    NewRoute,
    /// RTM_NEWROUTE of a route that is there: refused with EEXIST, but for the first.
    Duplicate,
    /// CTRL_CMD_GETFAMILY of generic netlink's own family.
    GetFamily,
    /// NFT_MSG_GETTABLE of a table that is not there: refused with ENOENT.
    GetTable,
    /// NFT_MSG_NEWTABLE, each a new table; a send is one batch.
    NewTable,
    /// IPCTNL_MSG_CT_GET of a connection that is not there: refused with ENOENT.
    GetConntrack,
}

impl FromStr for What {
    type Err = io::Error;

    fn from_str(text: &str) -> io::Result<What> {
        Ok(match text {
            "getlink" => What::GetLink,
            "newroute" => What::NewRoute,
            "duplicate" => What::Duplicate,
            "getfamily" => What::GetFamily,
            "gettable" => What::GetTable,
            "newtable" => What::NewTable,
            "getconntrack" => What::GetConntrack,
            _ => return Err(io::Error::other("not one of the kinds of request")),
        })
    }
}

/// `NFTA_TABLE_NAME` (`linux/netfilter/nf_tables.h`).
const NFTA_TABLE_NAME: u16 = 1;
/// `IPCTNL_MSG_CT_GET`, and the attributes that name a connection (`linux/netfilter/nfnetlink_conntrack.h`).
const IPCTNL_MSG_CT_GET: u16 = 1;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_IP: u16 = 1;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;
/// Marks an attribute made of attributes (`linux/netlink.h`).
const NLA_F_NESTED: u16 = 1 << 15;

impl What {
    /// The protocol of its socket.
    pub(crate) fn protocol(self) -> i32 {
        match self {
            What::GetLink | What::NewRoute | What::Duplicate => libc::NETLINK_ROUTE,
            What::GetFamily => libc::NETLINK_GENERIC,
            What::GetTable | What::NewTable | What::GetConntrack => libc::NETLINK_NETFILTER,
        }
    }

    /// The message's name in the kernel's headers.
    pub(crate) fn message_type(self) -> &'static str {
        match self {
            What::GetLink => "RTM_GETLINK",
            What::NewRoute | What::Duplicate => "RTM_NEWROUTE",
            What::GetFamily => "CTRL_CMD_GETFAMILY",
            What::GetTable => "NFT_MSG_GETTABLE",
            What::NewTable => "NFT_MSG_NEWTABLE",
            What::GetConntrack => "IPCTNL_MSG_CT_GET",
        }
    }

    /// The type of its answers, when they are not acknowledgements or refusals.
    pub(crate) fn answer(self) -> Option<u16> {
        match self {
            What::GetLink => Some(libc::RTM_NEWLINK),
            What::GetFamily => Some(libc::GENL_ID_CTRL as u16),
            What::NewRoute | What::Duplicate | What::GetTable | What::NewTable | What::GetConntrack => None,
        }
    }

    /// How many of `count` requests are refused, and by which errno.
    pub(crate) fn refusals(self, count: u64) -> Option<(i32, u64)> {
        match self {
            What::Duplicate => Some((libc::EEXIST, count - 1)),
            What::GetTable | What::GetConntrack => Some((libc::ENOENT, count)),
            What::GetLink | What::NewRoute | What::GetFamily | What::NewTable => None,
        }
        .filter(|(_, refused)| *refused > 0)
    }

    /// The bytes of one send: the requests of these numbers, framed as the protocol wants it.
    pub(crate) fn send(self, numbers: std::ops::Range<u64>) -> Vec<u8> {
        let requests = numbers.flat_map(|number| self.request(number as u32));
        if self != What::NewTable {
            return requests.collect();
        }
        // The frame of a batch says which subsystem it is for.
        let marker = |kind: i32| {
            let header = nfgenmsg(libc::AF_UNSPEC, libc::NFNL_SUBSYS_NFTABLES as u16);
            message(kind as u16, libc::NLM_F_REQUEST, 0, &header)
        };
        let (begin, end) = (marker(libc::NFNL_MSG_BATCH_BEGIN), marker(libc::NFNL_MSG_BATCH_END));
        begin.into_iter().chain(requests).chain(end).collect()
    }

    fn request(self, number: u32) -> Vec<u8> {
        let request = libc::NLM_F_REQUEST;
        match self {
            What::GetLink => {
                // struct ifinfomsg with ifi_index 1, which is lo in every namespace.
                let mut body = [0u8; 16];
                body[4..8].copy_from_slice(&1u32.to_ne_bytes());
                message(libc::RTM_GETLINK, request, number, &body)
            }
            What::NewRoute => new_route(number, number),
            What::Duplicate => new_route(number, 0),
            What::GetFamily => {
                // struct genlmsghdr: cmd, version, reserved.
                let mut body = vec![libc::CTRL_CMD_GETFAMILY as u8, 1, 0, 0];
                body.extend(attribute(libc::CTRL_ATTR_FAMILY_NAME as u16, b"nlctrl\0"));
                message(libc::GENL_ID_CTRL as u16, request, number, &body)
            }
            What::GetTable => table(libc::NFT_MSG_GETTABLE, request, number),
            What::NewTable => {
                table(libc::NFT_MSG_NEWTABLE, request | libc::NLM_F_ACK | libc::NLM_F_CREATE, number)
            }
            What::GetConntrack => {
                let mut body = nfgenmsg(libc::AF_INET, 0).to_vec();
                body.extend(connection(number));
                message((libc::NFNL_SUBSYS_CTNETLINK as u16) << 8 | IPCTNL_MSG_CT_GET, request, number, &body)
            }
        }
    }
}

/// `ip route add unreachable 10.x.y.z/32`: needs no device.
fn new_route(sequence: u32, address: u32) -> Vec<u8> {
    let flags = libc::NLM_F_REQUEST | libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_EXCL;
    // struct rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type, flags.
    let mut body = vec![
        libc::AF_INET as u8,
        32,
        0,
        0,
        libc::RT_TABLE_MAIN,
        libc::RTPROT_BOOT,
        libc::RT_SCOPE_UNIVERSE,
        libc::RTN_UNREACHABLE,
    ];
    body.extend(0u32.to_ne_bytes());
    body.extend(attribute(libc::RTA_DST, &(0x0a00_0001 + address).to_be_bytes()));
    message(libc::RTM_NEWROUTE, flags, sequence, &body)
}

/// A message about the IPv4 table `t<number>`.
fn table(kind: i32, flags: i32, number: u32) -> Vec<u8> {
    let mut body = nfgenmsg(libc::AF_INET, 0).to_vec();
    body.extend(attribute(NFTA_TABLE_NAME, format!("t{number}\0").as_bytes()));
    message((libc::NFNL_SUBSYS_NFTABLES as u16) << 8 | kind as u16, flags, number, &body)
}

/// The attribute that names a TCP connection from 10.x.y.z.
fn connection(number: u32) -> Vec<u8> {
    let ip = [
        attribute(CTA_IP_V4_SRC, &(0x0a00_0001 + number).to_be_bytes()),
        attribute(CTA_IP_V4_DST, &0x0aff_ffffu32.to_be_bytes()),
    ];
    let protocol = [
        attribute(CTA_PROTO_NUM, &[libc::IPPROTO_TCP as u8]),
        attribute(CTA_PROTO_SRC_PORT, &40_000u16.to_be_bytes()),
        attribute(CTA_PROTO_DST_PORT, &443u16.to_be_bytes()),
    ];
    let tuple = [
        attribute(NLA_F_NESTED | CTA_TUPLE_IP, &ip.concat()),
        attribute(NLA_F_NESTED | CTA_TUPLE_PROTO, &protocol.concat()),
    ];
    attribute(NLA_F_NESTED | CTA_TUPLE_ORIG, &tuple.concat())
}

/// `struct nfgenmsg` (`linux/netfilter/nfnetlink.h`): family, version, resource id.
fn nfgenmsg(family: i32, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family as u8, libc::NFNETLINK_V0 as u8, high, low]
}
