//! Who may name what: the folders are stages, and each library and each way to the outside belongs to some of them.

use super::Finding;
use super::paths::{Named, paths};
use super::tree::Tree;

/// A library, and the folders or files that may name it.
struct Wall {
    library: &'static str,
    /// Where the wall stands.
    within: &'static str,
    may: &'static [&'static str],
}

const WALLS: &[Wall] = &[
    Wall { library: "aya", within: "agent/src/", may: &["agent/src/attach/", "agent/src/capture/ring.rs"] },
    Wall { library: "aya_obj", within: "agent/src/", may: &["agent/src/attach/"] },
    Wall { library: "axum", within: "agent/src/", may: &["agent/src/web/"] },
    Wall { library: "clap", within: "agent/src/", may: &["agent/src/cli/", "agent/src/main.rs"] },
    Wall {
        library: "gimli",
        within: "agent/src/",
        may: &["agent/src/capture/symbols/dwarf/", "agent/src/capture/symbols/unwind/cfi"],
    },
    Wall { library: "miniz_oxide", within: "agent/src/", may: &["agent/src/capture/symbols/dwarf/"] },
    Wall { library: "cpp_demangle", within: "agent/src/", may: &["agent/src/capture/symbols/demangle.rs"] },
    Wall { library: "rustc_demangle", within: "agent/src/", may: &["agent/src/capture/symbols/demangle.rs"] },
    Wall { library: "inferno", within: "agent/src/", may: &["agent/src/views/profiles/svg.rs"] },
    Wall { library: "flate2", within: "agent/src/", may: &["agent/src/views/profiles/pprof.rs"] },
    Wall { library: "ureq", within: "agent/src/", may: &["agent/src/client.rs"] },
    Wall {
        library: "aya_ebpf",
        within: "agent-ebpf/src/",
        may: &["agent-ebpf/src/main.rs", "agent-ebpf/src/probes/"],
    },
    Wall { library: "aya", within: "agent-ebpf/src/", may: &[] },
];

/// Stages that are functions of what enters them.
const PURE: [&str; 5] =
    ["agent/src/decode/", "agent/src/enrich/", "agent/src/fold/", "agent/src/findings/", "agent/src/views/"];

/// What would make such a stage depend on something else than its input.
const IMPURE: [&str; 26] = [
    "std::fs",
    "std::net",
    "std::env",
    "std::process",
    "std::thread",
    "std::os",
    "std::io::stdin",
    "std::io::stdout",
    "std::io::stderr",
    "std::time::SystemTime",
    "std::time::Instant",
    "SystemTime::now",
    "Instant::now",
    "std::sync::Mutex",
    "std::sync::RwLock",
    "std::sync::OnceLock",
    "std::sync::LazyLock",
    "std::sync::atomic",
    "std::thread_local",
    "std::hash::RandomState",
    "thread_local",
    "tokio",
    "libc",
    "ureq",
    "tracing",
    "log",
];

/// Parts of the above that are known when the agent is compiled.
const CONSTANT: [&str; 1] = ["std::env::consts"];

/// Breaks of: each library is named only in the stages it belongs to.
pub(super) fn libraries(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for wall in WALLS {
        let outside = |path: &str| !wall.may.iter().any(|allowed| path.starts_with(allowed));
        for source in tree.under(wall.within).filter(|source| outside(&source.path)) {
            for named in paths(&source.shipped).iter().filter(|named| names(named, wall.library)) {
                let what = format!("names {}, which belongs to {}", wall.library, places(wall));
                findings.push(Finding::new(&source.path, named.line, what));
            }
        }
    }
    findings
}

fn places(wall: &Wall) -> String {
    if wall.may.is_empty() { "the other side".to_owned() } else { wall.may.join(" and ") }
}

