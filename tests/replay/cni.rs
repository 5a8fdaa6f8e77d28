//! CNI calls over the border between two chunks of the flight recorder.

use harness::check::Records;
use harness::scene::Scene;
use serde_json::Value;
use slowpod::fold::{Limits, State, Window};
use slowpod::views::{self, Query};
use slowpod::{decode, pipeline};

/// The answer of a fold that begins with a keyframe before record number `border`.
fn from_keyframe(scene: &Scene, border: usize) -> Value {
    let mut at = 0;
    for _ in 0..border {
        at += decode::header(&scene.records[at..]).expect("a record").len_bytes as usize;
    }
    let (before, after) = scene.records.split_at(at);
    let mut live = State::new(Window::ALL, Limits::LIVE);
    pipeline::fold_all(&mut Records::new(before, 100), &mut live).expect("no I/O");
    let chunk = [pipeline::keyframe(&live, live.covered.1), after.to_vec()].concat();
    let mut state = State::new(Window::ALL, Limits::WINDOW);
    pipeline::fold_all(&mut Records::new(&chunk, 100), &mut state).expect("no I/O");
    let until_ns = state.covered.1;
    let view = views::named("cni").expect("the view");
    let answer = (view.render)(&state.finish(until_ns), &Query::parse("", view.params).expect("no query"));
    serde_json::from_slice(&answer).expect("JSON")
}

#[test]
fn a_call_in_flight_at_a_keyframe_keeps_its_pod_its_start_and_its_tree() {
    let scene = Scene::parse(
        "border",
        r#"
process runtime pid=100 path=/usr/bin/containerd
at 1s spawn runtime->b
+1ms exec b /opt/cni/bin/bridge argv=bridge
cni b ADD sandbox=5b1f if=eth0 netns=/run/netns/x args="K8S_POD_UID=u-1;K8S_POD_NAME=web"
+1ms spawn b->h
+1ms exec h /opt/cni/bin/host-local argv=host-local
cni h ADD sandbox=5b1f if=eth0 netns=/run/netns/x args="K8S_POD_UID=u-1;K8S_POD_NAME=web"
+1ms spawn h->s
+5ms exit s
+5ms exit h
+5ms exit b code=3
"#,
    );
    // Behind each record from the plugin's own on, up to the first end.
    for border in 4..=9 {
        let answer = from_keyframe(&scene, border);
        let calls = answer["calls"].as_array().expect("calls");
        let bridge = calls.iter().find(|call| call["plugin"] == "bridge").expect("the plugin");
        assert_eq!(bridge["identity"]["pod_uid"], "u-1", "border {border}");
        assert_eq!(bridge["exit"]["code"], 3, "border {border}");
        assert_eq!(bridge["wall_ns"], 19_000_000, "border {border}");
        assert_eq!(bridge["cut_at_start"], true, "border {border}");
        let ipam = calls.iter().find(|call| call["plugin"] == "host-local").expect("its IPAM");
        assert_eq!(ipam["delegated_by"], bridge["pid"], "border {border}");
        assert_eq!(calls.len(), 2, "border {border}");
        if border < 9 {
            assert_eq!(bridge["tree"]["spawns"], 2, "border {border}");
            assert_eq!(ipam["tree"]["spawns"], 1, "border {border}");
        }
    }
}
