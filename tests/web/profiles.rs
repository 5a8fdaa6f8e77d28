//! `/debug/pprof/` and `/flamegraph/`: Go's statuses, headers and errors, windows that last, and how many at once.

use crate::{TEST_VIEWS, ask, get, site, unready};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use slowpod::views::profiles::PROFILES;
use slowpod::web::{self, PROFILES_MAX};
use std::time::{Duration, Instant};
use tower::ServiceExt;

fn router() -> Router {
    web::router(site(TEST_VIEWS, b"kube-router"))
}

/// A response whose body need not be text.
async fn raw(router: &Router, request: Request<Body>) -> (StatusCode, HeaderMap, Vec<u8>) {
    let (parts, body) = router.clone().oneshot(request).await.unwrap().into_parts();
    (parts.status, parts.headers, to_bytes(body, usize::MAX).await.unwrap().to_vec())
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).map_or("", |value| value.to_str().unwrap())
}

/// A gzip file begins so (RFC 1952).
const GZIP: [u8; 2] = [0x1f, 0x8b];

#[tokio::test]
async fn every_kind_has_gos_headers() {
    let router = router();
    for kind in PROFILES {
        let (status, headers, body) = raw(&router, ask(&format!("/debug/pprof/{}?ago=60", kind.name))).await;
        assert_eq!((status, &body[..2]), (StatusCode::OK, &GZIP[..]), "{}", kind.name);
        assert_eq!(header(&headers, "content-type"), "application/octet-stream");
        assert_eq!(
            header(&headers, "content-disposition"),
            format!("attachment; filename=\"{}\"", kind.name)
        );
        assert_eq!(header(&headers, "x-content-type-options"), "nosniff");
        let (status, headers, body) =
            raw(&router, ask(&format!("/debug/pprof/{}?ago=60&debug=1", kind.name))).await;
        assert_eq!((status, header(&headers, "content-type")), (StatusCode::OK, "text/plain; charset=utf-8"));
        assert!(body.starts_with(format!("{} profile: total ", kind.name).as_bytes()));
        let (status, headers, body) = raw(&router, ask(&format!("/flamegraph/{}?ago=60", kind.name))).await;
        assert_eq!((status, header(&headers, "content-type")), (StatusCode::OK, "image/svg+xml"));
        assert!(String::from_utf8(body).unwrap().contains("</svg>"));
    }
}

#[tokio::test]
async fn a_window_lasts_as_long_as_it_was_asked_for() {
    let router = router();
    for (path, disposition) in [
        ("/debug/pprof/exec?seconds=0.2", "attachment; filename=\"exec-delta\""),
        ("/debug/pprof/profile?seconds=200ms", "attachment; filename=\"profile\""),
        ("/flamegraph/exec?seconds=0.2", ""),
    ] {
        let begun = Instant::now();
        let (status, headers, _) = raw(&router, ask(path)).await;
        assert_eq!(
            (status, header(&headers, "content-disposition")),
            (StatusCode::OK, disposition),
            "{path}"
        );
        assert!(begun.elapsed() >= Duration::from_millis(200), "{path}");
        let begun = Instant::now();
        let head = Request::head(path).header("host", "localhost").body(Body::empty()).unwrap();
        let (status, headers, body) = raw(&router, head).await;
        assert_eq!(
            (status, header(&headers, "content-disposition"), body.len()),
            (StatusCode::OK, disposition, 0)
        );
        assert!(begun.elapsed() < Duration::from_millis(200), "nobody waits for no body");
    }
}

