//! Profiles: what their numbers add up to, whose they are, and what they say of themselves.

use crate::{MS, S};
use harness::check::{render_profile, snapshot};
use harness::scene::Scene;
use slowpod::fold::{Limits, Snapshot, State, Window};
use slowpod::views::Query;
use slowpod::views::profiles::{self, PROFILES, folded, model::Profile, pprof, svg, text};

fn scene(name: &str) -> Snapshot {
    snapshot(&Scene::load(name))
}

fn profile(snapshot: &Snapshot, kind: &str, query: &str) -> Profile {
    let query = Query::parse(query, profiles::params::FLAMEGRAPH).expect("a query");
    profiles::profile(profiles::named(kind).expect("a kind"), snapshot, &query)
}

fn folded_of(snapshot: &Snapshot, kind: &str, query: &str) -> String {
    String::from_utf8(render_profile(snapshot, kind, "folded", query)).expect("UTF-8")
}

/// The sum of the values of the lines that have this in them.
fn sum(folded: &str, part: &str) -> u64 {
    let value = |line: &str| line.rsplit_once(' ').and_then(|(_, value)| value.parse::<u64>().ok());
    folded.lines().filter(|line| line.contains(part)).map(|line| value(line).expect("a value")).sum()
}

/// Two resyncs, each 4,000 times `ipset add` (100 us in clone, 675 us alive, collected after 50 us) and 2,000 times
/// `ip route replace` (100 us, 1,000 us, 100 us).
#[test]
fn the_exec_profile_of_a_storm_is_what_its_children_took() {
    let snapshot = scene("kube_router");
    let folded = folded_of(&snapshot, "exec", "");
    assert_eq!(sum(&folded, ";ipset add;"), 2 * 4_000 * 825_000);
    assert_eq!(sum(&folded, ";ip route replace;"), 2 * 2_000 * 1_200_000);
    assert_eq!(sum(&folded, ";ipset add;[clone]"), 2 * 4_000 * 100_000);
    assert_eq!(sum(&folded, ";ipset add;[until collected]"), 2 * 4_000 * 50_000);
    assert_eq!(sum(&folded, ";ipset add;[on cpu]"), 2 * 4_000 * 400_000);
    assert_eq!(sum(&folded, ";ipset add;[blocked: disk]"), 2 * 4_000 * 75_000);
    assert_eq!(sum(&folded_of(&snapshot, "exec", "value=spawns"), ""), 2 * 6_000);
    // From the pod up to the child, by way of the daemon's own stack.
    let line = folded.lines().find(|line| line.contains("[clone]")).expect("a line");
    assert!(line.starts_with("pod 3d257a45-dcf3-4084-80a7-e6f469453ac6;container 9a7e155c7e47;kube-router;"));
}

#[test]
fn netlink_of_children_stands_where_they_were_spawned() {
    let folded = folded_of(&scene("kube_router"), "netlink", "");
    assert_eq!(sum(&folded, "kube-router;"), 2 * (4_000 * 20_000 + 2_000 * 150_000));
    assert_eq!(sum(&folded, ";ip route replace;RTM_NEWROUTE"), 2 * 2_000 * 150_000);
    assert_eq!(sum(&folded, "host;routed.service;routed;"), 2_000 * 150_000);
}

#[test]
fn a_window_cuts_what_reaches_over_its_edge() {
    let scene = Scene::parse(
        "cut",
        "process kube pid=100 comm=kube
        at 1s spawn kube->a begun=1us
        at 9s exit a cpu=4s
        window 7s 10s",
    );
    let folded = folded_of(&snapshot(&scene), "exec", "");
    // A quarter of the life, and no more of its parts.
    assert!(sum(&folded, "").abs_diff(2 * S) < MS, "{folded}");
    assert!(sum(&folded, "[on cpu]").abs_diff(S) < MS, "{folded}");
}

