//! The server on real sockets: slow and silent peers, too many of them, a taken port, the end.

use super::*;
use slowpod::client;
use slowpod::web::{CONNECTIONS_MAX, GRACE_MAX, HEADER_MAX, Listen, Server};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// What the agent promises of its end.
const END_MAX: Duration = Duration::from_secs(2);

fn serve(views: &'static [&'static View]) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    Server::start(listener, site(views, b"kube-router")).unwrap()
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(HEADER_MAX + Duration::from_secs(5))).unwrap();
    stream
}

/// Sends a request and reads the answer's head and body, which the server ends by closing.
fn exchange(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = connect(address);
    // A server that answers early closes early: what it did not read does not matter.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("{error}"),
        _ => String::from_utf8_lossy(&answer).into_owned(),
    }
}

/// Reads from a connection until the peer ends it; false when it is still open after `max`.
fn is_closed_within(stream: &mut TcpStream, max: Duration) -> bool {
    stream.set_read_timeout(Some(max)).unwrap();
    let mut rest = [0; 4_096];
    loop {
        match stream.read(&mut rest) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() == ErrorKind::ConnectionReset,
        }
    }
}

#[test]
fn the_client_gets_what_the_server_gives() {
    let server = serve(TEST_VIEWS);
    let address = server.local_addr().to_string();
    assert_eq!(client::get(&address, "/healthz").unwrap(), b"ok\n");
    let echo: Value =
        serde_json::from_slice(&client::get(&address, "/api/v1/echo?word=hi").unwrap()).unwrap();
    assert_eq!(echo["word"], "hi");
    let error = client::get(&address, "/api/v1/echo?limit=0").unwrap_err().to_string();
    assert!(error.starts_with("the agent answers 400: parameter \"limit\""), "{error}");
    server.shutdown();
    assert!(client::get(&address, "/healthz").unwrap_err().to_string().contains("no agent answers"));
}

#[test]
fn a_port_that_is_taken_is_said_to_be() {
    let server = serve(TEST_VIEWS);
    let address = server.local_addr().to_string();
    let error = web::bind(&Listen { address, ..Listen::default() }).unwrap_err().to_string();
    let port = server.local_addr().port();
    assert!(error.contains(&format!("port {port} of 127.0.0.1 is taken")), "{error}");
    assert!(error.contains("ss -ltnp"), "{error}");
    server.shutdown();
    let address = format!("127.0.0.1:{port}");
    web::bind(&Listen { address, ..Listen::default() }).expect("free again at once");
}

#[test]
fn silent_and_dripping_peers_are_closed() {
    let server = serve(TEST_VIEWS);
    let address = server.local_addr();
    let silent = std::thread::spawn(move || {
        let begun = Instant::now();
        (is_closed_within(&mut connect(address), HEADER_MAX + Duration::from_secs(3)), begun.elapsed())
    });
    let mut dripping = connect(address);
    let begun = Instant::now();
    let head = b"GET / HTTP/1.1\r\nhost: localhost\r\nx-long: ";
    let mut sent = 0;
    while begun.elapsed() < HEADER_MAX + Duration::from_secs(3) {
        let byte = *head.get(sent).unwrap_or(&b'x');
        if dripping.write_all(&[byte]).is_err() {
            break;
        }
        sent += 1;
        std::thread::sleep(Duration::from_millis(200));
    }
    assert!(sent > 10, "a slow but honest start is let be");
    assert!(
        is_closed_within(&mut dripping, Duration::from_millis(500)),
        "dripping for {:?}",
        begun.elapsed()
    );
    let (closed, after) = silent.join().unwrap();
    assert!(closed && after > HEADER_MAX - Duration::from_secs(1), "silent for {after:?}");
    assert_eq!(client::get(&address.to_string(), "/healthz").unwrap(), b"ok\n");
    server.shutdown();
}

