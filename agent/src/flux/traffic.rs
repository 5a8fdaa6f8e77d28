//! A light check of what a pod's network carries: TCP throughput and round trips from one hollow pod to another.

use super::netns;
use super::report::{Span, Traffic};
use super::sandbox::Sandbox;
use super::stop::Stop;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// Round trips measured: enough for a p99.
const ROUND_TRIPS: usize = 1_000;
/// How long bytes are sent: beyond TCP's slow start, short enough to disturb little.
const SENDING: Duration = Duration::from_secs(1);
/// Bytes per write.
const CHUNK_BYTES: usize = 64 << 10;
/// Longest wait for the other side, so that a network that loses packets ends the check, not the run.
const PATIENCE: Duration = Duration::from_secs(5);

/// Measures from `client` to `server`, which has this address.
///
/// # Errors
/// When the two cannot talk, or, as [`io::ErrorKind::Interrupted`], the run is to end.
pub(super) fn between(
    client: &Sandbox,
    server: &Sandbox,
    address: IpAddr,
    stop: &Stop,
) -> io::Result<Traffic> {
    let listener = netns::inside(&server.netns, || TcpListener::bind((address, 0)))?;
    let address = listener.local_addr()?;
    let near = netns::inside(&client.netns, || TcpStream::connect_timeout(&address, PATIENCE))?;
    let far = accept(&listener)?;
    let (round_trip, bytes_per_second) = measure(near, far, stop)?;
    Ok(Traffic { between: [client.name.clone(), server.name.clone()], bytes_per_second, round_trip })
}

/// Round trips from one end, then bytes per second.
fn measure(mut near: TcpStream, mut far: TcpStream, stop: &Stop) -> io::Result<(Span, f64)> {
    for stream in [&near, &far] {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
    }
    std::thread::scope(|scope| {
        let echo = std::thread::Builder::new().name("flux-traffic".into());
        let server_side = echo.spawn_scoped(scope, move || serve(&mut far))?;
        let mut begun = Instant::now();
        let sent = round_trips(&mut near, stop).and_then(|round_trips| {
            begun = Instant::now();
            send(&mut near, stop).map(|()| round_trips)
        });
        // Also after a failure: the other side waits for more, and this waits for it.
        let shut = near.shutdown(Shutdown::Write);
        let received = server_side.join().unwrap_or_else(|_| Err(io::Error::other("a thread panicked")));
        let round_trips = sent?;
        shut?;
        let received = received?;
        let seconds = begun.elapsed().as_secs_f64();
        let round_trip = Span::of(&round_trips).ok_or_else(|| io::Error::other("no round trip"))?;
        Ok((round_trip, received as f64 / seconds))
    })
}

/// The connection is there already: the client's connect has returned.
fn accept(listener: &TcpListener) -> io::Result<TcpStream> {
    listener.set_nonblocking(true)?;
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false)?;
                return Ok(stream);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

/// Answers each byte of the round trips, then counts what comes until the end.
fn serve(stream: &mut TcpStream) -> io::Result<u64> {
    let mut byte = [0];
    for _ in 0..ROUND_TRIPS {
        stream.read_exact(&mut byte)?;
        stream.write_all(&byte)?;
    }
    let (mut received, mut chunk) = (0, [0; CHUNK_BYTES]);
    loop {
        match stream.read(&mut chunk)? {
            0 => return Ok(received),
            read => received += read as u64,
        }
    }
}

fn send(stream: &mut TcpStream, stop: &Stop) -> io::Result<()> {
    let (begun, chunk) = (Instant::now(), [0; CHUNK_BYTES]);
    while begun.elapsed() < SENDING {
        go_on(stop)?;
        stream.write_all(&chunk)?;
    }
    Ok(())
}

fn go_on(stop: &Stop) -> io::Result<()> {
    if stop.is_winding_down() { Err(io::ErrorKind::Interrupted.into()) } else { Ok(()) }
}

fn round_trips(stream: &mut TcpStream, stop: &Stop) -> io::Result<Vec<u64>> {
    let mut times_ns = Vec::with_capacity(ROUND_TRIPS);
    let mut byte = [1];
    for _ in 0..ROUND_TRIPS {
        go_on(stop)?;
        let begun = Instant::now();
        stream.write_all(&byte)?;
        stream.read_exact(&mut byte)?;
        times_ns.push(u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX));
    }
    Ok(times_ns)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (near, accept(&listener).unwrap())
    }

    #[test]
    fn what_goes_to_and_fro_is_measured() {
        let (near, far) = ends();
        let (round_trip, bytes_per_second) = measure(near, far, &Stop::default()).unwrap();
        assert_eq!(round_trip.count, ROUND_TRIPS as u64);
        assert!(bytes_per_second > CHUNK_BYTES as f64, "{bytes_per_second}");
    }

    /// During the round trips, and while bytes are sent.
    #[test]
    fn the_user_s_wish_cuts_it_short() {
        let stop = Stop::default();
        stop.press();
        let (near, far) = ends();
        assert_eq!(measure(near, far, &stop).unwrap_err().kind(), io::ErrorKind::Interrupted);
        let (mut near, _far) = ends();
        assert_eq!(send(&mut near, &stop).unwrap_err().kind(), io::ErrorKind::Interrupted);
    }
}
