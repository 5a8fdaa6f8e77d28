//! A daemon whose sync loops are filled by starting programs.

use super::callers::callers;
use super::human::{count, duration, percent};
use super::{Evidence, Finding, Number, Rule, Severity, Subject, fixes, id, name_and_owner};
use crate::decode::netlink_names::message_name;
use crate::fold::class::ClassStats;
use crate::fold::class_sum::ClassSum;
use crate::fold::daemons::{Daemon, DaemonKey, key_of};
use crate::fold::grow::{blocked_ns, split_ns, total};
use crate::fold::loops::Loop;
use crate::fold::netlink::NetlinkTable;
use crate::fold::{Sender, Snapshot, State, storm};
use slowpod_ebpf::abi::split::{Cause, Split};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The rule.
pub static RULE: Rule =
    Rule { name: "exec_storm", about: "daemons whose sync loops are filled by starting programs", find };

/// Classes worth a sentence: this part of the loops' time or more,
const CLASS_SHARE: f64 = 0.1;
/// and not more than these.
const CLASSES_MAX: usize = 4;
/// A daemon that another one spawns so often per storm is a part of that storm, not one of its own.
const INNER_SPAWNS: u64 = 5;
/// A daemon that sends this part of what the spawns sent, by itself, is worth comparing.
const COMPARABLE: f64 = 0.5;

/// A daemon's storms in the window.
struct Storm<'a> {
    key: &'a DaemonKey,
    loops: Vec<&'a Loop>,
    classes: BTreeMap<Arc<str>, ClassSum>,
    /// The classes that make them storms.
    stormy: BTreeSet<Arc<str>>,
}

impl<'a> Storm<'a> {
    fn of(snapshot: &'a Snapshot, key: &'a DaemonKey, daemon: &'a Daemon, cni: &CniWork<'_>) -> Option<Self> {
        // What goes on inside a CNI call has rules of its own.
        if snapshot.state.processes.get(daemon.latest).is_some_and(|process| process.cni.is_some()) {
            return None;
        }
        // So have the plugins that a runtime starts; forks without exec are another finding.
        let stormy = |own: &'a Loop| stormy(own).filter(|(class, _)| !cni.contains(&(key.clone(), &**class)));
        let starts = |own: &&'a Loop| storm::is_storm(own) && stormy(own).next().is_some();
        let loops: Vec<&Loop> = storm::loops(snapshot, daemon).filter(starts).collect();
        let classes = ClassSum::over(loops.iter().copied());
        let stormy = loops.iter().flat_map(|own| stormy(own)).map(|(class, _)| class.clone()).collect();
        (!loops.is_empty()).then_some(Storm { key, loops, classes, stormy })
    }

    /// Time the loops spent with children of those classes.
    fn busy_ns(&self) -> u64 {
        total(self.loops.iter().map(|own| storm::repeated_busy_ns(own)))
    }

    fn within_ns(&self) -> u64 {
        total(self.loops.iter().map(|own| own.duration_ns()))
    }

    /// The classes that fill the loops, most first.
    fn top(&self) -> Vec<(&Arc<str>, &ClassSum)> {
        let mut classes: Vec<_> =
            self.classes.iter().filter(|(class, _)| self.stormy.contains(*class)).collect();
        classes.sort_by_key(|(_, sum)| Reverse((sum.stats.busy.total_ns(), sum.stats.spawns())));
        let least_ns = CLASS_SHARE * self.within_ns() as f64;
        let weighty =
            classes.iter().take_while(|(_, sum)| sum.stats.busy.total_ns() as f64 >= least_ns).count();
        classes.truncate(weighty.clamp(1, CLASSES_MAX));
        classes
    }
}

/// Who starts CNI plugins, as which class: a container runtime at its work.
type CniWork<'a> = BTreeSet<(DaemonKey, &'a str)>;