#[tokio::test]
async fn bad_requests_are_refused_as_go_refuses_them() {
    let router = router();
    for (path, status, word) in [
        ("/debug/pprof/heap", 404, "Unknown profile"),
        ("/debug/pprof/exec?seconds=0", 400, "seconds"),
        ("/debug/pprof/exec?seconds=-1", 400, "seconds"),
        ("/debug/pprof/exec?seconds=abc", 400, "seconds"),
        ("/debug/pprof/profile?seconds=1e99", 400, "seconds"),
        ("/debug/pprof/exec?seconds=99999999999", 400, "3600"),
        ("/debug/pprof/exec?seconds=601", 400, "the recorder keeps"),
        ("/debug/pprof/exec?seconds=5&debug=1", 400, "seconds and debug params are incompatible"),
        ("/debug/pprof/exec?debug=yes", 400, "debug"),
        ("/debug/pprof/profile?hz=0", 400, "hz"),
        ("/debug/pprof/profile?hz=1001", 400, "hz"),
        ("/debug/pprof/exec?pdo=web", 400, "pdo"),
        ("/debug/pprof/exec?pid=0", 400, "pid"),
        ("/debug/pprof/exec?pod=a&pod=b", 400, "more than once"),
        ("/debug/self/pprof/profile?seconds=0", 400, "seconds"),
    ] {
        let (got, headers, body) = raw(&router, ask(path)).await;
        let body = String::from_utf8(body).unwrap();
        assert_eq!(got.as_u16(), status, "{path}: {body}");
        assert_eq!(header(&headers, "x-go-pprof"), "1", "{path}");
        assert_eq!(header(&headers, "content-type"), "text/plain; charset=utf-8", "{path}");
        assert!(body.contains(word) && !headers.contains_key("content-disposition"), "{path}: {body}");
    }
    for (path, status, word) in [
        ("/flamegraph/heap", 404, "there is no profile"),
        ("/flamegraph/exec?value=heap", 400, "spawns, wall, cpu"),
        ("/flamegraph/exec?icicle=2", 400, "icicle"),
        ("/flamegraph/exec?format=png", 400, "svg, folded"),
        ("/flamegraph/exec?base=yesterday", 400, "base"),
        ("/flamegraph/exec?debug=1", 400, "unknown"),
    ] {
        let got = get(site(TEST_VIEWS, b"kube-router"), path).await;
        assert_eq!(got.status.as_u16(), status, "{path}");
        assert!(
            got.json()["error"].as_str().unwrap().contains(word) || got.body.contains(word),
            "{}",
            got.body
        );
    }
    let got = get(unready(TEST_VIEWS), "/debug/pprof/exec?seconds=1").await;
    assert_eq!((got.status, got.header("x-go-pprof")), (StatusCode::SERVICE_UNAVAILABLE, "1"));
}

#[tokio::test]
async fn profiles_show_the_node_and_only_what_passes() {
    let of = |query: &str| {
        let path = format!("/flamegraph/exec?ago=60&format=folded{query}");
        async move { get(site(TEST_VIEWS, b"kube-router"), &path).await.body }
    };
    let folded = of("").await;
    assert!(
        folded.lines().any(|line| line.contains(";kube-router;") && line.contains(";ipset add;")),
        "{folded}"
    );
    let pid = of("&pid=4194304").await;
    assert_eq!(pid, "");
}

/// Everyone who waits has a place until the window is over or he hangs up; who finds none is told so at once.
#[tokio::test]
async fn many_at_once_are_bounded_and_hanging_up_gives_the_place_back() {
    let router = router();
    let path = "/debug/pprof/exec?seconds=100";
    let waiting: Vec<_> =
        (0..PROFILES_MAX).map(|_| tokio::spawn(router.clone().oneshot(ask(path)))).collect();
    // Each of them runs up to where it waits.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let refused = tokio::time::timeout(Duration::from_secs(10), raw(&router, ask(path))).await;
    let refused = refused.expect("a refusal, at once");
    assert_eq!((refused.0, header(&refused.1, "retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "1"));
    assert_eq!(header(&refused.1, "x-go-pprof"), "1");
    // Views do not wait behind them.
    assert_eq!(raw(&router, ask("/api/v1/echo?word=x")).await.0, StatusCode::OK);
    waiting.iter().for_each(|task| task.abort());
    for task in waiting {
        assert!(task.await.is_err_and(|error| error.is_cancelled()));
    }
    assert_eq!(raw(&router, ask("/debug/pprof/exec?ago=1")).await.0, StatusCode::OK);
}

#[tokio::test]
async fn the_index_lists_every_kind_and_leads_there() {
    let got = get(site(TEST_VIEWS, b"kube-router"), "/debug/pprof/").await;
    assert_eq!((got.status, got.header("content-type")), (StatusCode::OK, "text/html; charset=utf-8"));
    assert!(got.header("content-security-policy").contains("default-src 'self'"));
    for kind in PROFILES {
        assert!(got.body.contains(&format!("href=\"/debug/pprof/{}?debug=1", kind.name)), "{}", kind.name);
    }
    let got = get(site(TEST_VIEWS, b"kube-router"), "/debug/pprof").await;
    assert_eq!((got.status.as_u16(), got.header("location")), (301, "/debug/pprof/"));
}

#[tokio::test]
async fn the_agent_says_what_it_costs() {
    let got = get(site(TEST_VIEWS, b"kube-router"), "/debug/self").await;
    let memory = &got.json()["memory"];
    assert!(memory["resident_bytes"].as_u64().unwrap() > 1 << 20);
    assert!(memory["recorder_bytes"].as_u64().unwrap() <= memory["recorder_bytes_max"].as_u64().unwrap());
    assert!(memory["tables"]["processes"]["rows_max"].is_number(), "{memory}");
}
