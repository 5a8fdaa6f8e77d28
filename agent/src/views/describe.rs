//! Blocks that several views share: who, when, how it ended, where the time went. In: the fold's values.
//! Out: serialisable structs whose field names are the API's words.

mod exits;

use crate::decode::fact::Namespaces;
use crate::enrich::cni::CniWork;
use crate::enrich::identity::{Identity, Qos};
use crate::enrich::{ProcId, processes::Process};
use crate::fold::{State, grow};
pub use exits::{ExitBlock, OutcomesBlock};
use serde::Serialize;
use slowpod_ebpf::abi::split::{Cause, Split};
use std::collections::BTreeMap;
use std::sync::Arc;

/// An instant of the wall clock as RFC 3339 text in UTC, to the nanosecond: `2026-08-22T10:11:12.000000345Z`.
/// `unix_ns` counts nanoseconds since 1970.
pub fn rfc3339(unix_ns: i64) -> String {
    const DAY_S: i64 = 86_400;
    let (seconds, ns) = (unix_ns.div_euclid(1_000_000_000), unix_ns.rem_euclid(1_000_000_000));
    let (days, second) = (seconds.div_euclid(DAY_S), seconds.rem_euclid(DAY_S));
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ns:09}Z")
}

/// Year, month and day of a day counted from 1970-01-01, in the Gregorian calendar. Years begin in March
/// here, so that the leap day is the last of its year; 400 years are 146,097 days.
/// Source: Howard Hinnant, "chrono-compatible low-level date algorithms", `civil_from_days`.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

/// A part of a whole, from 0 up, to four decimals; 0 when there is no whole.
pub fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { (part as f64 / whole as f64 * 1e4).round() / 1e4 }
}

/// An instant of an answer, by both clocks.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Instant {
    /// Wall clock, RFC 3339, UTC; `null` while no clock reading is known.
    pub time: Option<String>,
    /// Kernel's monotonic clock, nanoseconds.
    pub ktime_ns: u64,
}

impl Instant {
    /// The instant `ktime_ns`.
    pub fn of(state: &State, ktime_ns: u64) -> Self {
        Instant { time: state.clock.wall_unix_ns(ktime_ns).map(rfc3339), ktime_ns }
    }
}

/// How values are spread: the middle one, the one that 99 in 100 do not exceed, and the largest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Spread {
    /// Median (nearest rank).
    pub p50: u64,
    /// 99th percentile (nearest rank).
    pub p99: u64,
    /// Largest.
    pub max: u64,
}

impl Spread {
    /// The spread of values; `None` of none.
    pub fn of(mut values: Vec<u64>) -> Option<Self> {
        values.sort_unstable();
        let max = *values.last()?;
        let rank = |percent: usize| values[(values.len() * percent).div_ceil(100).max(1) - 1];
        Some(Spread { p50: rank(50), p99: rank(99), max })
    }
}

/// Whose a process is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum IdentityBlock {
    /// A pod's.
    Pod {
        /// UID as the path spells it.
        pod_uid: String,
        /// Its container; `null` for the pod's own cgroup.
        container_id: Option<String>,
        /// `guaranteed`, `burstable`, `best_effort` or `unknown`.
        qos: &'static str,
        /// Container runtime, where the path says.
        runtime: Option<&'static str>,
        /// Where this is from, when it is not its cgroup: `cni_args`, or `container_id` of a runtime's arguments.
        #[serde(skip_serializing_if = "Option::is_none")]
        via: Option<&'static str>,
    },
    /// The node's own.
    Host {
        /// systemd unit, or the path.
        unit: String,
        /// A container outside every pod.
        container_id: Option<String>,
        /// What runs that container.
        runtime: Option<&'static str>,
    },
    /// Nobody can tell from its cgroup.
    Unknown,
}

impl IdentityBlock {
    /// Who a process belongs to. One that does CNI work or brings up a container runs in the runtime's cgroup and
    /// belongs to the pod it does it for.
    pub fn of_process(state: &State, process: &Process) -> Self {
        match process.cni.as_deref() {
            Some(work) if work.pod.uid.is_some() => IdentityBlock::of_cni(work),
            Some(_) | None => IdentityBlock::of_runtime(state, process)
                .unwrap_or_else(|| IdentityBlock::of(state, process.cgroup_id)),
        }
    }

