//! Waits by who owns them: pods, units of the host. In: rows by process and cgroup. Out: sums by owner, who ran
//! instead, and what held the owner back.

use super::waits::Waits;
use super::{Row, Sched, Throttle};
use crate::enrich::cgroups::Cgroups;
use crate::enrich::identity::Identity;
use crate::fold::grow::{Grow, total};
use slowpod_ebpf::abi::queue::{PushedCount, RAN_NOBODY, RAN_UNKNOWN};
use std::collections::BTreeMap;

/// Whose a cgroup is, as far as waits are concerned: the containers of a pod are one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// A pod, by UID.
    Pod(String),
    /// A unit of the node.
    Host(String),
    /// Nobody can tell.
    Unknown,
}

impl Owner {
    /// The owner of a cgroup.
    pub fn of(cgroups: &Cgroups, cgroup_id: u64) -> Owner {
        match cgroups.identity(cgroup_id) {
            Identity::Pod(pod) => Owner::Pod(pod.uid.clone()),
            Identity::Host(host) => Owner::Host(host.unit.clone()),
            Identity::Unknown => Owner::Unknown,
        }
    }
}

/// Who had the CPU while somebody waited.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ran {
    /// Threads of this owner, the one who waited perhaps.
    Owner(Owner),
    /// Nobody: the CPU was idle.
    Nobody,
    /// Not remembered.
    Untold,
}

/// What held an owner's threads back for longest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeldBy {
    /// Its own CPU quota.
    Quota,
    /// Others had the CPU.
    Others,
    /// Its own threads: it has more to do than it has CPUs.
    Itself,
}

impl HeldBy {
    /// Name in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            HeldBy::Quota => "quota",
            HeldBy::Others => "others",
            HeldBy::Itself => "itself",
        }
    }
}

/// Waits of one owner.
#[derive(Clone, Debug)]
pub struct OwnerWaits {
    /// One of its cgroups, which names it.
    pub cgroup_id: u64,
    /// All waits.
    pub waits: Waits,
    /// Of its long waits, who had the CPU.
    pub ran: BTreeMap<Ran, PushedCount>,
    /// Throttling of its containers together, or of the pod as a whole if that is more.
    pub throttle: Throttle,
}

impl OwnerWaits {
    /// Time of its long waits in which the CPU did what `which` says.
    pub fn ran_ns(&self, which: impl Fn(&Ran) -> bool) -> u64 {
        total(self.ran.iter().filter(|(ran, _)| which(ran)).map(|(_, count)| count.ns))
    }

    /// What held `owner`, whose waits these are, back for longest. `None` when it hardly waited for long.
    ///
    /// Throttled threads wait like others in the kernel's account, so the time that others had the CPU meanwhile is no
    /// contention: the quota is asked first.
    pub fn held_by(&self, owner: &Owner) -> Option<HeldBy> {
        let itself_ns = self.ran_ns(|ran| matches!(ran, Ran::Owner(own) if own == owner));
        let others_ns = self.ran_ns(|ran| matches!(ran, Ran::Owner(other) if other != owner));
        let long_ns = self.ran_ns(|_| true);
        if self.throttle.throttled > 0 && self.throttle.throttled_ns >= long_ns / 2 {
            return Some(HeldBy::Quota);
        }
        match (others_ns, itself_ns) {
            (0, 0) => None,
            _ if others_ns >= itself_ns => Some(HeldBy::Others),
            _ => Some(HeldBy::Itself),
        }
    }
}

/// Waits by owner, of the rows that `keep` lets pass; who ran instead, of the cgroups that `keep_cgroup` does.
pub fn owners(
    sched: &Sched,
    cgroups: &Cgroups,
    keep: impl Fn(&Row) -> bool,
    keep_cgroup: impl Fn(u64) -> bool,
) -> BTreeMap<Owner, OwnerWaits> {
    let mut owners: BTreeMap<Owner, OwnerWaits> = BTreeMap::new();
    for (row, waits) in sched.rows.iter().filter(|(row, _)| keep(row)) {
        let owner = owners.entry(Owner::of(cgroups, row.cgroup_id)).or_insert_with(|| OwnerWaits {
            cgroup_id: row.cgroup_id,
            waits: Waits::default(),
            ran: BTreeMap::new(),
            throttle: Throttle::default(),
        });
        owner.waits.merge(waits);
    }
    for ((waiter, ran), count) in sched.pushed.iter().filter(|((waiter, _), _)| keep_cgroup(*waiter)) {
        let Some(owner) = owners.get_mut(&Owner::of(cgroups, *waiter)) else { continue };
        let ran = match *ran {
            RAN_NOBODY => Ran::Nobody,
            RAN_UNKNOWN => Ran::Untold,
            cgroup_id => Ran::Owner(Owner::of(cgroups, cgroup_id)),
        };
        let sum = owner.ran.entry(ran).or_default();
        sum.stretches.grow(count.stretches);
        sum.ns.grow(count.ns);
    }
    throttle(sched, cgroups, &mut owners, keep_cgroup);
    owners
}

