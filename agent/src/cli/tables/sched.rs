//! `sched` as tables: the node and its CPUs, then owners with who ran instead, then processes.

use super::fields::Fields;
use super::grid::{Column, Grid};
use crate::findings::human::{count, duration, many, percent};

/// Who ran instead: so many are named.
const RAN_SHOWN: usize = 3;

pub(super) fn lines(answer: &Fields<'_>, width: usize) -> Vec<String> {
    let node = answer.at("node");
    let mut lines = vec![format!(
        "{}: {} for a CPU, p50 {}, p99 {}, longest {}{}",
        super::window(answer),
        many(node.whole("waits"), "wait"),
        duration(node.whole("p50_ns")),
        duration(node.whole("p99_ns")),
        duration(node.whole("max_ns")),
        match node.at("pressure_ns").is_some() {
            true => format!("; somebody waited for {}", node.span("pressure_ns")),
            false => String::new(),
        }
    )];
    let mut rows = waits_grid("cpu", &[]);
    for cpu in answer.at("cpus").list() {
        rows.row(waits_row(format!("cpu {}", cpu.text("cpu")), &cpu, [const { String::new() }; 3]));
    }
    section(&mut lines, &rows, width);
    let mut rows = waits_grid("owner", &["held by", "throttled", "ran instead"]);
    for owner in answer.at("owners").list() {
        let throttled = owner.at("throttled");
        let held = [owner.text("held_by"), throttled.span("throttled_ns"), ran_instead(&owner)];
        rows.row(waits_row(owner.owner(), &owner, held));
    }
    section(&mut lines, &rows, width);
    let mut rows = waits_grid("process", &["owner", "", ""]);
    for row in answer.at("processes").list() {
        let process = row.at("process");
        let name = match row.text("kind").as_str() {
            "short_lived" => "short-lived processes".into(),
            "kernel_threads" => "kernel threads".into(),
            _ => format!("{} [{}]", process.text("comm"), process.text("pid")),
        };
        rows.row(waits_row(name, &row, [row.owner(), String::new(), String::new()]));
    }
    section(&mut lines, &rows, width);
    lines
}

fn section(lines: &mut Vec<String>, rows: &Grid, width: usize) {
    if !rows.is_empty() {
        lines.push(String::new());
        lines.extend(rows.lines(width, 0));
    }
}

fn waits_grid(first: &'static str, last: &[&'static str]) -> Grid {
    let last = |at: usize| last.get(at).copied().unwrap_or_default();
    Grid::new(&[
        Column::Text(first),
        Column::Number("waits"),
        Column::Number("p50"),
        Column::Number("p90"),
        Column::Number("p99"),
        Column::Number("longest"),
        Column::Number("waited"),
        Column::Number("on cpu"),
        Column::Number("preempted"),
        Column::Text(last(0)),
        Column::Number(last(1)),
        Column::Text(last(2)),
    ])
}

fn waits_row(name: String, row: &Fields<'_>, [one, two, three]: [String; 3]) -> [String; 12] {
    let preempted = row.at("preempted");
    [
        name,
        count(row.whole("waits")),
        row.span("p50_ns"),
        row.span("p90_ns"),
        row.span("p99_ns"),
        row.span("max_ns"),
        row.span("wait_ns"),
        row.span("on_cpu_ns"),
        percent(preempted.whole("waits"), row.whole("waits")),
        one,
        two,
        three,
    ]
}

/// `noisy.service 70 %, itself 20 %`.
fn ran_instead(owner: &Fields<'_>) -> String {
    let ran = owner.at("ran_instead").list().take(RAN_SHOWN).map(|ran| {
        let who = if ran.text("who") == "other" { ran.owner() } else { ran.text("who") };
        format!("{who} {}", ran.share("share"))
    });
    ran.collect::<Vec<_>>().join(", ")
}
