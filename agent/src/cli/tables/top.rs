//! `top` as tables: pods and units, then processes.

use super::fields::Fields;
use super::grid::{Column, Grid};
use crate::findings::human::{count, duration, many, percent};

pub(super) fn lines(answer: &Fields<'_>, width: usize) -> Vec<String> {
    let cpus = answer.whole("cpus");
    let window_s = answer.at("window").number("covered_seconds");
    let all_ns = ((window_s * 1e9) as u64).saturating_mul(cpus);
    let mut lines = vec![format!(
        "{}: {} busy for {}; {} owners, {} processes",
        super::window(answer),
        many(cpus, "CPU"),
        percent(answer.whole("on_cpu_ns"), all_ns),
        count(answer.whole("owners_matched")),
        count(answer.whole("processes_matched")),
    )];
    let mut rows = grid("owner", "processes");
    for owner in answer.at("owners").list() {
        rows.row(row(name_of(&owner), &owner, count(owner.whole("processes"))));
    }
    section(&mut lines, &rows, width);
    let mut rows = grid("process", "owner");
    for process in answer.at("processes").list() {
        let id = process.at("process");
        let name = match process.text("kind").as_str() {
            "short_lived" => "short-lived processes".into(),
            "kernel_threads" => "kernel threads".into(),
            _ => format!("{} [{}]", id.text("comm"), id.text("pid")),
        };
        rows.row(row(name, &process, name_of(&process)));
    }
    section(&mut lines, &rows, width);
    lines
}

/// A pod by its name, where that is known.
fn name_of(row: &Fields<'_>) -> String {
    let pod = row.text("pod");
    if pod.is_empty() { row.owner() } else { pod }
}

fn section(lines: &mut Vec<String>, rows: &Grid, width: usize) {
    if !rows.is_empty() {
        lines.push(String::new());
        lines.extend(rows.lines(width, 0));
    }
}

fn grid(first: &'static str, last: &'static str) -> Grid {
    Grid::new(&[
        Column::Text(first),
        Column::Number("cpus"),
        Column::Number("on cpu"),
        Column::Number("runnable"),
        Column::Number("blocked"),
        Column::Text("mostly"),
        Column::Number("spawns"),
        Column::Number("spawn cost"),
        Column::Number("children"),
        Column::Text(last),
    ])
}

fn row(name: String, row: &Fields<'_>, last: String) -> [String; 10] {
    let of_spawns = |name: &str| match row.whole("spawns") {
        0 => String::new(),
        _ => row.span(name),
    };
    [
        name,
        format!("{:.2}", row.number("cpus_used")),
        row.span("on_cpu_ns"),
        row.span("runnable_ns"),
        row.span("blocked_ns"),
        mostly(row),
        if row.whole("spawns") == 0 { String::new() } else { row.count("spawns") },
        of_spawns("spawn_cost_ns"),
        of_spawns("children_ns"),
        last,
    ]
}

/// The cause it was blocked by for longest.
fn mostly(row: &Fields<'_>) -> String {
    let by = row.at("blocked_by");
    let most = by.entries().map(|(cause, _)| (by.whole(&cause), cause)).max();
    most.map(|(ns, cause)| format!("{cause} {}", duration(ns))).unwrap_or_default()
}
