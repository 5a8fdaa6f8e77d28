//! `findings` in plain words: each with its numbers, what helps, and where to look.

use super::fields::Fields;
use super::grid::wrap;

/// How far the sentences below a title stand in.
const INDENT: usize = 4;

pub(super) fn lines(answer: &Fields<'_>, width: usize) -> Vec<String> {
    let mut lines = wrap(&answer.text("summary"), width, 0);
    for finding in answer.at("findings").list() {
        lines.push(String::new());
        let (severity, rank) = (finding.text("severity").to_uppercase(), finding.text("rank"));
        lines.extend(wrap(&format!("{rank}. {severity}: {}", finding.text("title")), width, INDENT));
        lines.extend(finding.at("detail").list().flat_map(|line| below(&line.own_text(), "- ", width)));
        lines.extend(
            finding.at("fix").list().flat_map(|fix| below(&fix.own_text(), "Usually helps: ", width)),
        );
        let evidence: Vec<String> = finding.at("evidence").list().map(|path| path.own_text()).collect();
        if !evidence.is_empty() {
            lines.extend(below(&evidence.join(" "), "See: ", width));
        }
    }
    let found = answer.at("findings").list().next().is_some();
    if !found {
        let looked_for = answer.at("looked_for").list();
        lines.push("Looked for:".into());
        lines.extend(looked_for.flat_map(|rule| below(&rule.own_text(), "- ", width)));
    }
    lines
}

/// A sentence below a title, behind a mark.
fn below(text: &str, mark: &str, width: usize) -> Vec<String> {
    let blanks = " ".repeat(INDENT);
    let lines = wrap(&format!("{mark}{text}"), width - INDENT, 2);
    lines.into_iter().map(|line| format!("{blanks}{line}")).collect()
}