/// A pod's quota and those of its containers withhold the same time.
fn throttle(
    sched: &Sched,
    cgroups: &Cgroups,
    owners: &mut BTreeMap<Owner, OwnerWaits>,
    keep_cgroup: impl Fn(u64) -> bool,
) {
    let mut whole: BTreeMap<Owner, Throttle> = BTreeMap::new();
    for (cgroup_id, throttle) in sched.throttles.iter().filter(|(id, _)| keep_cgroup(**id)) {
        let identity = cgroups.identity(*cgroup_id);
        let owner = Owner::of(cgroups, *cgroup_id);
        if identity.container_id().is_none() {
            whole.insert(owner, *throttle);
        } else if let Some(waits) = owners.get_mut(&owner) {
            waits.throttle.periods.grow(throttle.periods);
            waits.throttle.throttled.grow(throttle.throttled);
            waits.throttle.throttled_ns.grow(throttle.throttled_ns);
        }
    }
    for (owner, throttle) in whole {
        if let Some(waits) = owners.get_mut(&owner)
            && throttle.throttled_ns > waits.throttle.throttled_ns
        {
            waits.throttle = throttle;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fold::sched::Who;

    const POD: &str = "/kubepods/burstable/pod8d3f6f0e-52c1-4a53-9a0e-1b1f4f0f7c55";

    fn state(pushed: &[((u64, u64), u64)], throttles: &[(u64, u64)]) -> BTreeMap<Owner, OwnerWaits> {
        let mut cgroups = Cgroups::default();
        cgroups.made(1, POD.as_bytes(), 0);
        cgroups.made(2, format!("{POD}/{}", "a".repeat(64)).as_bytes(), 0);
        cgroups.made(3, format!("{POD}/{}", "b".repeat(64)).as_bytes(), 0);
        cgroups.made(9, b"/system.slice/noisy.service", 0);
        let mut sched = Sched::new(1);
        for cgroup_id in [2, 3, 9] {
            sched.rows.insert(Row { cgroup_id, who: Who::ShortLived }, Waits::default());
        }
        for (key, ns) in pushed {
            sched.pushed.insert(*key, PushedCount { stretches: 1, ns: *ns });
        }
        for (id, ns) in throttles {
            sched.throttles.insert(*id, Throttle { periods: 10, throttled: 5, throttled_ns: *ns });
        }
        owners(&sched, &cgroups, |_| true, |_| true)
    }

    fn pod(owners: &BTreeMap<Owner, OwnerWaits>) -> (Owner, &OwnerWaits) {
        let (owner, waits) = owners.iter().find(|(owner, _)| matches!(owner, Owner::Pod(_))).unwrap();
        (owner.clone(), waits)
    }

    #[test]
    fn containers_of_a_pod_are_one_owner_and_the_noisy_one_is_another() {
        let owners = state(&[((2, 9), 70), ((3, 9), 5), ((2, 3), 20), ((2, RAN_NOBODY), 5)], &[]);
        assert_eq!(owners.len(), 2);
        let (owner, waits) = pod(&owners);
        assert_eq!(waits.ran[&Ran::Owner(Owner::Host("noisy.service".into()))].ns, 75);
        assert_eq!(waits.ran[&Ran::Owner(owner.clone())].ns, 20);
        assert_eq!(waits.held_by(&owner), Some(HeldBy::Others));
    }

    #[test]
    fn what_held_a_pod_back_is_told_apart() {
        let cases: [(&[_], &[_], _); 4] = [
            (&[((2, 9), 50), ((2, RAN_NOBODY), 50)], &[(2, 60)], Some(HeldBy::Quota)),
            (&[((2, 9), 90), ((2, RAN_NOBODY), 10)], &[(2, 10)], Some(HeldBy::Others)),
            (&[((2, 2), 90), ((2, 9), 10)], &[], Some(HeldBy::Itself)),
            (&[], &[], None),
        ];
        for (pushed, throttles, expected) in cases {
            let owners = state(pushed, throttles);
            let (owner, waits) = pod(&owners);
            assert_eq!(waits.held_by(&owner), expected, "{pushed:?}");
        }
    }

    #[test]
    fn a_pods_quota_is_not_added_to_its_containers() {
        assert_eq!(pod(&state(&[], &[(2, 30), (3, 20), (1, 45)])).1.throttle.throttled_ns, 50);
        assert_eq!(pod(&state(&[], &[(2, 30), (1, 45)])).1.throttle.throttled_ns, 45);
    }
}
