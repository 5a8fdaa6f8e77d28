//! Requests that take the kernel's lock on network configuration, and change nothing.

use crate::span::Account;
use serde_json::Value;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// `struct nlmsghdr` and `struct ifinfomsg` of a request to set the link with index 1, the loopback, to what it is: without
/// flags to change and without attributes.
const REQUEST: [u8; 32] = {
    let mut request = [0; 32];
    request[0] = 32;
    // RTM_SETLINK, as a request that is to be acknowledged.
    (request[4], request[6]) = (19, 5);
    request[20] = 1;
    request
};

/// Rest between two requests: a thread that never sleeps is soon one that others go before.
const REST: Duration = Duration::from_micros(500);

/// Asks again and again for so long; tells what the asking took.
pub(crate) fn ask(span: Duration) -> io::Result<Value> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
    // SAFETY: plain numbers.
    let socket = unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_ROUTE) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it was just opened and is nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    let (mut account, begun) = (Account::default(), Instant::now());
    while begun.elapsed() < span {
        account.of(|| ask_once(&socket))?;
        std::thread::sleep(REST);
    }
    Ok(account.truth())
}

/// Sends the request and takes the answer.
fn ask_once(socket: &OwnedFd) -> io::Result<()> {
    // SAFETY: the bytes are there for the time of the call.
    let sent = unsafe { libc::send(socket.as_raw_fd(), REQUEST.as_ptr().cast(), REQUEST.len(), 0) };
    if sent < 0 {
        return Err(io::Error::last_os_error());
    }
    let mut answer = [0_u8; 1024];
    // SAFETY: the buffer is there for the time of the call, and as long as said.
    let got = unsafe { libc::recv(socket.as_raw_fd(), answer.as_mut_ptr().cast(), answer.len(), 0) };
    // `struct nlmsgerr` follows the header of 16 bytes; its error is 0 when all went well.
    if got < 20 || answer[16..20] != [0; 4] {
        return Err(io::Error::other("the kernel refuses the request"));
    }
    Ok(())
}
