//! The server as a thing to start and stop from code that is not async.

use super::{Site, connections, router};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::watch;

/// Threads that answers are made on: those of [`super::RENDERS_MAX`], and spare ones for name look-ups and
/// the like that tokio may do.
const BLOCKING_THREADS_MAX: usize = 4;
/// How long a thread that made answers is kept for the next: longer than the page's refresh.
const BLOCKING_THREAD_IDLE: Duration = Duration::from_secs(10);
/// How long an answer in the making may hold up the end after connections are closed.
const RENDER_GRACE_MAX: Duration = Duration::from_millis(200);

/// A server that runs on a thread of its own. Dropping it tells it to stop; [`Server::stop`] also waits.
pub struct Server {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

/// Serves until `stop` turns true or its sender is gone; then ends within two seconds, whatever connections
/// do.
///
/// # Errors
/// When the listening socket cannot be handed to tokio.
pub async fn serve(listener: TcpListener, site: Site, stop: watch::Receiver<bool>) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    connections::serve(listener, router(site), stop).await;
    Ok(())
}

impl Server {
    /// Starts serving on a socket from [`super::listen::bind`].
    ///
    /// # Errors
    /// When there is no thread or no runtime to be had.
    pub fn start(listener: TcpListener, site: Site) -> io::Result<Server> {
        let address = listener.local_addr()?;
        let (stop, stopped) = watch::channel(false);
        // One thread moves bytes; answers are made on the blocking ones.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS_MAX)
            .thread_keep_alive(BLOCKING_THREAD_IDLE)
            .thread_name("slowpod-answer")
            .build()?;
        let thread = std::thread::Builder::new().name("slowpod-web".into()).spawn(move || {
            if let Err(error) = runtime.block_on(serve(listener, site, stopped)) {
                tracing::error!(%error, "the HTTP server ended");
            }
            runtime.shutdown_timeout(RENDER_GRACE_MAX);
        })?;
        Ok(Server { address, stop, thread: Some(thread) })
    }

    /// Where it listens; with the port that was given for 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends it, within two seconds.
    pub fn stop(mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // A panic of that thread has already been reported by its hook.
            let _ = thread.join();
        }
    }
}
