//! `wakers` as text: each process with who woke it beneath, and the chain that ends in an interrupt.

use super::fields::Fields;
use super::grid::{Column, Grid};
use crate::findings::human::{count, duration, many};

/// Wakers shown per process; the JSON has more.
const SHOWN: usize = 3;
/// How far they stand behind it.
const INDENT: usize = 4;

pub(super) fn lines(answer: &Fields<'_>, width: usize) -> Vec<String> {
    let mut lines = vec![format!(
        "{}: {}; {} processes woken",
        super::window(answer),
        many(answer.whole("wakes"), "wake-up"),
        count(answer.whole("woken_matched"))
    )];
    // One grid for all, so that they align.
    let mut wakers = Grid::new(&[
        Column::Text("waker"),
        Column::Text("owner"),
        Column::Number("wakes"),
        Column::Number("blocked before"),
        Column::Number("share"),
    ]);
    let mut heads = Vec::new();
    for woken in answer.at("woken").list() {
        let mut shown = 0;
        for by in woken.at("by").list().take(SHOWN) {
            let share = if woken.whole("blocked_ns") == 0 { String::new() } else { by.share("share") };
            wakers.row([name(&by), by.owner(), by.count("wakes"), by.span("blocked_ns"), share]);
            shown += 1;
        }
        heads.push((head(&woken), shown));
    }
    let mut rows = wakers.rows(width, INDENT).into_iter();
    for (head, shown) in heads {
        lines.extend([String::new(), head]);
        lines.extend(rows.by_ref().take(shown));
    }
    lines
}

fn head(woken: &Fields<'_>) -> String {
    let process = woken.at("process");
    let chain: Vec<String> = woken.at("chain").list().map(|link| name(&link)).collect();
    let chain = if chain.is_empty() { String::new() } else { format!("; woken by {}", chain.join(" <- ")) };
    format!(
        "{} [{}] of {}: {} after {} blocked{chain}",
        process.text("comm"),
        process.text("pid"),
        woken.owner(),
        many(woken.whole("wakes"), "wake-up"),
        duration(woken.whole("blocked_ns")),
    )
}

/// `nginx [7]`, `timer`, `network (nginx [7])`.
fn name(link: &Fields<'_>) -> String {
    let (waker, process) = (link.text("waker"), link.at("process"));
    let named = format!("{} [{}]", process.text("comm"), process.text("pid"));
    match (waker.as_str(), process.is_some()) {
        ("process", true) => named,
        (_, true) => format!("{waker} ({named})"),
        (_, false) => waker,
    }
}