#[test]
fn a_child_that_still_runs_is_shown_as_such() {
    let scene = Scene::parse(
        "running",
        "process kube pid=100 comm=kube
        at 1s spawn kube->a begun=1us stack=7
        stack 7 kube 0x1
        at 4s spawn kube->b
        exit b",
    );
    let folded = folded_of(&snapshot(&scene), "exec", "");
    assert!(sum(&folded, "[still running]").abs_diff(3 * S) < MS, "{folded}");
}

#[test]
fn filters_leave_out_what_belongs_to_others() {
    let snapshot = scene("profiles");
    let total = |query: &str| profile(&snapshot, "profile", query).total(1);
    assert_eq!(total(""), 105 * MS);
    for of_pod in [
        "pod=router-x7",
        "pod=3d257a45-dcf3-4084-80a7-e6f469453ac6",
        "namespace=kube-system",
        "container=9a7e155c7e47",
        "pid=100",
        "comm=kube-router",
        "cgroup=/kubepods/",
    ] {
        assert_eq!(total(of_pod), 70 * MS, "{of_pod}");
    }
    for nobody in ["pod=router", "namespace=shop", "container=9a7e", "pid=1", "pod=router-x7&pid=200"] {
        assert_eq!(total(nobody), 0, "{nobody}");
    }
    let lock = profile(&snapshot, "lock", "");
    assert_eq!((lock.total(0), lock.total(1)), (5, 1_150 * MS));
}

#[test]
fn what_its_stacks_lack_is_said() {
    let profile = profile(&scene("profiles"), "profile", "");
    assert_eq!(profile.flaws.unnamed_places, 2, "kube-router+0x401900, and routed's only frame");
    let text = String::from_utf8(text::encode(&profile, 100)).expect("UTF-8");
    assert!(text.contains("# missing: 2 places in code without a name"), "{text}");
}

/// Of nothing there is an empty profile, in every format, and not an error.
#[test]
fn zero_samples_make_a_profile_without_samples() {
    let snapshot = State::new(Window::ALL, Limits::WINDOW).finish(0);
    for kind in PROFILES {
        let empty = profile(&snapshot, kind.name, "");
        assert_eq!(empty.samples.len(), 0);
        assert!(!pprof::encode(&empty).is_empty());
        assert!(folded::encode(&empty, kind.default_value).is_empty());
        assert!(text::encode(&empty, 10).starts_with(format!("{} profile: total 0", kind.name).as_bytes()));
        let svg = String::from_utf8(svg::encode(&empty, None, svg::Style::default())).expect("UTF-8");
        assert!(svg.contains("No samples in this window.") && svg.contains("</svg>"), "{svg}");
    }
}

#[test]
fn pictures_show_every_way_up_and_what_changed() {
    let snapshot = scene("profiles");
    let now = profile(&snapshot, "profile", "");
    let base = profile(&snapshot, "profile", "pid=200");
    let draw = |base: Option<&Profile>, icicle, reverse| {
        let style = svg::Style { value: 1, icicle, reverse };
        String::from_utf8(svg::encode(&now, base, style)).expect("UTF-8")
    };
    let flame = draw(None, false, false);
    assert_eq!(flame, draw(None, false, false), "twice the same");
    // The share of all 105 ms.
    assert!(flame.contains("main.order (60,000,000 ns, 57.14%)"), "{flame}");
    assert!(flame.contains("sort.insertion (60,000,000 ns, 57.14%)"));
    assert!(flame.contains("pod kube-system/router-x7 (70,000,000 ns, 66.67%)"));
    assert!(flame.contains("flock_lock_inode_wait (5,000,000 ns"));
    assert!(draw(None, true, false) != flame && draw(None, false, true) != flame);
    let differential = draw(Some(&base), false, false);
    // What a frame's own time became more, as differential flame graphs say it.
    assert!(differential.contains("sort.insertion (60,000,000 ns, 57.14%; +57.14%)"), "{differential}");
    assert!(differential.contains("0x5000 (30,000,000 ns, 28.57%; 0.00%)"), "{differential}");
}
