//! Where to listen. In: what the user wrote after `--listen`. Out: a socket, or a sentence that says what is
//! wrong and what to do.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

/// Where the agent listens unless told otherwise: the port that users of Go's pprof try first, for this
/// machine only.
pub const LISTEN_DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 6060);

/// Where to listen, and for whom.
#[derive(Clone, Debug)]
pub struct Listen {
    /// As users write it: `127.0.0.1:6060`, `[::1]:6060`, `localhost:6060`, `6060`. Port 0 takes any free one.
    pub address: String,
    /// Whether an address that others can reach is meant.
    pub insecure: bool,
    /// Names the server answers to (a request's `Host`) beside those of loopback and its own address.
    pub allow_hosts: Vec<String>,
}

/// A socket that listens.
#[derive(Debug)]
pub struct Bound {
    pub(super) listener: TcpListener,
    pub(super) allow_hosts: Vec<String>,
}

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

impl Default for Listen {
    fn default() -> Self {
        Listen { address: LISTEN_DEFAULT.to_string(), insecure: false, allow_hosts: Vec::new() }
    }
}

/// Takes the address to listen on.
///
/// # Errors
/// [`ListenError`], in words for the user.
pub fn bind(listen: &Listen) -> Result<Bound, ListenError> {
    let address = parse(&listen.address)?;
    if !listen.insecure && !address.ip().to_canonical().is_loopback() {
        return Err(ListenError::NotLoopback(address));
    }
    let listener = TcpListener::bind(address).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => ListenError::Taken(address),
        io::ErrorKind::PermissionDenied => ListenError::Denied(address),
        io::ErrorKind::AddrNotAvailable => ListenError::NotHere(address),
        _ => ListenError::Other(address, error),
    })?;
    Ok(Bound { listener, allow_hosts: listen.allow_hosts.clone() })
}

fn parse(text: &str) -> Result<SocketAddr, ListenError> {
    let port = text.strip_prefix("localhost:").unwrap_or(text);
    let parsed = if port.bytes().all(|byte| byte.is_ascii_digit()) {
        port.parse().ok().map(|port| SocketAddr::new(LISTEN_DEFAULT.ip(), port))
    } else {
        text.parse().ok()
    };
    parsed.ok_or_else(|| ListenError::NoAddress(text.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(address: &str, insecure: bool) -> String {
        bind(&Listen { address: address.into(), insecure, ..Listen::default() }).unwrap_err().to_string()
    }

    #[test]
    fn addresses_as_users_write_them() {
        for (text, expected) in [
            ("127.0.0.1:6060", "127.0.0.1:6060"),
            ("[::1]:0", "[::1]:0"),
            ("localhost:7000", "127.0.0.1:7000"),
            ("7000", "127.0.0.1:7000"),
            ("0.0.0.0:6060", "0.0.0.0:6060"),
        ] {
            assert_eq!(parse(text).unwrap().to_string(), expected);
        }
        for text in ["", ":6060", "localhost", "localhost:", "host:1", "127.0.0.1", "70000", "1.2.3.4:-1"] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains("127.0.0.1:6060"), "{text}: {error}");
        }
    }

    #[test]
    fn strangers_must_be_let_in_by_word() {
        for text in ["0.0.0.0:0", "[::]:0", "10.0.0.1:0", "[::ffff:10.0.0.1]:0"] {
            assert!(refusal(text, false).contains("--insecure-listen"), "{text}");
        }
        for (text, insecure) in [("127.0.0.1:0", false), ("127.8.8.8:0", false), ("0.0.0.0:0", true)] {
            assert!(bind(&Listen { address: text.into(), insecure, ..Listen::default() }).is_ok(), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_bound_says_why() {
        let first = bind(&Listen { address: "0".into(), ..Listen::default() }).unwrap();
        let port = first.listener.local_addr().unwrap().port();
        let error = refusal(&port.to_string(), false);
        assert!(error.contains(&format!("port {port} of 127.0.0.1 is taken")), "{error}");
        assert!(error.contains(&format!("ss -ltnp 'sport = :{port}'")), "{error}");
        // TEST-NET-1: no machine has it.
        assert!(refusal("192.0.2.1:0", true).contains("no such address"));
    }
}
