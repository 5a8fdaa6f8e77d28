//! `cni` as tables: by plugin, sandboxes that had no network or needed retries, and the slowest calls.

use super::fields::Fields;
use super::grid::{Column, Grid};
use crate::findings::human::{count, duration, many};

/// Shorter waits are not worth a line.
const WAIT_SHOWN_NS: u64 = 1_000_000;
/// Characters of a container id that are shown, as runtimes do.
const ID_CHARS: usize = 13;

pub(super) fn lines(answer: &Fields<'_>, width: usize) -> Vec<String> {
    let totals = answer.at("totals");
    let mut lines = vec![format!(
        "{}: {}, {} failed, {} in flight, at most {} at once",
        super::window(answer),
        many(totals.whole("calls"), "CNI call"),
        count(totals.whole("failed")),
        count(totals.whole("in_flight")),
        many(answer.at("flow").whole("peak_adds"), "ADD")
    )];
    let ready = answer.at("network_ready_ns");
    if ready.is_some() {
        lines.push(format!(
            "network ready: p50 {}, p90 {}, p99 {}, max {}",
            duration(ready.whole("p50")),
            duration(ready.whole("p90")),
            duration(ready.whole("p99")),
            duration(ready.whole("max"))
        ));
    }
    let codes: Vec<String> = totals
        .at("errors")
        .entries()
        .map(|(code, times)| format!("{code} ({} times)", times.count_text()))
        .collect();
    if !codes.is_empty() {
        lines.push(format!(
            "CNI errors by code: {}; {}",
            codes.join(", "),
            many(totals.whole("conflicts"), "conflict")
        ));
    }
    let mut add = |grid: Grid| {
        if !grid.is_empty() {
            lines.push(String::new());
            lines.extend(grid.lines(width, 0));
        }
    };
    add(by_plugin(answer));
    add(troubled(answer));
    add(calls(answer));
    add(waits(answer));
    lines
}

fn by_plugin(answer: &Fields<'_>) -> Grid {
    let mut grid = Grid::new(&[
        Column::Word("command"),
        Column::Text("plugin"),
        Column::Number("calls"),
        Column::Number("failed"),
        Column::Number("running"),
        Column::Number("p50"),
        Column::Number("p90"),
        Column::Number("p99"),
        Column::Number("max"),
    ]);
    for row in answer.at("by_plugin").list() {
        let wall = row.at("wall_ns");
        let some = |name: &str| if row.whole(name) > 0 { row.count(name) } else { String::new() };
        grid.row([
            row.text("command"),
            if row.flag("delegated") { format!("> {}", row.text("plugin")) } else { row.text("plugin") },
            row.count("calls"),
            some("failed"),
            some("in_flight"),
            wall.span("p50"),
            wall.span("p90"),
            wall.span("p99"),
            wall.span("max"),
        ]);
    }
    grid
}

/// Sandboxes without a network, and those that did not get it at once.
fn troubled(answer: &Fields<'_>) -> Grid {
    let mut grid = Grid::new(&[
        Column::Text("sandbox"),
        Column::Text("pod"),
        Column::Number("retries"),
        Column::Number("network ready"),
        Column::Text("failed in"),
    ]);
    for sandbox in answer.at("sandboxes").list() {
        if sandbox.at("network_ready_ns").is_some() && sandbox.whole("retries") == 0 {
            continue;
        }
        let failed: Vec<String> = sandbox
            .at("attempts")
            .list()
            .filter(|attempt| attempt.at("failed").is_some())
            .map(|attempt| attempt.at("failed").text("plugin"))
            .collect();
        let ready = sandbox.span("network_ready_ns");
        grid.row([
            short(&sandbox.text("container_id")),
            pod(&sandbox),
            sandbox.count("retries"),
            if ready.is_empty() { "not ready".into() } else { ready },
            failed.join(", "),
        ]);
    }
    grid
}

fn calls(answer: &Fields<'_>) -> Grid {
    let mut grid = Grid::new(&[
        Column::Word("command"),
        Column::Text("plugin"),
        Column::Text("pod"),
        Column::Text("sandbox"),
        Column::Word("if"),
        Column::Number("wall"),
        Column::Word("exit"),
        Column::Number("children"),
        Column::Number("busy"),
        Column::Text("own time"),
    ]);
    for call in answer.at("calls").list() {
        let exit = call.at("exit");
        let tree = call.at("tree");
        grid.row([
            call.text("command"),
            if call.at("delegated_by").is_some() {
                format!("> {}", call.text("plugin"))
            } else {
                call.text("plugin")
            },
            pod(&call),
            short(&call.text("container_id")),
            call.text("ifname"),
            call.span("wall_ns"),
            match (exit.at("code").is_some(), exit.at("signal").is_some()) {
                (true, _) => exit.text("code"),
                (_, true) => exit.text("signal"),
                (false, false) => call.text("state"),
            },
            if tree.whole("spawns") > 0 { tree.count("spawns") } else { String::new() },
            if tree.whole("busy_ns") > 0 { tree.span("busy_ns") } else { String::new() },
            if call.text("state") == "ended" && !call.at("split").is_some() {
                call.text("no_split")
            } else {
                call.split()
            },
        ]);
    }
    grid
}

/// What the slowest calls and all below them waited for.
fn waits(answer: &Fields<'_>) -> Grid {
    let mut grid = Grid::new(&[
        Column::Text("plugin"),
        Column::Text("pod"),
        Column::Word("waited for"),
        Column::Word("in"),
        Column::Number("times"),
        Column::Number("blocked"),
        Column::Text("what"),
        Column::Text("behind"),
    ]);
    for call in answer.at("calls").list() {
        // A delegated plugin's waits are in its parent's tree.
        if call.at("delegated_by").is_some() {
            continue;
        }
        let tree = call.at("tree");
        for wait in call.at("waits").list().chain(tree.at("waits").list()) {
            if wait.whole("blocked_ns") < WAIT_SHOWN_NS {
                continue;
            }
            grid.row([
                call.text("plugin"),
                pod(&call),
                wait.text("on"),
                wait.text("op"),
                wait.count("waits"),
                wait.span("blocked_ns"),
                what(&wait),
                wait.at("holder").at("process").text("comm"),
            ]);
        }
    }
    grid
}

/// The thing waited for, by whatever names it.
fn what(wait: &Fields<'_>) -> String {
    let lock = wait.text("kernel_lock");
    let names = [
        wait.text("path"),
        wait.text("remote"),
        [lock, wait.text("message")].join(" ").trim().to_owned(),
        wait.at("device").text("name"),
    ];
    names.into_iter().find(|name| !name.is_empty()).unwrap_or_default()
}

fn pod(of: &Fields<'_>) -> String {
    let (namespace, name) = (of.text("namespace"), of.text("pod"));
    match (namespace.is_empty(), name.is_empty()) {
        (false, false) => format!("{namespace}/{name}"),
        (true, false) => name,
        (_, true) => of.at("identity").text("pod_uid"),
    }
}

fn short(id: &str) -> String {
    id.chars().take(ID_CHARS).collect()
}
