//! `processes` as a table, failed execs beneath.

use super::fields::Fields;
use super::grid::{Column, Grid};
use crate::findings::human::{count, many};

pub(super) fn lines(answer: &Fields<'_>, width: usize) -> Vec<String> {
    let totals = answer.at("totals");
    let mut lines = vec![format!(
        "{}: {} spawned, {} ended, {} alive, {}, {}",
        super::window(answer),
        count(totals.whole("spawned")),
        count(totals.whole("ended")),
        count(totals.whole("alive")),
        many(totals.whole("threads_made"), "new thread"),
        many(totals.whole("exec_fails"), "failed exec")
    )];
    let mut grid = Grid::new(&[
        Column::Number("pid"),
        Column::Text("spawned by"),
        Column::Number("wall"),
        Column::Number("until exec"),
        Column::Word("exit"),
        Column::Text("time"),
        Column::Text("command"),
    ]);
    answer.at("processes").list().for_each(|process| grid.row(row(&process)));
    lines.extend(grid.lines(width, 0));
    let mut failed =
        Grid::new(&[Column::Number("fails"), Column::Word("why"), Column::Text("path"), Column::Text("by")]);
    for row in answer.at("failed_execs").list() {
        failed.row([row.count("count"), row.text("errno"), row.text("path"), row.text("daemon")]);
    }
    if !failed.is_empty() {
        lines.push(String::new());
        lines.extend(failed.lines(width, 0));
    }
    lines
}

fn row(process: &Fields<'_>) -> [String; 7] {
    let exit = process.at("exit");
    let spawner = process.at("spawner");
    let by = if spawner.is_some() {
        format!("{} [{}]", spawner.text("comm"), spawner.text("pid"))
    } else {
        String::new()
    };
    let argv = process.text("argv");
    [
        process.text("pid"),
        by,
        process.span("wall_ns"),
        process.span("spawn_cost_ns"),
        match (exit.at("code").is_some(), exit.at("signal").is_some()) {
            (true, _) => exit.text("code"),
            (_, true) => exit.text("signal"),
            (false, false) => process.text("state"),
        },
        process.split(),
        if argv.is_empty() { process.text("comm") } else { argv },
    ]
}
