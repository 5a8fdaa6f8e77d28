//! `pods` as tables: how long starts took and in which phase, and each start.

use super::fields::Fields;
use super::grid::{Column, Grid, wrap};
use crate::findings::human::{count, duration, many};

pub(super) fn lines(answer: &Fields<'_>, width: usize) -> Vec<String> {
    let totals = answer.at("totals");
    let parts = ["started", "starting", "given_up", "network_only"];
    let parts = parts.iter().filter(|part| totals.whole(part) > 0 || **part == "started");
    let parts = parts.map(|part| format!("{} {}", count(totals.whole(part)), part.replace('_', " ")));
    let mut lines = vec![format!(
        "{}: {}, {}",
        super::window(answer),
        many(totals.whole("starts"), "pod start"),
        parts.collect::<Vec<_>>().join(", ")
    )];
    let spread = answer.at("start_ns");
    if spread.is_some() {
        let start = format!(
            "start to first container: p50 {}, p90 {}, p99 {}, max {}; {} over {}",
            duration(spread.whole("p50")),
            duration(spread.whole("p90")),
            duration(spread.whole("p99")),
            duration(spread.whole("max")),
            totals.share("over_share"),
            totals.span("over_ns")
        );
        lines.extend(wrap(&start, width, 2));
    }
    let blame = answer.at("blame");
    if blame.is_some() {
        let which = if blame.flag("slow") { "slow start" } else { "start" };
        lines.push(format!(
            "most of the time of {}: {}, {}",
            many(blame.whole("starts"), which),
            blame.text("phase"),
            blame.share("share")
        ));
    }
    for grid in [phases(answer), starts(answer)].iter().filter(|grid| !grid.is_empty()) {
        lines.push(String::new());
        lines.extend(grid.lines(width, 0));
    }
    lines
}

fn phases(answer: &Fields<'_>) -> Grid {
    let mut grid = Grid::new(&[
        Column::Word("phase"),
        Column::Number("p50"),
        Column::Number("p90"),
        Column::Number("p99"),
        Column::Number("max"),
        Column::Number("share"),
        Column::Number("blamed"),
    ]);
    for row in answer.at("phases").list().filter(|row| row.at("wall_ns").is_some()) {
        let wall = row.at("wall_ns");
        grid.row([
            row.text("phase"),
            wall.span("p50"),
            wall.span("p90"),
            wall.span("p99"),
            wall.span("max"),
            row.share("share"),
            if row.whole("blamed") > 0 { row.count("blamed") } else { String::new() },
        ]);
    }
    grid
}

fn starts(answer: &Fields<'_>) -> Grid {
    let mut grid = Grid::new(&[
        Column::Text("pod"),
        Column::Word("uid"),
        Column::Word("state"),
        Column::Number("took"),
        Column::Number("before"),
        Column::Number("network"),
        Column::Number("sandbox"),
        Column::Number("between"),
        Column::Number("container"),
        Column::Number("retries"),
        Column::Word(""),
    ]);
    for start in answer.at("pods").list() {
        let phases = start.at("phases");
        let some = |number: u64| if number > 0 { count(number) } else { String::new() };
        let retries =
            start.whole("sandboxes").saturating_sub(1).saturating_add(start.whole("network_retries"));
        grid.row([
            name(&start),
            start.text("pod_uid"),
            start.text("state").replace('_', " "),
            start.span("wall_ns"),
            phases.span("before_sandbox"),
            phases.span("network"),
            phases.span("sandbox"),
            phases.span("before_container"),
            phases.span("container"),
            some(retries),
            if start.flag("cut_at_start") { "began before".into() } else { String::new() },
        ]);
    }
    grid
}

/// A pod's namespace and name; nothing when no CNI call has told.
pub(super) fn name(start: &Fields<'_>) -> String {
    let (namespace, name) = (start.text("namespace"), start.text("pod"));
    if namespace.is_empty() { name } else { format!("{namespace}/{name}") }
}
