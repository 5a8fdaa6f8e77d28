//! Requests that take the kernel's lock on network configuration, and change nothing.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

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

/// Sends the request so often, one after the other, and takes the answers.
pub(crate) fn ask(times: u32) -> io::Result<()> {
    // SAFETY: plain numbers.
    let socket =
        unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_ROUTE) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it was just opened and is nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    for _ in 0..times {
        // SAFETY: the bytes are there for the time of the call.
        let sent = unsafe { libc::send(socket.as_raw_fd(), REQUEST.as_ptr().cast(), REQUEST.len(), 0) };
        let mut answer = [0_u8; 1024];
        // SAFETY: the buffer is there for the time of the call, and as long as said.
        let got = unsafe { libc::recv(socket.as_raw_fd(), answer.as_mut_ptr().cast(), answer.len(), 0) };
        // `struct nlmsgerr` follows the header; its error is 0 when all went well.
        if sent < 0 || got < 20 || answer[16..20] != [0; 4] {
            return Err(io::Error::other(format!("the kernel refuses: {}", io::Error::last_os_error())));
        }
    }
    Ok(())
}
