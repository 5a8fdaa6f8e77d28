//! `/sched`: run-queue latency as a page: a heat map over time of the node, or of whatever passes the filters, and who
//! waited. Made whole here, as the JSON of `/api/v1/sched/heatmap` is; the page's script only asks again.

mod map;

use super::completeness::{CompletenessBlock, WindowBlock, completeness, window};
use super::filter::Filter;
use super::html::escaped;
use super::query::{COMMON, SECONDS_DEFAULT_NS};
use super::{Query, View, sched, sched_heatmap};
use crate::enrich::identity::Identity;
use crate::findings::human::{count, duration};
use crate::fold::sched::owners::owners;
use crate::fold::sched::waits::Waits;
use crate::fold::sched::{Row, Who};
use crate::fold::{Snapshot, State};
use map::Map;
use std::cmp::Reverse;
use std::fmt::Write;

/// The page. It is a view to make, and not one of the API: it is in no table.
pub static PAGE: View = View {
    name: "sched_page",
    path: "/sched",
    about: "Run-queue latency to look at: a heat map over time, of the node, a pod or a process, and who waited.",
    params: &[sched_heatmap::CPU],
    content_type: "text/html; charset=utf-8",
    render,
};

/// Rows of each table unless `limit` says otherwise.
const ROWS_DEFAULT: usize = 15;
/// Windows to choose from, seconds; one that is none of them is added.
const WINDOWS_S: [u64; 5] = [10, 30, 60, 300, 600];

fn render(snapshot: &Snapshot, query: &Query) -> Vec<u8> {
    let page = include_str!("page.html").replace("{{fields}}", &fields(query));
    // Last: a name that looks like a place to fill is not one.
    page.replace("{{answer}}", &answer(snapshot, query)).into_bytes()
}

/// Filters by name, with what was asked for.
fn filters(query: &Query) -> [(&'static str, Option<String>); 7] {
    [
        (sched_heatmap::CPU.name, query.own(sched_heatmap::CPU.name).map(str::to_owned)),
        ("pod", query.pod.clone()),
        ("namespace", query.namespace.clone()),
        ("container", query.container.clone()),
        ("pid", query.pid.map(|pid| pid.to_string())),
        ("comm", query.comm.clone()),
        ("cgroup", query.cgroup.clone()),
    ]
}

fn span(ns: u64) -> String {
    (ns as f64 / 1e9).to_string()
}

fn fields(query: &Query) -> String {
    let asked_ns = query.seconds_ns.unwrap_or(SECONDS_DEFAULT_NS);
    let listed = WINDOWS_S.map(|seconds| seconds * 1_000_000_000);
    let own = (!listed.contains(&asked_ns)).then_some(asked_ns);
    let mut out = String::from("    <label>seconds <select name=\"seconds\">");
    for ns in own.into_iter().chain(listed) {
        let selected = if ns == asked_ns { " selected" } else { "" };
        let _ = write!(out, "<option value=\"{0}\"{selected}>{0}</option>", span(ns));
    }
    out.push_str("</select></label>\n");
    let ago = [("ago", query.ago_ns.map(|ns| format!("{}s", span(ns))))];
    for (name, value) in ago.into_iter().chain(filters(query)) {
        let value = escaped(&value.unwrap_or_default());
        let _ =
            writeln!(out, "    <label>{name} <input name=\"{name}\" value=\"{value}\" size=\"9\"></label>");
    }
    out
}

fn answer(snapshot: &Snapshot, query: &Query) -> String {
    let state = &snapshot.state;
    let (grid, window) = (sched_heatmap::grid(snapshot, query), window(snapshot));
    let clock = |ktime_ns: u64| match super::describe::Instant::of(state, ktime_ns).time {
        Some(time) => time.get(11..19).unwrap_or(&time).to_owned(),
        None => span(ktime_ns),
    };
    let map = Map { grid: &grid, window: &window, clock: &clock };
    let filter = Filter::new(state, query);
    let mut passing: Vec<(&Row, &Waits)> =
        state.sched.rows.iter().filter(|(row, _)| filter.waits(row)).collect();
    passing.sort_by_key(|(row, waits)| (Reverse(waits.wait_ns), **row));
    let cpu = query.own_count(sched_heatmap::CPU.name).and_then(|cpu| u32::try_from(cpu).ok());
    let all = match cpu {
        Some(cpu) => state.sched.cpus.get(&cpu).cloned().unwrap_or_default(),
        None if filter.is_empty() => state.sched.node(),
        None => sum(passing.iter().map(|(_, waits)| *waits)),
    };
    let mut out = missing(&completeness(snapshot));
    let _ = writeln!(out, "<p class=\"quiet\">{}</p>", about(&window, query));
    let _ = writeln!(out, "<p class=\"facts\">{}</p>", facts(&all));
    out.push_str(&map.svg());
    out.push_str(&legend(&map.legend()));
    let rows = query.limit.unwrap_or(ROWS_DEFAULT);
    out.push_str(&cpus(state, query, rows));
    // Who waited is not known by CPU.
    if cpu.is_none() {
        out.push_str(&pods(state, &filter, query, rows));
        out.push_str(&processes(state, &passing, query, rows));
    }
    let json = |view: &View| {
        let url = escaped(&url(view, query, &[]));
        format!("<a class=\"mono\" href=\"{url}\">{url}</a>")
    };
    let _ = writeln!(
        out,
        "<p class=\"quiet\">The numbers as JSON: {}, {}</p>",
        json(&sched_heatmap::VIEW),
        json(&sched::VIEW)
    );
    out
}

fn sum<'a>(waits: impl Iterator<Item = &'a Waits>) -> Waits {
    waits.fold(Waits::default(), |mut sum, waits| {
        sum.merge(waits);
        sum
    })
}

