//! What the tests need from the machine: programs, Debian's packages that hold them, mounted kernel filesystems.

use crate::sh;
use std::collections::BTreeSet;
use std::path::Path;

/// A program some tiers need.
struct Need {
    program: &'static str,
    /// Debian's package that holds it.
    package: &'static str,
    /// Tiers that cannot run without it.
    tiers: &'static [&'static str],
}

/// Every program the live tiers call. What the kernel object's compiler needs is `cargo xtask ebpf`'s to know.
const NEEDS: &[Need] = &[
    Need { program: "ip", package: "iproute2", tiers: &["kernel", "node", "dashboards"] },
    Need { program: "ipset", package: "ipset", tiers: &["kernel", "node", "dashboards"] },
    Need { program: "iptables", package: "iptables", tiers: &["kernel", "node"] },
    Need { program: "strace", package: "strace", tiers: &["kernel"] },
    Need { program: "bpftrace", package: "bpftrace", tiers: &["kernel"] },
    Need { program: "setpriv", package: "util-linux", tiers: &["kernel"] },
    Need { program: "perf", package: "linux-perf", tiers: &["kernel"] },
    Need { program: "/usr/lib/cni/bridge", package: "containernetworking-plugins", tiers: &["kernel"] },
    Need { program: "go", package: "golang-go", tiers: &["kernel", "node"] },
    // By its whole path: iproute2 has a `bridge` too, and plugins are on no PATH.
    Need { program: "/usr/lib/cni/host-local", package: "containernetworking-plugins", tiers: &["node"] },
    Need { program: "containerd", package: "containerd", tiers: &["node"] },
    Need { program: "runc", package: "runc", tiers: &["node"] },
    // The image of the pods is one static program; a program whose stacks are known keeps no frame pointers.
    Need { program: "cc", package: "gcc", tiers: &["kernel", "node"] },
    Need { program: "prometheus", package: "prometheus", tiers: &["kernel", "dashboards"] },
    Need { program: "qemu-system-x86_64", package: "qemu-system-x86", tiers: &["kernels"] },
    Need { program: "busybox", package: "busybox-static", tiers: &["kernels"] },
    Need { program: "promtool", package: "prometheus", tiers: &["dashboards"] },
];

/// Where the kernel describes its types, without which nothing attaches.
const BTF: &str = "/sys/kernel/btf/vmlinux";

/// Kernel filesystems the live tiers read: type, mount point, something that is there once it is mounted.
const MOUNTS: &[(&str, &str, &str)] =
    &[("tracefs", "/sys/kernel/tracing", "/sys/kernel/tracing/events"), ("bpf", "/sys/fs/bpf", "")];

/// Makes sure that the tiers can run: installs what is missing when we are root and `install` allows it, and
/// mounts what is not mounted. What is still missing afterwards is for [`lacking`] to tell.
pub(crate) fn prepare(tiers: &[&str], install: bool) {
    let packages = packages(&missing(tiers, found));
    let install = install && sh::is_root() && !packages.is_empty();
    if install && let Err(error) = apt_install(&packages) {
        eprintln!("cannot install {}: {error:#}", packages.join(" "));
    }
    if sh::is_root() && tiers.iter().any(|tier| is_live(tier)) {
        MOUNTS.iter().for_each(|(kind, at, proof)| mount(kind, at, proof));
    }
}

/// What decides whether tiers can run here.
#[derive(Clone, Copy)]
struct Machine {
    is_root: bool,
    has_btf: bool,
    found: fn(&str) -> bool,
}

/// Why these tiers cannot run, as a clause that names everything they lack; `None` when they can.
pub(crate) fn lacking(tiers: &[&str]) -> Option<String> {
    lacking_on(tiers, Machine { is_root: sh::is_root(), has_btf: Path::new(BTF).exists(), found })
}

fn lacking_on(tiers: &[&str], machine: Machine) -> Option<String> {
    let any_live = tiers.iter().any(|tier| is_live(tier));
    let mut clauses = Vec::new();
    if any_live && !machine.is_root {
        clauses.push("kernel programs are loaded as root: run `sudo -E cargo xtask test`".to_owned());
    }
    if any_live && !machine.has_btf {
        clauses.push(format!("no {BTF} here: boot a kernel with CONFIG_DEBUG_INFO_BTF=y"));
    }
    let missing = missing(tiers, machine.found);
    if !missing.is_empty() {
        let programs: Vec<_> = missing.iter().map(|need| need.program).collect();
        let packages = packages(&missing).join(" ");
        clauses.push(format!("no {} here: apt-get install {packages}", programs.join(", ")));
    }
    (!clauses.is_empty()).then(|| clauses.join("; "))
}

