//! Connections: accepted, bounded in number and patience, closed together. In: a listening socket and a
//! router. Out: when told to stop, nothing left.
//!
//! `axum::serve` has no time limits and no bound on connections, so this is hyper's own loop. A peer that
//! sends nothing, or a header a byte at a time, is closed after [`HEADER_MAX`]; one that does not read, by
//! [`super::stall`]; and when all places are taken, the connection that has been silent for longest makes
//! room, so that idle strangers cannot keep a health check out.

use super::guard::LocalEnd;
use super::stall::{Impatient, STALL_MAX};
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tower::ServiceExt;

/// Connections at once: every engineer in an incident call, scrapers and probes, several times over.
pub const CONNECTIONS_MAX: usize = 256;
/// Longest wait for a whole request header, the wait for its first byte included.
pub const HEADER_MAX: Duration = Duration::from_secs(10);
/// Longest request line and header together. Browsers send 1 KiB; the longest query allowed is 8 KiB.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// Most header fields.
const HEADER_FIELDS_MAX: usize = 64;
/// How long answers under way may take once the agent is told to stop.
pub const GRACE_MAX: Duration = Duration::from_millis(1_500);
/// Pause after a failed accept (out of file descriptors), so that it does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until `stop` turns true or its sender is gone; then lets answers under way finish, for at most
/// [`GRACE_MAX`].
pub(super) async fn serve(listener: TcpListener, router: Router, mut stop: watch::Receiver<bool>) {
    let open = Arc::new(Open::default());
    let graceful = GracefulShutdown::new();
    let mut tasks = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = tasks.join_next() => continue,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        // Nobody silent to send away: this one has to go. Closing says so at once.
        if !open.make_room() {
            continue;
        }
        let place = Place::take(&open);
        let id = place.id;
        let task = tasks.spawn(connection(stream, router.clone(), place, graceful.watcher()));
        open.abort_with(id, task);
    }
    drop(listener);
    // Hyper ends a connection between requests at once, but waits for the first request of one that has made none:
    // browsers open such connections in advance.
    open.send_away_the_unheard();
    let _ = tokio::time::timeout(GRACE_MAX, graceful.shutdown()).await;
    tasks.shutdown().await;
}

/// One connection, from its first request to its end.
async fn connection(stream: TcpStream, router: Router, place: Place, graceful: Watcher) {
    let local = stream.local_addr();
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request: hyper::Request<hyper::body::Incoming>| {
        let mut request: Request = request.map(Body::new);
        if let Ok(local) = local {
            request.extensions_mut().insert(LocalEnd(local));
        }
        let busy = place.busy();
        let answer = router.clone().oneshot(request);
        async move {
            let answer = answer.await;
            drop(busy);
            answer
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADER_FIELDS_MAX)
        .serve_connection(TokioIo::new(Impatient::new(stream, STALL_MAX)), service);
    // How it ended is the peer's affair: it hung up, sent rubbish, or was too slow.
    let _ = graceful.watch(connection).await;
}

/// Connections that are open.
#[derive(Default)]
struct Open {
    places: Mutex<Places>,
}

#[derive(Default)]
struct Places {
    taken: BTreeMap<u64, Taken>,
    next: u64,
}

struct Taken {
    /// Since when it has no request under way; `None` while it has one.
    silent_since: Option<Instant>,
    /// It has made a request.
    heard: bool,
    task: Option<AbortHandle>,
}

impl Open {
    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends the connection away that has been silent for longest, if all places are taken. False when all
    /// are busy.
    fn make_room(&self) -> bool {
        let mut places = self.places();
        if places.taken.len() < CONNECTIONS_MAX {
            return true;
        }
        let silent = places.taken.iter().filter_map(|(id, taken)| Some((taken.silent_since?, *id))).min();
        let Some(taken) = silent.and_then(|(_, id)| places.taken.remove(&id)) else { return false };
        if let Some(task) = taken.task {
            task.abort();
        }
        true
    }

    /// Ends the connections that have made no request yet.
    fn send_away_the_unheard(&self) {
        for taken in self.places().taken.values().filter(|taken| !taken.heard) {
            if let Some(task) = &taken.task {
                task.abort();
            }
        }
    }

    fn abort_with(&self, id: u64, task: AbortHandle) {
        if let Some(taken) = self.places().taken.get_mut(&id) {
            taken.task = Some(task);
        }
    }

    fn silent_since(&self, id: u64, since: Option<Instant>) {
        if let Some(taken) = self.places().taken.get_mut(&id) {
            taken.silent_since = since;
            taken.heard = true;
        }
    }
}

/// A connection's place among the open ones; given back when dropped.
struct Place {
    open: Arc<Open>,
    id: u64,
}

impl Place {
    fn take(open: &Arc<Open>) -> Place {
        let mut places = open.places();
        let id = places.next;
        places.next += 1;
        places.taken.insert(id, Taken { silent_since: Some(Instant::now()), heard: false, task: None });
        Place { open: open.clone(), id }
    }

    /// A request is under way until the result is dropped.
    fn busy(&self) -> Busy {
        self.open.silent_since(self.id, None);
        Busy { open: self.open.clone(), id: self.id }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.places().taken.remove(&self.id);
    }
}

struct Busy {
    open: Arc<Open>,
    id: u64,
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.open.silent_since(self.id, Some(Instant::now()));
    }
}
