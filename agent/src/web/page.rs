//! The page at `/` and its files. Everything comes from this binary and runs no inline script or style, so
//! the policy in `guard` holds; what the agent saw reaches the page as JSON and is shown as text only.

use super::routes::FIXED;
use crate::decode::fact::Node;
use crate::views::html::{escaped, prose};
use crate::views::{Param, View, query};
use std::fmt::Write;

/// A file of the page.
pub(super) struct Asset {
    pub(super) path: &'static str,
    pub(super) content_type: &'static str,
    pub(super) text: &'static str,
}

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

/// The page's files.
pub(super) const ASSETS: &[Asset] = &[
    Asset {
        path: "/ui/style.css",
        content_type: "text/css; charset=utf-8",
        text: include_str!("page/style.css"),
    },
    Asset { path: "/ui/app.js", content_type: JAVASCRIPT, text: include_str!("page/app.js") },
    Asset { path: "/ui/sched.js", content_type: JAVASCRIPT, text: include_str!("page/sched.js") },
    Asset { path: "/ui/show.js", content_type: JAVASCRIPT, text: include_str!("page/show.js") },
    Asset { path: "/ui/icon.svg", content_type: "image/svg+xml", text: include_str!("page/icon.svg") },
];

/// Verbs of the command line that ask a running agent, by the view they show.
const VERBS: &[&str] = &["storms", "findings", "processes", "netlink"];

/// The index page of a node, for somebody who came by `host`.
pub(super) fn index(views: &[&View], node: &Node, host: &str) -> String {
    let host = escaped(host);
    let mut paths = String::new();
    for view in views {
        let verb = VERBS.contains(&view.name).then(|| format!("slowpod {}", view.name));
        let parameters: Vec<String> = view.params.iter().chain(query::COMMON).map(parameter).collect();
        row(&mut paths, &host, view.path, view.about, verb.as_deref(), &parameters.join(" "));
    }
    for (path, about) in FIXED {
        row(&mut paths, &host, path, about, None, "");
    }
    let name = if node.node_name.is_empty() { "this node" } else { &node.node_name };
    let about = match node.kernel_release.as_str() {
        "" => String::new(),
        kernel => format!("Linux {kernel}, {} CPUs, slowpod {}", node.cpus, node.agent_version),
    };
    include_str!("page/index.html")
        .replace("{{paths}}", &paths)
        .replace("{{about}}", &escaped(&about))
        // Last: a name that looks like a place to fill is not one.
        .replace("{{node}}", &escaped(name))
}

fn row(out: &mut String, host: &str, path: &str, about: &str, verb: Option<&str>, parameters: &str) {
    let (path, about) = (escaped(path), prose(about));
    // A path with a place to fill leads nowhere as it is.
    let name = if path.contains('{') { path.clone() } else { format!("<a href=\"{path}\">{path}</a>") };
    let _ = write!(out, "<tr><td>{name}</td><td>{about}");
    if !parameters.is_empty() {
        let _ = write!(out, "<div class=\"parameters\">{parameters}</div>");
    }
    let _ = write!(out, "</td><td><code>curl -s {host}{path}</code>");
    if let Some(verb) = verb {
        let _ = write!(out, "<br><code>{}</code>", escaped(verb));
    }
    out.push_str("</td></tr>\n");
}

fn parameter(param: &Param) -> String {
    format!("<code title=\"{}\">{}</code>", escaped(param.about), escaped(param.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_stay_text() {
        let hostile = "<script>alert(1)</script>\"'&{{paths}}";
        let node = Node { node_name: hostile.into(), ..Node::default() };
        let page = index(&[], &node, "<b>\"host");
        assert!(!page.contains("<script>alert") && !page.contains("<b>"), "{page}");
        assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39;&amp;"));
        assert!(page.contains("curl -s &lt;b&gt;&quot;host/metrics"));
    }

    #[test]
    fn nothing_is_inline_and_nothing_comes_from_elsewhere() {
        let page = index(&[], &Node::default(), "localhost");
        assert!(!page.contains("{{"), "a place was not filled");
        for asset in ASSETS.iter().map(|asset| asset.text).chain([page.as_str()]) {
            for inline in ["style=\"", "onclick=", "onload=", "javascript:", "innerHTML", "https://", "eval("]
            {
                assert!(!asset.contains(inline), "{inline}");
            }
        }
        for (at, _) in page.match_indices("<script") {
            assert!(
                page[at..].starts_with("<script src=\"/ui/")
                    || page[at..].starts_with("<script type=\"module\" src=\"/ui/")
            );
        }
    }
}
