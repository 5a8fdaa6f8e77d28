//! Answers for terminals. In: the JSON of a view. Out: plain lines that fit a width.
//!
//! There is no colour and no other escape sequence, so the same text goes to a pipe, a log and a terminal. All
//! text of an answer passes [`text::safe`](crate::enrich::text::safe) once more here: the answer may come from an
//! agent, a tape or a proxy that is not to be trusted with a terminal.

mod cni;
mod fields;
mod findings;
mod flux;
mod grid;
mod netlink;
mod pod;
mod pods;
mod probes;
mod processes;
mod sched;
mod storms;
mod top;
mod wakers;

use super::Failure;
use super::options::{self, Format};
use fields::Fields;
use grid::wrap;
use serde_json::Value;

/// Narrowest width that tables are laid out for; below it lines are longer than the terminal.
const WIDTH_MIN: usize = 60;

/// What makes an answer's lines, for a width.
type Lines = fn(&Fields<'_>, usize) -> Vec<String>;

/// Answers that have a table of their own.
const TABLES: &[(&str, Lines)] = &[
    ("cni", cni::lines),
    ("findings", findings::lines),
    ("flux", flux::lines),
    ("netlink", netlink::lines),
    ("pod", pod::lines),
    ("pods", pods::lines),
    ("probes", probes::lines),
    ("processes", processes::lines),
    ("sched", sched::lines),
    ("storms", storms::lines),
    ("top", top::lines),
    ("wakers", wakers::lines),
];

/// A view's answer in the format asked for, for the width of the terminal.
///
/// # Errors
/// When it is to be a table and is no JSON.
pub fn text(view: &str, body: Vec<u8>, format: Format) -> Result<Vec<u8>, Failure> {
    match format {
        Format::Json => Ok(body),
        Format::Table => match render(view, &body, options::width()) {
            Ok(table) => Ok(table.into_bytes()),
            Err(error) => Err(Failure::Failed(format!("the answer does not parse: {error}"))),
        },
    }
}

/// A view's answer as text. A view that has no table of its own stays as it is.
///
/// # Errors
/// When the answer is no JSON.
pub fn render(view: &str, body: &[u8], width: usize) -> Result<String, serde_json::Error> {
    let answer: Value = serde_json::from_slice(body)?;
    let answer = Fields::new(&answer);
    let width = width.max(WIDTH_MIN);
    let Some((_, lines)) = TABLES.iter().find(|(name, _)| *name == view) else {
        return Ok(String::from_utf8_lossy(body).into_owned());
    };
    let lines = lines(&answer, width);
    let mut text = String::new();
    for line in lines.into_iter().chain(missing(&answer, width)) {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    Ok(text)
}

/// What the answer is about, as the beginning of its first line: `30.3 s until 2026-01-02 03:04:35 UTC`.
fn window(answer: &Fields<'_>) -> String {
    let window = answer.at("window");
    let length = crate::findings::human::duration((window.number("covered_seconds") * 1e9) as u64);
    match window.text("until").split_once('T') {
        Some((day, time)) => format!("{length} until {day} {} UTC", time.get(..8).unwrap_or(time)),
        None => length,
    }
}

/// Says below a table what it lacks; nothing when it is complete.
fn missing(answer: &Fields<'_>, width: usize) -> Vec<String> {
    let block = answer.at("completeness");
    // A run of hollow pods is its own account: nothing of it can be missing.
    if block.flag("complete") || !block.is_some() {
        return Vec::new();
    }
    let mut parts = Vec::new();
    for (field, what) in [
        ("lost", "lost"),
        ("counted_only", "only counted"),
        ("evicted", "evicted"),
        ("truncated", "cut short"),
    ] {
        let counts = block.at(field).entries();
        let counts = counts.map(|(name, count)| format!("{name} {}", count.count_text()));
        let counts = counts.collect::<Vec<_>>().join(", ");
        if !counts.is_empty() {
            parts.push(format!("{what}: {counts}"));
        }
    }
    parts.extend(block.at("degraded").list().map(|reason| reason.own_text()));
    let text = format!("Incomplete. {}", parts.join("; "));
    let mut lines = vec![String::new()];
    lines.extend(wrap(&text, width, 2));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_stands_below() {
        let body = br#"{"completeness":{"complete":false,"lost":{"exec":2000},"counted_only":{},"truncated":
            {"argv":1},"evicted":{},"degraded":["reap is denied: waits"]},"probes":[]}"#;
        let text = render("probes", body, 80).unwrap();
        assert!(
            text.ends_with("\nIncomplete. lost: exec 2,000; cut short: argv 1; reap is denied: waits\n"),
            "{text}"
        );
    }

    #[test]
    fn an_answer_without_its_fields_is_no_panic() {
        for (view, _) in TABLES {
            for body in [
                "{}",
                "[]",
                "null",
                r#"{"daemons":[{}],"findings":[{}],"senders":[{}],"processes":[{}],"pods":[{}],"starts":[{"steps":[{}]}]}"#,
            ] {
                render(view, body.as_bytes(), 80).unwrap();
            }
            assert!(render(view, b"<html>", 80).is_err());
        }
    }

    #[test]
    fn escape_sequences_never_reach_the_terminal() {
        let evil = r"\u001b[2J\u0007\u202e";
        let body = format!(
            r#"{{"daemons":[{{"name":"{evil}","classes":[{{"argv_class":"{evil}"}}]}}],
                "findings":[{{"title":"{evil}","detail":["{evil}"],"fix":["{evil}"],"evidence":["{evil}"]}}],
                "senders":[{{"name":"{evil}","messages":[{{"message":"{evil}"}}]}}],"summary":"{evil}",
                "processes":[{{"argv":"{evil}"}}],"failed_execs":[{{"path":"{evil}"}}],
                "probes":[{{"probe":"{evil}","why":"{evil}"}}],
                "owners":[{{"held_by":"{evil}","ran_instead":[{{"who":"{evil}"}}]}}],
                "woken":[{{"process":{{"comm":"{evil}","pid":"{evil}"}},"pod":"{evil}",
                "by":[{{"process":{{"comm":"{evil}"}},"waker":"{evil}","pod":"{evil}"}}],
                "chain":[{{"waker":"{evil}"}}]}}],
                "pods":[{{"pod":"{evil}","pod_uid":"{evil}","state":"{evil}"}}],
                "starts":[{{"namespace":"{evil}","steps":[{{"what":"exec","of":"{evil}","name":"{evil}",
                "state":"failed","exit":{{"signal":"{evil}"}}}}]}}],
                "completeness":{{"degraded":["{evil}"],"lost":{{"{evil}":1}}}}}}"#
        );
        for (view, _) in TABLES {
            let text = render(view, body.as_bytes(), 80).unwrap();
            assert!(
                !text.chars().any(|c| (c.is_control() && c != '\n') || c == '\u{202e}'),
                "{view}: {text:?}"
            );
        }
    }
}