    /// The pod whose container a runtime's process works on.
    fn of_runtime(state: &State, process: &Process) -> Option<Self> {
        let (uid, container_id) = state.served_container(process.id)?;
        let pod = state.pods.get(&uid);
        Some(IdentityBlock::Pod {
            pod_uid: uid.to_string(),
            container_id: Some(container_id.to_string()),
            qos: pod.map_or(Qos::Unknown, |pod| pod.qos).name(),
            runtime: None,
            via: Some("container_id"),
        })
    }

    /// The pod that a CNI call is for.
    pub fn of_cni(work: &CniWork) -> Self {
        match &work.pod.uid {
            Some(uid) => IdentityBlock::Pod {
                pod_uid: uid.to_string(),
                container_id: work.pod.sandbox.as_deref().map(str::to_owned),
                qos: Qos::Unknown.name(),
                runtime: None,
                via: Some("cni_args"),
            },
            None => IdentityBlock::Unknown,
        }
    }

    /// The owner that a cgroup names, without saying which container it is.
    pub fn owner(state: &State, cgroup_id: u64) -> Self {
        IdentityBlock::of(state, cgroup_id).without_container()
    }

    /// The same without saying which container it is.
    pub fn without_container(mut self) -> Self {
        if let IdentityBlock::Host { runtime, .. } = &mut self {
            *runtime = None;
        }
        if let IdentityBlock::Pod { container_id, .. } | IdentityBlock::Host { container_id, .. } = &mut self
        {
            *container_id = None;
        }
        self
    }

    /// Who a cgroup belongs to.
    pub fn of(state: &State, cgroup_id: u64) -> Self {
        let identity = state.cgroups.identity(cgroup_id);
        let container_id = identity.container_id().map(str::to_owned);
        let runtime = identity.runtime().map(|runtime| runtime.name());
        match identity {
            Identity::Pod(pod) => IdentityBlock::Pod {
                pod_uid: pod.uid.clone(),
                container_id,
                qos: pod.qos.name(),
                runtime,
                via: None,
            },
            Identity::Host(host) => IdentityBlock::Host { unit: host.unit.clone(), container_id, runtime },
            Identity::Unknown => IdentityBlock::Unknown,
        }
    }
}

/// A process named in passing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProcessRef {
    /// Process id.
    pub pid: u32,
    /// When it started, ns since boot: with the pid it names one process.
    pub start_ns: u64,
    /// Kernel's name of it; `null` when nothing more is known of it.
    pub comm: Option<Arc<str>>,
    /// Its argv class.
    pub argv_class: Option<Arc<str>>,
}

impl ProcessRef {
    /// The process with this id.
    pub fn of(state: &State, id: ProcId) -> Self {
        let process = state.processes.get(id);
        ProcessRef {
            pid: id.tgid,
            start_ns: id.start_ns,
            comm: process.map(|process| process.comm.clone()),
            argv_class: process.map(|process| process.argv_class.clone()),
        }
    }
}

/// A process in full.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProcessBlock {
    /// Process id.
    pub pid: u32,
    /// When it started, ns since boot.
    pub start_ns: u64,
    /// Kernel's name of it.
    pub comm: Arc<str>,
    /// Path of its program as given to exec; empty when not known.
    pub path: String,
    /// Its argv class.
    pub argv_class: Arc<str>,
    /// Its arguments, redacted as configured, parted by blanks.
    pub argv: String,
    /// The arguments were longer than what is kept.
    pub argv_cut: bool,
    /// Its program is a `#!` script.
    pub script: bool,
    /// Real user id.
    pub uid: u32,
    /// The namespaces it runs in.
    pub namespaces: NamespacesBlock,
    /// Cgroup path; `null` when its id was never told of.
    pub cgroup: Option<String>,
    /// Whose it is.
    pub identity: IdentityBlock,
    /// Who spawned it; `null` for a process older than the agent.
    pub spawner: Option<ProcessRef>,
    /// Parent's pid as the start-up scan found it; `null` for a process spawned under watch.
    pub scanned_ppid: Option<u32>,
}

impl ProcessBlock {
    /// All that is known of a process.
    pub fn of(state: &State, process: &Process) -> Self {
        ProcessBlock {
            pid: process.id.tgid,
            start_ns: process.id.start_ns,
            comm: process.comm.clone(),
            path: process.path_text(),
            argv_class: process.argv_class.clone(),
            argv: process.argv_text(),
            argv_cut: process.argv_cut,
            script: process.script,
            uid: process.uid,
            namespaces: NamespacesBlock::from(&process.namespaces),
            cgroup: state.cgroups.get(process.cgroup_id).map(|cgroup| cgroup.path.clone()),
            identity: IdentityBlock::of_process(state, process),
            spawner: process.spawner.map(|id| ProcessRef::of(state, id)),
            scanned_ppid: (process.scanned_ppid > 0).then_some(process.scanned_ppid),
        }
    }
}

