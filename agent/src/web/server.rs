//! The server as a thing to start and stop from code that is not async.

use super::listen::Bound;
use super::{Site, connections, router};
use crate::capture::facts::clock;
use crate::pipeline::Hub;
use crate::views::VIEWS;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
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

/// A server that runs on threads of its own. Dropping it tells it to stop; [`Server::shutdown`] also waits.
pub struct Server {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

/// Starts answering from `hub`: all views, by the kernel's clock.
///
/// # Errors
/// When there is no thread or no runtime to be had.
pub fn start(bound: Bound, hub: Arc<Hub>) -> io::Result<Server> {
    let Bound { listener, allow_hosts } = bound;
    Server::start(listener, Site { hub, views: VIEWS, now_ns: clock::ktime_ns, allow_hosts })
}

impl Server {
    /// Starts serving a site on a listening socket.
    ///
    /// # Errors
    /// When there is no thread or no runtime to be had.
    pub fn start(listener: TcpListener, site: Site) -> io::Result<Server> {
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let (stop, stopped) = watch::channel(false);
        // One thread moves bytes; answers are made on the blocking ones.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS_MAX)
            .thread_keep_alive(BLOCKING_THREAD_IDLE)
            .thread_name("slowpod-answer")
            .build()?;
        let listener = {
            let _entered = runtime.enter();
            tokio::net::TcpListener::from_std(listener)?
        };
        let thread = std::thread::Builder::new().name("slowpod-web".into()).spawn(move || {
            runtime.block_on(connections::serve(listener, router(site), stopped));
            runtime.shutdown_timeout(RENDER_GRACE_MAX);
        })?;
        Ok(Server { address, stop, thread: Some(thread) })
    }

    /// Where it listens; with the port that was given for 0.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Tells it to take no more connections and to finish the answers under way; [`Server::shutdown`] waits for
    /// that.
    pub fn begin_shutdown(&self) {
        self.stop.send_replace(true);
    }

    /// Ends it within two seconds, whatever connections and views do.
    pub fn shutdown(mut self) {
        self.begin_shutdown();
        if let Some(thread) = self.thread.take() {
            // A panic of that thread has already been reported by its hook.
            let _ = thread.join();
        }
    }
}
