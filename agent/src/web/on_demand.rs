//! Answers about what is looked at only while somebody asks. In: a view and a query without `ago`. Out: its answer about
//! a window that began with the question.

use super::profiles::lasting;
use super::refusal::Refusal;
use super::routes::Shared;
use crate::demand::Watch;
use crate::pipeline;
use crate::views::{Query, View, wakers};
use axum::body::Bytes;
use axum::http::{Method, StatusCode};
use std::time::Duration;

/// Longest wait until it is looked at: the kernel takes some ten milliseconds per hook, and a busy machine its time.
const BEGIN_MAX: Duration = Duration::from_secs(10);
/// How often to see whether it is.
const LOOK: Duration = Duration::from_millis(20);

/// Waits for the window's end, and makes the answer.
pub(super) async fn answer(
    shared: &Shared,
    view: &'static View,
    query: Query,
    method: &Method,
) -> Result<Bytes, Refusal> {
    let length_ns = query.seconds_ns.unwrap_or(wakers::SECONDS_DEFAULT_NS);
    let keep_ns = shared.site.hub.keep_ns();
    if length_ns > keep_ns {
        let error =
            format!("the window is longer than the {} s that the recorder keeps", keep_ns / 1_000_000_000);
        return Err(Refusal::new(StatusCode::BAD_REQUEST, error).parameter("seconds"));
    }
    let place = shared.answers.profile_place()?;
    if method == Method::HEAD {
        return Ok(Bytes::new());
    }
    let demand = shared.site.hub.demand();
    let wish = demand.wish_wakes();
    let begun = async {
        loop {
            match demand.wakes() {
                Watch::On => return Ok(()),
                Watch::Refused(why) => return Err(why),
                Watch::Off => tokio::time::sleep(LOOK).await,
            }
        }
    };
    let late = || Err("the agent does not come round to it".to_owned());
    let begun = tokio::time::timeout(BEGIN_MAX, begun).await.unwrap_or_else(|_| late());
    if let Err(why) = begun {
        let refusal = Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "who wakes whom cannot be seen here");
        return Err(refusal.hint(why));
    }
    let window = lasting(shared, length_ns, wish).await;
    let make = move |hub: &pipeline::Hub, query: &Query, _| {
        (view.render)(&pipeline::answer(&hub.excerpt(&window), window), query)
    };
    shared.answers.profile(place, view.name.to_owned(), query, make).await
}
