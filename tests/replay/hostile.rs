//! Names chosen to do harm, through every view and table.

use crate::daemon;
use harness::check::{answer_of, render, snapshot};
use harness::scene::Scene;
use slowpod::cli::tables;
use slowpod::views::VIEWS;

#[test]
fn no_view_and_no_table_holds_a_control_character() {
    let snapshot = snapshot(&Scene::load("hostile"));
    for view in VIEWS.iter().filter(|view| view.content_type == slowpod::views::JSON) {
        let body = render(&snapshot, view.name, "");
        // serde_json would escape them: then they would stand in the strings of the parsed answer.
        let answer: serde_json::Value = serde_json::from_slice(&body).unwrap();
        walk(&answer, view.name);
        for width in [1, 60, 100, 240] {
            let table = tables::render(view.name, &body, width).unwrap();
            assert!(table.chars().all(|c| c == '\n' || is_visible(c)), "{}: {table:?}", view.name);
        }
    }
}

fn walk(value: &serde_json::Value, path: &str) {
    match value {
        serde_json::Value::String(text) => assert!(text.chars().all(is_visible), "{path}: {text:?}"),
        serde_json::Value::Array(list) => list.iter().for_each(|value| walk(value, path)),
        serde_json::Value::Object(map) => {
            for (name, value) in map {
                assert!(name.chars().all(is_visible), "{path}: {name:?}");
                walk(value, &format!("{path}.{name}"));
            }
        }
        serde_json::Value::Null | serde_json::Value::Bool(_) | serde_json::Value::Number(_) => {}
    }
}

fn is_visible(c: char) -> bool {
    !c.is_control()
        && !matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[test]
fn bytes_stay_recognisable() {
    let answer = answer_of("hostile", "processes", "pid=100");
    let evil = &answer["processes"][0];
    assert_eq!(evil["comm"], r"\x1b[2Jevil\n");
    assert_eq!(evil["path"], r"/tmp/\xff\xfe/evil\x1b[31m");
    assert_eq!(
        evil["argv"], r"evil <script>alert(1)</script> \x1b[0m",
        "quoting for HTML is HTML's business"
    );
    let answer = answer_of("hostile", "processes", "state=ended&limit=2");
    assert_eq!(answer["processes"][1]["argv"], r"do\u{202e}gpj.exe a\nb \xc3( 19");
}

#[test]
fn a_path_below_a_container_cannot_leave_its_pod() {
    let answer = answer_of("hostile", "processes", "state=ended&limit=2");
    let child = &answer["processes"][1];
    assert_eq!(child["identity"]["pod_uid"], "8d5b0dde-12a4-41c9-9f8d-6e07325abf36");
    let storms = answer_of("hostile", "storms", "");
    assert_eq!(daemon(&storms, r"evil\x1b[31m")["identity"]["kind"], "host");
}