#[test]
fn idle_strangers_do_not_keep_others_out() {
    let server = serve(TEST_VIEWS);
    let address = server.local_addr();
    let mut idle: Vec<TcpStream> = (0..CONNECTIONS_MAX + 50).map(|_| connect(address)).collect();
    let begun = Instant::now();
    assert_eq!(client::get(&address.to_string(), "/healthz").unwrap(), b"ok\n");
    assert!(begun.elapsed() < Duration::from_millis(500), "{:?}", begun.elapsed());
    assert!(is_closed_within(&mut idle[0], Duration::from_secs(2)), "the longest idle made room");
    let newest = idle.last_mut().unwrap();
    assert!(!is_closed_within(newest, Duration::from_millis(100)), "the newest did not have to");
    server.shutdown();
}

#[test]
fn heads_without_measure_are_refused() {
    let server = serve(TEST_VIEWS);
    let address = server.local_addr();
    let megabyte = "x".repeat(1 << 20);
    for request in [
        format!("GET /api/v1/echo?comm={megabyte} HTTP/1.1\r\nhost: localhost\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nhost: localhost\r\nx: {megabyte}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nhost: localhost\r\n{}\r\n", "x: y\r\n".repeat(100)),
    ] {
        let answer = exchange(address, request.as_bytes());
        let status = answer.split(' ').nth(1).unwrap_or_default();
        assert!(["414", "431", ""].contains(&status), "{answer}");
    }
    for rubbish in
        [&b"\x16\x03\x01\x02\x00\x01"[..], b"GET\r\n\r\n", b"\r\n\r\n\r\n\r\n\0", b"GET / HTTP/9.9\r\n\r\n"]
    {
        let mut stream = connect(address);
        stream.write_all(rubbish).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        assert!(is_closed_within(&mut stream, Duration::from_secs(2)), "{rubbish:?}");
    }
    assert_eq!(client::get(&address.to_string(), "/healthz").unwrap(), b"ok\n");
    server.shutdown();
}

static HANG_ONLY: &[&View] = &[&HANG];
static HANG: View = View {
    name: "hang",
    path: "/api/v1/hang",
    about: "Takes longer than anybody waits.",
    params: &[],
    content_type: JSON,
    render: |_, _| {
        std::thread::sleep(Duration::from_secs(5));
        b"1".to_vec()
    },
};

#[test]
fn the_end_comes_in_time_whatever_is_open() {
    let server = serve(HANG_ONLY);
    let address = server.local_addr();
    let mut kept: Vec<TcpStream> = (0..20).map(|_| connect(address)).collect();
    kept[0].write_all(b"GET / HTTP/1.1\r\nhost: loc").unwrap();
    kept[1].write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    kept[2].write_all(b"GET /api/v1/hang HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    std::thread::sleep(Duration::from_millis(200));
    let begun = Instant::now();
    server.shutdown();
    assert!(begun.elapsed() < END_MAX, "{:?}", begun.elapsed());
    for stream in &mut kept {
        assert!(is_closed_within(stream, Duration::from_millis(200)));
    }
}

static BRIEF_ONLY: &[&View] = &[&BRIEF];
static BRIEF: View = View {
    name: "brief",
    path: "/api/v1/brief",
    about: "Takes a moment.",
    params: &[],
    content_type: JSON,
    render: |_, _| {
        std::thread::sleep(GRACE_MAX / 2);
        b"done".to_vec()
    },
};

#[test]
fn answers_under_way_are_finished_before_the_end() {
    let server = serve(BRIEF_ONLY);
    let address = server.local_addr();
    let asked = std::thread::spawn(move || client::get(&address.to_string(), "/api/v1/brief"));
    std::thread::sleep(Duration::from_millis(200));
    server.shutdown();
    assert_eq!(asked.join().unwrap().unwrap(), b"done");
}

#[test]
fn an_idle_end_is_quick() {
    let server = serve(TEST_VIEWS);
    let mut idle = connect(server.local_addr());
    std::thread::sleep(Duration::from_millis(50));
    let begun = Instant::now();
    server.shutdown();
    assert!(begun.elapsed() < Duration::from_millis(300), "{:?}", begun.elapsed());
    assert!(is_closed_within(&mut idle, Duration::from_millis(200)));
}
