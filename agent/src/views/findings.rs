//! `/api/v1/findings`: what stands out, ranked by what it costs, and what was looked for.

use super::filter::Filter;
use super::query::{Param, ParamKind};
use super::{JSON, Query, View, body};
use crate::findings::human::{duration, many};
use crate::findings::{self, Evidence, FINDINGS, Finding, Focus, Number, Severity, Subject};
use crate::fold::Snapshot;
use crate::fold::grow::total;
use crate::fold::sched::{self, Who};
use serde::Serialize;
use std::collections::BTreeMap;

/// The view.
pub static VIEW: View = View {
    name: "findings",
    path: "/api/v1/findings",
    about: "Ranked causes in plain words, each with its numbers, the views that show them, and what usually helps.",
    params: &[FOCUS],
    content_type: JSON,
    render,
};

/// What comes first.
const FOCUS: Param = Param {
    name: FOCUS_NAME,
    about: "`cni`: what makes CNI calls slow comes before all else that was found",
    kind: ParamKind::Choice { of: &["node", FOCUS_CNI] },
};
/// Name of that parameter,
pub const FOCUS_NAME: &str = "focus";
/// and its value for CNI calls.
pub const FOCUS_CNI: &str = "cni";

/// The answer's own fields.
#[derive(Serialize)]
struct Findings {
    /// One sentence: how much was watched, and whether anything stood out.
    summary: String,
    watched: Watched,
    /// The rules that were tried.
    looked_for: Vec<&'static str>,
    findings_matched: usize,
    /// Those in focus first, then the costliest.
    findings: Vec<Row>,
}

/// What the findings were drawn from.
#[derive(Serialize)]
struct Watched {
    spawns: u64,
    daemons: usize,
    sync_loops: usize,
    netlink_messages: u64,
    failed_execs: u64,
}

/// One finding.
#[derive(Serialize)]
struct Row {
    rank: usize,
    id: String,
    rule: &'static str,
    severity: Severity,
    cost_ns: u64,
    title: String,
    detail: Vec<String>,
    numbers: BTreeMap<&'static str, Number>,
    fix: Vec<String>,
    /// Paths to ask for the same window.
    evidence: Vec<String>,
}

fn render(snapshot: &Snapshot, query: &Query) -> Vec<u8> {
    let filter = Filter::new(&snapshot.state, query);
    let focus = if query.own(FOCUS_NAME) == Some(FOCUS_CNI) { Focus::Cni } else { Focus::Node };
    let mut findings = findings::ranked(snapshot, focus);
    findings.retain(|finding| passes(&filter, snapshot, &finding.subject));
    let watched = watched(snapshot, &filter);
    let found = findings.iter().filter(|finding| finding.subject != Subject::Node).count();
    let answer = Findings {
        summary: summary(snapshot, &watched, found),
        watched,
        looked_for: FINDINGS.iter().map(|rule| rule.about).collect(),
        findings_matched: findings.len(),
        findings: findings
            .into_iter()
            .take(query.rows())
            .enumerate()
            .map(|(index, finding)| row(index + 1, finding, query))
            .collect(),
    };
    body::json(snapshot, answer)
}

fn passes(filter: &Filter<'_>, snapshot: &Snapshot, subject: &Subject) -> bool {
    let state = &snapshot.state;
    match subject {
        Subject::Node | Subject::Cni => true,
        Subject::Daemon(key) => match state.daemons.get(key) {
            Some(daemon) => filter.daemon(key, daemon),
            None => filter.is_empty(),
        },
        Subject::Owner(cgroup_id) => {
            filter.waits(&sched::Row { cgroup_id: *cgroup_id, who: Who::ShortLived })
        }
        Subject::Process(id) => {
            state.processes.get(*id).map_or(filter.is_empty(), |process| filter.process(process))
        }
    }
}

fn watched(snapshot: &Snapshot, filter: &Filter<'_>) -> Watched {
    let state = &snapshot.state;
    let daemons = state.daemons.iter().filter(|(key, daemon)| filter.daemon(key, daemon));
    let loops = daemons.map(|(_, daemon)| crate::fold::storm::loops(snapshot, daemon).count());
    let loops: Vec<usize> = loops.filter(|loops| *loops > 0).collect();
    Watched {
        spawns: state.counts.spawned.saturating_add(state.counts.counted),
        daemons: loops.len(),
        sync_loops: loops.iter().sum(),
        netlink_messages: total(state.senders.values().map(|table| table.total().messages)),
        failed_execs: state.counts.exec_fails,
    }
}

fn summary(snapshot: &Snapshot, watched: &Watched, found: usize) -> String {
    let covered_s = super::completeness::window(snapshot).covered_seconds;
    let seen = format!(
        "{} watched: {}, {} of {}, {}, {}",
        duration((covered_s * 1e9) as u64),
        many(watched.spawns, "spawn"),
        many(watched.sync_loops as u64, "sync loop"),
        many(watched.daemons as u64, "daemon"),
        many(watched.netlink_messages, "netlink message"),
        many(watched.failed_execs, "failed exec")
    );
    let found = match found {
        0 => "Nothing stood out.".to_owned(),
        more => format!("{} stood out.", many(more as u64, "thing")),
    };
    let complete = super::completeness::completeness(snapshot).complete;
    format!("{seen}. {found}{}", if complete { "" } else { " Data are missing: see completeness." })
}

fn row(rank: usize, finding: Finding, query: &Query) -> Row {
    let evidence = finding.evidence.iter().filter_map(|evidence| path(evidence, query)).collect();
    Row {
        rank,
        id: finding.id,
        rule: finding.rule,
        severity: finding.severity,
        cost_ns: finding.cost_ns,
        title: finding.title,
        detail: finding.detail,
        numbers: finding.numbers,
        fix: finding.fix,
        evidence,
    }
}

/// Where to ask for a finding's numbers, for the window this answer was asked for.
fn path(evidence: &Evidence, query: &Query) -> Option<String> {
    let view = super::named(evidence.view)?;
    let span = |name, ns: Option<u64>| ns.map(|ns| (name, (ns as f64 / 1e9).to_string()));
    let own: Vec<_> = form_urlencoded::parse(evidence.query.as_bytes()).into_owned().collect();
    let spans = [span("seconds", query.seconds_ns), span("ago", query.ago_ns)];
    let own = own.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let given: Vec<_> =
        own.chain(spans.iter().flatten().map(|(name, value)| (*name, value.as_str()))).collect();
    Some(view.url(&given))
}
