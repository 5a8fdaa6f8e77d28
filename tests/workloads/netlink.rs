//! Many netlink requests from one process, in a network namespace of its own.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::Work;
use crate::args::Args;
use crate::netlink_requests::What;
use crate::netlink_socket::{NetlinkSocket, SendCall, answers};
use crate::sys::{self, monotonic_ns};

pub(crate) const OPTIONS: &str = "[--count N] [--per-send K] [--what \
     getlink|newroute|duplicate|getfamily|gettable|newtable|getconntrack] [--call sendto|sendmsg|sendmmsg|write]";

const COUNT_MAX: u64 = 1_000_000;
/// Most messages in one send: their answers must fit the socket's receive buffer (212,992 bytes by default).
const PER_SEND_MAX: u64 = 100;
/// Room for one answering datagram.
const BUFFER_BYTES: usize = 64 * 1024;

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
    let socket = NetlinkSocket::open(what.protocol())?;
    let (mut sends, mut bytes, mut inside_ns) = (0u64, 0u64, 0);
    let mut errors = BTreeMap::<i32, u64>::new();
    let mut done = 0;
    let delay_before_ns = sys::run_delay_ns()?;
    let storm_start_ns = monotonic_ns();
    while done < count {
        let now = per_send.min(count - done);
        let request = what.send(done..done + now);
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
    let expected = BTreeMap::from_iter(what.refusals(count));
    if errors != expected {
        bail!("expected refusals (by errno) {expected:?}, got {errors:?}");
    }
    Ok(json!({
        "messages": count,
        "message_type": what.message_type(),
        "sends": sends,
        "bytes": bytes,
        "inside_ns": inside_ns,
        "runnable_ns": runnable_ns,
        "errors": errors.iter().map(|(errno, n)| (errno.to_string(), json!(n))).collect::<serde_json::Map<_, _>>(),
        "storm_start_ns": storm_start_ns,
        "storm_end_ns": storm_end_ns,
    }))
}

/// Reads one answer for each message of a send, and returns the errnos of those refused.
fn read_answers(socket: &NetlinkSocket, what: What, expected: u64) -> Result<Vec<i32>> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let (mut seen, mut refused) = (0, Vec::new());
    while seen < expected {
        for answer in answers(socket.receive(&mut buffer)?)? {
            seen += 1;
            match answer.kind {
                kind if i32::from(kind) == libc::NLMSG_ERROR => {
                    refused.extend((answer.errno != 0).then_some(answer.errno));
                }
                kind if Some(kind) == what.answer() => {}
                kind => bail!("an answer of type {kind}"),
            }
        }
    }
    Ok(refused)
}
