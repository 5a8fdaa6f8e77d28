//! Few answers at once, few waiting, none twice within a second, and a defect that costs one answer only.

use super::*;
use slowpod::web::{CACHE_AGE_MAX, QUEUE_MAX, RENDERS_MAX};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

#[tokio::test]
async fn a_view_that_panics_costs_its_own_answer() {
    let router = web::router(site(TEST_VIEWS, b"kube-router"));
    for _ in 0..RENDERS_MAX + QUEUE_MAX + 1 {
        let got = send(&router, ask("/api/v1/panic")).await;
        assert_eq!(got.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(got.json()["error"].as_str().unwrap().contains("panic failed"), "{}", got.body);
    }
    assert_eq!(send(&router, ask("/api/v1/echo")).await.status, StatusCode::OK);
}

static COUNTED: AtomicU64 = AtomicU64::new(0);
static COUNT_ONLY: &[&View] = &[&COUNT];
static COUNT: View = View {
    name: "count",
    path: "/api/v1/count",
    about: "How often it was rendered.",
    params: &[],
    content_type: JSON,
    render: |_, _| COUNTED.fetch_add(1, Ordering::SeqCst).to_string().into_bytes(),
};

#[tokio::test]
async fn the_same_question_within_a_second_has_the_same_answer() {
    let router = web::router(site(COUNT_ONLY, b"kube-router"));
    let body = async |path| send(&router, ask(path)).await.body;
    assert_eq!(body("/api/v1/count").await, "0");
    assert_eq!(body("/api/v1/count").await, "0");
    assert_eq!(body("/api/v1/count?seconds=5").await, "1", "another question");
    assert_eq!(body("/api/v1/count?seconds=5s").await, "1", "the same in other words");
    tokio::time::sleep(CACHE_AGE_MAX + Duration::from_millis(50)).await;
    assert_eq!(body("/api/v1/count").await, "2");
}

static RENDERING: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);
static OPEN: AtomicBool = AtomicBool::new(false);
static SLOW_AND_ECHO: &[&View] = &[&SLOW, &ECHO];
static SLOW: View = View {
    name: "slow",
    path: "/api/v1/slow",
    about: "Waits until it may go on.",
    params: &[],
    content_type: JSON,
    render: |_, _| {
        MOST.fetch_max(RENDERING.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        while !OPEN.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(2));
        }
        RENDERING.fetch_sub(1, Ordering::SeqCst);
        b"1".to_vec()
    },
};

/// Waits until something has come about.
async fn until(what: &str, come: impl Fn() -> bool) {
    for _ in 0..500 {
        if come() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}

#[tokio::test]
async fn few_render_few_wait_and_the_rest_is_told_to_come_back() {
    let router = web::router(site(SLOW_AND_ECHO, b"kube-router"));
    let mut asked = Vec::new();
    for limit in 1..=RENDERS_MAX + QUEUE_MAX {
        let router = router.clone();
        let path = format!("/api/v1/slow?limit={limit}");
        asked.push(tokio::spawn(async move { send(&router, ask(&path)).await.status }));
    }
    until("all slots busy", || RENDERING.load(Ordering::SeqCst) == RENDERS_MAX).await;
    // Those that wait have asked before; one more is too many, whatever it asks.
    let busy = send(&router, ask("/api/v1/echo")).await;
    assert_eq!((busy.status, busy.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "1"));
    assert!(busy.json()["error"].as_str().unwrap().contains("16 requests wait"), "{}", busy.body);
    // What is no view needs no turn.
    assert_eq!(send(&router, ask("/healthz")).await.status, StatusCode::OK);
    assert_eq!(send(&router, ask("/metrics")).await.status, StatusCode::OK);
    // Somebody who hangs up while rendering keeps the bound.
    asked.remove(0).abort();
    assert_eq!(send(&router, ask("/api/v1/echo")).await.status, StatusCode::SERVICE_UNAVAILABLE);
    OPEN.store(true, Ordering::SeqCst);
    for answer in asked {
        assert_eq!(answer.await.unwrap(), StatusCode::OK);
    }
    assert_eq!(MOST.load(Ordering::SeqCst), RENDERS_MAX);
    until("the one who hung up is done", || RENDERING.load(Ordering::SeqCst) == 0).await;
    assert_eq!(send(&router, ask("/api/v1/echo")).await.status, StatusCode::OK);
}
