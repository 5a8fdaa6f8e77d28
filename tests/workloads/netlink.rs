//! Many netlink requests from one process, in a network namespace of its own.

use std::collections::BTreeMap;
use std::io;
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::Work;
use crate::args::Args;
use crate::netlink_socket::{NetlinkSocket, SendCall, answers, attribute, message};
use crate::sys::{self, monotonic_ns};

pub(crate) const OPTIONS: &str = "[--count N] [--what getlink|newroute|duplicate] [--per-send K] \
     [--call sendto|sendmsg|sendmmsg|write]";

const COUNT_MAX: u64 = 1_000_000;
/// Most messages in one send: their answers must fit the socket's receive buffer (212,992 bytes by default).
const PER_SEND_MAX: u64 = 100;
/// Room for one answering datagram.
const BUFFER_BYTES: usize = 64 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// RTM_GETLINK of the loopback device.
    GetLink,
    /// RTM_NEWROUTE, each a new unreachable route.
    NewRoute,
    /// RTM_NEWROUTE of a route that is there: refused with EEXIST, but for the first.
    Duplicate,
}

impl FromStr for What {
    type Err = io::Error;

    fn from_str(text: &str) -> io::Result<What> {
        match text {
            "getlink" => Ok(What::GetLink),
            "newroute" => Ok(What::NewRoute),
            "duplicate" => Ok(What::Duplicate),
            _ => Err(io::Error::other("not one of getlink, newroute, duplicate")),
        }
    }
}

/// N requests, K to a send; every answer is read and every refusal counted by errno.
pub(crate) fn prepare(args: &mut Args) -> Result<Work> {
    let count = args.count("--count", 1000, COUNT_MAX)?;
    let what: What = args.value("--what", What::NewRoute)?;
    let per_send = args.count("--per-send", 1, PER_SEND_MAX)?;
    let call = args.value("--call", SendCall::Sendmsg)?;
    Ok(Box::new(move || run(count, what, per_send, call)))
}

fn run(count: u64, what: What, per_send: u64, call: SendCall) -> Result<Value> {
    sys::enter_own_netns().context("unshare(CLONE_NEWNET) (needs CAP_SYS_ADMIN)")?;
    let socket = NetlinkSocket::open(libc::NETLINK_ROUTE)?;
    let (mut sends, mut bytes, mut inside_ns) = (0u64, 0u64, 0);
    let mut errors = BTreeMap::<i32, u64>::new();
    let mut done = 0;
    let delay_before_ns = sys::run_delay_ns()?;
    let storm_start_ns = monotonic_ns();
    while done < count {
        let now = per_send.min(count - done);
        let request: Vec<u8> = (done..done + now).flat_map(|number| request(what, number as u32)).collect();
        let begun_ns = monotonic_ns();
        socket.send(&request, 0, call)?;
        inside_ns += monotonic_ns() - begun_ns;
        sends += 1;
        bytes += request.len() as u64;
        done += now;
        for errno in read_answers(&socket, what, now)? {
            *errors.entry(errno).or_default() += 1;
        }
    }
    let storm_end_ns = monotonic_ns();
    let runnable_ns = sys::run_delay_ns()? - delay_before_ns;
    let expected = if what == What::Duplicate { count - 1 } else { 0 };
    if errors.values().sum::<u64>() != expected || errors.keys().any(|&errno| errno != libc::EEXIST) {
        bail!("expected {expected} EEXIST, got (by errno) {errors:?}");
    }
    Ok(json!({
        "messages": count,
        "message_type": if what == What::GetLink { "RTM_GETLINK" } else { "RTM_NEWROUTE" },
        "sends": sends,
        "bytes": bytes,
        "inside_ns": inside_ns,
        "runnable_ns": runnable_ns,
        "errors": errors.iter().map(|(errno, n)| (errno.to_string(), json!(n))).collect::<serde_json::Map<_, _>>(),
        "storm_start_ns": storm_start_ns,
        "storm_end_ns": storm_end_ns,
    }))
}

fn request(what: What, number: u32) -> Vec<u8> {
    let request = libc::NLM_F_REQUEST;
    match what {
        What::GetLink => {
            // struct ifinfomsg with ifi_index 1, which is lo in every namespace.
            let mut body = [0u8; 16];
            body[4..8].copy_from_slice(&1u32.to_ne_bytes());
            message(libc::RTM_GETLINK, request, number, &body)
        }
        What::NewRoute => new_route(number, number),
        What::Duplicate => new_route(number, 0),
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
    body.extend(attribute(libc::RTA_DST, (0x0a00_0001 + address).to_be_bytes()));
    message(libc::RTM_NEWROUTE, flags, sequence, &body)
}

/// Reads one answer for each message of a send, and returns the errnos of those refused.
fn read_answers(socket: &NetlinkSocket, what: What, expected: u64) -> Result<Vec<i32>> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let (mut seen, mut refused) = (0, Vec::new());
    while seen < expected {
        for answer in answers(socket.receive(&mut buffer)?)? {
            seen += 1;
            match (what, answer.kind) {
                (What::GetLink, libc::RTM_NEWLINK) => {}
                (_, kind) if i32::from(kind) == libc::NLMSG_ERROR => {
                    refused.extend((answer.errno != 0).then_some(answer.errno));
                }
                (_, kind) => bail!("an answer of type {kind}"),
            }
        }
    }
    Ok(refused)
}