fn cni_work(state: &State) -> CniWork<'_> {
    let calls = state.cni.all().filter(|call| !call.is_delegated());
    let started = calls.filter_map(|call| {
        let class = &state.processes.get(call.id)?.argv_class;
        Some((key_of(&state.processes, call.spawner?)?, &**class))
    });
    started.collect()
}

/// The classes of programs that make a loop a storm.
fn stormy(own: &Loop) -> impl Iterator<Item = (&Arc<str>, &ClassStats)> {
    storm::repeated(own).filter(|(_, class)| class.programs() > 0)
}

/// Programs started in one loop.
fn programs(own: &Loop) -> u64 {
    total(own.classes.values().map(ClassStats::programs))
}

fn find(snapshot: &Snapshot) -> Vec<Finding> {
    let (daemons, cni) = (snapshot.state.daemons.iter(), cni_work(&snapshot.state));
    let storms: Vec<Storm<'_>> =
        daemons.filter_map(|(key, daemon)| Storm::of(snapshot, key, daemon, &cni)).collect();
    let is_inner = |inner: &Storm<'_>| storms.iter().any(|outer| is_within(&snapshot.state, inner, outer));
    let outer = storms.iter().filter(|storm| !is_inner(storm));
    outer.map(|storm| finding(snapshot, storm, &storms)).collect()
}

/// Whether one storm's daemon is what the other one spawns: `sh` that runs `ipset`, thousands of times.
fn is_within(state: &State, inner: &Storm<'_>, outer: &Storm<'_>) -> bool {
    let spawned_as = outer.classes.get(&inner.key.argv_class);
    inner.key != outer.key
        && spawned_as.is_some_and(|sum| sum.stats.spawns() >= INNER_SPAWNS)
        && key_of(&state.processes, inner.key.root).as_ref() == Some(outer.key)
}

fn finding(snapshot: &Snapshot, storm: &Storm<'_>, all: &[Storm<'_>]) -> Finding {
    let state = &snapshot.state;
    let (name, owner) = name_and_owner(state, storm.key);
    let top = storm.top();
    let inner = || all.iter().filter(|inner| is_within(state, inner, storm));
    let mut detail = vec![how_often(storm)];
    detail.extend(top.iter().flat_map(|(class, sum)| about_class(snapshot, storm, class, sum)));
    detail.extend(inner().map(|inner| {
        let classes = inner.top();
        let said =
            classes.iter().map(|(class, sum)| format!("`{class}` {} times", count(sum.stats.spawns())));
        format!("Each `{}` starts programs in turn: {}.", inner.key.argv_class, join(said))
    }));
    let mut fix: Vec<String> = Vec::new();
    let inner_classes: Vec<_> = inner().flat_map(Storm::top).map(|(class, _)| class.clone()).collect();
    for class in top.iter().map(|(class, _)| *class).chain(&inner_classes) {
        let advice = format!("`{class}`: {}.", fixes::fix(class));
        if !fix.contains(&advice) {
            fix.push(advice);
        }
    }
    let worst_ns = storm.loops.iter().map(|own| storm::repeated_busy_ns(own)).max().unwrap_or(0);
    let latest = state.daemons.get(storm.key).map_or(storm.key.root, |daemon| daemon.latest);
    Finding {
        rule: RULE.name,
        id: id(RULE.name, &name, &owner),
        severity: Severity::of(worst_ns),
        cost_ns: storm.busy_ns(),
        title: title(&name, &owner, storm, &top),
        detail,
        numbers: numbers(storm, &top),
        fix,
        evidence: vec![
            Evidence { view: "storms", query: format!("pid={}", latest.tgid) },
            Evidence { view: "processes", query: format!("spawner={}", latest.tgid) },
        ],
        subject: Subject::Daemon(storm.key.clone()),
    }
}

