//! `cargo xtask tidy`: holds the invariants of ARCHITECTURE.md that a script can hold. In: the tree. Out: one line per
//! break of a rule, with its place and the rule's sentence.

mod closed;
mod contract;
mod object;
mod paths;
mod source;
mod style;
mod surface;
mod tree;
mod walls;

use anyhow::bail;
use tree::Tree;

/// Options of `cargo xtask tidy`.
#[derive(clap::Args, Default)]
pub(crate) struct Options {
    /// Print the rules instead of checking them.
    #[arg(long)]
    list: bool,
}

/// One invariant: what it says, and the function that finds its breaks.
struct Rule {
    name: &'static str,
    sentence: &'static str,
    check: fn(&Tree) -> Vec<Finding>,
}

/// One place that breaks a rule.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    path: String,
    line: usize,
    what: String,
}

impl Finding {
    fn new(path: &str, line: usize, what: impl Into<String>) -> Finding {
        Finding { path: path.to_owned(), line, what: what.into() }
    }
}

/// Every rule. A rule is tested beside its function: a snippet that breaks it is caught, one that does not is not.
const RULES: &[Rule] = &[
    Rule {
        name: "walls",
        sentence: "each library is named only in the stages it belongs to",
        check: walls::libraries,
    },
    Rule {
        name: "pure",
        sentence: "decode, enrich, fold, findings and views do no I/O, read no clock and touch no global",
        check: walls::pure_stages,
    },
    Rule {
        name: "no-serde-inside",
        sentence: "enrich and fold derive no serde: what goes out is built in views",
        check: walls::no_serde_inside,
    },
    Rule {
        name: "closed",
        sentence: "Kind and Event are matched without a wildcard",
        check: closed::no_wildcard,
    },
    Rule {
        name: "fields",
        sentence: "contract structs hold fixed-width integers, arrays of them and other contract structs",
        check: contract::fields,
    },
    Rule {
        name: "sizes",
        sentence: "a size assert stands beside each contract struct, and a record starts with its header",
        check: contract::sizes_and_headers,
    },
    Rule {
        name: "mirrors",
        sentence: "a record is found under one name in abi, probes and decode",
        check: contract::mirrors,
    },
    Rule {
        name: "object",
        sentence: "what PROBES and OFFSETS name exists in the committed kernel object",
        check: object::has_what_is_named,
    },
    Rule { name: "length", sentence: "a source file has at most 400 lines", check: style::length },
    Rule {
        name: "purpose",
        sentence: "each Rust file starts by saying what it is for",
        check: style::purpose,
    },
    Rule {
        name: "no-unwrap",
        sentence: "outside tests nothing unwraps, and an expect says why it holds",
        check: style::no_unwrap,
    },
    Rule {
        name: "finished",
        sentence: "nothing is left to be done later, and no debugging is left in",
        check: style::finished,
    },
    Rule {
        name: "quiet",
        sentence: "only the command line prints: the stages answer or log",
        check: style::quiet,
    },
    Rule {
        name: "dashboards",
        sentence: "dashboards and rules name only metrics that the agent has",
        check: surface::dashboards,
    },
    Rule {
        name: "listed",
        sentence: "every view, every kind of profile and every finding is in its table",
        check: surface::listed,
    },
    Rule {
        name: "documented",
        sentence: "every path of VIEWS is in the README",
        check: surface::views_in_readme,
    },
    Rule {
        name: "libraries",
        sentence: "each dependency of the workspace has its reason in ARCHITECTURE.md, and nothing else has",
        check: surface::libraries_in_architecture,
    },
];

/// Checks every rule against the tree.
///
/// # Errors
/// When a rule is broken, or the tree cannot be read.
pub(crate) fn run(options: Options) -> anyhow::Result<()> {
    if options.list {
        RULES.iter().for_each(|rule| println!("{:<16} {}", rule.name, rule.sentence));
        return Ok(());
    }
    let tree = Tree::load(&crate::sh::root())?;
    let mut broken = 0;
    for rule in RULES {
        for finding in (rule.check)(&tree) {
            broken += 1;
            let Finding { path, line, what } = finding;
            println!("{path}:{line}: {what} ({}: {})", rule.name, rule.sentence);
        }
    }
    if broken > 0 {
        bail!("{broken} breaks of the rules above");
    }
    println!("tidy: {} rules hold over {} Rust files", RULES.len(), tree.rust.len());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn rule_names_are_unique() {
        let names: BTreeSet<_> = RULES.iter().map(|rule| rule.name).collect();
        assert_eq!(names.len(), RULES.len());
    }
}
