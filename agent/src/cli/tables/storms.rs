//! `storms` as a table: one line per daemon, its argv classes beneath.

use super::fields::Fields;
use super::grid::{Column, Grid};
use crate::findings::human::many;

/// Classes shown per daemon; the JSON has them all.
const CLASSES_SHOWN: usize = 5;
/// How far the classes stand behind their daemon.
const INDENT: usize = 4;

pub(super) fn lines(answer: &Fields<'_>, width: usize) -> Vec<String> {
    let mut daemons = Grid::new(&[
        Column::Word(""),
        Column::Text("daemon"),
        Column::Text("owner"),
        Column::Number("loops"),
        Column::Number("every"),
        Column::Number("loop p50"),
        Column::Number("spawns/loop"),
        Column::Number("busy p50"),
        Column::Number("share"),
    ]);
    // One grid for the classes of all daemons, so that they align.
    let mut classes = Grid::new(&[
        Column::Text("class"),
        Column::Number("spawns/loop"),
        Column::Number("share"),
        Column::Number("each"),
        Column::Word("how"),
        Column::Word("failed"),
        Column::Text("time"),
    ]);
    let mut of_daemon = Vec::new();
    for daemon in answer.at("daemons").list() {
        daemons.row(daemon_row(&daemon));
        let shown = daemon.at("classes").list().take(CLASSES_SHOWN);
        of_daemon.push(shown.map(|class| classes.row(class_row(&class))).count());
    }
    let matched = answer.whole("daemons_matched");
    let mut lines = vec![format!("{}: {}", super::window(answer), many(matched, "spawning daemon"))];
    if daemons.is_empty() {
        return lines;
    }
    let mut class_lines = classes.rows(width, INDENT).into_iter();
    let mut daemon_lines = daemons.lines(width, 0).into_iter();
    lines.extend(daemon_lines.next());
    for (daemon, classes) in daemon_lines.zip(of_daemon) {
        lines.push(daemon);
        lines.extend(class_lines.by_ref().take(classes));
    }
    lines
}

fn daemon_row(daemon: &Fields<'_>) -> [String; 9] {
    let series = daemon.at("series");
    let p50 = |name: &str| series.at(name);
    let pids: Vec<String> = daemon.at("pids").list().map(|pid| pid.own_text()).collect();
    let name = match pids.split_last() {
        Some((last, [])) => format!("{} [{last}]", daemon.text("name")),
        Some((last, _)) => format!("{} [{last} and earlier]", daemon.text("name")),
        None => daemon.text("name"),
    };
    [
        if daemon.flag("storm") { "storm".into() } else { String::new() },
        name,
        daemon.owner(),
        series.count("loops"),
        p50("period_ns").span("p50"),
        p50("duration_ns").span("p50"),
        p50("spawns_per_loop").count("p50"),
        p50("busy_ns").span("p50"),
        series.share("share"),
    ]
}

fn class_row(class: &Fields<'_>) -> [String; 7] {
    let spawns = class.whole("spawns");
    let timed = spawns.saturating_sub(class.whole("running")).saturating_sub(class.whole("ends_lost"));
    let mean_ns = class.whole("wall_ns").checked_div(timed);
    let failed: u64 = class.whole("counted_failed") + spawns_that_failed(class);
    [
        class.text("argv_class"),
        format!("{}/loop", class.at("spawns_per_loop").count("p50")),
        class.share("share"),
        mean_ns.map(|each| format!("{} each", crate::findings::human::duration(each))).unwrap_or_default(),
        match class.text("mode").as_str() {
            "overlapped" => format!("{:.1} at once", class.number("overlap")),
            "" if spawns > 0 && class.whole("running") == spawns => "running".into(),
            mode => mode.to_owned(),
        },
        if failed > 0 { format!("{failed} failed") } else { String::new() },
        class.split(),
    ]
}

fn spawns_that_failed(class: &Fields<'_>) -> u64 {
    let exits = class.at("exits");
    let sum = |name: &str| -> u64 {
        let object = exits.at(name);
        object.entries().map(|(code, _)| object.whole(&code)).sum()
    };
    sum("codes") + sum("signals")
}
