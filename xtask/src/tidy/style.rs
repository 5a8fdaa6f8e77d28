//! What every file looks like.

use super::Finding;
use super::source::{Source, is_tests_only, line_of, past_bracket, words};
use super::tree::Tree;

/// Longest source file. Longer ones hide a second purpose.
const MAX_LINES: usize = 400;
/// Shortest text that can be a reason.
const MIN_REASON_BYTES: usize = 8;

/// Breaks of: a source file has at most 400 lines.
pub(super) fn length(tree: &Tree) -> Vec<Finding> {
    let rust = tree.rust.iter().map(|source| (source.path.as_str(), source.text.as_str()));
    let sources = [".go", ".js", ".css", ".html", ".sh"];
    let others = tree.texts.iter().map(|(path, text)| (path.as_str(), text.as_str()));
    rust.chain(others.filter(|(path, _)| sources.iter().any(|suffix| path.ends_with(suffix))))
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|(_, lines)| *lines > MAX_LINES)
        .map(|(path, lines)| Finding::new(path, lines, format!("has {lines} lines")))
        .collect()
}

/// Breaks of: each Rust file starts by saying what it is for.
pub(super) fn purpose(tree: &Tree) -> Vec<Finding> {
    let speaks = |source: &Source| {
        let first = source.text.lines().next().unwrap_or("");
        first.strip_prefix("//! ").is_some_and(|sentence| sentence.trim().len() >= MIN_REASON_BYTES)
    };
    let silent = tree.rust.iter().filter(|source| !is_tests_only(&source.path) && !speaks(source));
    silent.map(|source| Finding::new(&source.path, 1, "does not start with a `//!` line")).collect()
}

/// Breaks of: outside tests nothing unwraps, and an expect says why it holds.
pub(super) fn no_unwrap(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in tree.rust.iter().filter(|source| !is_test_code(&source.path)) {
        let mut found = |offset: usize, what: &str| {
            findings.push(Finding::new(&source.path, line_of(&source.shipped, offset), what));
        };
        for offset in words(&source.shipped, "unwrap") {
            if source.shipped[..offset].ends_with('.') {
                found(offset, "unwraps");
            }
        }
        for offset in words(&source.shipped, "expect") {
            let open = offset + "expect".len();
            let is_call = source.shipped[..offset].ends_with('.') && source.shipped[open..].starts_with('(');
            if is_call && !has_reason(source, open) {
                found(offset, "expects without a reason");
            }
        }
    }
    findings
}

/// Whether the arguments that open here start with a string that can be a reason.
fn has_reason(source: &Source, open: usize) -> bool {
    let arguments = source.text[open + 1..past_bracket(&source.shipped, open) - 1].trim();
    arguments.starts_with('"') && arguments.len() >= MIN_REASON_BYTES + 2
}

/// The tests' own package: a failed unwrap there is a failed test.
fn is_test_code(path: &str) -> bool {
    path.starts_with("tests/")
}

/// Breaks of: nothing is left to be done later, and no debugging is left in.
pub(super) fn finished(tree: &Tree) -> Vec<Finding> {
    // Written in halves, so that this file does not break its own rule.
    let notes = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
    let mut findings = Vec::new();
    for source in &tree.rust {
        for name in ["todo", "unimplemented", "dbg"] {
            let calls =
                words(&source.code, name).filter(|at| source.code[at + name.len()..].starts_with('!'));
            findings.extend(
                calls.map(|at| Finding::new(&source.path, line_of(&source.code, at), format!("{name}!"))),
            );
        }
        for note in notes {
            let places = words(&source.text, note);
            findings.extend(places.map(|at| Finding::new(&source.path, line_of(&source.text, at), note)));
        }
    }
    findings
}

/// Breaks of: only the command line prints.
pub(super) fn quiet(tree: &Tree) -> Vec<Finding> {
    let may_print = |path: &str| path.starts_with("agent/src/cli/") || path == "agent/src/main.rs";
    let mut findings = Vec::new();
    for source in tree.under("agent").filter(|source| !may_print(&source.path)) {
        for name in ["println", "print", "eprintln", "eprint"] {
            let calls =
                words(&source.shipped, name).filter(|at| source.shipped[at + name.len()..].starts_with('!'));
            findings.extend(
                calls.map(|at| Finding::new(&source.path, line_of(&source.shipped, at), format!("{name}!"))),
            );
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(check: fn(&Tree) -> Vec<Finding>, path: &str, text: &str) -> usize {
        check(&Tree::of(&[(path, text)])).len()
    }

    #[test]
    fn long_files_are_caught() {
        let lines = |count: usize| "//\n".repeat(count);
        assert_eq!(count(length, "agent/src/a.rs", &lines(400)), 0);
        assert_eq!(count(length, "agent/src/a.rs", &lines(401)), 1);
        assert_eq!(count(length, "agent/src/web/ui/app.js", &lines(401)), 1);
        assert_eq!(count(length, "README.md", &lines(401)), 0);
    }

    #[test]
    fn files_without_purpose_are_caught() {
        assert_eq!(count(purpose, "agent/src/a.rs", "//! What comes in and goes out.\n"), 0);
        assert_eq!(count(purpose, "agent/src/a.rs", "use std::fmt;\n"), 1);
        assert_eq!(count(purpose, "agent/src/a.rs", "//! x\n"), 1);
        assert_eq!(count(purpose, "agent/src/a/tests.rs", "use super::*;\n"), 0);
    }

    #[test]
    fn unwraps_and_bare_expects_are_caught() {
        let bad = "fn f() { a.unwrap(); b.expect(\"\"); c.expect(why); }";
        assert_eq!(count(no_unwrap, "agent/src/a.rs", bad), 3);
        assert_eq!(count(no_unwrap, "tests/kernel/main.rs", bad), 0);
        let good = "fn f() { a.unwrap_or(1); b.expect(\"made two lines above\"); }\n#[cfg(test)]\nmod t { a.unwrap() }";
        assert_eq!(count(no_unwrap, "agent/src/a.rs", good), 0);
        assert_eq!(
            count(no_unwrap, "agent/src/a.rs", "#[expect(dead_code, reason = \"read by C\")] fn f() {}"),
            0
        );
    }

    #[test]
    fn what_is_left_for_later_is_caught() {
        assert_eq!(count(finished, "agent/src/a.rs", "fn f() { todo!() }"), 1);
        assert_eq!(count(finished, "agent/src/a.rs", "fn f() { dbg!(1); unimplemented!() }"), 2);
        assert_eq!(count(finished, "agent/src/a.rs", concat!("// TO", "DO: later")), 1);
        assert_eq!(count(finished, "agent/src/a.rs", "/// Writes todo! into the text.\nfn todo() {}"), 0);
    }

    #[test]
    fn printing_stages_are_caught() {
        assert_eq!(count(quiet, "agent/src/fold/a.rs", "fn f() { println!(\"x\"); }"), 1);
        assert_eq!(count(quiet, "agent/src/cli/top.rs", "fn f() { println!(\"x\"); }"), 0);
        assert_eq!(count(quiet, "agent/src/fold/a.rs", "fn f() { write!(w, \"println!\") }"), 0);
    }
}
