//! ADD calls that wait for RTNL, the kernel's one lock for interfaces, addresses and routes.

use super::kernel_lock::{self, About};
use super::{Finding, Rule};
use crate::fold::Snapshot;
use crate::fold::waits::KernelLock;

/// The rule.
pub static RULE: Rule = Rule {
    name: "cni_rtnl",
    about: "CNI plugins that wait for the kernel's lock on network configuration",
    find,
};

const ABOUT: About = About {
    lock: KernelLock::Rtnl,
    what: "RTNL, the kernel's lock on network configuration",
    fix: "everything that changes interfaces, addresses or routes takes this one lock, and so does taking a network \
          namespace down: look for a daemon that rewrites its routes or lists all links in a loop, and start and stop \
          fewer pods at once.",
};

fn find(snapshot: &Snapshot) -> Vec<Finding> {
    kernel_lock::find(snapshot, &RULE, &ABOUT)
}
