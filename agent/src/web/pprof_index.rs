//! The page at `/debug/pprof/`: every kind, what it shows and how to ask for it.

use crate::views::html::prose;
use crate::views::profiles::params::{FLAMEGRAPH, PPROF};
use crate::views::profiles::{Kind, PROFILES};
use crate::views::query::{COMMON, Param};
use std::fmt::Write;

/// The page.
pub(super) fn page() -> String {
    let mut rows = String::new();
    for kind in PROFILES {
        row(&mut rows, kind);
    }
    include_str!("page/pprof.html")
        .replace("{{rows}}", &rows)
        .replace("{{parameters}}", &list(COMMON))
        .replace("{{pprof}}", &list(PPROF))
        .replace("{{flamegraph}}", &list(FLAMEGRAPH))
}

fn row(out: &mut String, kind: &Kind) {
    let (name, about) = (kind.name, prose(kind.about));
    let values: Vec<String> =
        kind.values.iter().map(|value| format!("{}/{}", value.name, value.unit)).collect();
    let _ = writeln!(
        out,
        "<tr><td><a href=\"/debug/pprof/{name}?debug=1&amp;ago=60\">{name}</a></td><td>{about}\
         <div class=\"parameters\">{}</div></td><td><a href=\"/flamegraph/{name}\">flame graph</a>, \
         <a href=\"/flamegraph/{name}?format=folded\">folded</a>, <a href=\"/debug/pprof/{name}?ago=60\">protobuf</a> \
         of the last minute</td></tr>",
        values.join(", ")
    );
}

/// Names and meanings of parameters.
fn list(params: &[Param]) -> String {
    params
        .iter()
        .map(|param| format!("<dt><code>{}</code></dt><dd>{}</dd>\n", param.name, prose(param.about)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_on_the_page_and_no_place_is_left_open() {
        let page = page();
        for kind in PROFILES {
            assert!(page.contains(&format!("\"/flamegraph/{}\"", kind.name)), "{}", kind.name);
        }
        assert!(!page.contains("{{") && !page.contains("style=\""));
        assert!(page.contains("ago=5m&amp;seconds=60") && !page.contains("ago=5m&seconds=60"));
    }
}
