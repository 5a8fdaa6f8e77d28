//! Which path gives what. One route per view; the others are the server's own.

use super::answers::Answers;
use super::guard::{AllowedHosts, guard, shown_host};
use super::own_cost::own_cost;
use super::refusal::Refusal;
use super::{Site, on_demand, own, page, profiles};
use crate::views::{
    JSON, ON_DEMAND, Param, Query, QueryError, View, health, metrics, openapi, query, sched_page,
};
use axum::Router;
use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{RawPathParams, RawQuery, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::sync::Arc;

/// The server's own paths: path, and what it gives as one sentence.
pub const FIXED: &[(&str, &str)] = &[
    ("/", "This page: every path, and what the node's daemons spawn right now."),
    ("/metrics", "Sums since the start and the agent's own cost, for Prometheus."),
    ("/healthz", "Whether the process lives: always `ok`."),
    ("/readyz", "Whether the agent can answer, or what is missing (503)."),
    (
        profiles::INDEX,
        "Profiles as Go's net/http/pprof gives them, of every process on the node: kinds and examples.",
    ),
    (sched_page::PAGE.path, sched_page::PAGE.about),
    ("/debug/self", "What the agent costs: its kernel programs, and its memory by part."),
    ("/version", "Version of the agent and of its contract with the kernel side."),
    (openapi::PATH, "All of the API as an OpenAPI document."),
];

const HTML: &str = "text/html; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

pub(super) struct Shared {
    pub(super) site: Site,
    pub(super) answers: Answers,
}

pub(super) type Answer = Result<Response, Refusal>;

impl Shared {
    /// Refuses while the agent cannot answer yet.
    pub(super) fn ready(&self) -> Result<(), Refusal> {
        if self.site.hub.pulse().ready {
            return Ok(());
        }
        let refusal = Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the agent is still starting");
        Err(refusal.hint("/readyz says what is missing"))
    }
}

/// All routes of a site.
pub fn router(site: Site) -> Router {
    let allowed: AllowedHosts = site.allow_hosts.clone().into();
    let views = site.views;
    let shared = Arc::new(Shared { answers: Answers::new(site.hub.clone(), site.now_ns), site });
    let mut router = Router::new()
        .route("/", get(index))
        .route("/metrics", get(metrics_page))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/version", get(version))
        .route(openapi::PATH, get(openapi_document));
    router = profiles::add(router).route("/debug/self", get(own_page));
    for asset in page::ASSETS {
        let give =
            async |RawQuery(raw): RawQuery| no_parameters(raw).map(|()| body(asset.content_type, asset.text));
        router = router.route(asset.path, get(give));
    }
    for view in views.iter().copied().chain([&sched_page::PAGE]) {
        let give = async |State(shared): State<Arc<Shared>>,
                          method: Method,
                          in_path: Result<RawPathParams, RawPathParamsRejection>,
                          RawQuery(raw): RawQuery| {
            let in_path = in_path.map_err(|error| Refusal::new(error.status(), error.body_text()))?;
            let in_path: Vec<_> = in_path.iter().collect();
            view_page(&shared, view, &method, &in_path, &raw.unwrap_or_default()).await
        };
        router = router.route(view.path, get(give));
    }
    router.fallback(unknown).with_state(shared).layer(middleware::from_fn_with_state(allowed, guard))
}

async fn view_page(
    shared: &Shared,
    view: &'static View,
    method: &Method,
    in_path: &[(&str, &str)],
    raw: &str,
) -> Answer {
    let query = Query::parse_at(in_path, raw, view.params).map_err(|error| bad_query(&error, view.params))?;
    shared.ready()?;
    if query.ago_ns.is_none() && ON_DEMAND.iter().any(|on_demand| on_demand.name == view.name) {
        return Ok(body(view.content_type, on_demand::answer(shared, view, query, method).await?));
    }
    Ok(body(view.content_type, shared.answers.of(view, query).await?))
}

pub(super) fn bad_query(error: &QueryError, own: &[Param]) -> Refusal {
    let known = query::COMMON.iter().chain(own).find(|param| param.name == error.parameter);
    let hint = match known {
        Some(param) => format!("{}: {}", param.name, param.about),
        None => "`/` lists what each path takes".into(),
    };
    Refusal::new(StatusCode::BAD_REQUEST, error.to_string()).parameter(error.parameter.clone()).hint(hint)
}

async fn index(State(shared): State<Arc<Shared>>, headers: HeaderMap, RawQuery(raw): RawQuery) -> Answer {
    no_parameters(raw)?;
    let host = shown_host(&headers).unwrap_or("127.0.0.1:6060");
    Ok(body(HTML, page::index(shared.site.views, &shared.site.hub.pulse().node, host)))
}

async fn metrics_page(State(shared): State<Arc<Shared>>, RawQuery(raw): RawQuery) -> Answer {
    no_parameters(raw)?;
    let now_ns = (shared.site.now_ns)();
    Ok(body(metrics::CONTENT_TYPE, metrics::render(&shared.site.hub.pulse(), &own_cost(), now_ns)))
}

async fn healthz(RawQuery(raw): RawQuery) -> Answer {
    no_parameters(raw)?;
    Ok(body(TEXT, "ok\n"))
}

async fn readyz(State(shared): State<Arc<Shared>>, RawQuery(raw): RawQuery) -> Answer {
    no_parameters(raw)?;
    let readiness = health::readiness(&shared.site.hub.pulse(), (shared.site.now_ns)());
    let mut response = body(JSON, health::json(&readiness));
    if !readiness.ready {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
    }
    Ok(response)
}

async fn version(RawQuery(raw): RawQuery) -> Answer {
    no_parameters(raw)?;
    Ok(body(JSON, health::json(&health::version())))
}

async fn openapi_document(RawQuery(raw): RawQuery) -> Answer {
    no_parameters(raw)?;
    Ok(body(JSON, openapi::document()))
}

async fn unknown(State(shared): State<Arc<Shared>>, uri: Uri) -> Refusal {
    let path: String = uri.path().chars().take(100).collect();
    let own = FIXED.iter().map(|(path, _)| *path);
    let views = shared.site.views.iter().map(|view| view.path);
    let paths = own.chain(profiles::PATHS).chain(views).collect();
    Refusal::new(StatusCode::NOT_FOUND, format!("there is no {path:?}")).paths(paths)
}

async fn own_page(State(shared): State<Arc<Shared>>, RawQuery(raw): RawQuery) -> Answer {
    no_parameters(raw)?;
    Ok(body(JSON, own::cost(&shared.site.hub.pulse())))
}

/// The server's own paths take no parameters, and say so like the others.
pub(super) fn no_parameters(raw: Option<String>) -> Result<(), Refusal> {
    let raw = raw.unwrap_or_default();
    let Some((name, _)) = form_urlencoded::parse(raw.as_bytes()).next() else { return Ok(()) };
    let name: String = name.chars().take(64).collect();
    let error = format!("parameter {name:?}: this path takes none");
    Err(Refusal::new(StatusCode::BAD_REQUEST, error).parameter(name).hint("`/` lists what each path takes"))
}

pub(super) fn body(content_type: &'static str, bytes: impl IntoResponse) -> Response {
    ([(header::CONTENT_TYPE, content_type)], bytes).into_response()
}
