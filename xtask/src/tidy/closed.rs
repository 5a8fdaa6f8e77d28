//! The closed enums are matched arm by arm, so that the compiler lists every place a new kind concerns.

use super::Finding;
use super::source::{line_of, past_bracket, words};
use super::tree::Tree;

/// Enums whose matches must name every variant.
const CLOSED: [&str; 2] = ["Kind", "Event"];

/// Breaks of: Kind and Event are matched without a wildcard. A `match` counts as one over a closed enum when
/// some pattern of it names a variant (`Kind::Spawn`).
pub(super) fn no_wildcard(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in tree.rust.iter().filter(|source| source.path.starts_with("agent")) {
        for body in bodies(&source.shipped) {
            let patterns = patterns(&source.shipped, body);
            let Some(closed) = patterns.iter().find_map(|(pattern, _)| closed_enum(pattern)) else {
                continue;
            };
            for (pattern, offset) in patterns.iter().filter(|(pattern, _)| takes_anything(pattern)) {
                let what = format!("`{pattern}` in a match over {closed}");
                findings.push(Finding::new(&source.path, line_of(&source.shipped, *offset), what));
            }
        }
    }
    findings
}

/// Offsets of the braces that open the bodies of `match` expressions.
fn bodies(code: &str) -> impl Iterator<Item = usize> + '_ {
    words(code, "match").filter_map(|keyword| {
        let bytes = code.as_bytes();
        let mut at = keyword;
        while at < bytes.len() {
            match bytes[at] {
                b'{' => return Some(at),
                b'(' | b'[' => at = past_bracket(code, at),
                b';' | b'}' => return None,
                _ => at += 1,
            }
        }
        None
    })
}

/// The patterns of a match's arms, guards left out, each with its offset.
fn patterns(code: &str, open: usize) -> Vec<(&str, usize)> {
    let bytes = code.as_bytes();
    let end = past_bracket(code, open) - 1;
    let (mut at, mut start) = (open + 1, open + 1);
    let mut found = Vec::new();
    while at < end {
        if bytes[at..].starts_with(b"=>") {
            let whole = &code[start..at];
            let guard = words(whole, "if").next().unwrap_or(whole.len());
            let pattern = whole[..guard].trim();
            found.push((pattern, start + whole.find(pattern).unwrap_or(0)));
            at = past_arm(code, at + 2, end);
            start = at;
        } else if matches!(bytes[at], b'(' | b'[' | b'{') {
            at = past_bracket(code, at);
        } else {
            at += 1;
        }
    }
    found
}

/// Offset past the expression of an arm, and the comma after it.
fn past_arm(code: &str, from: usize, end: usize) -> usize {
    let bytes = code.as_bytes();
    let mut at = from + code[from..end].bytes().take_while(u8::is_ascii_whitespace).count();
    if bytes.get(at) == Some(&b'{') {
        at = past_bracket(code, at);
        let rest = code[at..end].trim_start();
        // A block ends the arm, unless the expression goes on from it (`{ .. }.call()`).
        if !rest.starts_with(['.', '?']) {
            return if rest.starts_with(',') { end - rest.len() + 1 } else { at };
        }
    }
    while at < end && bytes[at] != b',' {
        at = if matches!(bytes[at], b'(' | b'[' | b'{') { past_bracket(code, at) } else { at + 1 };
    }
    (at + 1).min(end)
}

/// The closed enum one of whose variants the pattern names.
fn closed_enum(pattern: &str) -> Option<&'static str> {
    CLOSED
        .into_iter()
        .find(|name| words(pattern, name).any(|at| pattern[at + name.len()..].starts_with("::")))
}

/// Whether a pattern takes whatever comes: `_`, a bare name, or a tuple of such.
fn takes_anything(pattern: &str) -> bool {
    let bare = |part: &str| {
        let name = part.trim().trim_start_matches("ref ").trim_start_matches("mut ").trim_start_matches('&');
        name.is_empty()
            || name == ".."
            || name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
                && !["true", "false"].contains(&name)
                && !name.as_bytes()[0].is_ascii_digit()
    };
    pattern.split('|').any(|choice| choice.trim().trim_matches(['(', ')']).split(',').all(bare))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caught(text: &str) -> usize {
        no_wildcard(&Tree::of(&[("agent/src/fold/mod.rs", text)])).len()
    }

    #[test]
    fn wildcards_over_closed_enums_are_caught() {
        assert_eq!(caught("match kind { Kind::Spawn => 1, _ => 2 }"), 1);
        assert_eq!(
            caught("match kind { abi::Kind::Spawn => { f(a, b) } _ if x => 3, other => g(other) }"),
            2
        );
        assert_eq!(caught("match (a, b) { (Event::Exit(e), Some(x)) => e, (_, _) => 0 }"), 1);
        assert_eq!(
            caught("match f(|x| { x }) { Event::Exit { .. } => { 1 }.max(2), Event::Reap | _ => 4 }"),
            1
        );
        assert_eq!(caught("match a { B::C => match kind { Kind::Exec => 1, rest => 2 }, _ => 3 }"), 1);
    }

    #[test]
    fn full_matches_and_other_enums_are_not() {
        assert_eq!(caught("match kind { Kind::Spawn => 1, Kind::Exec => 2 }"), 0);
        assert_eq!(caught("match error.kind() { io::ErrorKind::NotFound => 1, _ => 2 }"), 0);
        assert_eq!(caught("match number { 1 => Some(Kind::Spawn), _ => None }"), 0);
        assert_eq!(caught("match event { Event::Exec(exec) => f(exec), Event::Exit(_) => (), }"), 0);
        assert_eq!(caught("#[cfg(test)]\nmod tests { fn f() { match k { Kind::Exec => 1, _ => 2 } } }"), 0);
    }
}