/// Whether a tier runs against this machine's kernel. Every tier does that is not known to need no privilege, so a new
/// one is never run in the wrong way unnoticed.
pub(crate) fn is_live(tier: &str) -> bool {
    !["checks", "unit", "replay", "web", "kernels"].contains(&tier)
}

/// Runs `apt-get install`, with one `apt-get update` before.
pub(crate) fn apt_install(packages: &[&str]) -> anyhow::Result<()> {
    sh::run(sh::program("apt-get", &["-qq", "update"]).env("DEBIAN_FRONTEND", "noninteractive"))?;
    let mut install = sh::program("apt-get", &["-qq", "-y", "--no-install-recommends", "install"]);
    sh::run(install.args(packages).env("DEBIAN_FRONTEND", "noninteractive"))
}

fn missing(tiers: &[&str], found: fn(&str) -> bool) -> Vec<&'static Need> {
    let is_of = |need: &&Need| need.tiers.iter().any(|tier| tiers.contains(tier));
    NEEDS.iter().filter(is_of).filter(|need| !found(need.program)).collect()
}

/// The packages that hold these programs, each once.
fn packages(needs: &[&Need]) -> Vec<&'static str> {
    let packages: BTreeSet<_> = needs.iter().map(|need| need.package).collect();
    packages.into_iter().collect()
}

fn found(program: &str) -> bool {
    sh::on_path(program).is_some()
}

fn mount(kind: &str, at: &str, proof: &str) {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let there = is_mounted(&mounts, kind, at) || (!proof.is_empty() && Path::new(proof).exists());
    if !there && let Err(error) = sh::run(&mut sh::program("mount", &["-t", kind, kind, at])) {
        eprintln!("cannot mount {kind} at {at}: {error:#}");
    }
}

/// Whether a `/proc/self/mounts` text has a filesystem of this type at this point.
fn is_mounted(mounts: &str, kind: &str, at: &str) -> bool {
    mounts.lines().any(|line| {
        let fields: Vec<_> = line.split(' ').collect();
        fields.get(1) == Some(&at) && fields.get(2) == Some(&kind)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_only_what_the_asked_tiers_lack() {
        let programs = |tiers| missing(tiers, |_| false).iter().map(|need| need.program).collect::<Vec<_>>();
        assert_eq!(programs(&["unit", "web"]), Vec::<&str>::new());
        assert_eq!(programs(&["dashboards"]), ["ip", "ipset", "prometheus", "promtool"]);
        assert_eq!(missing(&["kernel"], |program| program != "strace").len(), 1);
    }

    #[test]
    fn all_that_is_lacking_is_named_at_once() {
        let able = Machine { is_root: true, has_btf: true, found: |_| true };
        let all = ["checks", "unit", "kernel", "dashboards", "kernels"];
        assert_eq!(lacking_on(&all, able), None);
        let unable = Machine { is_root: false, has_btf: false, found: |_| false };
        assert_eq!(lacking_on(&["unit", "replay"], unable), None);
        let told = lacking_on(&all, unable).unwrap();
        let packages =
            "golang-go ipset iproute2 iptables linux-perf prometheus qemu-system-x86 strace util-linux";
        for words in packages.split(' ').chain(["sudo -E", BTF, "busybox-static"]) {
            assert!(told.contains(words), "{words} is not in {told}");
        }
        assert_eq!(told.matches(" prometheus").count(), 2, "as a program and as a package: {told}");
    }

    #[test]
    fn a_tier_nobody_told_us_about_counts_as_live() {
        assert!(is_live("kernel") && is_live("some_new_tier"));
        assert!(!is_live("unit") && !is_live("replay") && !is_live("kernels"));
    }

    #[test]
    fn reads_the_mount_table() {
        let mounts = "tracefs /sys/kernel/tracing tracefs rw,nosuid 0 0\nbpf /sys/fs/bpf bpf rw 0 0\n";
        assert!(is_mounted(mounts, "bpf", "/sys/fs/bpf"));
        assert!(!is_mounted(mounts, "bpf", "/sys/fs"));
    }
}
