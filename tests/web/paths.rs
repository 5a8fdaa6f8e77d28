//! Every path gives what it says, with the headers that all carry.

use super::*;
use slowpod::demand::Watch;
use slowpod::views::{ON_DEMAND, VIEWS};
use slowpod::web::FIXED;

#[tokio::test]
async fn every_path_answers_with_the_common_headers() {
    let router = web::router(site(VIEWS, b"kube-router"));
    for path in VIEWS.iter().map(|view| view.path).chain(FIXED.iter().map(|(path, _)| *path)) {
        // Nobody looks here, so what is looked at on demand can only be looked back at.
        let on_demand = ON_DEMAND.iter().any(|view| view.path == path);
        let question = if on_demand { format!("{path}?ago=1m") } else { path.to_owned() };
        let got = send(&router, ask(&question)).await;
        assert_eq!(got.status, StatusCode::OK, "{path}: {}", got.body);
        assert!(!got.body.is_empty(), "{path}");
        assert_eq!(got.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(got.header("cache-control"), "no-store", "{path}");
        assert!(got.header("server").starts_with("slowpod/"), "{path}");
        assert!(got.headers.get("access-control-allow-origin").is_none(), "{path}");
        let html = got.header("content-type").starts_with("text/html");
        assert_eq!(html, ["/", "/debug/pprof/", "/sched"].contains(&path), "{path}");
        assert_eq!(html, got.header("content-security-policy").starts_with("default-src 'self'"), "{path}");
    }
}

#[tokio::test]
async fn what_is_looked_at_on_demand_is_wished_for_while_its_window_lasts() {
    let site = site(VIEWS, b"kube-router");
    let demand = Arc::clone(site.hub.demand());
    let router = web::router(site);
    let asking = tokio::spawn({
        let router = router.clone();
        async move { send(&router, ask("/api/v1/sched/wakers?seconds=0.1")).await }
    });
    while !demand.wants_wakes() {
        tokio::task::yield_now().await;
    }
    demand.wakes_are(Watch::On);
    assert_eq!(asking.await.unwrap().status, StatusCode::OK);
    assert!(!demand.wants_wakes() && demand.wakes_end(), "the wish ended with the answer");
    let asking = tokio::spawn(async move { send(&router, ask("/api/v1/sched/wakers?seconds=5")).await });
    while !demand.wants_wakes() {
        tokio::task::yield_now().await;
    }
    demand.wakes_are(Watch::Refused("this kernel has no such hook".into()));
    let got = asking.await.unwrap();
    assert_eq!(got.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(got.body.contains("this kernel has no such hook"), "{}", got.body);
    assert!(!demand.wants_wakes());
}

#[tokio::test]
async fn views_render_the_window_asked_for() {
    let router = web::router(site(TEST_VIEWS, b"kube-router"));
    let got = send(&router, ask("/api/v1/echo?seconds=2&ago=8s&word=caf%C3%A9")).await;
    assert_eq!(got.header("content-type"), JSON);
    let json = got.json();
    assert_eq!(json["word"], "café");
    assert_eq!(json["daemons"], 1);
    assert_eq!(json["from_ns"], now_ns() - 8 * S);
    assert_eq!(json["until_ns"], now_ns() - 6 * S);
}

#[tokio::test]
async fn a_parameter_may_stand_in_the_path() {
    let router = web::router(site(TEST_VIEWS, b"kube-router"));
    let path = OF.url(&[("word", "a/b é?"), ("seconds", "2")]);
    assert_eq!(path, "/api/v1/of/a%2Fb%20%C3%A9%3F?seconds=2");
    let json = send(&router, ask(&path)).await.json();
    assert_eq!(json["word"], "a/b é?");
    assert_eq!(json["from_ns"], now_ns() - 2 * S);
}

#[tokio::test]
async fn head_gives_the_headers_of_get() {
    let router = web::router(site(TEST_VIEWS, b"kube-router"));
    let mut request = ask("/api/v1/echo");
    *request.method_mut() = axum::http::Method::HEAD;
    let got = send(&router, request).await;
    assert_eq!((got.status, got.body.as_str(), got.header("content-type")), (StatusCode::OK, "", JSON));
}

#[tokio::test]
async fn an_agent_that_has_not_begun_lives_but_is_not_ready() {
    let router = web::router(unready(TEST_VIEWS));
    assert_eq!(send(&router, ask("/healthz")).await.body, "ok\n");
    assert_eq!(send(&router, ask("/")).await.status, StatusCode::OK);
    assert!(send(&router, ask("/metrics")).await.body.contains("\nslowpod_ready 0\n"));
    let readyz = send(&router, ask("/readyz")).await;
    assert_eq!((readyz.status, readyz.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "1"));
    let missing = readyz.json()["missing"].to_string();
    assert!(missing.contains("scan") && missing.contains("probe spawn"), "{missing}");
    let view = send(&router, ask("/api/v1/echo")).await;
    assert_eq!((view.status, view.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "1"));
    assert!(view.json()["hint"].as_str().unwrap().contains("/readyz"));
}

#[tokio::test]
async fn a_ready_agent_says_so_everywhere() {
    let router = web::router(site(TEST_VIEWS, b"kube-router"));
    let readyz = send(&router, ask("/readyz")).await.json();
    assert_eq!((&readyz["ready"], &readyz["missing"]), (&Value::Bool(true), &Value::Array(vec![])));
    assert!(send(&router, ask("/metrics")).await.body.contains("\nslowpod_ready 1\n"));
    let version = send(&router, ask("/version")).await.json();
    assert_eq!(version["contract"], format!("{:016x}", slowpod_ebpf::abi::CONTRACT));
}

#[tokio::test]
async fn the_index_lists_every_path_and_shows_how_to_ask() {
    let mut request = ask("/");
    request.headers_mut().insert("host", "127.0.0.1:7070".parse().unwrap());
    let page = send(&web::router(site(VIEWS, b"kube-router")), request).await.body;
    for view in VIEWS {
        let is_link = page.contains(&format!("href=\"{}\"", view.path));
        assert_eq!(is_link, view.in_path().next().is_none(), "{}", view.path);
        assert!(page.contains(&format!("curl -s 127.0.0.1:7070{}", view.path)), "{}", view.path);
    }
    assert!(page.contains("node-7") && page.contains("6.18.0"));
}

#[tokio::test]
async fn the_pages_files_are_served_as_what_they_are() {
    let router = web::router(site(VIEWS, b"kube-router"));
    let page = send(&router, ask("/")).await.body;
    let mut files = 0;
    for (at, quote) in page.match_indices("\"/ui/") {
        let path = &page[at + 1..];
        let path = &path[..path.find(quote.chars().next().unwrap()).unwrap()];
        let got = send(&router, ask(path)).await;
        assert_eq!(got.status, StatusCode::OK, "{path}");
        let expected = match path.rsplit('.').next() {
            Some("js") => "text/javascript; charset=utf-8",
            Some("css") => "text/css; charset=utf-8",
            _ => "image/svg+xml",
        };
        assert_eq!(got.header("content-type"), expected, "{path}");
        files += 1;
    }
    assert!(files >= 3, "script, style and icon");
}

#[tokio::test]
async fn hostile_names_reach_metrics_and_the_api_as_data() {
    let hostile = b"\"<b>\\\n\xffx";
    let got = get(site(TEST_VIEWS, hostile), "/metrics").await;
    for line in got.body.lines() {
        assert!(
            line.starts_with("# ") || line.starts_with("slowpod_") || line.starts_with("process_"),
            "{line}"
        );
    }
    let got = get(site(VIEWS, hostile), "/api/v1/storms").await;
    assert_eq!(got.json()["daemons"][0]["comm"], "\"<b>\\\\n\\xffx");
}
