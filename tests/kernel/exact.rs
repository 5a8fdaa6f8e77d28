//! What the exact tests share: finding a witness's child among the agent's rows, and comparing figures.

use harness::agent::Agent;
use harness::truth::{Truth, WitnessedChild};

/// Everything a test does lies in this window.
const SECONDS: u64 = 170;
/// A process's parts may miss its whole by one in a hundred.
const PARTS_PERCENT: u64 = 1;

/// Path of a view over the whole test, with more parameters.
pub(crate) fn path(view: &str, more: &str) -> String {
    format!("/api/v1/{view}?seconds={SECONDS}&limit=20000&{more}")
}

/// Fails unless a figure is within so many percent of the witness's, plus some slack in the same unit.
pub(crate) fn assert_near(what: &str, figure: u64, witness: u64, percent: u64, slack: u64) {
    let allowed = witness * percent / 100 + slack;
    assert!(
        figure.abs_diff(witness) <= allowed,
        "{what}: {figure}, but the witness has {witness} (allowed {allowed} off)"
    );
}

/// Fails when the answer says that something is missing from it.
pub(crate) fn assert_nothing_lost(answer: &Truth) {
    for gap in ["/completeness/lost", "/completeness/counted_only", "/completeness/evicted"] {
        assert!(
            answer.at(gap).as_object().is_some_and(serde_json::Map::is_empty),
            "{gap}: {}",
            answer.at(gap)
        );
    }
}

/// Processes that ended, as the agent has them.
pub(crate) struct Ended {
    rows: Vec<Truth>,
}

impl Ended {
    /// All up to an instant.
    pub(crate) fn by(agent: &Agent, ktime_ns: u64) -> Ended {
        let answer = agent.view_at(&path("processes", "state=ended"), ktime_ns);
        assert_nothing_lost(&answer);
        let rows = answer.list("/processes");
        assert_eq!(rows.len() as u64, answer.number("/processes_matched"), "all rows are shown");
        Ended { rows }
    }

    /// The one row of a child: the process of its pid that was spawned while the witness waited for it. Its parts
    /// add up.
    pub(crate) fn row(&self, child: &WitnessedChild) -> &Truth {
        let lived = child.spawn_ns..=child.reaped_ns;
        let is_it = |row: &&Truth| {
            let spawned = row.at("/spawned").get("ktime_ns").and_then(|ns| ns.as_u64());
            row.number("/pid") == u64::from(child.pid) && spawned.is_some_and(|ns| lived.contains(&ns))
        };
        let rows: Vec<_> = self.rows.iter().filter(is_it).collect();
        let [row] = rows[..] else { panic!("{} rows of {child:?}: {rows:?}", rows.len()) };
        assert_adds_up(row);
        assert_eq!(row.at("/exit"), &exit(child.status), "{row}");
        row
    }

    /// How many have this process as their spawner.
    pub(crate) fn count_of_spawner(&self, pid: u64) -> usize {
        let is_its = |row: &&Truth| row.at("/spawner").get("pid").and_then(|own| own.as_u64()) == Some(pid);
        self.rows.iter().filter(is_its).count()
    }
}

/// A wait status as the API has it.
fn exit(status: u32) -> serde_json::Value {
    let signal = match (status & 0x7f) as i32 {
        0 => return serde_json::json!({ "code": status >> 8 }),
        libc::SIGTERM => "SIGTERM",
        libc::SIGKILL => "SIGKILL",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGABRT => "SIGABRT",
        other => panic!("no workload dies of signal {other}"),
    };
    serde_json::json!({ "signal": signal })
}

/// Fails unless a process's parts add up to its whole: its threads' to their lifetimes, and those of its only
/// thread to its own.
fn assert_adds_up(row: &Truth) {
    assert_eq!(row.at("/split_partial"), false, "{row}");
    let parts = |split: &str| {
        let number = |part: &str| row.number(&format!("{split}/{part}"));
        let causes = row.at(&format!("{split}/blocked_by")).as_object().expect("an object");
        let by_cause: u64 = causes.values().filter_map(|ns| ns.as_u64()).sum();
        assert_eq!(number("blocked_ns"), by_cause, "{row}");
        number("on_cpu_ns") + number("runnable_ns") + number("blocked_ns")
    };
    assert_near(
        "parts of its threads",
        parts("/threads/split"),
        row.number("/threads/thread_ns"),
        PARTS_PERCENT,
        0,
    );
    if row.number("/threads/count") == 1 {
        assert_near("parts", parts("/split"), row.number("/wall_ns"), PARTS_PERCENT, 0);
    }
}

/// Time that at least one of the children took, as their spawner saw it.
pub(crate) fn busy_ns(children: &[WitnessedChild]) -> u64 {
    let mut intervals: Vec<_> = children.iter().map(|child| (child.spawn_ns, child.reaped_ns)).collect();
    intervals.sort_unstable();
    let (mut busy_ns, mut covered_to_ns) = (0, 0);
    for (from_ns, to_ns) in intervals {
        busy_ns += to_ns.saturating_sub(from_ns.max(covered_to_ns));
        covered_to_ns = covered_to_ns.max(to_ns);
    }
    busy_ns
}

/// The one daemon that a process belongs to, among the storms up to an instant.
pub(crate) fn daemon(agent: &Agent, pid: u64, ktime_ns: u64) -> Truth {
    let answer = agent.view_at(&path("storms", &format!("pid={pid}&loops=100")), ktime_ns);
    assert_nothing_lost(&answer);
    let mut daemons = answer.list("/daemons");
    assert_eq!(daemons.len(), 1, "{answer}");
    daemons.remove(0)
}

/// The row of an argv class in a loop or daemon.
pub(crate) fn class(of: &Truth, name: &str) -> Truth {
    let classes = of.list("/classes");
    let found = classes.into_iter().find(|class| class.text("/argv_class") == name);
    found.unwrap_or_else(|| panic!("no class {name:?} in {of}"))
}
