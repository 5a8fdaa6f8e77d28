//! `/debug/pprof/KIND` and `/flamegraph/KIND`: Go's profile handlers (net/http/pprof) for every process of the node.
//! In: a kind and a query. Out: a profile of a window that is over, or that lasts as long as the client waits.
//!
//! As with Go, `seconds` waits, `/debug/pprof/profile` waits 30 seconds unless told otherwise, errors are plain text
//! with `X-Go-Pprof`, and a client that hangs up ends its window: hyper then drops the future, and all it holds.
//! Beyond Go, `ago` looks back, and filters say whose profile it is.

use super::pprof_index;
use super::refusal::Refusal;
use super::routes::{Answer, Shared, bad_query, body, no_parameters};
use crate::fold::Window;
use crate::pipeline::{Hub, answer};
use crate::views::profiles::model::Profile;
use crate::views::profiles::{Kind, PROFILES, folded, named, params, pprof, profile, svg, text};
use crate::views::query::{LIMIT_DEFAULT, Param, Query};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use std::sync::Arc;
use std::time::Duration;

/// The list of all kinds.
pub(super) const INDEX: &str = "/debug/pprof/";
/// Where profiles are.
pub(super) const PATHS: [&str; 3] =
    ["/debug/pprof/{kind}", "/flamegraph/{kind}", "/debug/self/pprof/profile"];
/// How long `/debug/pprof/profile` waits when it is not told: as Go's.
const PROFILE_DEFAULT_NS: u64 = 30_000_000_000;
/// Longest wait, after a window is over, for its last records, as a part of the window: a third. `go tool pprof` gives up
/// half a window after it.
const LATE_PART: u64 = 3;
/// And in all.
const LATE_MAX: Duration = Duration::from_secs(2);
/// How often to look for them.
const LOOK: Duration = Duration::from_millis(20);

/// Adds the routes.
pub(super) fn add(router: Router<Arc<Shared>>) -> Router<Arc<Shared>> {
    router
        .route("/debug/pprof", get(async || (StatusCode::MOVED_PERMANENTLY, [(header::LOCATION, INDEX)])))
        .route(INDEX, get(index))
        .route(PATHS[0], get(pprof_page))
        .route(PATHS[1], get(flamegraph_page))
        .route(PATHS[2], get(own_profile))
}

async fn index(RawQuery(raw): RawQuery) -> Answer {
    no_parameters(raw)?;
    Ok(Html(pprof_index::page()).into_response())
}

async fn pprof_page(
    State(shared): State<Arc<Shared>>,
    Path(kind): Path<String>,
    method: Method,
    RawQuery(raw): RawQuery,
) -> Response {
    let answer = go_profile(&shared, &kind, &raw.unwrap_or_default(), None, &method).await;
    answer.unwrap_or_else(Refusal::into_go)
}

/// The agent's own profile: its process among the others, seen by the same sampler. A profiler inside the process
/// would walk its stacks from a signal handler, where locks may be held that the walk needs.
async fn own_profile(State(shared): State<Arc<Shared>>, method: Method, RawQuery(raw): RawQuery) -> Response {
    let own = Some(std::process::id());
    let answer = go_profile(&shared, "profile", &raw.unwrap_or_default(), own, &method).await;
    answer.unwrap_or_else(Refusal::into_go)
}

async fn go_profile(
    shared: &Shared,
    kind: &str,
    raw: &str,
    pid: Option<u32>,
    method: &Method,
) -> Result<Response, Refusal> {
    let kind = named(kind).ok_or_else(|| {
        let names: Vec<&str> = PROFILES.iter().map(|kind| kind.name).collect();
        Refusal::new(StatusCode::NOT_FOUND, "Unknown profile")
            .hint(format!("there are: {}", names.join(", ")))
    })?;
    let mut query = parse(raw, params::PPROF)?;
    query.pid = pid.or(query.pid);
    let as_text = query.own_count(params::DEBUG.name).is_some_and(|debug| debug > 0);
    if as_text && query.seconds_ns.is_some() && query.ago_ns.is_none() {
        let refusal = Refusal::new(StatusCode::BAD_REQUEST, "seconds and debug params are incompatible");
        return Err(refusal.hint("with ago= they are not: ago=30s&seconds=30&debug=1"));
    }
    let is_cpu = kind.name == "profile";
    if is_cpu && query.seconds_ns.is_none() && query.ago_ns.is_none() {
        query.seconds_ns = Some(PROFILE_DEFAULT_NS);
    }
    let waits = is_live(&query);
    let name = if as_text { "text" } else { "pprof" };
    let made = take(shared, (name, kind), query, method, move |asked| match as_text {
        true => text::encode(&asked.profile(asked.window), asked.query.limit.unwrap_or(LIMIT_DEFAULT)),
        false => pprof::encode(&asked.profile(asked.window)),
    });
    let mut response = body(if as_text { text::CONTENT_TYPE } else { pprof::CONTENT_TYPE }, made.await?);
    if !as_text {
        // Go's names: `profile` is not a difference of two, other profiles of a window are.
        let suffix = if waits && !is_cpu { "-delta" } else { "" };
        let disposition = format!("attachment; filename=\"{}{suffix}\"", kind.name);
        if let Ok(value) = HeaderValue::from_str(&disposition) {
            response.headers_mut().insert(header::CONTENT_DISPOSITION, value);
        }
    }
    Ok(response)
}

