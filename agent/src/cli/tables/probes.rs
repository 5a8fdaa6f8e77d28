//! `probes` as a table; what is lost, and why, beneath each that is not at its best.

use super::fields::Fields;
use super::grid::{Column, Grid, wrap};

/// How far the reasons stand in.
const INDENT: usize = 4;

pub(super) fn lines(answer: &Fields<'_>, width: usize) -> Vec<String> {
    let mut grid = Grid::new(&[Column::Word("probe"), Column::Word("state"), Column::Text("rung")]);
    let mut notes = Vec::new();
    for probe in answer.at("probes").list() {
        grid.row([probe.text("probe"), probe.text("state"), probe.text("rung")]);
        notes.push(note(&probe, width));
    }
    let node = answer.at("node");
    let mut lines = Vec::new();
    if node.is_some() {
        lines.push(format!("{}, Linux {}", node.text("node_name"), node.text("kernel_release")));
    }
    let mut rows = grid.lines(width, 0).into_iter();
    lines.extend(rows.next());
    for (row, note) in rows.zip(notes) {
        lines.push(row);
        lines.extend(note);
    }
    lines
}

/// What is lost, and why.
fn note(probe: &Fields<'_>, width: usize) -> Vec<String> {
    let (why, consequence) = (probe.text("why"), probe.text("consequence"));
    let parts: Vec<&str> =
        [consequence.as_str(), why.as_str()].into_iter().filter(|part| !part.is_empty()).collect();
    if parts.is_empty() {
        return Vec::new();
    }
    let blanks = " ".repeat(INDENT);
    let lines = wrap(&parts.join("; "), width - INDENT, 0);
    lines.into_iter().map(|line| format!("{blanks}{line}")).collect()
}
