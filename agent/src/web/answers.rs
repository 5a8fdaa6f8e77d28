//! Views, rendered within bounds: few at once, few waiting, and not twice for the same question asked at
//! nearly the same time. A view that panics costs its own answer only.

use super::refusal::Refusal;
use crate::pipeline::{Hub, answer};
use crate::views::{Query, View};
use axum::body::Bytes;
use axum::http::StatusCode;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};

/// Answers made at once: each folds a window and may hold tens of megabytes, and the node's own work matters
/// more than a page.
pub const RENDERS_MAX: usize = 2;
/// Requests that may wait for their turn.
pub const QUEUE_MAX: usize = 16;
/// How long an answer serves others who ask the same.
pub const CACHE_AGE_MAX: Duration = Duration::from_secs(1);
/// Answers kept for that long.
const CACHE_ANSWERS_MAX: usize = 32;
/// Answers longer than this are not kept: with [`CACHE_ANSWERS_MAX`] the cache stays below 8 MiB.
const CACHE_ANSWER_BYTES_MAX: usize = 256 << 10;

/// Makes answers.
pub(super) struct Answers {
    hub: Arc<Hub>,
    now_ns: fn() -> u64,
    queue: Arc<Semaphore>,
    renders: Arc<Semaphore>,
    cache: Arc<Mutex<VecDeque<Cached>>>,
}

struct Cached {
    view: &'static str,
    query: Query,
    asked: Instant,
    body: Bytes,
}

/// A turn to render; whoever holds it keeps the bound, also after the asker has hung up.
struct Turn {
    _queued: OwnedSemaphorePermit,
    _renders: OwnedSemaphorePermit,
}

impl Answers {
    /// Answers from `hub`, about windows that end at `now_ns()` on the kernel's monotonic clock.
    pub(super) fn new(hub: Arc<Hub>, now_ns: fn() -> u64) -> Self {
        Answers {
            hub,
            now_ns,
            queue: Arc::new(Semaphore::new(RENDERS_MAX + QUEUE_MAX)),
            renders: Arc::new(Semaphore::new(RENDERS_MAX)),
            cache: Arc::default(),
        }
    }

    /// The view's answer to a query.
    pub(super) async fn of(&self, view: &'static View, query: Query) -> Result<Bytes, Refusal> {
        if let Some(body) = recall(&self.cache, view, &query) {
            return Ok(body);
        }
        let turn = self.turn().await?;
        // Whoever was served meanwhile may have asked the same.
        if let Some(body) = recall(&self.cache, view, &query) {
            return Ok(body);
        }
        let (hub, now_ns, cache) = (self.hub.clone(), self.now_ns, self.cache.clone());
        let rendered = tokio::task::spawn_blocking(move || {
            let asked = Instant::now();
            let window = query.window(now_ns());
            let snapshot = answer(&hub.excerpt(&window), window);
            let body = Bytes::from((view.render)(&snapshot, &query));
            keep(&cache, Cached { view: view.name, query, asked, body: body.clone() });
            drop(turn);
            body
        });
        rendered.await.map_err(|_| {
            let error = format!("the view {} failed; the agent goes on", view.name);
            Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error)
                .hint("its log says where; please report it with a tape (`slowpod record`)")
        })
    }

    async fn turn(&self) -> Result<Turn, Refusal> {
        let queued = self.queue.clone().try_acquire_owned().map_err(|error| match error {
            TryAcquireError::NoPermits | TryAcquireError::Closed => {
                let error = format!("{RENDERS_MAX} answers are being made and {QUEUE_MAX} requests wait");
                Refusal::new(StatusCode::SERVICE_UNAVAILABLE, error).hint("ask again in a second")
            }
        })?;
        let renders = self
            .renders
            .clone()
            .acquire_owned()
            .await
            .map_err(|_| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the agent is going down"))?;
        Ok(Turn { _queued: queued, _renders: renders })
    }
}

fn recall(cache: &Mutex<VecDeque<Cached>>, view: &View, query: &Query) -> Option<Bytes> {
    let mut cache = lock(cache);
    cache.retain(|cached| cached.asked.elapsed() < CACHE_AGE_MAX);
    let found = cache.iter().find(|cached| cached.view == view.name && cached.query == *query);
    found.map(|cached| cached.body.clone())
}

fn keep(cache: &Mutex<VecDeque<Cached>>, answer: Cached) {
    if answer.body.len() > CACHE_ANSWER_BYTES_MAX {
        return;
    }
    let mut cache = lock(cache);
    if cache.len() >= CACHE_ANSWERS_MAX {
        cache.pop_front();
    }
    cache.push_back(answer);
}

/// What is kept is plain data, usable after a panic elsewhere.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
