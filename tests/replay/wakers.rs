//! Who woke whom: sums, shares, and chains that end.

use crate::{MS, S};
use harness::check::answer_of;
use serde_json::Value;

fn woken(answer: &Value, comm: &str) -> Value {
    let rows = answer["woken"].as_array().unwrap();
    rows.iter().find(|row| row["process"]["comm"] == comm).expect(comm).clone()
}

fn chain(of: &Value) -> Vec<String> {
    let link = |link: &Value| match link["process"]["comm"].as_str() {
        Some(comm) => format!("{} {comm}", link["waker"].as_str().unwrap()),
        None => link["waker"].as_str().unwrap().to_owned(),
    };
    of["chain"].as_array().unwrap().iter().map(link).collect()
}

#[test]
fn sums_and_shares_are_those_of_the_counts() {
    let answer = answer_of("wakers", "wakers", "");
    assert_eq!((&answer["wakes"], &answer["woken_matched"]), (&(5 * 611).into(), &4.into()));
    let web = woken(&answer, "web");
    assert_eq!((&web["wakes"], &web["blocked_ns"]), (&550.into(), &(5 * 900 * MS).into()));
    let [proxy, timer] = &web["by"].as_array().unwrap()[..] else { panic!("{web}") };
    assert_eq!((&proxy["process"]["comm"], &proxy["blocked_ns"]), (&"proxy".into(), &(4 * S).into()));
    assert_eq!(
        (&timer["waker"], &timer["process"], &timer["wakes"]),
        (&"timer".into(), &Value::Null, &50.into())
    );
    assert_eq!(proxy["share"], 0.8889);
}

#[test]
fn a_chain_goes_back_to_where_it_came_from_and_no_further() {
    let answer = answer_of("wakers", "wakers", "");
    let expected = ["process web", "process proxy", "network curl", "idle"];
    assert_eq!(chain(&woken(&answer, "db")), expected, "its own threads tell nothing new");
    assert_eq!(chain(&woken(&answer, "curl")), ["idle"]);
}

#[test]
fn a_pods_threads_can_be_asked_for() {
    let answer = answer_of("wakers", "wakers", "pod=3d257a45-dcf3-4084-80a7-e6f469453ac6");
    assert_eq!(answer["woken_matched"], 2);
    assert_eq!(
        chain(&woken(&answer, "web")),
        ["process proxy", "network curl", "idle"],
        "through other owners"
    );
    assert_eq!(answer_of("wakers", "wakers", "comm=db&limit=1")["woken"].as_array().unwrap().len(), 1);
}
