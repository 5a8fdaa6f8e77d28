//! Answers, made within bounds: few at once, few waiting, and not twice for the same question asked at
//! nearly the same time. A view that panics costs its own answer only.
//!
//! Profiles have a queue of their own: many may be asked for at once, and one is made at a time, so that the other
//! place is left to views.

use super::refusal::Refusal;
use crate::memory;
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
/// Profiles that may be asked for at once, those whose window still lasts included. A window that lasts is a timer.
pub const PROFILES_MAX: usize = 64;
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
    profile_queue: Arc<Semaphore>,
    profile_renders: Arc<Semaphore>,
    cache: Arc<Mutex<VecDeque<Cached>>>,
}

struct Cached {
    name: String,
    query: Query,
    asked: Instant,
    body: Bytes,
}

/// A turn to render; whoever holds it keeps the bound, also after the asker has hung up.
struct Turn {
    _queued: OwnedSemaphorePermit,
    _profile: Option<OwnedSemaphorePermit>,
    _renders: OwnedSemaphorePermit,
}

/// A place among those who want a profile.
pub(super) struct ProfilePlace(OwnedSemaphorePermit);

impl Answers {
    /// Answers from `hub`, about windows that end at `now_ns()` on the kernel's monotonic clock.
    pub(super) fn new(hub: Arc<Hub>, now_ns: fn() -> u64) -> Self {
        Answers {
            hub,
            now_ns,
            queue: Arc::new(Semaphore::new(RENDERS_MAX + QUEUE_MAX)),
            renders: Arc::new(Semaphore::new(RENDERS_MAX)),
            profile_queue: Arc::new(Semaphore::new(PROFILES_MAX)),
            profile_renders: Arc::new(Semaphore::new(1)),
            cache: Arc::default(),
        }
    }

    /// The view's answer to a query.
    pub(super) async fn of(&self, view: &'static View, query: Query) -> Result<Bytes, Refusal> {
        if let Some(body) = recall(&self.cache, view.name, &query) {
            return Ok(body);
        }
        let queued = self.queue.clone().try_acquire_owned().map_err(|error| match error {
            TryAcquireError::NoPermits | TryAcquireError::Closed => {
                busy(format!("{RENDERS_MAX} answers are being made and {QUEUE_MAX} requests wait"))
            }
        })?;
        let turn = Turn { _queued: queued, _profile: None, _renders: acquire(&self.renders).await? };
        self.make(turn, view.name.to_owned(), query, move |hub, query, now_ns| {
            let window = query.window(now_ns);
            (view.render)(&answer(&hub.excerpt(&window), window), query)
        })
        .await
    }

    /// A place among those who want a profile.
    pub(super) fn profile_place(&self) -> Result<ProfilePlace, Refusal> {
        let place = self.profile_queue.clone().try_acquire_owned();
        let error = |_| busy(format!("{PROFILES_MAX} profiles are being taken"));
        Ok(ProfilePlace(place.map_err(error)?))
    }

    /// A profile, made by `make` from the hub, the query and the present instant. `name` tells what makes it from
    /// others, for whoever asks the same.
    pub(super) async fn profile(
        &self,
        place: ProfilePlace,
        name: String,
        query: Query,
        make: impl FnOnce(&Hub, &Query, u64) -> Vec<u8> + Send + 'static,
    ) -> Result<Bytes, Refusal> {
        let profile = acquire(&self.profile_renders).await?;
        let renders = acquire(&self.renders).await?;
        self.make(Turn { _queued: place.0, _profile: Some(profile), _renders: renders }, name, query, make)
            .await
    }

    async fn make(
        &self,
        turn: Turn,
        name: String,
        query: Query,
        make: impl FnOnce(&Hub, &Query, u64) -> Vec<u8> + Send + 'static,
    ) -> Result<Bytes, Refusal> {
        // Whoever was served meanwhile may have asked the same.
        if let Some(body) = recall(&self.cache, &name, &query) {
            return Ok(body);
        }
        let (hub, now_ns, cache, shown) = (self.hub.clone(), self.now_ns, self.cache.clone(), name.clone());
        let made = tokio::task::spawn_blocking(move || {
            let asked = Instant::now();
            let body = Bytes::from(make(&hub, &query, now_ns()));
            keep(&cache, Cached { name, query, asked, body: body.clone() });
            memory::give_back();
            drop(turn);
            body
        });
        made.await.map_err(|_| {
            let error = format!("the view {shown} failed; the agent goes on");
            Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error)
                .hint("its log says where; please report it with a tape (`slowpod record`)")
        })
    }
}

fn busy(error: String) -> Refusal {
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, error).hint("ask again in a second")
}

async fn acquire(of: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Refusal> {
    let gone = |_| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the agent is going down");
    of.clone().acquire_owned().await.map_err(gone)
}

fn recall(cache: &Mutex<VecDeque<Cached>>, name: &str, query: &Query) -> Option<Bytes> {
    let mut cache = lock(cache);
    cache.retain(|cached| cached.asked.elapsed() < CACHE_AGE_MAX);
    let found = cache.iter().find(|cached| cached.name == name && cached.query == *query);
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
