//! What users see against what the agent has: metric names in dashboards, paths in the README, libraries in
//! ARCHITECTURE.md.

use super::Finding;
use super::source::{is_tests_only, line_of, words};
use super::tree::Tree;
use std::collections::BTreeSet;

/// What every metric of ours starts with.
const PREFIX: &str = "slowpod_";
/// Where the metrics are defined.
const METRICS: &str = "agent/src/views/metrics";
/// Suffixes that a histogram's rows have.
const OF_HISTOGRAM: [&str; 3] = ["_bucket", "_sum", "_count"];

/// Breaks of: dashboards and rules name only metrics that the agent has. Recorded series (`slowpod:storms:rate5m`)
/// are defined by the rules themselves and are not metrics.
pub(super) fn dashboards(tree: &Tree) -> Vec<Finding> {
    let sources = tree.under(METRICS).filter(|source| !is_tests_only(&source.path));
    let defined: BTreeSet<&str> = sources.flat_map(|source| strings(&source.text)).collect();
    let known = |name: &str| {
        let without = |suffix: &&str| name.strip_suffix(*suffix).is_some_and(|base| defined.contains(base));
        defined.contains(name) || OF_HISTOGRAM.iter().any(without)
    };
    let mut findings = Vec::new();
    for (path, text) in tree.texts.iter().filter(|(path, _)| path.starts_with("dashboards/")) {
        for (offset, name) in names(text).filter(|(_, name)| !known(name)) {
            findings.push(Finding::new(
                path,
                line_of(text, offset),
                format!("names {name}, which is no metric"),
            ));
        }
    }
    findings
}

/// Words of a text that start like a metric, with their offsets.
fn names(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    text.match_indices(PREFIX).filter(move |(offset, _)| !text[..*offset].ends_with(is_name)).map(
        move |(offset, _)| {
            let rest = &text[offset..];
            (offset, &rest[..rest.find(|c| !is_name(c)).unwrap_or(rest.len())])
        },
    )
}

/// Breaks of: every view, every kind of profile and every finding is in its table.
pub(super) fn listed(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (folder, item) in
        [("agent/src/views/", "VIEW"), ("agent/src/views/profiles/", "KIND"), ("agent/src/findings/", "RULE")]
    {
        let table = format!("{folder}mod.rs");
        let table = tree.under(&table).next().map_or("", |source| source.shipped.as_str());
        for source in tree.under(folder) {
            let defined = source.shipped.contains(&format!("static {item}: "));
            if defined && !table.contains(&format!("&{}::{item}", source.stem())) {
                let what = format!("its {item} is not in the table of {folder}mod.rs");
                findings.push(Finding::new(&source.path, 1, what));
            }
        }
    }
    findings
}

/// Breaks of: every path of VIEWS is in the README.
pub(super) fn views_in_readme(tree: &Tree) -> Vec<Finding> {
    let readme = tree.texts.iter().find(|(path, _)| path == "README.md").map_or("", |(_, text)| text);
    let mut findings = Vec::new();
    for source in tree.under("agent/src/views/") {
        for offset in words(&source.shipped, "path") {
            let Some(value) = source.text[offset..].strip_prefix("path: \"/") else { continue };
            let path = format!("/{}", value.split('"').next().unwrap_or(""));
            if !readme.contains(&path) {
                let what = format!("serves {path}, which the README does not name");
                findings.push(Finding::new(&source.path, line_of(&source.text, offset), what));
            }
        }
    }
    findings
}

/// Breaks of: each dependency of the workspace has its reason in ARCHITECTURE.md's table, and nothing else has.
pub(super) fn libraries_in_architecture(tree: &Tree) -> Vec<Finding> {
    let part = |path: &str, from: &str, up_to: &str| {
        let text = tree.texts.iter().find(|(known, _)| known == path).map_or("", |(_, text)| text);
        let part = text.split_once(from).map_or("", |(_, part)| part);
        part.split(up_to).next().unwrap_or("").to_owned()
    };
    let manifest = part("Cargo.toml", "\n[workspace.dependencies]\n", "\n[");
    let of_others = manifest.lines().filter(|line| !line.contains("path = "));
    let used: BTreeSet<&str> = of_others.filter_map(|line| Some(line.split_once(" = ")?.0)).collect();
    let table = part("ARCHITECTURE.md", "\n| crate |", "\n\n");
    let rows = table.lines().skip(2).filter_map(|line| line.split('|').nth(1));
    let told: BTreeSet<&str> = rows.flat_map(|cell| cell.split(',')).map(str::trim).collect();
    let missing = used.difference(&told).map(|name| format!("gives no reason for {name}"));
    let stale = told.difference(&used).map(|name| format!("explains {name}, which is not used"));
    missing.chain(stale).map(|what| Finding::new("ARCHITECTURE.md", 1, what)).collect()
}

/// The insides of a text's plain string literals.
fn strings(text: &str) -> impl Iterator<Item = &str> {
    text.split('"').skip(1).step_by(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dashboards_may_name_only_what_is_there() {
        let tree = |expression| {
            Tree::of(&[
                (
                    "agent/src/views/metrics.rs",
                    "[(\"slowpod_spawns_total\", 1), (\"slowpod_loop_seconds\", 2)]",
                ),
                ("dashboards/a.json", expression),
            ])
        };
        assert_eq!(dashboards(&tree("rate(slowpod_spawns_total[5m]) / slowpod_loop_seconds_bucket")), []);
        assert_eq!(dashboards(&tree("sum(daemon:slowpod_spawns:rate5m)")), []);
        assert_eq!(dashboards(&tree("rate(slowpod_spawn_total[5m])")).len(), 1);
    }

    #[test]
    fn what_is_in_no_table_is_caught() {
        let rule = ("agent/src/findings/storm.rs", "pub static RULE: Rule = Rule {};");
        let table = |table| Tree::of(&[rule, ("agent/src/findings/mod.rs", table)]);
        assert_eq!(listed(&table("pub const FINDINGS: &[&Rule] = &[&storm::RULE];")), []);
        assert_eq!(listed(&table("pub const FINDINGS: &[&Rule] = &[]; // &storm::RULE")).len(), 1);
    }

    #[test]
    fn a_library_without_a_reason_is_caught_and_a_reason_without_one_too() {
        let tree = |table: &str| {
            let dependencies = "x\n[workspace.dependencies]\nown = { path = \"own\" }\na = \"1\"\nb = { version = \"2\" }\n\n[x]\nc = 1\n";
            let page = format!("y\n| crate | for |\n| --- | --- |\n{table}\n\n| d | z |\n");
            Tree::of(&[("Cargo.toml", dependencies), ("ARCHITECTURE.md", &page)])
        };
        assert_eq!(libraries_in_architecture(&tree("| a, b | z |")), []);
        assert_eq!(libraries_in_architecture(&tree("| b | z |")).len(), 1);
        assert_eq!(libraries_in_architecture(&tree("| a, b | z |\n| e | z |")).len(), 1);
    }

    #[test]
    fn a_view_the_readme_hides_is_caught() {
        let view = ("agent/src/views/storms.rs", "View { path: \"/api/v1/storms\", title: \"x\" }");
        assert_eq!(views_in_readme(&Tree::of(&[view, ("README.md", "| `/api/v1/storms` | ...")])), []);
        assert_eq!(views_in_readme(&Tree::of(&[view, ("README.md", "nothing")])).len(), 1);
    }
}
