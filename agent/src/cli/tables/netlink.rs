//! `netlink` as a table: one line per sender and message.

use super::fields::Fields;
use super::grid::{Column, Grid};
use crate::findings::human::count;

pub(super) fn lines(answer: &Fields<'_>, width: usize) -> Vec<String> {
    let mut grid = Grid::new(&[
        Column::Text("sender"),
        Column::Text("owner"),
        Column::Number("spawns"),
        Column::Number("spawns' wall"),
        Column::Word("message"),
        Column::Number("messages"),
        Column::Number("sends"),
        Column::Number("inside"),
        Column::Number("each"),
        Column::Number("refused"),
    ]);
    for sender in answer.at("senders").list() {
        for message in sender.at("messages").list() {
            grid.row(row(&sender, &message));
        }
    }
    let total = answer.at("total");
    let mut lines = vec![format!(
        "{}: {} netlink messages in {} sends, {} inside, {} refused",
        super::window(answer),
        count(total.whole("messages")),
        count(total.whole("sends")),
        crate::findings::human::duration(total.whole("inside_ns")),
        count(total.whole("refused"))
    )];
    lines.extend(grid.lines(width, 0));
    lines
}

fn row(sender: &Fields<'_>, message: &Fields<'_>) -> [String; 10] {
    let name = match sender.text("sender").as_str() {
        "children" => format!("{} > {}", sender.text("name"), sender.text("argv_class")),
        _ => format!("{} [{}]", sender.text("name"), sender.at("process").text("pid")),
    };
    let refused = message.whole("refused");
    [
        name,
        sender.owner(),
        sender.count("spawns"),
        sender.span("spawn_wall_ns"),
        message.text("message"),
        message.count("messages"),
        message.count("sends"),
        message.span("inside_ns"),
        message.span("mean_inside_ns"),
        if refused > 0 { count(refused) } else { String::new() },
    ]
}
