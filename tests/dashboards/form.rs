//! What a reader expects of the dashboard, and that it names what is there and all that is there.

use crate::dashboard::{names, panels, read, string, targets};
use serde_json::Value;
use slowpod::views::metrics::{Kind, METRICS, Metric};
use std::collections::BTreeSet;

/// Metrics that no panel and no rule needs, and why they are there all the same.
const NOT_SHOWN: &[(&str, &str)] = &[
    ("slowpod_symbol_stacks_total", SYMBOLS),
    ("slowpod_symbol_frames_total", SYMBOLS),
    ("slowpod_symbol_files_total", SYMBOLS),
    ("slowpod_symbol_tables_evicted_total", SYMBOLS),
    ("slowpod_symbol_bytes", SYMBOLS),
    ("slowpod_symbol_busy_seconds_total", SYMBOLS),
    ("slowpod_unwind_tables_total", UNWINDING),
    ("slowpod_unwind_processes", UNWINDING),
    ("slowpod_unwind_bytes", UNWINDING),
    ("slowpod_unwind_busy_seconds_total", UNWINDING),
];
/// Of naming stacks.
const SYMBOLS: &str = "every profile says itself what has no name";
/// Of tables for stacks.
const UNWINDING: &str =
    "every profile says itself which stacks break off, and want of room is among the misses";

/// The metric a series belongs to: histograms have three series.
fn metric_of(series: &str) -> Option<&'static Metric> {
    METRICS.iter().find(|metric| {
        let suffix = series.strip_prefix(metric.name);
        match metric.kind {
            Kind::Histogram => matches!(suffix, Some("_bucket" | "_sum" | "_count")),
            Kind::Counter | Kind::Gauge => suffix == Some(""),
        }
    })
}

#[test]
fn panels_say_what_they_show_and_in_which_unit() {
    let dashboard = read();
    for panel in panels(&dashboard) {
        let title = string(&panel["title"]);
        assert!(!title.is_empty(), "{panel}");
        assert!(string(&panel["description"]).len() > 30, "{title} has no description");
        assert!(!string(&panel["fieldConfig"]["defaults"]["unit"]).is_empty(), "{title} has no unit");
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{title} asks nothing");
        let refs: BTreeSet<String> = targets.iter().map(|target| string(&target["refId"])).collect();
        assert_eq!(refs.len(), targets.len(), "{title} has a refId twice");
        for source in targets.iter().chain([panel]).map(|place| &place["datasource"]["uid"]) {
            assert_eq!(source, "${datasource}", "{title}");
        }
        for target in targets {
            assert!(!string(&target["legendFormat"]).is_empty(), "{title} has a series without a name");
        }
    }
}

#[test]
fn ids_and_titles_are_unique_and_links_to_the_dashboard_last() {
    let dashboard = read();
    assert_eq!(dashboard["uid"], "slowpod-node");
    let all = dashboard["panels"].as_array().unwrap();
    for field in ["id", "title"] {
        let values: BTreeSet<String> = all.iter().map(|panel| panel[field].to_string()).collect();
        assert_eq!(values.len(), all.len(), "a panel's {field} twice");
    }
}

#[test]
fn panels_lie_beside_each_other() {
    let dashboard = read();
    let place = |panel: &Value| {
        ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().expect("a place on the grid"))
    };
    let places: Vec<[u64; 4]> = dashboard["panels"].as_array().unwrap().iter().map(place).collect();
    for (at, [x, y, w, h]) in places.iter().enumerate() {
        assert!(*w > 0 && *h > 0 && x + w <= 24, "panel {at} is outside of the grid");
        for [other_x, other_y, other_w, other_h] in &places[..at] {
            let apart = x >= &(other_x + other_w)
                || other_x >= &(x + w)
                || y >= &(other_y + other_h)
                || other_y >= &(y + h);
            assert!(apart, "panel {at} lies on another");
        }
    }
}

#[test]
fn health_comes_first_and_cost_last() {
    let dashboard = read();
    let all = dashboard["panels"].as_array().unwrap();
    let rows: Vec<String> =
        all.iter().filter(|panel| panel["type"] == "row").map(|row| string(&row["title"])).collect();
    assert_eq!(all[0]["type"], "row");
    assert_eq!(rows.first().map(String::as_str), Some("Agent health and losses"));
    assert_eq!(rows.last().map(String::as_str), Some("The agent's own cost"));
}

#[test]
fn variables_are_there_and_every_query_is_about_the_chosen_nodes() {
    let dashboard = read();
    let variables: Vec<String> =
        dashboard["templating"]["list"].as_array().unwrap().iter().map(|own| string(&own["name"])).collect();
    assert_eq!(variables, ["datasource", "node", "daemon"]);
    for target in targets(&dashboard) {
        let chosen = target.expression.matches("$node").count();
        let named = names(&target.expression).iter().filter(|name| **name != "slowpod_build_info").count();
        let joined = target.expression.contains("/ slowpod_");
        assert!(
            chosen > 0 && chosen + usize::from(joined) >= named,
            "{}: {}",
            target.panel,
            target.expression
        );
        target.concrete();
    }
}

#[test]
fn only_metrics_that_exist_are_named_with_labels_they_have() {
    let dashboard = read();
    for target in targets(&dashboard) {
        for name in names(&target.expression) {
            assert!(metric_of(name).is_some(), "{}: there is no metric {name}", target.panel);
        }
        let labels: BTreeSet<&str> = names(&target.expression)
            .into_iter()
            .filter_map(metric_of)
            .flat_map(|metric| metric.labels)
            .copied()
            .collect();
        for label in target.legend_labels() {
            let known = labels.contains(label) || ["instance", "le"].contains(&label);
            assert!(known, "{}: its metrics have no label {label}", target.panel);
        }
    }
    for name in names(&crate::text("slowpod.rules.yml")) {
        assert!(metric_of(name).is_some(), "the rules: there is no metric {name}");
    }
}

#[test]
fn every_metric_is_shown_or_excused() {
    let (dashboard, rules) = (crate::text("slowpod.json"), crate::text("slowpod.rules.yml"));
    let named: BTreeSet<&str> = names(&dashboard).into_iter().chain(names(&rules)).collect();
    let shown: BTreeSet<&str> = named.into_iter().filter_map(metric_of).map(|metric| metric.name).collect();
    for metric in METRICS {
        let excuse = NOT_SHOWN.iter().find(|(name, _)| *name == metric.name);
        assert_ne!(
            shown.contains(metric.name),
            excuse.is_some(),
            "{}: shown and excused, or neither",
            metric.name
        );
    }
    for (name, _) in NOT_SHOWN {
        assert!(METRICS.iter().any(|metric| metric.name == *name), "{name} is excused but not there");
    }
}
