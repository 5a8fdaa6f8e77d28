//! What the kernel says of CPU quotas and pressure. In: `cpu.stat` of cgroups, `/proc/pressure/cpu`. Out: facts with
//! their growth.
//!
//! Quotas belong to the `cpu` controller, which on a v1 node is not the hierarchy that tells pods apart. Both have
//! the same paths, so the path is what they are matched by. Formats: cgroups(7), the kernel's
//! `Documentation/admin-guide/cgroup-v2.rst` and `Documentation/scheduler/sched-bwc.rst`, `Documentation/accounting/psi.rst`.

use super::cgroups::{Layout, LayoutError, Wanted};
use crate::decode::fact::{Fact, Throttled};
use crate::enrich::cgroups::Cgroups;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};

/// Cgroups whose last reading is remembered; the oldest are forgotten and begin anew.
const REMEMBERED_MAX: usize = 4_096;
/// Cgroups read at most in one go: each takes some 10 us.
pub const READS_MAX: usize = 256;

/// Reads quotas and pressure, and remembers what it read.
pub struct Quotas {
    layout: Option<Layout>,
    pressure: PathBuf,
    pressure_us: Option<u64>,
    last: HashMap<u64, Stat>,
    order: VecDeque<u64>,
}

/// The lines of `cpu.stat` about the quota; `None` for a cgroup that has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stat {
    periods: u64,
    throttled: u64,
    throttled_ns: u64,
}

impl Quotas {
    /// For the machine whose root directory is `root`.
    ///
    /// # Errors
    /// When the cgroup mounts cannot be read. A machine without the `cpu` controller has no quotas, which is none.
    pub fn new(root: &Path) -> Result<Self, LayoutError> {
        let layout = match Layout::find(root, &Wanted::V1("cpu".into())) {
            Ok(layout) => Some(layout),
            Err(LayoutError::NotMounted(_) | LayoutError::NoneMounted) => {
                Layout::find(root, &Wanted::V2).ok()
            }
            Err(error) => return Err(error),
        };
        Ok(Quotas {
            layout,
            pressure: root.join("proc/pressure/cpu"),
            pressure_us: None,
            last: HashMap::new(),
            order: VecDeque::new(),
        })
    }

    /// Growth of whatever held back the pods among `waiters`, cgroups of threads that waited long: a quota may be a
    /// container's, or its pod's as a whole.
    pub fn of_waiters(&mut self, waiters: &BTreeSet<u64>, cgroups: &Cgroups) -> Vec<Fact> {
        let pods = waiters
            .iter()
            .filter_map(|id| cgroups.get(cgroups.key(*id)))
            .filter(|cgroup| cgroup.identity.pod().is_some());
        let mut paths: BTreeSet<&str> = BTreeSet::new();
        for cgroup in pods.take(READS_MAX) {
            paths.insert(&cgroup.path);
            paths.extend(cgroup.path.rsplit_once('/').map(|(parent, _)| parent));
        }
        if paths.is_empty() {
            return Vec::new();
        }
        let wanted = cgroups.living().filter(|(_, cgroup)| paths.contains(cgroup.path.as_str()));
        let of_pods = wanted.filter(|(_, cgroup)| cgroup.identity.pod().is_some());
        of_pods.filter_map(|(id, cgroup)| self.throttled(id, &cgroup.path, cgroup.made_ns > 0)).collect()
    }

    /// What the quota of a cgroup did since it was last asked for. `made_under_watch`: there was nothing before the
    /// first reading that had not happened under the agent's eyes.
    pub fn throttled(&mut self, cgroup_id: u64, path: &str, made_under_watch: bool) -> Option<Fact> {
        let file = self.layout.as_ref()?.mount.join(path.strip_prefix('/')?).join("cpu.stat");
        let now = Stat::parse(&fs::read_to_string(file).ok()?)?;
        let before = self.remember(cgroup_id, now);
        let before = before.or_else(|| made_under_watch.then(Stat::default))?;
        let grown = Throttled {
            cgroup_id,
            periods: now.periods.saturating_sub(before.periods),
            throttled: now.throttled.saturating_sub(before.throttled),
            throttled_ns: now.throttled_ns.saturating_sub(before.throttled_ns),
        };
        (grown.throttled > 0).then_some(Fact::Throttled(grown))
    }

