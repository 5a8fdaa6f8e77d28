//! What is refused, and that the refusal says why: parameters, paths, methods, hosts.

use super::*;
use axum::http::Method;

/// The JSON of a refusal, its status checked.
async fn refused(path: &str, status: StatusCode) -> Value {
    let got = get(site(TEST_VIEWS, b"kube-router"), path).await;
    assert_eq!(got.status, status, "{path}: {}", got.body);
    assert_eq!(got.header("content-type"), JSON, "{path}");
    assert_eq!(got.header("x-content-type-options"), "nosniff", "{path}");
    got.json()
}

#[tokio::test]
async fn bad_parameters_are_named() {
    let long = format!("comm={}", "x".repeat(65));
    let cases: &[(&str, &str)] = &[
        ("seconds=-1", "seconds"),
        ("seconds=0", "seconds"),
        ("seconds=1e9", "seconds"),
        ("seconds=NaN", "seconds"),
        ("seconds=inf", "seconds"),
        ("seconds=99999999", "seconds"),
        ("seconds=", "seconds"),
        ("seconds", "seconds"),
        ("seconds=5%00", "seconds"),
        ("ago=2h", "ago"),
        ("limit=0", "limit"),
        ("limit=18446744073709551616", "limit"),
        ("limit=%F0%9F%98%80", "limit"),
        ("pid=-1", "pid"),
        ("pid=4194305", "pid"),
        ("pod=a%0Ab", "pod"),
        ("comm=%1b[31m", "comm"),
        (&long, "comm"),
        ("cgroup=", "cgroup"),
        ("word=%7F", "word"),
        ("word=123456789012345678901", "word"),
        ("second=5", "second"),
        ("Seconds=5", "Seconds"),
        ("limit=1&limit=2", "limit"),
        ("limit=1&%6Cimit=2", "limit"),
        ("=5", ""),
        ("%00=5", "\0"),
    ];
    for (query, parameter) in cases {
        let json = refused(&format!("/api/v1/echo?{query}"), StatusCode::BAD_REQUEST).await;
        assert_eq!(json["parameter"], *parameter, "{query}");
        assert!(json["error"].as_str().unwrap().len() > 20, "{query}: {json}");
        assert!(!json["hint"].as_str().unwrap().is_empty(), "{query}: {json}");
    }
}

#[tokio::test]
async fn parameters_in_the_path_are_checked_like_the_others() {
    for (path, parameter) in [
        ("/api/v1/of/123456789012345678901", Some("word")),
        ("/api/v1/of/a%0Ab", Some("word")),
        ("/api/v1/of/a?word=b", Some("word")),
        ("/api/v1/of/a?words=b", Some("words")),
        ("/api/v1/of/%ff", None),
    ] {
        let json = refused(path, StatusCode::BAD_REQUEST).await;
        assert_eq!(json["parameter"].as_str(), parameter, "{path}: {json}");
        assert!(json["error"].as_str().unwrap().len() > 20, "{path}: {json}");
    }
    for path in ["/api/v1/of", "/api/v1/of/", "/api/v1/of/a/b"] {
        refused(path, StatusCode::NOT_FOUND).await;
    }
}

#[tokio::test]
async fn queries_that_are_too_long_are_not_even_parsed() {
    let json = refused(&format!("/api/v1/echo?comm={}", "x".repeat(20_000)), StatusCode::URI_TOO_LONG).await;
    assert!(json["error"].as_str().unwrap().contains("8192 bytes"));
}

#[tokio::test]
async fn the_servers_own_paths_take_no_parameters() {
    for path in ["/", "/healthz", "/readyz", "/metrics", "/version", "/ui/app.js", "/api/v1/openapi.json"] {
        let json = refused(&format!("{path}?seconds=5"), StatusCode::BAD_REQUEST).await;
        assert_eq!(json["parameter"], "seconds", "{path}");
    }
}

#[tokio::test]
async fn unknown_paths_list_the_known_ones() {
    for path in ["/api/v1/storm", "/api/v1/echo/", "/../etc/passwd", "/ui/", "/%2e%2e/", "/api/v1/echo%00"] {
        let json = refused(path, StatusCode::NOT_FOUND).await;
        let paths = json["paths"].as_array().unwrap();
        assert!(paths.contains(&"/api/v1/echo".into()) && paths.contains(&"/readyz".into()), "{path}");
    }
    let long = format!("/{}", "x".repeat(60_000));
    assert!(refused(&long, StatusCode::NOT_FOUND).await["error"].as_str().unwrap().len() < 200);
}

#[tokio::test]
async fn nothing_here_can_be_written_to() {
    let router = web::router(site(TEST_VIEWS, b"kube-router"));
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH, Method::OPTIONS, Method::TRACE] {
        for path in ["/", "/api/v1/echo", "/metrics", "/nowhere"] {
            let mut request = ask(path);
            *request.method_mut() = method.clone();
            let got = send(&router, request).await;
            assert_eq!(got.status, StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
            assert_eq!(got.header("allow"), "GET, HEAD");
            assert!(got.json()["error"].as_str().unwrap().contains("GET"));
        }
    }
}

/// A request with these headers, each a name and a value.
fn with(path: &str, headers: &[(&str, &str)]) -> Request<Body> {
    let mut request = Request::get(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Body::empty()).unwrap()
}

#[tokio::test]
async fn strangers_names_are_refused_on_every_path() {
    let router = web::router(site(TEST_VIEWS, b"kube-router"));
    let strangers: &[&[(&str, &str)]] = &[
        &[("host", "evil.example")],
        &[("host", "evil.example:6060")],
        &[("host", "localhost.evil.example")],
        &[("host", "10.0.0.1:6060")],
        &[("host", "")],
        &[],
        &[("host", "localhost@evil.example")],
        &[("host", "localhost"), ("origin", "http://evil.example")],
        &[("host", "localhost"), ("origin", "null")],
    ];
    for headers in strangers {
        for path in ["/", "/healthz", "/metrics", "/api/v1/echo", "/nowhere", "/ui/app.js"] {
            let got = send(&router, with(path, headers)).await;
            assert_eq!(got.status, StatusCode::FORBIDDEN, "{headers:?} {path}");
            assert!(got.json()["hint"].as_str().unwrap().contains("--allow-host"));
            assert!(got.headers.get("access-control-allow-origin").is_none());
        }
    }
    let twice = with("/", &[("host", "localhost"), ("host", "evil.example")]);
    assert_eq!(send(&router, twice).await.status, StatusCode::BAD_REQUEST);
    let absolute = with("http://evil.example/metrics", &[("host", "localhost")]);
    assert_eq!(send(&router, absolute).await.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn own_and_allowed_names_are_let_in() {
    let router = web::router(site(TEST_VIEWS, b"kube-router"));
    for host in
        ["localhost", "127.0.0.1:6060", "[::1]:9", "LOCALHOST:80", "node-7.example", "Node-7.Example:443"]
    {
        let got = send(&router, with("/api/v1/echo", &[("host", host)])).await;
        assert_eq!(got.status, StatusCode::OK, "{host}");
    }
    let own_page = with("/metrics", &[("host", "localhost:6060"), ("origin", "http://localhost:6060")]);
    assert_eq!(send(&router, own_page).await.status, StatusCode::OK);
}