fn title(name: &str, owner: &str, storm: &Storm<'_>, top: &[(&Arc<str>, &ClassSum)]) -> String {
    let within_ns = storm.within_ns();
    let said = top.iter().map(|(class, sum)| {
        let per_loop = median(sum.per_loop.clone());
        format!("`{class}` {} times ({})", count(per_loop), percent(sum.stats.busy.total_ns(), within_ns))
    });
    format!(
        "{name} ({owner}) starts {} programs per sync loop, which takes {} of the loop's {}: {}",
        count(median(storm.loops.iter().map(|own| programs(own)).collect())),
        percent(storm.busy_ns(), within_ns),
        duration(median(storm.loops.iter().map(|own| own.duration_ns()).collect())),
        join(said)
    )
}

fn how_often(storm: &Storm<'_>) -> String {
    let pairs = storm.loops.windows(2);
    let periods: Vec<u64> = pairs.map(|pair| pair[1].start_ns.saturating_sub(pair[0].start_ns)).collect();
    match periods.is_empty() {
        true => "Such a loop was seen once in this window.".into(),
        false => format!(
            "Such loops were seen {} times in this window, one every {}.",
            count(storm.loops.len() as u64),
            duration(median(periods))
        ),
    }
}

/// Sentences about one class: what its spawns did with their time, and what else is known.
fn about_class(snapshot: &Snapshot, storm: &Storm<'_>, class: &Arc<str>, sum: &ClassSum) -> Vec<String> {
    let mut said = Vec::new();
    if let Some(mean_ns) = split_ns(&sum.stats.split).checked_div(sum.stats.ended) {
        said.push(format!(
            "`{class}`: {} spawns of {} each, {}; {}.",
            count(sum.stats.spawns()),
            duration(mean_ns),
            if sum.stats.wall_ns as f64 > 1.1 * sum.stats.busy.total_ns() as f64 {
                "overlapping"
            } else {
                "one after the other"
            },
            split_words(&sum.stats.split)
        ));
    }
    if let Some(cost_ns) = sum.stats.spawn_cost_ns.checked_div(sum.stats.with_exec) {
        said.push(format!("Of each, {} went by before `{class}` was in place.", duration(cost_ns)));
    }
    if let Some(callers) = callers(&snapshot.state, &sum.stats.stacks) {
        said.push(format!("They are started by {callers}."));
    }
    let failed = sum.stats.outcomes.failed().saturating_add(sum.stats.counted_failed);
    if failed > 0 {
        said.push(format!("{} of the `{class}` failed.", count(failed)));
    }
    if sum.stats.counted > 0 {
        said.push(format!("{} of the `{class}` were only counted, under flood.", count(sum.stats.counted)));
    }
    let sent = sum.stats.netlink.total();
    if sent.messages > 0 && sent.inside_ns > 0 {
        said.push(format!(
            "The {} netlink messages they sent took {} inside the kernel, {} of the spawns' {}.",
            count(sent.messages),
            duration(sent.inside_ns),
            percent(sent.inside_ns, sum.stats.wall_ns),
            duration(sum.stats.wall_ns)
        ));
        said.extend(compared(snapshot, storm, sum));
    }
    said
}

/// A process that sends by itself what these spawns send one by one.
fn compared(snapshot: &Snapshot, storm: &Storm<'_>, sum: &ClassSum) -> Option<String> {
    let state = &snapshot.state;
    let (key, sums) = sum.stats.netlink.rows().max_by_key(|(_, sums)| sums.messages)?;
    let enough = COMPARABLE * sums.messages as f64 / storm.loops.len() as f64;
    let sent = |table: &NetlinkTable| table.rows().find(|(own, _)| *own == key).map(|(_, sums)| *sums);
    let by_one = state.senders.iter().filter_map(|(sender, table)| match sender {
        Sender::Process(id) => Some((id, sent(table)?)),
        Sender::Children(..) => None,
    });
    let (id, own) = by_one
        .filter(|(_, own)| own.messages as f64 >= enough && own.inside_ns > 0)
        .max_by_key(|(id, own)| (own.messages, Reverse(**id)))?;
    let process = state.processes.get(*id)?;
    let genl = |id: u16| state.genl.get(&id).map(String::as_str);
    let message = message_name(key.protocol, key.message_type, key.command, &genl);
    Some(format!(
        "For comparison: {} (pid {}) sent {} {message} by itself, in {}.",
        process.comm,
        id.tgid,
        count(own.messages),
        duration(own.inside_ns)
    ))
}

