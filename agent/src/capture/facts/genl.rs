//! Names of generic netlink families. In: a dump from the kernel. Out: `GenlFamily` facts.
//!
//! A family's message type is handed out when its module loads, so only this kernel can say what 27 means.
//! Format: linux/netlink.h, linux/genetlink.h.

use crate::decode::fact::Fact;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// The answer comes at once or not at all; the start-up must not hang on it.
const TIMEOUT_MS: libc::suseconds_t = 500;
/// The kernel fills at most this much per answer of a dump (`NLMSG_GOODSIZE` is a page or 8 KiB; doubled).
const ANSWER_BYTES: usize = 32 << 10;
/// A dump of a kernel with every family there is takes 3 answers.
const ANSWERS_MAX: usize = 64;
/// `struct nlmsghdr` and `struct genlmsghdr`.
const NLMSG_HEADER_BYTES: usize = 16;
const GENL_HEADER_BYTES: usize = 4;
/// Low bits of an attribute's type; the rest are flags (`NLA_TYPE_MASK`).
const ATTR_TYPE_MASK: u16 = 0x3fff;

/// Asks the kernel for all families it has now. One whose module is loaded later is missing.
pub fn families() -> io::Result<Vec<Fact>> {
    let socket = socket()?;
    send(&socket, &request())?;
    let mut families = Vec::new();
    let mut buffer = vec![0; ANSWER_BYTES];
    for _ in 0..ANSWERS_MAX {
        let len = receive(&socket, &mut buffer)?;
        if read_answer(&buffer[..len], &mut families)? == Answer::Last {
            return Ok(families);
        }
    }
    Err(io::Error::other("a generic netlink dump without an end"))
}

/// Whether more of the dump follows.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    More,
    Last,
}

