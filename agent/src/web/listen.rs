//! Where to listen. In: what the user wrote after `--listen`. Out: a bound socket, or a sentence that says
//! what is wrong and what to do.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::str::FromStr;

/// Where the agent listens unless told otherwise: the port that users of Go's pprof try first, for this
/// machine only.
pub const LISTEN_DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 6060);

/// An address to listen on, as users write it: `127.0.0.1:6060`, `[::1]:6060`, `localhost:6060`, `6060`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenAddr(pub SocketAddr);

/// Why the agent cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The text is no address.
    #[error("{0:?} is no address to listen on; write 127.0.0.1:6060, [::1]:6060, localhost:6060 or 6060")]
    NoAddress(String),
    /// Others than this machine could ask, and nobody said that they may.
    #[error(
        "refusing to listen on {0}: slowpod has no login, so everyone who reaches that address could see this \
         node's commands. Listen on 127.0.0.1 and use `kubectl port-forward` or `ssh -L`; or, where the \
         network itself keeps strangers out, add --insecure-listen"
    )]
    NotLoopback(SocketAddr),
    /// Somebody else has the port.
    #[error(
        "port {port} of {ip} is taken: `ss -ltnp 'sport = :{port}'` names its owner. Choose another with \
         --listen {ip_text}:PORT (0 takes any free one)",
        port = .0.port(), ip = .0.ip(), ip_text = host(.0)
    )]
    Taken(SocketAddr),
    /// The port is below 1024 and the agent is not allowed to have it.
    #[error("no right to listen on {0}: ports below 1024 need CAP_NET_BIND_SERVICE")]
    Denied(SocketAddr),
    /// The machine has no such address.
    #[error("cannot listen on {0}: this machine has no such address (`ip address` lists what it has)")]
    NotHere(SocketAddr),
    /// Something else.
    #[error("cannot listen on {0}: {1}")]
    Other(SocketAddr, io::Error),
}

/// An IP address as it stands before a port.
fn host(address: &SocketAddr) -> String {
    match address.ip() {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

impl Default for ListenAddr {
    fn default() -> Self {
        ListenAddr(LISTEN_DEFAULT)
    }
}

impl FromStr for ListenAddr {
    type Err = ListenError;

    fn from_str(text: &str) -> Result<Self, ListenError> {
        let port = text.strip_prefix("localhost:").unwrap_or(text);
        if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) {
            let port = port.parse().map_err(|_| ListenError::NoAddress(text.into()))?;
            return Ok(ListenAddr(SocketAddr::new(LISTEN_DEFAULT.ip(), port)));
        }
        text.parse().map(ListenAddr).map_err(|_| ListenError::NoAddress(text.into()))
    }
}

impl std::fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Whether an address may be listened on. `insecure` is the user's word that strangers are kept out elsewhere.
///
/// # Errors
/// [`ListenError::NotLoopback`].
pub fn check(address: ListenAddr, insecure: bool) -> Result<(), ListenError> {
    if insecure || address.0.ip().to_canonical().is_loopback() {
        Ok(())
    } else {
        Err(ListenError::NotLoopback(address.0))
    }
}

/// A socket that listens on a checked address. Port 0 takes any free one.
///
/// # Errors
/// [`ListenError`], in words for the user.
pub fn bind(address: ListenAddr, insecure: bool) -> Result<TcpListener, ListenError> {
    check(address, insecure)?;
    TcpListener::bind(address.0).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => ListenError::Taken(address.0),
        io::ErrorKind::PermissionDenied => ListenError::Denied(address.0),
        io::ErrorKind::AddrNotAvailable => ListenError::NotHere(address.0),
        _ => ListenError::Other(address.0, error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_as_users_write_them() {
        for (text, expected) in [
            ("127.0.0.1:6060", "127.0.0.1:6060"),
            ("[::1]:0", "[::1]:0"),
            ("localhost:7000", "127.0.0.1:7000"),
            ("7000", "127.0.0.1:7000"),
            ("0.0.0.0:6060", "0.0.0.0:6060"),
        ] {
            assert_eq!(text.parse::<ListenAddr>().unwrap().to_string(), expected);
        }
        for text in ["", ":6060", "localhost", "localhost:", "host:1", "127.0.0.1", "70000", "1.2.3.4:-1"] {
            let error = text.parse::<ListenAddr>().unwrap_err().to_string();
            assert!(error.contains("127.0.0.1:6060"), "{text}: {error}");
        }
    }

    #[test]
    fn strangers_must_be_let_in_by_word() {
        for text in ["0.0.0.0:0", "[::]:0", "10.0.0.1:0", "[::ffff:10.0.0.1]:0"] {
            let address: ListenAddr = text.parse().unwrap();
            assert!(check(address, false).unwrap_err().to_string().contains("--insecure-listen"), "{text}");
            assert!(check(address, true).is_ok());
        }
        for text in ["127.0.0.1:0", "127.8.8.8:0", "[::1]:0", "[::ffff:127.0.0.1]:0"] {
            assert!(check(text.parse().unwrap(), false).is_ok(), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_bound_says_why() {
        let first = bind("127.0.0.1:0".parse().unwrap(), false).unwrap();
        let port = first.local_addr().unwrap().port();
        let error = bind(port.to_string().parse().unwrap(), false).unwrap_err().to_string();
        assert!(error.contains(&format!("port {port} of 127.0.0.1 is taken")), "{error}");
        assert!(error.contains(&format!("ss -ltnp 'sport = :{port}'")), "{error}");
        // TEST-NET-1: no machine has it.
        let error = bind("192.0.2.1:0".parse().unwrap(), true).unwrap_err().to_string();
        assert!(error.contains("no such address"), "{error}");
    }
}