async fn flamegraph_page(
    State(shared): State<Arc<Shared>>,
    Path(kind): Path<String>,
    method: Method,
    RawQuery(raw): RawQuery,
) -> Answer {
    let kind = named(&kind).ok_or_else(|| {
        let names: Vec<&str> = PROFILES.iter().map(|kind| kind.name).collect();
        let shown: String = kind.chars().take(100).collect();
        let refusal = Refusal::new(StatusCode::NOT_FOUND, format!("there is no profile {shown:?}"));
        refusal.hint(format!("there are: {}", names.join(", ")))
    })?;
    let query = parse(&raw.unwrap_or_default(), params::FLAMEGRAPH)?;
    let style = params::style(kind, &query).map_err(|error| bad_query(&error, params::FLAMEGRAPH))?;
    let is_folded = query.own(params::FORMAT.name) == Some("folded");
    let name = if is_folded { "folded" } else { "svg" };
    let made = take(&shared, (name, kind), query, &method, move |asked| {
        let profile = asked.profile(asked.window);
        if is_folded {
            return folded::encode(&profile, style.value);
        }
        let base = params::base(asked.query, asked.window, asked.now_ns).map(|window| asked.profile(window));
        svg::encode(&profile, base.as_ref(), style)
    });
    let content_type = if is_folded { folded::CONTENT_TYPE } else { svg::CONTENT_TYPE };
    Ok(body(content_type, made.await?))
}

/// A profile to be made.
struct Asked<'a> {
    kind: &'static Kind,
    hub: &'a Hub,
    query: &'a Query,
    window: Window,
    now_ns: u64,
}

impl Asked<'_> {
    /// The profile of a window.
    fn profile(&self, window: Window) -> Profile {
        profile(self.kind, &answer(&self.hub.excerpt(&window), window), self.query)
    }
}

/// Waits for the window's end, if it is not over, and makes the answer.
async fn take(
    shared: &Shared,
    (name, kind): (&str, &'static Kind),
    query: Query,
    method: &Method,
    make: impl FnOnce(&Asked<'_>) -> Vec<u8> + Send + 'static,
) -> Result<Bytes, Refusal> {
    shared.ready()?;
    let keep_ns = shared.site.hub.keep_ns();
    let length_ns = query.seconds_ns.filter(|_| is_live(&query));
    if length_ns.is_some_and(|length_ns| length_ns > keep_ns) {
        let error =
            format!("the window is longer than the {} s that the recorder keeps", keep_ns / 1_000_000_000);
        return Err(Refusal::new(StatusCode::BAD_REQUEST, error).parameter("seconds"));
    }
    let place = shared.answers.profile_place()?;
    if method == Method::HEAD {
        return Ok(Bytes::new());
    }
    let window = match length_ns {
        Some(length_ns) => {
            let hz = kind.sampled.then(|| params::hz(&query));
            Some(lasting(shared, length_ns, hz.map(|hz| shared.site.hub.demand().wish(hz))).await)
        }
        None => None,
    };
    let name = format!("{name} {}", kind.name);
    let make = move |hub: &Hub, query: &Query, now_ns: u64| {
        let window = window.unwrap_or_else(|| query.window(now_ns));
        make(&Asked { kind, hub, query, window, now_ns })
    };
    shared.answers.profile(place, name, query, make).await
}

/// A window that begins now, once it is over and its records are in. The wish is held until then.
pub(super) async fn lasting(shared: &Shared, length_ns: u64, _wish: impl Sized) -> Window {
    let from_ns = (shared.site.now_ns)();
    let until_ns = from_ns.saturating_add(length_ns);
    tokio::time::sleep(Duration::from_nanos(length_ns)).await;
    let late = async {
        while shared.site.hub.recorded_until_ns() < until_ns {
            tokio::time::sleep(LOOK).await;
        }
    };
    // What is not in by then is not covered, and the answer says so.
    let _ = tokio::time::timeout(LATE_MAX.min(Duration::from_nanos(length_ns / LATE_PART)), late).await;
    Window { from_ns, until_ns }
}

fn parse(raw: &str, own: &[Param]) -> Result<Query, Refusal> {
    Query::parse(raw, own).map_err(|error| bad_query(&error, own))
}

/// Whether a query's window begins when it is asked.
pub(super) fn is_live(query: &Query) -> bool {
    query.seconds_ns.is_some() && query.ago_ns.is_none()
}
