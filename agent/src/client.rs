//! Asks a running agent, for the verbs that do. In: where it listens and a path. Out: the answer's bytes, or
//! a sentence that says what to do.

use crate::web;
use serde::Deserialize;
use std::time::Duration;

/// Longest wait for a connection: the agent is on this machine or behind a port-forward.
const CONNECT_MAX: Duration = Duration::from_secs(3);
/// Longest wait for a whole answer: a full queue of the longest windows.
pub const ANSWER_MAX: Duration = Duration::from_secs(60);
/// Longest answer taken: the largest limit of rows, several times over.
const ANSWER_BYTES_MAX: u64 = 256 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address makes no URL.
    #[error("{0:?} is no address of an agent; write 127.0.0.1:6060 or http://127.0.0.1:6060")]
    NoAddress(String),
    /// Nobody listens there.
    #[error(
        "no agent answers at {address} ({reason}); start one with `slowpod run`, or say where with --listen"
    )]
    NotRunning {
        /// Where it was looked for.
        address: String,
        /// What the connection came to.
        reason: String,
    },
    /// Something else listens there.
    #[error("what listens at {0} is not slowpod; say where the agent is with --listen")]
    NotSlowpod(String),
    /// The agent refuses the question.
    #[error("the agent answers {status}: {error}{}", .hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default())]
    Refused {
        /// HTTP status.
        status: u16,
        /// What the agent says is wrong.
        error: String,
        /// What it says would be right.
        hint: Option<String>,
    },
    /// The answer broke off or took too long.
    #[error("the answer from {address} broke off: {reason}")]
    BrokeOff {
        /// Who was asked.
        address: String,
        /// How it broke off.
        reason: String,
    },
}

/// What a refusal's body says.
#[derive(Deserialize)]
struct Refusal {
    error: String,
    hint: Option<String>,
}

/// The answer of the agent at `address` (`HOST:PORT`, a bare port of this machine, or a URL) to `path`, which
/// begins with `/` and may carry a query.
///
/// # Errors
/// [`ClientError`], in words for the user.
pub fn get(address: &str, path: &str) -> Result<Vec<u8>, ClientError> {
    get_within(address, path, ANSWER_MAX)
}

/// The same for an answer that may take so long.
///
/// # Errors
/// As [`get`].
pub fn get_within(address: &str, path: &str, longest: Duration) -> Result<Vec<u8>, ClientError> {
    let base = base_url(address)?;
    let agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(None)
        .timeout_connect(Some(CONNECT_MAX))
        .timeout_global(Some(longest))
        .build()
        .new_agent();
    let mut response = agent.get(format!("{base}{path}")).call().map_err(|error| match error {
        ureq::Error::Protocol(_) | ureq::Error::Http(_) => ClientError::NotSlowpod(base.clone()),
        other => ClientError::NotRunning { address: base.clone(), reason: other.to_string() },
    })?;
    let server = response.headers().get("server").and_then(|server| server.to_str().ok());
    if !server.is_some_and(|server| server.starts_with(web::SERVER_NAME)) {
        return Err(ClientError::NotSlowpod(base));
    }
    let status = response.status();
    let body = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec();
    let body = body.map_err(|error| ClientError::BrokeOff { address: base, reason: error.to_string() })?;
    if status.is_success() {
        return Ok(body);
    }
    let as_text = || {
        // Profiles are refused as Go refuses them, in plain text: what is wrong, and then what would be right.
        let text = String::from_utf8_lossy(&body);
        let mut lines = text.lines().map(str::to_owned);
        Refusal { error: lines.next().unwrap_or_else(|| status.to_string()), hint: lines.next() }
    };
    let refusal = serde_json::from_slice(&body).unwrap_or_else(|_| as_text());
    Err(ClientError::Refused { status: status.as_u16(), error: refusal.error, hint: refusal.hint })
}

fn base_url(address: &str) -> Result<String, ClientError> {
    let bare = address.strip_prefix("http://").unwrap_or(address).trim_end_matches('/');
    let bare = if bare.bytes().all(|byte| byte.is_ascii_digit()) {
        format!("127.0.0.1:{bare}")
    } else {
        bare.into()
    };
    let authority: Option<ureq::http::uri::Authority> = bare.parse().ok();
    let named = authority.filter(|authority| !authority.host().is_empty() && authority.port_u16().is_some());
    match named {
        Some(authority) => Ok(format!("http://{authority}")),
        None => Err(ClientError::NoAddress(address.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;

    /// Answers one request with these bytes.
    fn once(answer: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 1_024]);
            let _ = stream.write_all(answer.as_bytes());
        });
        address
    }

    #[test]
    fn addresses_as_users_write_them() {
        for (address, expected) in [
            ("127.0.0.1:6060", "http://127.0.0.1:6060"),
            ("6060", "http://127.0.0.1:6060"),
            ("http://node-7:6060/", "http://node-7:6060"),
            ("[::1]:6060", "http://[::1]:6060"),
        ] {
            assert_eq!(base_url(address).unwrap(), expected);
        }
        for address in ["", "node-7", "https://node-7:1", "127.0.0.1:6060/x", "a b:1", "70000"] {
            assert!(matches!(base_url(address), Err(ClientError::NoAddress(_))), "{address}");
        }
    }

    #[test]
    fn nobody_there_says_how_to_start_one() {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let error = get(&port.to_string(), "/version").unwrap_err();
        assert!(matches!(error, ClientError::NotRunning { .. }), "{error}");
        assert!(error.to_string().contains("slowpod run"), "{error}");
    }

    #[test]
    fn somebody_else_is_not_taken_for_an_agent() {
        for answer in ["HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", "SSH-2.0-OpenSSH_9\r\n"] {
            let error = get(&once(answer), "/version").unwrap_err();
            assert!(matches!(error, ClientError::NotSlowpod(_)), "{answer}: {error}");
        }
    }

    #[test]
    fn refusals_are_passed_on_in_the_agents_words() {
        let answer = "HTTP/1.1 400 Bad Request\r\nserver: slowpod/0\r\ncontent-length: 38\r\n\r\n\
                      {\"error\":\"too long\",\"hint\":\"ask less\"}";
        let error = get(&once(answer), "/x").unwrap_err().to_string();
        assert_eq!(error, "the agent answers 400: too long (ask less)");
    }

    #[test]
    fn answers_that_break_off_are_no_answers() {
        let error = get(&once("HTTP/1.1 200 OK\r\nserver: slowpod/0\r\ncontent-length: 9\r\n\r\n{}"), "/x");
        assert!(matches!(error, Err(ClientError::BrokeOff { .. })), "{error:?}");
    }
}
