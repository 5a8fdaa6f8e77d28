//! The router: requests in, responses out, without a socket; and the server on real ones. What is answered
//! comes from a made-up node (`harness::made_up`).

mod bounds;
mod paths;
mod profiles;
mod refusals;
mod sched_page;
mod sockets;

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use harness::made_up::{BOOT_NS, MS, MadeUp, S};
use serde_json::Value;
use slowpod::pipeline::Hub;
use slowpod::views::query::ParamKind;
use slowpod::views::{JSON, Param, View};
use slowpod::web::{self, Site};
use std::sync::Arc;
use tower::ServiceExt;

/// Services of the made-up daemon: 200 spawns of 1.6 ms make a resync.
const SERVICES: u32 = 100;

/// The made-up node's present.
fn now_ns() -> u64 {
    BOOT_NS + 2 * (5 * S + 320 * MS) + 2 * S
}

/// What these tests ask beside the true views.
static ECHO: View = View {
    name: "echo",
    path: "/api/v1/echo",
    about: "What it was asked.",
    params: &[Param { name: "word", about: "any text", kind: ParamKind::Text { max_bytes: 20 } }],
    content_type: JSON,
    render: |snapshot, query| {
        let daemons = snapshot.state.daemons.len();
        let window = snapshot.window;
        format!(
            "{{\"word\":{:?},\"daemons\":{daemons},\"from_ns\":{},\"until_ns\":{}}}\n",
            query.own("word").unwrap_or_default(),
            window.from_ns,
            window.until_ns
        )
        .into_bytes()
    },
};
/// The same, with its word in the path.
static OF: View = View { name: "of", path: "/api/v1/of/{word}", ..ECHO };
static PANIC: View = View {
    name: "panic",
    path: "/api/v1/panic",
    about: "A view with a defect.",
    params: &[],
    content_type: JSON,
    render: |_, _| panic!("a view with a defect"),
};
/// The views of these tests.
static TEST_VIEWS: &[&View] = &[&ECHO, &OF, &PANIC];

/// A site over a made-up node whose daemon has this name.
fn site(views: &'static [&'static View], comm: &[u8]) -> Site {
    let (hub, until_ns) = MadeUp::hub(comm, SERVICES);
    assert_eq!(until_ns, now_ns(), "the made-up node's clock and this one's agree");
    Site { hub, views, now_ns, allow_hosts: vec!["node-7.example".into()] }
}

/// A site whose agent has not begun.
fn unready(views: &'static [&'static View]) -> Site {
    Site { hub: Arc::new(Hub::new(Default::default())), ..site(views, b"kube-router") }
}

/// A response, taken in whole.
#[derive(Debug)]
struct Got {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

impl Got {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

/// A plain request as a browser on this machine would make it.
fn ask(path: &str) -> Request<Body> {
    Request::get(path).header("host", "localhost:6060").body(Body::empty()).unwrap()
}

async fn send(router: &axum::Router, request: Request<Body>) -> Got {
    let response = router.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    Got { status: parts.status, headers: parts.headers, body: String::from_utf8(body.to_vec()).unwrap() }
}

async fn get(site: Site, path: &str) -> Got {
    send(&web::router(site), ask(path)).await
}