/// `60 % on a CPU, 5 % runnable, 35 % blocked (disk 30 %, pipe 5 %)`.
fn split_words(split: &Split) -> String {
    let total_ns = split_ns(split);
    let mut causes: Vec<(u64, Cause)> = split.blocked_ns.into_iter().zip(Cause::ALL).collect();
    causes.retain(|(ns, _)| *ns > 0 && *ns >= total_ns / 100);
    causes.sort_by_key(|(ns, cause)| (Reverse(*ns), *cause as u32));
    let causes: Vec<String> = causes
        .iter()
        .map(|(ns, cause)| format!("{} {}", cause.name().replace('_', " "), percent(*ns, total_ns)))
        .collect();
    let blocked = percent(blocked_ns(split), total_ns);
    format!(
        "{} on a CPU, {} runnable, {blocked} blocked{}",
        percent(split.on_cpu_ns, total_ns),
        percent(split.runnable_ns, total_ns),
        if causes.is_empty() { String::new() } else { format!(" ({})", causes.join(", ")) }
    )
}

fn numbers(storm: &Storm<'_>, top: &[(&Arc<str>, &ClassSum)]) -> BTreeMap<&'static str, Number> {
    let whole =
        |value: fn(&Loop) -> u64| Number::Whole(median(storm.loops.iter().map(|own| value(own)).collect()));
    let part = |part: u64, whole: u64| Number::Part((part as f64 / whole.max(1) as f64 * 1e4).round() / 1e4);
    let mut numbers = BTreeMap::from([
        ("loops", Number::Whole(storm.loops.len() as u64)),
        ("spawns", Number::Whole(total(storm.loops.iter().map(|own| own.spawns())))),
        ("programs_per_loop_p50", whole(programs)),
        ("spawns_per_loop_p50", whole(Loop::spawns)),
        ("loop_duration_p50_ns", whole(Loop::duration_ns)),
        ("busy_ns", Number::Whole(storm.busy_ns())),
        ("share", part(storm.busy_ns(), storm.within_ns())),
    ]);
    if let Some((_, sum)) = top.first() {
        numbers.extend([
            ("top_class_spawns", Number::Whole(sum.stats.spawns())),
            ("top_class_busy_ns", Number::Whole(sum.stats.busy.total_ns())),
            ("top_class_share", part(sum.stats.busy.total_ns(), storm.within_ns())),
        ]);
        // Counted spawns have no split.
        if sum.stats.ended > 0 {
            let total_ns = split_ns(&sum.stats.split);
            numbers.insert("top_class_on_cpu_share", part(sum.stats.split.on_cpu_ns, total_ns));
            numbers.insert("top_class_blocked_share", part(blocked_ns(&sum.stats.split), total_ns));
        }
    }
    numbers
}

fn median(mut values: Vec<u64>) -> u64 {
    values.sort_unstable();
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(0)
}

/// `a, b and c`.
fn join(parts: impl Iterator<Item = String>) -> String {
    let parts: Vec<String> = parts.collect();
    match parts.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        Some((last, _)) => last.clone(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_in_words_name_causes_of_a_percent_or_more() {
        let mut split = Split { on_cpu_ns: 600, runnable_ns: 50, ..Split::default() };
        split.blocked_ns[Cause::FileLock as usize] = 345;
        split.blocked_ns[Cause::Pipe as usize] = 5;
        assert_eq!(split_words(&split), "60 % on a CPU, 5 % runnable, 35 % blocked (file lock 34 %)");
    }

    #[test]
    fn lists_and_medians() {
        assert_eq!(join(["a", "b", "c"].map(String::from).into_iter()), "a, b and c");
        assert_eq!(join(std::iter::once("a".into())), "a");
        assert_eq!(median(vec![5, 1, 9]), 5);
        assert_eq!(median(vec![]), 0);
    }
}
