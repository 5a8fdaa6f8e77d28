//! HTTP against a live agent: parameters, crowds, and peers that say nothing.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use harness::{agent, agent::Agent, workload};

use super::{Started, slowpod, spawns_of, until};

/// Longest a health check may take on a busy machine.
const HEALTH_MAX: Duration = Duration::from_millis(500);

/// Status and body of an answer to a plain request, byte for byte as it is sent.
fn ask(agent: &Agent, target: &str) -> (u16, String) {
    ask_on(TcpStream::connect(agent.address()).unwrap(), target)
}

fn ask_on(mut stream: TcpStream, target: &str) -> (u16, String) {
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    write!(stream, "GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{target}: {answer:?}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.unwrap_or_else(|| panic!("{target}: {head}")), body.to_owned())
}

/// Clients from before the agent says that it listens: they connect as soon as the port takes them.
#[test]
fn a_client_that_comes_early_is_answered() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap().to_string();
    drop(free);
    let _agent = Started::new(&mut slowpod(&["run", "--listen", &address]));
    for target in ["/api/v1/storms", "/readyz", "/debug/pprof/exec"] {
        let stream = until("a port that takes connections", || TcpStream::connect(&address).ok());
        let (status, body) = ask_on(stream, target);
        assert_eq!(status, 200, "{target}: {body}");
    }
}

#[test]
fn absurd_parameters_are_named() {
    let agent = agent!();
    for view in slowpod::views::VIEWS {
        for (query, parameter) in [
            ("seconds=-1", "seconds"),
            ("seconds=1e99", "seconds"),
            ("seconds=99999999999999999999", "seconds"),
            ("seconds=nan", "seconds"),
            ("seconds=", "seconds"),
            ("ago=-5", "ago"),
            ("ago=1h1m", "ago"),
            ("limit=0", "limit"),
            ("limit=-3", "limit"),
            ("limit=999999999999999999999", "limit"),
            ("limit=1&limit=2", "limit"),
            ("pid=0", "pid"),
            ("pid=4194305", "pid"),
            ("pid=%31%30x", "pid"),
            ("pod=%00", "pod"),
            ("comm=%1b%5b2J", "comm"),
            ("cgroup=", "cgroup"),
            ("nonsense=1", "nonsense"),
            ("=1", ""),
            ("seconds", "seconds"),
        ] {
            let (status, body) = ask(&agent, &format!("{}?{query}", view.path));
            assert_eq!(status, 400, "{query}: {body}");
            let refusal: serde_json::Value = serde_json::from_str(&body).unwrap();
            assert_eq!(refusal["parameter"], parameter, "{query}: {body}");
        }
        let (status, _) = ask(&agent, &format!("{}?seconds=3600&ago=1h&limit=20000&pid=1&comm=x", view.path));
        assert_eq!(status, 200, "{}", view.path);
    }
    let (status, body) = ask(&agent, &format!("/api/v1/storms?comm={}", "x".repeat(9_000)));
    assert_eq!(status, 414, "{body}");
    for path in ["/api/v1/nothing", "/api/v1/storms/", "/%2e%2e/etc/passwd", "//"] {
        assert_eq!(ask(&agent, path).0, 404, "{path}");
    }
}

#[test]
fn fifty_clients_at_once_all_get_the_truth() {
    let agent = agent!();
    let storm = workload!("storm").option("--count", 200).option("--how", "threads").word("--brief").run();
    agent.view_at("/api/v1/storms", storm.number("/end_ns"));
    let pid = storm.number("/pid") as u32;
    std::thread::scope(|scope| {
        let clients = (0..50).map(|number| {
            let agent = &agent;
            // Half of them ask for something of their own, which no cache has.
            scope.spawn(move || ask(agent, &format!("/api/v1/storms?seconds={}", 60 + number / 2)))
        });
        let clients: Vec<_> = clients.collect();
        let begun = Instant::now();
        assert_eq!(ask(&agent, "/healthz").0, 200);
        assert!(begun.elapsed() < HEALTH_MAX, "{:?}", begun.elapsed());
        for client in clients {
            let (status, body) = client.join().unwrap();
            // A full queue is told, not waited out.
            assert!([200, 503].contains(&status), "{status} {body}");
            if status == 200 {
                let storms = harness::truth::Truth::new(serde_json::from_str(&body).unwrap());
                assert_eq!(spawns_of(&storms, pid, "true"), (200, 0));
            }
        }
    });
}

#[test]
fn silent_peers_keep_nobody_out() {
    let agent = agent!();
    // More than there are places.
    let mut silent: Vec<_> = (0..300).map(|_| TcpStream::connect(agent.address()).unwrap()).collect();
    for (number, stream) in silent.iter_mut().enumerate() {
        // Some say half a request. Those sent away already may refuse to hear it.
        if number % 3 == 0 {
            let _ = stream.write_all(b"GET /api/v1/storms HTTP/1.1\r\nHos");
        }
    }
    for _ in 0..5 {
        let begun = Instant::now();
        assert_eq!(ask(&agent, "/healthz"), (200, "ok\n".to_owned()));
        assert!(begun.elapsed() < HEALTH_MAX, "{:?}", begun.elapsed());
    }
    let storm = workload!("storm").option("--count", 50).option("--how", "threads").word("--brief").run();
    let storms = agent.view_at("/api/v1/storms", storm.number("/end_ns"));
    assert_eq!(spawns_of(&storms, storm.number("/pid") as u32, "true"), (50, 0));
}
