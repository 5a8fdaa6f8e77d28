//! `pod` as a waterfall: each start of the pod, step by step, with bars on one scale.

use super::fields::Fields;
use super::grid::{fit, wrap};
use super::pods::name;
use crate::findings::human::duration;

/// Characters of a container id that are shown, as runtimes do.
const ID_CHARS: usize = 12;
/// Longest name of a step.
const NAME_CHARS_MAX: usize = 44;
/// Characters for a time: `12 min 59 s`.
const TIME_CHARS: usize = 11;
/// Shortest bar scale.
const BAR_CHARS_MIN: usize = 16;

/// One line of a waterfall.
struct Line {
    name: String,
    from_ns: u64,
    /// `None` while it goes on.
    wall_ns: Option<u64>,
    is_gap: bool,
    /// How it went, when not well.
    note: String,
}

pub(super) fn lines(answer: &Fields<'_>, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for start in answer.at("starts").list() {
        if !lines.is_empty() {
            lines.push(String::new());
        }
        lines.extend(waterfall(&start, width));
    }
    if lines.is_empty() {
        lines.push(format!("{}: no start of this pod was seen", super::window(answer)));
    }
    lines
}

fn waterfall(start: &Fields<'_>, width: usize) -> Vec<String> {
    let phases = start.at("phases");
    let all_ran = start.whole("all_ran_ns");
    let took = match start.text("state").as_str() {
        "started" if all_ran > start.whole("wall_ns") => {
            format!("started in {}, all containers in {}", start.span("wall_ns"), duration(all_ran))
        }
        "started" => format!("started in {}", start.span("wall_ns")),
        "network_only" => format!("network in {}, and nothing else", start.span("wall_ns")),
        "starting" => format!("starting for {}", start.span("wall_ns")),
        _ => format!("given up after {}", start.span("wall_ns")),
    };
    let cut = if start.flag("cut_at_start") { "; it began before slowpod watched" } else { "" };
    let head = format!("{} {}: {took}{cut}", name(start), start.text("pod_uid"));
    let mut lines = wrap(head.trim_start(), width, 2);
    let phases: Vec<String> = ["before_sandbox", "network", "sandbox", "before_container", "container"]
        .iter()
        .map(|phase| format!("{} {}", phase.replace('_', " "), phases.span(phase)))
        .collect();
    lines.extend(wrap(&format!("  {}", phases.join(", ")), width, 2));
    lines.push(String::new());
    let steps: Vec<Line> = start.at("steps").list().map(|step| line(&step)).collect();
    let ends = steps.iter().map(|step| step.from_ns.saturating_add(step.wall_ns.unwrap_or(0)));
    let whole_ns = ends.chain([start.whole("wall_ns")]).max().unwrap_or(0).max(1);
    let names = steps.iter().map(|step| step.name.chars().count()).max().unwrap_or(0).min(NAME_CHARS_MAX);
    let bar = width.saturating_sub(names + 2 * TIME_CHARS + 4).max(BAR_CHARS_MIN);
    lines.push(format!("  {:<names$}{:>TIME_CHARS$}{:>TIME_CHARS$}", "STEP", "AT", "TOOK"));
    // A gap that is too short for the scale is seen well enough between its neighbours.
    let is_shown = |step: &&Line| {
        let wall_ns = step.wall_ns.unwrap_or(u64::MAX);
        !step.is_gap || wall_ns.saturating_mul(bar as u64) >= whole_ns
    };
    for step in steps.iter().filter(is_shown) {
        let took = step.wall_ns.map_or_else(String::new, duration);
        let took = if step.wall_ns == Some(0) { String::new() } else { took };
        let row = format!(
            "  {:<names$}{:>TIME_CHARS$}{:>TIME_CHARS$}  {}{}",
            fit(&step.name, names),
            duration(step.from_ns),
            took,
            drawn(step, whole_ns, bar),
            step.note
        );
        lines.push(row.trim_end().to_owned());
    }
    lines
}

/// A step's bar: where it lies on a scale of `chars` characters that is `whole_ns` long.
fn drawn(step: &Line, whole_ns: u64, chars: usize) -> String {
    let place = |ns: u64| (ns as f64 / whole_ns as f64 * chars as f64) as usize;
    let from = place(step.from_ns).min(chars - 1);
    let until = step.wall_ns.map_or(chars, |wall_ns| place(step.from_ns.saturating_add(wall_ns)));
    let length = until.clamp(from + 1, chars) - from;
    let mark = match (step.is_gap, step.wall_ns) {
        (true, _) => "·",
        (false, Some(0)) => "▏",
        (false, Some(_)) => "█",
        (false, None) => "▒",
    };
    format!("{}{}", " ".repeat(from), mark.repeat(length))
}

fn line(step: &Fields<'_>) -> Line {
    let what = step.text("what");
    let own = step.text("name");
    let of = match step.text("of").as_str() {
        "sandbox" => "sandbox".to_owned(),
        kind => {
            let id: String = step.text("container_id").chars().take(ID_CHARS).collect();
            format!("{kind} {id}")
        }
    };
    let name = match what.as_str() {
        "cgroup" => "pod cgroup made".to_owned(),
        "cni_attempt" => format!("CNI ADD: {own}"),
        "cni" => format!("  {own}"),
        "shim_start" => format!("{of}: shim"),
        "create" | "start" => format!("{of}: {what}"),
        "exec" => format!("{of}: {own} runs"),
        "init_run" => format!("{of}: {own} until it ends"),
        "gap" => "nothing seen".to_owned(),
        _ => what.clone(),
    };
    let note = match step.text("state").as_str() {
        "failed" => {
            let exit = step.at("exit");
            let how = if exit.at("signal").is_some() { exit.text("signal") } else { exit.text("code") };
            format!("  failed: {how}")
        }
        "running" => "  goes on".to_owned(),
        "unknown" => "  its end was lost".to_owned(),
        _ => String::new(),
    };
    let wall_ns = step.at("wall_ns").is_some().then(|| step.whole("wall_ns"));
    Line { name, from_ns: step.whole("offset_ns"), wall_ns, is_gap: what == "gap", note }
}
