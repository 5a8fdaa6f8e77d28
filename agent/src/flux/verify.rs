//! Whether a pod's network works, seen from inside: a control address answers a ping, or accepts a TCP connection.

use super::netns;
use super::outcome::{CallFailure, FailureKind};
use super::stop::Stop;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::FromRawFd;
use std::path::Path;
use std::str::FromStr;
use std::time::{Duration, Instant};

/// How long one ping waits, and a refused connection rests, before the next try: it bounds how late "ready" is seen.
const TRY: Duration = Duration::from_millis(20);
/// Longest single TCP connect: a first SYN that is lost is sent again after one second.
const CONNECT: Duration = Duration::from_secs(1);
/// Longest answer to a ping that is looked at.
const ANSWER_BYTES: usize = 256;

/// A control address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// Answers a ping.
    Ping(IpAddr),
    /// Accepts a connection.
    Tcp(SocketAddr),
}

impl FromStr for Control {
    type Err = String;

    fn from_str(text: &str) -> Result<Control, String> {
        let tcp = text.parse().map(Control::Tcp);
        tcp.or_else(|_| text.parse().map(Control::Ping))
            .map_err(|_| format!("{text:?} is neither an address to ping nor ADDRESS:PORT to connect to"))
    }
}

impl fmt::Display for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Control::Ping(address) => address.fmt(f),
            Control::Tcp(address) => address.fmt(f),
        }
    }
}

/// Tries until the address has answered from inside the namespace.
///
/// # Errors
/// When it has not after `patience`, or the run is to end.
pub fn wait(netns: &Path, control: Control, patience: Duration, stop: &Stop) -> Result<(), CallFailure> {
    let deadline = Instant::now() + patience;
    let answered = netns::inside(netns, || {
        let mut last = None;
        for number in 0_u16.. {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || stop.is_winding_down() {
                break;
            }
            let tried = match control {
                Control::Ping(address) => ping(address, number, left.min(TRY)),
                Control::Tcp(address) => TcpStream::connect_timeout(&address, left.min(CONNECT)).map(drop),
            };
            match tried {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(error),
                Err(error) => last = Some(error),
            }
            // A ping that got no answer has waited already; a refusal comes at once.
            if !matches!(last.as_ref().map(io::Error::kind), Some(io::ErrorKind::WouldBlock)) {
                stop.sleep(left.min(TRY));
            }
        }
        Err(last.unwrap_or_else(|| io::ErrorKind::TimedOut.into()))
    });
    answered.map_err(|error| {
        let why = match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "no answer".to_owned(),
            _ => error.to_string(),
        };
        CallFailure::new(FailureKind::NotReachable, None, format!("{control}: {why}"))
    })
}

/// One echo request and its answer.
fn ping(address: IpAddr, number: u16, patience: Duration) -> io::Result<()> {
    let (family, protocol, request, reply) = match address {
        IpAddr::V4(_) => (libc::AF_INET, libc::IPPROTO_ICMP, 8, 0),
        IpAddr::V6(_) => (libc::AF_INET6, libc::IPPROTO_ICMPV6, 128, 129),
    };
    // A raw socket: the unprivileged kind is closed to everybody in a new namespace (ping_group_range).
    // SAFETY: plain numbers.
    let fd = unsafe { libc::socket(family, libc::SOCK_RAW | libc::SOCK_CLOEXEC, protocol) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor of ours. The standard library's socket type brings connect, send and timeouts, which
    // are the same for every kind of socket.
    let socket = unsafe { UdpSocket::from_raw_fd(fd) };
    socket.connect((address, 0))?;
    // The identifier tells our answers from those to others' pings; it need not be ours alone, as the namespace is.
    let packet = echo(request, std::process::id() as u16, number);
    socket.send(&packet)?;
    let deadline = Instant::now() + patience;
    let mut answer = [0; ANSWER_BYTES];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        socket.set_read_timeout(Some(left))?;
        let length = socket.recv(&mut answer)?;
        // Over IPv4 a raw socket gives the IP header too.
        let header = if address.is_ipv4() { usize::from(answer[0] & 0x0f) * 4 } else { 0 };
        let icmp = answer[..length].get(header..).unwrap_or_default();
        if icmp.first() == Some(&reply) && icmp.get(4..8) == Some(&packet[4..8]) {
            return Ok(());
        }
    }
}

/// An echo request (RFC 792, RFC 4443). Over IPv6 the kernel fills in the checksum anew.
fn echo(kind: u8, identifier: u16, number: u16) -> [u8; 16] {
    let mut packet = [0; 16];
    packet[0] = kind;
    packet[4..6].copy_from_slice(&identifier.to_be_bytes());
    packet[6..8].copy_from_slice(&number.to_be_bytes());
    packet[8..].copy_from_slice(b"slowpod\n");
    let sum: u32 = packet.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    packet[2..4].copy_from_slice(&(!(folded as u16)).to_be_bytes());
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_addresses_read_back() {
        for text in ["10.0.0.1", "fd00::1", "10.0.0.1:80", "[fd00::1]:80"] {
            assert_eq!(text.parse::<Control>().unwrap().to_string(), text);
        }
        assert!("gateway".parse::<Control>().is_err() && "10.0.0.1:x".parse::<Control>().is_err());
    }

    #[test]
    fn an_echo_request_sums_to_all_ones() {
        let packet = echo(8, 0xfedc, 0xba98);
        let sum: u32 = packet.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
        assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
    }
}