/// Breaks of: decode, enrich, fold, findings and views do no I/O, read no clock and touch no global.
pub(super) fn pure_stages(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in PURE.iter().flat_map(|folder| tree.under(folder)) {
        let constant = |named: &Named| CONSTANT.iter().any(|constant| named.starts_with(constant));
        for named in paths(&source.shipped).into_iter().filter(|named| !constant(named)) {
            if let Some(impure) = IMPURE.iter().find(|impure| names(&named, impure)) {
                findings.push(Finding::new(&source.path, named.line, format!("names {impure}")));
            }
        }
        for (number, line) in source.shipped.lines().enumerate() {
            if line.contains("static mut ") {
                findings.push(Finding::new(&source.path, number + 1, "has a global that changes"));
            }
        }
    }
    findings
}

/// A bare word of the same name (a variable) is no library: something of it must be named. A macro is a bare word.
fn names(named: &Named, path: &str) -> bool {
    named.starts_with(path) && (named.segments.len() > 1 || path == "thread_local")
}

/// Breaks of: enrich and fold derive no serde.
pub(super) fn no_serde_inside(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in ["agent/src/enrich/", "agent/src/fold/"].iter().flat_map(|folder| tree.under(folder)) {
        for named in paths(&source.shipped) {
            let last = named.segments.last().map_or("", String::as_str);
            if named.segments[0].starts_with("serde") || ["Serialize", "Deserialize"].contains(&last) {
                findings.push(Finding::new(
                    &source.path,
                    named.line,
                    format!("names {}", named.segments.join("::")),
                ));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caught(check: fn(&Tree) -> Vec<Finding>, path: &str, text: &str) -> bool {
        !check(&Tree::of(&[(path, text)])).is_empty()
    }

    #[test]
    fn libraries_stay_behind_their_walls() {
        assert!(caught(libraries, "agent/src/fold/mod.rs", "use aya::maps;"));
        assert!(caught(libraries, "agent/src/capture/order.rs", "fn f(ring: aya::maps::RingBuf) {}"));
        assert!(!caught(libraries, "agent/src/capture/ring.rs", "use aya::maps;"));
        assert!(caught(libraries, "agent/src/pipeline.rs", "use {axum::Router};"));
        assert!(caught(libraries, "agent/src/config.rs", "#[derive(clap::Parser)] struct A;"));
        assert!(!caught(libraries, "agent/src/main.rs", "use clap::Parser;"));
        assert!(caught(libraries, "agent/src/cli/top.rs", "fn f(agent: &ureq::Agent) {}"));
        assert!(!caught(libraries, "agent/src/client.rs", "fn f(agent: &ureq::Agent) {}"));
        assert!(caught(libraries, "agent-ebpf/src/rules/cause.rs", "use aya_ebpf::helpers;"));
        assert!(!caught(
            libraries,
            "agent/src/fold/mod.rs",
            "// aya::maps\n#[cfg(test)]\nmod t { use aya::X; }"
        ));
    }

    #[test]
    fn pure_stages_reach_for_nothing() {
        for text in [
            "use std::{fs, io};",
            "use std::time::{Duration, Instant};",
            "fn now() -> u64 { ::std::time::SystemTime::now() }",
            "static mut COUNT: u64 = 0;",
            "thread_local! { static A: u8 = 0; }",
            "use std::sync::OnceLock;",
            "async fn f() { tokio::task::yield_now().await }",
        ] {
            assert!(caught(pure_stages, "agent/src/fold/spawns.rs", text), "{text}");
            assert!(!caught(pure_stages, "agent/src/capture/facts/proc.rs", text), "{text}");
        }
        let fine = "use std::{fmt, io::Write, time::Duration, env::consts::ARCH}; let log = 1;";
        assert!(!caught(pure_stages, "agent/src/views/storms.rs", fine));
    }

    #[test]
    fn serde_stays_outside() {
        assert!(caught(
            no_serde_inside,
            "agent/src/fold/a.rs",
            "#[derive(Debug, serde::Serialize)] struct A;"
        ));
        assert!(caught(no_serde_inside, "agent/src/enrich/a.rs", "#[derive(Deserialize)] struct A;"));
        assert!(!caught(no_serde_inside, "agent/src/views/a.rs", "#[derive(serde::Serialize)] struct A;"));
    }
}
