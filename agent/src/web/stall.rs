//! A connection whose peer must take what is written to it. In: a TCP stream. Out: the same, but a write that
//! gets nowhere for too long fails, so that a peer that stops reading does not hold an answer for ever.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

/// Longest time without a byte taken: a stopped terminal, a dead network.
pub(super) const STALL_MAX: Duration = Duration::from_secs(20);

/// A stream that loses patience with a peer that does not read.
pub(super) struct Impatient {
    stream: TcpStream,
    patience: Duration,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl Impatient {
    pub(super) fn new(stream: TcpStream, patience: Duration) -> Self {
        Impatient { stream, patience, waiting: None }
    }

    /// Passes on what a write came to, unless it has been waiting for too long.
    fn bounded<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.waiting = None;
            return written;
        }
        let patience = self.patience;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(patience)));
        ready!(waiting.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Impatient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Impatient {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.bounded(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, pieces);
        self.bounded(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::io::Read;
    use std::time::Instant;
    use tokio::net::TcpListener;

    const PATIENCE: Duration = Duration::from_millis(200);
    /// More than the sockets' buffers take in.
    const BYTES: usize = 64 << 20;

    async fn pair() -> (Impatient, std::net::TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (Impatient::new(listener.accept().await.unwrap().0, PATIENCE), peer)
    }

    async fn write_all(stream: &mut Impatient) -> io::Result<()> {
        let piece = vec![b'x'; 1 << 16];
        let mut written = 0;
        while written < BYTES {
            written += poll_fn(|cx| Pin::new(&mut *stream).poll_write(cx, &piece)).await?;
        }
        Ok(())
    }

    #[tokio::test]
    async fn a_peer_that_does_not_read_is_given_up() {
        let (mut stream, _peer) = pair().await;
        let begun = Instant::now();
        let error = write_all(&mut stream).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(begun.elapsed() >= PATIENCE, "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn a_slow_reader_is_waited_for() {
        let (mut stream, mut peer) = pair().await;
        let begun = Instant::now();
        let reader = std::thread::spawn(move || {
            let mut piece = vec![0; 4 << 20];
            let mut taken = 0;
            while taken < BYTES {
                std::thread::sleep(PATIENCE / 4);
                taken += peer.read(&mut piece).unwrap();
            }
        });
        write_all(&mut stream).await.unwrap();
        assert!(begun.elapsed() > PATIENCE, "it took longer in all than a single wait may");
        reader.join().unwrap();
    }
}
