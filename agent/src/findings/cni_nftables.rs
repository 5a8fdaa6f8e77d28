//! ADD calls that wait for the lock on packet filter rules: `nft`, and `iptables` since it writes nftables, which then
//! takes no `/run/xtables.lock`.

use super::kernel_lock::{self, About};
use super::{Finding, Rule};
use crate::fold::Snapshot;
use crate::fold::waits::KernelLock;

/// The rule.
pub static RULE: Rule = Rule {
    name: "cni_nftables",
    about: "CNI plugins that wait for the kernel's lock on packet filter rules",
    find,
};

const ABOUT: About = About {
    lock: KernelLock::Nftables,
    what: "the kernel's lock on packet filter rules (nftables)",
    fix: "each change of rules takes this lock and keeps it until no CPU uses the old ones, so many small changes queue \
          where one large one would not: write a pod's rules in one transaction (`iptables-restore --noflush`, `nft -f`), \
          look for a daemon that rewrites its own, and start and stop fewer pods at once.",
};

fn find(snapshot: &Snapshot) -> Vec<Finding> {
    kernel_lock::find(snapshot, &RULE, &ABOUT)
}