/// Which time, and whose waits.
fn about(window: &WindowBlock, query: &Query) -> String {
    let time =
        |time: &Option<String>| time.as_deref().and_then(|time| time.get(..19)).unwrap_or("?").to_owned();
    let whose: Vec<String> =
        filters(query).into_iter().filter_map(|(name, value)| Some(format!("{name}={}", value?))).collect();
    let whose = if whose.is_empty() { "the whole node".to_owned() } else { whose.join(" ") };
    format!(
        "Window {} to {} UTC, {:.0} s; of {}",
        time(&window.from),
        time(&window.until),
        window.seconds,
        escaped(&whose)
    )
}

fn facts(waits: &Waits) -> String {
    let spans = [500, 900, 990].map(|part| waits.percentile_ns(part));
    let fact = |ns: Option<u64>, name: &str| {
        format!("<span class=\"fact\"><b>{}</b> {name}</span>", ns.map_or("-".into(), duration))
    };
    format!(
        "<span class=\"fact\"><b>{}</b> waits</span> {} {} {} {} {}",
        count(waits.count()),
        fact(spans[0], "p50"),
        fact(spans[1], "p90"),
        fact(spans[2], "p99"),
        fact(waits.max_ns(), "longest"),
        fact(Some(waits.wait_ns), "in all")
    )
}

fn legend(levels: &[(usize, u64)]) -> String {
    if levels.is_empty() {
        return "<p class=\"quiet\">Nothing waited for a CPU in this window.</p>\n".into();
    }
    let mut out = String::from("<ul class=\"legend\" aria-label=\"Waits by colour\">");
    for (level, least) in levels {
        let _ = write!(
            out,
            "<li><svg class=\"heat swatch\" viewBox=\"0 0 10 10\"><path class=\"level-{level}\" d=\"M0 0h10v10h-10z\"/>\
             </svg>{} or more</li>",
            count(*least)
        );
    }
    out.push_str("<li>line: p99 of each slot</li></ul>\n");
    out
}

/// What is missing from the answer, in words.
fn missing(block: &CompletenessBlock) -> String {
    let CompletenessBlock { complete, lost, counted_only, truncated, unattributed, evicted, degraded } =
        block;
    let mut told: Vec<String> = Vec::new();
    for (sums, verb) in
        [(lost, "lost"), (counted_only, "only counted"), (truncated, "cut short"), (evicted, "no room for")]
    {
        told.extend(
            sums.iter().map(|(what, sum)| format!("{verb}: {} {}", count(*sum), what.replace('_', " "))),
        );
    }
    if *unattributed > 0 {
        told.push(format!("unattributed: {} records", count(*unattributed)));
    }
    told.extend(degraded.iter().cloned());
    let (class, title) = match complete {
        true => ("completeness good", "Complete: nothing is missing from these numbers."),
        false => ("completeness", "Data are missing:"),
    };
    let mut out = format!("<section class=\"{class}\" aria-label=\"Completeness\"><strong>{title}</strong>");
    if !told.is_empty() {
        let items: String = told.iter().map(|told| format!("<li>{}</li>", escaped(told))).collect();
        let _ = write!(out, "<ul>{items}</ul>");
    }
    out.push_str("</section>\n");
    out
}

/// Path of a view about the same window, with filters in place of those asked for; without any, with the same.
fn url(view: &View, query: &Query, filter: &[(&str, &str)]) -> String {
    let window = [("seconds", query.seconds_ns), ("ago", query.ago_ns)];
    let takes = |name: &str| COMMON.iter().chain(view.params).any(|param| param.name == name);
    let same = filters(query).into_iter().filter(|(name, _)| filter.is_empty() && takes(name));
    let kept = window.into_iter().map(|(name, ns)| (name, ns.map(span))).chain(same);
    let kept: Vec<(&str, String)> = kept.filter_map(|(name, value)| Some((name, value?))).collect();
    let kept = kept.iter().map(|(name, value)| (*name, value.as_str()));
    view.url(&kept.chain(filter.iter().copied()).collect::<Vec<_>>())
}

