//! A bare netlink socket: enough of linux/netlink.h to ask and to read answers.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::sys::check;

/// The calls that can send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SendCall {
    Sendto,
    Sendmsg,
    Sendmmsg,
    Write,
}

impl std::str::FromStr for SendCall {
    type Err = io::Error;

    fn from_str(text: &str) -> io::Result<SendCall> {
        match text {
            "sendto" => Ok(SendCall::Sendto),
            "sendmsg" => Ok(SendCall::Sendmsg),
            "sendmmsg" => Ok(SendCall::Sendmmsg),
            "write" => Ok(SendCall::Write),
            _ => Err(io::Error::other("not one of sendto, sendmsg, sendmmsg, write")),
        }
    }
}

/// An open netlink socket.
pub(crate) struct NetlinkSocket {
    fd: OwnedFd,
}

impl NetlinkSocket {
    /// Opens and binds a socket of a protocol (`NETLINK_ROUTE`, `NETLINK_NETFILTER`).
    pub(crate) fn open(protocol: i32) -> io::Result<NetlinkSocket> {
        // SAFETY: plain numbers; the descriptor is checked before it is owned.
        let fd = unsafe {
            let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
            OwnedFd::from_raw_fd(check(libc::socket(libc::AF_NETLINK, kind, protocol))?)
        };
        let own = address(0);
        // SAFETY: `own` is a whole sockaddr_nl.
        check(unsafe { libc::bind(fd.as_raw_fd(), (&raw const own).cast(), size_of_val(&own) as u32) })?;
        Ok(NetlinkSocket { fd })
    }

    /// The address (port id) that the kernel gave the socket.
    pub(crate) fn port(&self) -> io::Result<u32> {
        let mut own = address(0);
        let mut length = size_of_val(&own) as libc::socklen_t;
        // SAFETY: room for a whole sockaddr_nl, and its length.
        check(unsafe { libc::getsockname(self.fd.as_raw_fd(), (&raw mut own).cast(), &mut length) })?;
        Ok(own.nl_pid)
    }

    /// Sends bytes to a port (0 = the kernel) with the given call.
    pub(crate) fn send(&self, bytes: &[u8], port: u32, call: SendCall) -> io::Result<()> {
        let fd = self.fd.as_raw_fd();
        let mut to = address(port);
        let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        // SAFETY: all zeroes is a valid msghdr (and mmsghdr).
        let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
        message.msg_hdr.msg_name = (&raw mut to).cast();
        message.msg_hdr.msg_namelen = size_of_val(&to) as u32;
        message.msg_hdr.msg_iov = &mut part;
        message.msg_hdr.msg_iovlen = 1;
        let (start, len) = (bytes.as_ptr().cast(), bytes.len());
        // SAFETY: `bytes`, `to`, `part` and `message` are whole and outlive the call, which only reads them
        // (sendmmsg also writes `message.msg_len`).
        let sent = unsafe {
            match call {
                SendCall::Sendto => {
                    libc::sendto(fd, start, len, 0, (&raw const to).cast(), size_of_val(&to) as u32)
                }
                SendCall::Sendmsg => libc::sendmsg(fd, &message.msg_hdr, 0),
                SendCall::Sendmmsg => match libc::sendmmsg(fd, &mut message, 1, 0) {
                    1 => message.msg_len as isize,
                    _ => -1,
                },
                SendCall::Write => libc::write(fd, start, len),
            }
        };
        match sent {
            -1 => Err(io::Error::last_os_error()),
            sent if sent as usize == len => Ok(()),
            sent => Err(io::Error::other(format!("{sent} of {len} bytes sent"))),
        }
    }

    /// Receives one datagram.
    pub(crate) fn receive<'a>(&self, buffer: &'a mut [u8]) -> io::Result<&'a [u8]> {
        // SAFETY: `buffer` is writable and as long as stated.
        let got = unsafe { libc::recv(self.fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
        if got < 0 { Err(io::Error::last_os_error()) } else { Ok(&buffer[..got as usize]) }
    }
}

fn address(port: u32) -> libc::sockaddr_nl {
    // SAFETY: all zeroes is a valid sockaddr_nl.
    let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
    address.nl_family = libc::AF_NETLINK as u16;
    address.nl_pid = port;
    address
}

/// Bytes of `struct nlmsghdr`.
const HEADER_BYTES: usize = 16;

/// One message: header, then body, padded to four bytes as netlink wants it.
pub(crate) fn message(kind: u16, flags: i32, sequence: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(((HEADER_BYTES + body.len()) as u32).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend((flags as u16).to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend(0u32.to_ne_bytes());
    bytes.extend(body);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// Bytes of `struct nlattr`.
const ATTRIBUTE_BYTES: usize = 4;

/// One attribute, padded likewise.
pub(crate) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(((ATTRIBUTE_BYTES + value.len()) as u16).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// One answer of the kernel.
pub(crate) struct Answer {
    pub(crate) kind: u16,
    /// For NLMSG_ERROR the errno, 0 being the acknowledgement.
    pub(crate) errno: i32,
}

/// The messages of one received datagram.
pub(crate) fn answers(mut datagram: &[u8]) -> io::Result<Vec<Answer>> {
    let mut all = Vec::new();
    let number = |bytes: &[u8], at: usize| {
        bytes.get(at..at + 4).map(|four| u32::from_ne_bytes([four[0], four[1], four[2], four[3]]))
    };
    while !datagram.is_empty() {
        let (Some(length), Some(kind)) = (number(datagram, 0), number(datagram, 4)) else {
            return Err(io::Error::other("a netlink answer without a whole header"));
        };
        let length = length as usize;
        if length < HEADER_BYTES || length > datagram.len() {
            return Err(io::Error::other(format!("a netlink answer of length {length}")));
        }
        let kind = (kind & 0xffff) as u16;
        let code =
            if i32::from(kind) == libc::NLMSG_ERROR { number(datagram, HEADER_BYTES) } else { Some(0) };
        let code = code.ok_or_else(|| io::Error::other("an NLMSG_ERROR without its code"))?;
        all.push(Answer { kind, errno: -(code as i32) });
        datagram = &datagram[length.next_multiple_of(4).min(datagram.len())..];
    }
    Ok(all)
}
