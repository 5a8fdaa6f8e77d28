//! What every request passes before a path is looked at, and what every response carries.
//!
//! The check of `Host` is what keeps a web page in somebody's browser from reading a server on that person's
//! loopback (DNS rebinding): the page's own name, made to point to 127.0.0.1, arrives in `Host`.

use super::refusal::Refusal;
use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Longest query string: all parameters at their longest, percent-encoded.
const QUERY_BYTES_MAX: usize = 8 << 10;

/// What marks an answer as slowpod's own; `client.rs` looks for it.
pub(crate) const SERVER_NAME: &str = "slowpod/";
/// The same with the version, as it is sent.
const SERVER: &str = concat!("slowpod/", env!("CARGO_PKG_VERSION"));
/// Scripts, styles and data from the page's own origin only; no frames around it, no forms out of it.
const CONTENT_SECURITY_POLICY: &str =
    "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The local end of the connection a request came by.
#[derive(Clone, Copy, Debug)]
pub(super) struct LocalEnd(pub(super) SocketAddr);

/// Names this server answers to beside those of loopback and its own address.
pub(super) type AllowedHosts = Arc<[String]>;

/// Refuses what must not get in, and puts the common headers on what goes out.
pub(super) async fn guard(State(allowed): State<AllowedHosts>, request: Request, next: Next) -> Response {
    let mut response = match admit(&request, &allowed) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    };
    let html = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"text/html"));
    let headers = response.headers_mut();
    let mut put = |name: HeaderName, value| headers.insert(name, HeaderValue::from_static(value));
    put(header::SERVER, SERVER);
    put(header::CACHE_CONTROL, "no-store");
    put(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    put(HeaderName::from_static("cross-origin-resource-policy"), "same-origin");
    put(header::REFERRER_POLICY, "no-referrer");
    if html {
        put(header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY);
    }
    response
}

fn admit(request: &Request, allowed: &AllowedHosts) -> Result<(), Refusal> {
    let local = request.extensions().get::<LocalEnd>().map(|end| end.0.ip());
    for host in hosts(request)? {
        if !host.as_deref().is_some_and(|host| is_ours(host, local, allowed)) {
            let host: String = host.unwrap_or_default().chars().take(64).collect();
            return Err(Refusal::new(
                StatusCode::FORBIDDEN,
                format!("{host:?} is not a name of this server"),
            )
            .hint("ask by localhost, 127.0.0.1 or [::1], or start the agent with --allow-host NAME"));
        }
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "everything here is only read: use GET"));
    }
    if request.uri().query().is_some_and(|query| query.len() > QUERY_BYTES_MAX) {
        let error = format!("the query is longer than {QUERY_BYTES_MAX} bytes");
        return Err(Refusal::new(StatusCode::URI_TOO_LONG, error));
    }
    Ok(())
}

/// The hosts a request names: in `Host`, in an absolute target, in `Origin`. `None` stands for one that is
/// missing or is no host.
fn hosts(request: &Request) -> Result<Vec<Option<String>>, Refusal> {
    let mut named = request.headers().get_all(header::HOST).iter();
    let mut hosts = vec![named.next().and_then(|value| host_of(value.to_str().ok()?))];
    if named.next().is_some() {
        return Err(Refusal::new(StatusCode::BAD_REQUEST, "more than one Host header"));
    }
    if let Some(authority) = request.uri().authority() {
        hosts.push(host_of(authority.as_str()));
    }
    if let Some(origin) = request.headers().get(header::ORIGIN) {
        let authority = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
        hosts.push(authority.and_then(|(_, authority)| host_of(authority)));
    }
    Ok(hosts)
}

/// `host[:port]` without its port.
fn host_of(text: &str) -> Option<String> {
    let authority: Authority = text.parse().ok()?;
    (!text.contains('@')).then(|| authority.host().to_ascii_lowercase())
}

/// Whether a host name means this server. The port is not looked at: `kubectl port-forward` changes it.
fn is_ours(host: &str, local: Option<IpAddr>, allowed: &AllowedHosts) -> bool {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let address = bare.parse::<IpAddr>().ok().map(|ip| ip.to_canonical());
    host == "localhost"
        || address.is_some_and(|ip| ip.is_loopback() || Some(ip) == local.map(|ip| ip.to_canonical()))
        || allowed.iter().any(|name| name.eq_ignore_ascii_case(host))
}

/// The host a request came for, with its port: for the examples on the index page.
pub(super) fn shown_host(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::HOST)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours(host: &str, local: Option<&str>) -> bool {
        let allowed: AllowedHosts = ["node-7.example".to_owned()].into();
        let local = local.map(|ip| ip.parse().unwrap());
        host_of(host).is_some_and(|host| is_ours(&host, local, &allowed))
    }

    #[test]
    fn names_of_this_machine_are_ours_with_any_port() {
        for host in
            ["localhost", "LocalHost:6060", "127.0.0.1:1", "127.1.2.3", "[::1]:6060", "Node-7.Example:80"]
        {
            assert!(ours(host, None), "{host}");
        }
        assert!(ours("10.0.0.7:6060", Some("10.0.0.7")));
        assert!(ours("10.0.0.7", Some("::ffff:10.0.0.7")));
        assert!(ours("[fd00::7]:6060", Some("fd00::7")));
    }

    #[test]
    fn other_names_are_not() {
        for host in [
            "",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "10.0.0.8",
            "u@localhost",
            "localhost:6060@evil.example",
            "[::2]",
            "127.0.0.1 evil",
            "0.0.0.0",
        ] {
            assert!(!ours(host, Some("10.0.0.7")), "{host}");
        }
    }
}