/// `CTRL_CMD_GETFAMILY`, as a dump.
fn request() -> Vec<u8> {
    let len = (NLMSG_HEADER_BYTES + GENL_HEADER_BYTES) as u32;
    let mut message = Vec::with_capacity(len as usize);
    message.extend(len.to_ne_bytes());
    message.extend((libc::GENL_ID_CTRL as u16).to_ne_bytes());
    message.extend(((libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16).to_ne_bytes());
    message.extend([0; 8]); // sequence and port: one request, and the kernel fills in the port
    message.extend([libc::CTRL_CMD_GETFAMILY as u8, 1, 0, 0]);
    message
}

/// Reads one datagram, which holds whole messages, each padded to 4 bytes.
fn read_answer(mut rest: &[u8], families: &mut Vec<Fact>) -> io::Result<Answer> {
    let garbled = || io::Error::new(io::ErrorKind::InvalidData, "a garbled generic netlink answer");
    while !rest.is_empty() {
        let len = u32_at(rest, 0).ok_or_else(garbled)? as usize;
        let kind = u16_at(rest, 4).ok_or_else(garbled)?;
        let body = rest.get(NLMSG_HEADER_BYTES..len).ok_or_else(garbled)?;
        match i32::from(kind) {
            libc::NLMSG_DONE => return Ok(Answer::Last),
            libc::NLMSG_ERROR => {
                let errno = u32_at(body, 0).ok_or_else(garbled)? as i32;
                return Err(io::Error::from_raw_os_error(errno.wrapping_neg()));
            }
            libc::GENL_ID_CTRL => {
                families.extend(body.get(GENL_HEADER_BYTES..).and_then(read_family));
            }
            _ => {}
        }
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(Answer::More)
}

/// A family's id and name out of its attributes; `None` if either is missing.
fn read_family(mut rest: &[u8]) -> Option<Fact> {
    let (mut id, mut name) = (None, None);
    while let (Some(len), Some(kind)) = (u16_at(rest, 0), u16_at(rest, 2)) {
        let value = rest.get(4..usize::from(len))?;
        match i32::from(kind & ATTR_TYPE_MASK) {
            libc::CTRL_ATTR_FAMILY_ID => id = u16_at(value, 0),
            libc::CTRL_ATTR_FAMILY_NAME => {
                let text = value.split(|byte| *byte == 0).next().unwrap_or_default();
                name = Some(String::from_utf8_lossy(text).into_owned());
            }
            _ => {}
        }
        rest = rest.get(usize::from(len).next_multiple_of(4)..).unwrap_or_default();
    }
    Some(Fact::GenlFamily { id: id?, name: name? })
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn socket() -> io::Result<OwnedFd> {
    // SAFETY: takes no pointers.
    let fd =
        unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_GENERIC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let timeout = libc::timeval { tv_sec: 0, tv_usec: TIMEOUT_MS * 1000 };
    // SAFETY: `timeout` is a timeval that lives through the call, and its true size is given.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVTIMEO,
            (&raw const timeout).cast(),
            size_of::<libc::timeval>() as libc::socklen_t,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(socket) }
}

/// To the kernel, which is where an unconnected netlink socket sends.
fn send(socket: &OwnedFd, message: &[u8]) -> io::Result<()> {
    // SAFETY: the pointer and length are those of a live slice.
    let sent = unsafe { libc::send(socket.as_raw_fd(), message.as_ptr().cast(), message.len(), 0) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the pointer and length are those of a live mutable slice.
    let len = unsafe { libc::recv(socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
    usize::try_from(len).map_err(|_| io::Error::last_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attr(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = ((value.len() + 4) as u16).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = ((body.len() + NLMSG_HEADER_BYTES) as u32).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend(body);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn family(id: u16, name: &str) -> Vec<u8> {
        let name = [name.as_bytes(), b"\0"].concat();
        // As the kernel sends it: name, id, version, and a nested list with its flag bit.
        let attrs =
            [attr(2, &name), attr(1, &id.to_ne_bytes()), attr(3, &[1, 0, 0, 0]), attr(0x8006, &[0; 20])];
        message(16, &[&[1, 2, 0, 0], attrs.concat().as_slice()].concat())
    }

    #[test]
    fn families_of_a_dump() {
        let first = [family(16, "nlctrl"), family(27, "ipvs")].concat();
        let mut found = Vec::new();
        assert_eq!(read_answer(&first, &mut found).expect("sound"), Answer::More);
        assert_eq!(read_answer(&message(3, &[0; 4]), &mut found).expect("sound"), Answer::Last);
        let expected = [(16, "nlctrl"), (27, "ipvs")];
        assert_eq!(found, expected.map(|(id, name)| Fact::GenlFamily { id, name: name.to_owned() }));
    }

    #[test]
    fn refusals_and_rubbish_are_errors_not_panics() {
        let refused = message(2, &(-libc::EPERM).to_ne_bytes());
        let error = read_answer(&refused, &mut Vec::new()).expect_err("refused");
        assert_eq!(error.raw_os_error(), Some(libc::EPERM));
        assert!(read_answer(&[1, 2, 3], &mut Vec::new()).is_err());
        assert!(read_answer(&[0; 64], &mut Vec::new()).is_err(), "a message of no length never ends");

        let good = [family(16, "nlctrl"), message(3, &[0; 4])].concat();
        for len in 0..good.len() {
            let _ = read_answer(&good[..len], &mut Vec::new());
        }
        for at in 0..good.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut bad = good.clone();
                bad[at] = value;
                let _ = read_answer(&bad, &mut Vec::new());
            }
        }
    }

    #[test]
    fn a_family_without_an_id_is_none() {
        assert_eq!(read_family(&attr(2, b"x\0")), None);
        assert_eq!(read_family(&[]), None);
    }

    #[test]
    fn this_kernel_has_the_controller() {
        let controller = Fact::GenlFamily { id: 16, name: "nlctrl".to_owned() };
        assert!(families().expect("a dump").contains(&controller));
    }
}