/// Begin of a table: what its first columns are called, then what [`cells`] writes.
fn table(title: &str, first: &[&str]) -> String {
    let heads = first.iter().map(|head| format!("<th scope=\"col\">{head}</th>"));
    let numbers = ["Waits", "p50", "p99", "Longest", "In all"];
    let heads =
        heads.chain(numbers.iter().map(|head| format!("<th scope=\"col\" class=\"number\">{head}</th>")));
    format!(
        "<h2>{title}</h2>\n<div class=\"scroll\"><table><thead><tr>{}</tr></thead><tbody>\n",
        heads.collect::<String>()
    )
}

fn cells(waits: &Waits) -> String {
    let spans = [waits.percentile_ns(500), waits.percentile_ns(990), waits.max_ns(), Some(waits.wait_ns)];
    let spans = spans.map(|ns| ns.map_or("-".into(), duration));
    let texts = [count(waits.count())].into_iter().chain(spans);
    texts.map(|text| format!("<td class=\"number\">{text}</td>")).collect()
}

/// A link to the map of one of those who waited; plain text where no filter says who that is.
fn link(query: &Query, text: &str, filter: Option<(&str, &str)>) -> String {
    match filter {
        Some(filter) => {
            format!("<a href=\"{}\">{}</a>", escaped(&url(&PAGE, query, &[filter])), escaped(text))
        }
        None => escaped(text),
    }
}

/// Whose a cgroup is, with a link.
fn owner(state: &State, query: &Query, cgroup_id: u64) -> String {
    match state.cgroups.identity(cgroup_id) {
        Identity::Pod(pod) => {
            let name = state.pod_names.get(&pod.uid).map(|pod| format!("{}/{}", pod.namespace, pod.name));
            link(query, &format!("pod {}", name.as_ref().unwrap_or(&pod.uid)), Some(("pod", &pod.uid)))
        }
        Identity::Host(host) => {
            let path = state.cgroups.get(cgroup_id).map_or("", |cgroup| cgroup.path.as_str());
            let unit = path.find(host.unit.as_str()).map(|at| &path[..at + host.unit.len()]);
            let unit = unit.filter(|unit| unit.len() > 1);
            link(query, &format!("host {}", host.unit), unit.map(|unit| ("cgroup", unit)))
        }
        Identity::Unknown => "unknown".into(),
    }
}

fn cpus(state: &State, query: &Query, rows: usize) -> String {
    let mut out = table("CPUs, whoever waited for them", &["CPU"]);
    for (cpu, waits) in state.sched.cpus.iter().take(rows) {
        let number = cpu.to_string();
        let name = link(query, &format!("cpu {cpu}"), Some((sched_heatmap::CPU.name, &number)));
        let _ = writeln!(out, "<tr><td>{name}</td>{}</tr>", cells(waits));
    }
    out.push_str("</tbody></table></div>\n");
    out
}

fn pods(state: &State, filter: &Filter<'_>, query: &Query, rows: usize) -> String {
    let all = owners(&state.sched, &state.cgroups, |row| filter.waits(row), |id| filter.cgroup(id));
    let mut ranked: Vec<_> = all.iter().collect();
    ranked.sort_by_key(|(_, waits)| Reverse(waits.waits.wait_ns));
    let mut out = table("Pods and units of the host", &["Who", "Held back by"]);
    for (own, waits) in ranked.into_iter().take(rows) {
        let held_by = waits.held_by(own).map_or("-", |held| held.name());
        let who = owner(state, query, waits.cgroup_id);
        let _ = writeln!(out, "<tr><td>{who}</td><td>{held_by}</td>{}</tr>", cells(&waits.waits));
    }
    out.push_str("</tbody></table></div>\n");
    out
}

fn processes(state: &State, passing: &[(&Row, &Waits)], query: &Query, rows: usize) -> String {
    let mut out = table("Processes", &["Process", "Of"]);
    for (row, waits) in passing.iter().take(rows) {
        let name = match row.who {
            Who::Process(id) => {
                let comm = state.processes.get(id).map_or("?", |process| &*process.comm);
                let pid = id.tgid.to_string();
                link(query, &format!("{comm} ({pid})"), Some(("pid", &pid)))
            }
            Who::ShortLived => "short-lived ones".into(),
            Who::KernelThreads => "threads of the kernel".into(),
        };
        let of = owner(state, query, row.cgroup_id);
        let _ = writeln!(out, "<tr><td>{name}</td><td>{of}</td>{}</tr>", cells(waits));
    }
    out.push_str("</tbody></table></div>\n");
    out
}
