//! A run of hollow pods as tables.

use super::fields::Fields;
use super::grid::{Column, Grid, wrap};

pub(super) fn lines(answer: &Fields<'_>, width: usize) -> Vec<String> {
    let mut lines = headline(answer);
    lines.extend(latencies(answer).lines(width, 0));
    let tables = [plugins(answer), failures(answer)];
    for table in tables.iter().filter(|table| !table.is_empty()) {
        lines.push(String::new());
        lines.extend(table.lines(width, 0));
    }
    lines.extend(traffic(answer));
    let left: Vec<String> = answer.at("left_behind").list().map(|name| name.own_text()).collect();
    if !left.is_empty() {
        lines.push(String::new());
        lines.extend(wrap(&format!("left behind: {}", left.join(", ")), width, 4));
    }
    lines
}

fn headline(answer: &Fields<'_>) -> Vec<String> {
    let (asked, pods) = (answer.at("asked"), answer.at("pods"));
    let chain: Vec<String> = answer.at("chain").list().map(|plugin| plugin.own_text()).collect();
    let ended = if answer.flag("interrupted") { ", interrupted" } else { "" };
    let mut first = format!(
        "run {}: network {} ({}; CNI {}), {} pods, {} rounds, concurrency {}{ended}",
        answer.text("run"),
        answer.text("network"),
        chain.join(", "),
        answer.text("cni_version"),
        asked.count("pods"),
        asked.count("rounds"),
        asked.count("concurrency"),
    );
    if asked.at("rate").is_some() {
        first.push_str(&format!(", {} arrivals/s", asked.text("rate")));
    }
    let mut second = format!(
        "{} of {} pods got their network in {} attempts, {:.1} pods/s",
        pods.count("ready"),
        pods.count("begun"),
        pods.count("attempts"),
        answer.number("pods_per_second"),
    );
    for (count, what) in [("verified", "verified"), ("checked", "checked")] {
        if pods.whole(count) > 0 {
            second.push_str(&format!("; {} {what}", pods.count(count)));
        }
    }
    second.push_str(&format!("; {} taken away", pods.count("deleted")));
    let conflicts = pods.whole("address_conflicts");
    if conflicts > 0 {
        second.push_str(&format!("; {conflicts} ADDRESSES GIVEN TWICE"));
    }
    vec![first, second, String::new()]
}

fn latencies(answer: &Fields<'_>) -> Grid {
    let mut grid = Grid::new(&[Column::Word("time"), COUNT, P50, P90, P99, MAX]);
    let rows = [
        ("netns", "network namespace"),
        ("add", "ADD"),
        ("network_ready", "network ready"),
        ("verified_ready", "verified ready"),
        ("del", "DEL"),
    ];
    let latency = answer.at("latency");
    for (name, title) in rows.into_iter().filter(|(name, _)| latency.at(name).is_some()) {
        let [count, p50, p90, p99, max] = percentiles(&latency.at(name));
        grid.row([title.to_owned(), count, p50, p90, p99, max]);
    }
    grid
}

fn plugins(answer: &Fields<'_>) -> Grid {
    let mut grid = Grid::new(&[Column::Word("command"), Column::Text("plugin"), COUNT, P50, P90, P99, MAX]);
    for row in answer.at("plugins").list() {
        let [count, p50, p90, p99, max] = percentiles(&row.at("wall"));
        grid.row([row.text("command"), row.text("plugin"), count, p50, p90, p99, max]);
    }
    grid
}

fn failures(answer: &Fields<'_>) -> Grid {
    let mut grid = Grid::new(&[
        Column::Number("failures"),
        Column::Word("command"),
        Column::Text("stage"),
        Column::Word("kind"),
        Column::Number("code"),
        Column::Text("message"),
    ]);
    for row in answer.at("failures").list() {
        let cells = ["command", "stage", "kind", "code", "message"].map(|name| row.text(name));
        let [command, stage, kind, code, message] = cells;
        grid.row([row.count("count"), command, stage, kind, code, message]);
    }
    let beyond = answer.whole("failures_without_row");
    if beyond > 0 {
        let none = String::new;
        grid.row([answer.count("failures_without_row"), none(), none(), "others".into(), none(), none()]);
    }
    grid
}

fn traffic(answer: &Fields<'_>) -> Vec<String> {
    let (traffic, failure) = (answer.at("traffic"), answer.text("traffic_failure"));
    if !failure.is_empty() {
        return vec![String::new(), format!("traffic: {failure}")];
    }
    if !traffic.is_some() {
        return Vec::new();
    }
    let ends: Vec<String> = traffic.at("between").list().map(|name| name.own_text()).collect();
    let [_, p50, _, p99, _] = percentiles(&traffic.at("round_trip"));
    let gigabits = traffic.number("bytes_per_second") * 8.0 / 1e9;
    let line =
        format!("traffic {}: TCP {gigabits:.2} Gbit/s, round trip p50 {p50}, p99 {p99}", ends.join(" to "));
    vec![String::new(), line]
}

const COUNT: Column = Column::Number("count");
const P50: Column = Column::Number("p50");
const P90: Column = Column::Number("p90");
const P99: Column = Column::Number("p99");
const MAX: Column = Column::Number("max");

fn percentiles(span: &Fields<'_>) -> [String; 5] {
    [span.count("count"), span.span("p50_ns"), span.span("p90_ns"), span.span("p99_ns"), span.span("max_ns")]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_run_on_one_screen_without_escapes() {
        let span = json!({ "count": 3, "p50_ns": 1_000_000, "p90_ns": 2_000_000, "p99_ns": 2, "max_ns": 3 });
        let answer = json!({
            "run": "r", "network": "n", "cni_version": "1.0.0", "chain": ["bridge", "portmap"],
            "interrupted": true, "asked": { "pods": 3, "rounds": 1, "concurrency": 2, "rate": 1.5 },
            "pods": { "begun": 3, "ready": 2, "attempts": 4, "deleted": 3, "address_conflicts": 1 },
            "pods_per_second": 7.25, "latency": { "add": span, "del": null },
            "plugins": [{ "command": "ADD", "plugin": "bridge", "wall": span }],
            "failures": [{ "command": "ADD", "stage": "bridge", "kind": "cni_error", "code": 11, "count": 2,
                           "message": "\u{1b}[31mred" }],
            "failures_without_row": 0, "traffic": null, "traffic_failure": null, "left_behind": ["flux-r-1"],
        });
        let text = lines(&Fields::new(&answer), 100).join("\n");
        for part in [
            "run r: network n (bridge, portmap; CNI 1.0.0), 3 pods, 1 rounds, concurrency 2, interrupted, 1.5 arrivals/s",
            "2 of 3 pods got their network in 4 attempts, 7.2 pods/s",
            "1 ADDRESSES GIVEN TWICE",
            "left behind: flux-r-1",
            "cni_error",
        ] {
            assert!(text.contains(part), "{part} not in:\n{text}");
        }
        assert!(!text.contains('\u{1b}') && !text.contains("DEL"), "{text}");
    }
}