    /// How long some thread of the node waited for a CPU since this was last asked.
    pub fn pressure(&mut self) -> Option<Fact> {
        let now_us = some_us(&fs::read_to_string(&self.pressure).ok()?)?;
        let before_us = self.pressure_us.replace(now_us)?;
        Some(Fact::CpuPressure { some_ns: now_us.saturating_sub(before_us).saturating_mul(1_000) })
    }

    fn remember(&mut self, cgroup_id: u64, now: Stat) -> Option<Stat> {
        let before = self.last.insert(cgroup_id, now);
        if before.is_none() {
            self.order.push_back(cgroup_id);
            if self.order.len() > REMEMBERED_MAX
                && let Some(oldest) = self.order.pop_front()
            {
                self.last.remove(&oldest);
            }
        }
        before
    }
}

impl Stat {
    /// From the text of `cpu.stat`, of v2 or v1.
    pub fn parse(text: &str) -> Option<Stat> {
        let field = |name: &str| -> Option<u64> {
            text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
        };
        let throttled_ns =
            field("throttled_usec").map(|us| us.saturating_mul(1_000)).or_else(|| field("throttled_time"));
        Some(Stat {
            periods: field("nr_periods")?,
            throttled: field("nr_throttled")?,
            throttled_ns: throttled_ns?,
        })
    }
}

/// `total` of the line `some`.
fn some_us(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("some "))?;
    line.split(' ').find_map(|field| field.strip_prefix("total=")?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_say_the_same() {
        let v2 = "usage_usec 5\nuser_usec 3\nsystem_usec 2\nnr_periods 9\nnr_throttled 4\nthrottled_usec 70\n\
                  nr_bursts 0\nburst_usec 0\n";
        let v1 = "nr_periods 9\nnr_throttled 4\nthrottled_time 70000\nwait_sum 1\n";
        let expected = Stat { periods: 9, throttled: 4, throttled_ns: 70_000 };
        assert_eq!((Stat::parse(v2), Stat::parse(v1)), (Some(expected), Some(expected)));
        for none in ["", "usage_usec 5\n", "nr_periods x\nnr_throttled 1\nthrottled_usec 1\n", "nr_periods"] {
            assert_eq!(Stat::parse(none), None, "{none:?}");
        }
    }

    #[test]
    fn pressure_is_the_total_of_some() {
        let text = "some avg10=0.12 avg60=0.05 avg300=0.01 total=123456\n\
                    full avg10=0.00 avg60=0.00 avg300=0.00 total=7\n";
        assert_eq!(some_us(text), Some(123_456));
        assert_eq!(some_us("full total=7"), None);
    }

    #[test]
    fn only_growth_under_watch_is_told_and_memory_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir_all(root.join("proc/self/ns")).unwrap();
        fs::create_dir_all(root.join("cg/pod")).unwrap();
        fs::write(root.join("proc/self/cgroup"), "0::/\n").unwrap();
        fs::write(root.join("proc/self/mountinfo"), "30 24 0:26 / /cg rw - cgroup2 cgroup2 rw\n").unwrap();
        let stat = |throttled: u64| {
            let text = format!("nr_periods 10\nnr_throttled {throttled}\nthrottled_usec {throttled}\n");
            fs::write(root.join("cg/pod/cpu.stat"), text).unwrap();
        };
        stat(3);
        let mut quotas = Quotas::new(root).unwrap();
        assert_eq!(quotas.throttled(1, "/pod", false), None, "older than the watch");
        assert_eq!(quotas.throttled(1, "/pod", false), None, "nothing new");
        stat(5);
        let Some(Fact::Throttled(grown)) = quotas.throttled(1, "/pod", false) else { panic!("it grew") };
        assert_eq!((grown.throttled, grown.throttled_ns, grown.periods), (2, 2_000, 0));
        let Some(Fact::Throttled(new)) = quotas.throttled(2, "/pod", true) else { panic!("it is new") };
        assert_eq!(new.throttled, 5);
        assert_eq!(quotas.throttled(3, "/../../etc", true), None);
        assert_eq!(quotas.pressure(), None, "no such file");
        for id in 10..10 + 2 * REMEMBERED_MAX as u64 {
            quotas.remember(id, Stat::default());
        }
        assert_eq!((quotas.last.len(), quotas.order.len()), (REMEMBERED_MAX, REMEMBERED_MAX));
    }
}