/// Namespaces by inode number, as `readlink /proc/PID/ns/mnt` shows them; `null` when not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct NamespacesBlock {
    /// Mount namespace.
    pub mount: Option<u32>,
    /// Pid namespace.
    pub pid: Option<u32>,
    /// Network namespace.
    pub net: Option<u32>,
}

impl From<&Namespaces> for NamespacesBlock {
    fn from(namespaces: &Namespaces) -> Self {
        let known = |inode: u32| (inode > 0).then_some(inode);
        NamespacesBlock {
            mount: known(namespaces.mount),
            pid: known(namespaces.pid),
            net: known(namespaces.net),
        }
    }
}

/// Where time went. The first three add up to the whole; `blocked_by` adds up to `blocked_ns`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SplitBlock {
    /// On a CPU.
    pub on_cpu_ns: u64,
    /// In a run queue.
    pub runnable_ns: u64,
    /// Blocked.
    pub blocked_ns: u64,
    /// Blocked, by cause; causes without time are left out.
    pub blocked_by: BTreeMap<&'static str, u64>,
}

impl From<&Split> for SplitBlock {
    fn from(split: &Split) -> Self {
        let causes = Cause::ALL.into_iter().zip(split.blocked_ns).filter(|(_, ns)| *ns > 0);
        SplitBlock {
            on_cpu_ns: split.on_cpu_ns,
            runnable_ns: split.runnable_ns,
            blocked_ns: grow::blocked_ns(split),
            blocked_by: causes.map(|(cause, ns)| (cause.name(), ns)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_instants() {
        for (unix_ns, expected) in [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (-1, "1969-12-31T23:59:59.999999999Z"),
            (951_782_400_000_000_000, "2000-02-29T00:00:00.000000000Z"),
            (951_868_799_123_456_789, "2000-02-29T23:59:59.123456789Z"),
            (1_234_567_890_000_000_001, "2009-02-13T23:31:30.000000001Z"),
            (1_704_067_199_999_999_999, "2023-12-31T23:59:59.999999999Z"),
            (1_709_164_800_000_000_000, "2024-02-29T00:00:00.000000000Z"),
            (4_107_542_400_000_000_000, "2100-03-01T00:00:00.000000000Z"),
            (i64::MAX, "2262-04-11T23:47:16.854775807Z"),
            (i64::MIN, "1677-09-21T00:12:43.145224192Z"),
        ] {
            assert_eq!(rfc3339(unix_ns), expected);
        }
    }

    #[test]
    fn days_follow_each_other_through_four_centuries() {
        let (mut year, mut month, mut day) = civil(-1);
        assert_eq!((year, month, day), (1969, 12, 31));
        for days in 0..146_097 {
            let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
            let last = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
            day += 1;
            if day > last[month as usize - 1] {
                (day, month) = (1, month + 1);
            }
            if month > 12 {
                (month, year) = (1, year + 1);
            }
            assert_eq!(civil(days), (year, month, day), "day {days}");
        }
    }

    #[test]
    fn percentiles_are_values_that_occurred() {
        assert_eq!(Spread::of(vec![]), None);
        assert_eq!(Spread::of(vec![7]), Some(Spread { p50: 7, p99: 7, max: 7 }));
        assert_eq!(Spread::of(vec![4, 1, 3, 2]), Some(Spread { p50: 2, p99: 4, max: 4 }));
        assert_eq!(Spread::of((1..=200).collect()), Some(Spread { p50: 100, p99: 198, max: 200 }));
    }

    #[test]
    fn a_split_names_only_causes_that_took_time() {
        let mut split = Split { on_cpu_ns: 5, runnable_ns: 1, ..Split::default() };
        split.blocked_ns[Cause::FileLock as usize] = 7;
        split.blocked_ns[Cause::Other as usize] = 2;
        let block = SplitBlock::from(&split);
        assert_eq!(block.blocked_ns, 9);
        assert_eq!(block.blocked_by, BTreeMap::from([("file_lock", 7), ("other", 2)]));
    }
}
