//! `/sched`: the heat map is what the JSON says, for the same filters; nothing on the page is inline, and names stay text.

use crate::{Got, ask, get, send, site};
use axum::Router;
use slowpod::views::VIEWS;
use slowpod::web;

fn router() -> Router {
    web::router(site(VIEWS, b"kube-router"))
}

async fn page(router: &Router, query: &str) -> Got {
    let got = send(router, ask(&format!("/sched?{query}"))).await;
    assert_eq!(got.status, 200, "{}", got.body);
    assert_eq!(got.header("content-type"), "text/html; charset=utf-8");
    got
}

/// Cells on a page: each begins with a move in the path of its colour.
fn cells(page: &str) -> usize {
    let paths = page.lines().filter(|line| line.starts_with("<path class=\"level-"));
    paths.map(|path| path.matches(['M']).count()).sum()
}

/// Waits of all slots, as their titles say.
fn waits(page: &str) -> u64 {
    let titles = page.lines().filter(|line| line.starts_with("<rect class=\"slot\""));
    let number = |title: &str| {
        let number = title.split(" waits").next()?.rsplit(": ").next()?.replace(',', "");
        number.parse::<u64>().ok()
    };
    titles.map(|title| number(title).unwrap_or_else(|| panic!("{title}"))).sum()
}

#[tokio::test]
async fn the_map_is_what_the_json_says() {
    let router = router();
    // The node has twice the waits of the one process; somebody else has none.
    let mut all = Vec::new();
    for filter in
        ["seconds=60", "seconds=60&pid=4242", "seconds=60&comm=nobody", "ago=8s&seconds=3", "cpu=0", "cpu=1"]
    {
        let page = page(&router, filter).await.body;
        let json = send(&router, ask(&format!("/api/v1/sched/heatmap?{filter}"))).await.json();
        let slots = json["slots"].as_array().unwrap();
        let counts: Vec<u64> = slots
            .iter()
            .flat_map(|slot| slot["counts"].as_array().unwrap())
            .map(|count| count.as_u64().unwrap())
            .collect();
        assert_eq!(cells(&page), counts.iter().filter(|count| **count > 0).count(), "{filter}");
        assert_eq!(waits(&page), counts.iter().sum::<u64>(), "{filter}");
        assert_eq!(page.contains("Nothing waited for a CPU"), counts.is_empty(), "{filter}");
        assert_eq!(page.matches("class=\"p99\"").count(), usize::from(!counts.is_empty()), "{filter}");
        all.push(waits(&page));
    }
    assert_eq!(all, [2 * 864, 864, 0, 864, 2 * 864, 0]);
}

#[tokio::test]
async fn the_page_says_its_window_and_what_is_missing() {
    let router = router();
    let got = page(&router, "seconds=2&ago=8s").await;
    assert!(got.body.contains("Window 2025-") && got.body.contains("2 s; of the whole node"), "{}", got.body);
    // Before the node there was: no records, and a map that shows so.
    let got = page(&router, "seconds=10m").await;
    assert!(got.body.contains("class=\"uncovered\""), "{}", got.body);
    assert!(
        got.body.contains("Data are missing") && got.body.contains("records cover the last"),
        "{}",
        got.body
    );
    assert!(got.body.contains("<option value=\"600\" selected>"));
    let got = page(&router, "seconds=45").await;
    assert!(got.body.contains("<option value=\"45\" selected>"), "a window of one's own is kept");
}

#[tokio::test]
async fn whoever_waited_is_a_link_to_a_map_of_his() {
    let router = router();
    let got = page(&router, "seconds=60").await.body;
    let pod = "pod=1f0e1c6a-5b1d-4c7e-9a54-1b7f3c2d4e5f";
    for filter in ["pid=4242", "cpu=0", pod] {
        assert!(got.contains(&format!("href=\"/sched?seconds=60&amp;{filter}\"")), "{filter}: {got}");
    }
    let of_pod = page(&router, &format!("seconds=60&{pod}")).await.body;
    assert_eq!(waits(&of_pod), 864);
    assert!(
        of_pod.contains("value=\"1f0e1c6a-5b1d-4c7e-9a54-1b7f3c2d4e5f\""),
        "the field keeps what was asked"
    );
    assert!(of_pod.contains(&format!("/api/v1/sched/heatmap?seconds=60&amp;{pod}")), "{of_pod}");
    // What a link leads to is answered: what the one view takes the other may not.
    let of_cpu = page(&router, "seconds=60&cpu=0").await.body;
    assert!(!of_cpu.contains("pid=4242"), "who waited is not known by CPU");
    for (at, _) in of_cpu.match_indices("href=\"/api/") {
        let link = of_cpu[at + 6..].split('"').next().unwrap().replace("&amp;", "&");
        assert_eq!(send(&router, ask(&link)).await.status, 200, "{link}");
    }
    for path in ["/sched", "/api/v1/sched/heatmap"] {
        let both = send(&router, ask(&format!("{path}?seconds=60&cpu=0&pid=4242"))).await;
        assert_eq!(both.status, 400, "{path}");
        assert!(both.body.contains("not together with pid"), "{}", both.body);
    }
    let index = send(&router, ask("/")).await.body;
    assert!(index.contains("href=\"/sched\""));
}

#[tokio::test]
async fn nothing_is_inline_and_names_stay_text() {
    let hostile = b"\"<u>\\\n\xffx{{answer}}";
    let got = get(site(VIEWS, hostile), "/sched?seconds=60&comm=%3Ci%3E%22").await;
    assert!(got.header("content-security-policy").starts_with("default-src 'self'"));
    assert!(got.body.contains("value=\"&lt;i&gt;&quot;\"") && !got.body.contains("<i>"), "{}", got.body);
    let got = get(site(VIEWS, hostile), "/sched?seconds=60").await;
    assert!(!got.body.contains("<u>") && got.body.contains("&lt;u&gt;"), "{}", got.body);
    for inline in ["style=\"", "onclick=", "onload=", "javascript:", "https://", "http://"] {
        assert!(!got.body.contains(inline), "{inline}");
    }
    let scripts: Vec<&str> = got.body.split("<script").skip(1).collect();
    assert_eq!(scripts.len(), 1);
    assert!(scripts[0].starts_with(" type=\"module\" src=\"/ui/sched.js\">"));
    assert_eq!(
        get(site(VIEWS, b"x"), "/ui/sched.js").await.header("content-type"),
        "text/javascript; charset=utf-8"
    );
}

#[tokio::test]
async fn what_cannot_be_asked_is_refused_as_elsewhere() {
    for (query, parameter) in [("seconds=0", "seconds"), ("pid=x", "pid"), ("slot=1", "slot")] {
        let got = get(site(VIEWS, b"kube-router"), &format!("/sched?{query}")).await;
        assert_eq!(
            (got.status.as_u16(), got.json()["parameter"].as_str()),
            (400, Some(parameter)),
            "{query}"
        );
    }
}
