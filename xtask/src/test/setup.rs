//! What the tests need from the machine: programs, Debian's packages that hold them, mounted kernel filesystems.

use crate::sh;
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
    Need { program: "strace", package: "strace", tiers: &["kernel", "node"] },
    Need { program: "bpftrace", package: "bpftrace", tiers: &["kernel", "node"] },
    Need { program: "bpftool", package: "bpftool", tiers: &["kernel", "node"] },
    Need { program: "perf", package: "linux-perf", tiers: &["kernel"] },
    Need { program: "/usr/lib/cni/bridge", package: "containernetworking-plugins", tiers: &["kernel"] },
    Need { program: "go", package: "golang-go", tiers: &["kernel", "node"] },
    // By its whole path: iproute2 has a `bridge` too, and plugins are on no PATH.
    Need { program: "/usr/lib/cni/host-local", package: "containernetworking-plugins", tiers: &["node"] },
    Need { program: "containerd", package: "containerd", tiers: &["node"] },
    Need { program: "runc", package: "runc", tiers: &["node"] },
    // The image of the pods is one static program.
    Need { program: "cc", package: "gcc", tiers: &["node"] },
    Need { program: "prometheus", package: "prometheus", tiers: &["kernel", "dashboards"] },
    Need { program: "qemu-system-x86_64", package: "qemu-system-x86", tiers: &["kernels"] },
    Need { program: "busybox", package: "busybox-static", tiers: &["kernels"] },
    Need { program: "promtool", package: "prometheus", tiers: &["dashboards"] },
];

/// Kernel filesystems the live tiers read: type, mount point, something that is there once it is mounted.
const MOUNTS: &[(&str, &str, &str)] =
    &[("tracefs", "/sys/kernel/tracing", "/sys/kernel/tracing/events"), ("bpf", "/sys/fs/bpf", "")];

/// Makes sure that the tiers can run: installs what is missing when we are root and `install` allows it, and
/// mounts what is not mounted. What is still missing afterwards is for [`lacking`] to tell.
pub(crate) fn prepare(tiers: &[&str], install: bool) {
    let mut packages: Vec<_> = missing(tiers, found).map(|need| need.package).collect();
    packages.dedup();
    let install = install && sh::is_root() && !packages.is_empty();
    if install && let Err(error) = apt_install(&packages) {
        eprintln!("cannot install {}: {error:#}", packages.join(" "));
    }
    if sh::is_root() && tiers.iter().any(|tier| is_live(tier)) {
        MOUNTS.iter().for_each(|(kind, at, proof)| mount(kind, at, proof));
    }
}

/// Why a tier cannot run, as a sentence; `None` when it can.
pub(crate) fn lacking(tier: &str) -> Option<String> {
    if is_live(tier) && !sh::is_root() {
        return Some("it loads kernel programs: run `sudo -E cargo xtask test`".to_owned());
    }
    let missing: Vec<_> = missing(&[tier], found).collect();
    let mut packages: Vec<_> = missing.iter().map(|need| need.package).collect();
    packages.dedup();
    let programs: Vec<_> = missing.iter().map(|need| need.program).collect();
    (!missing.is_empty())
        .then(|| format!("no {} here: apt-get install {}", programs.join(", "), packages.join(" ")))
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

fn missing<'a>(tiers: &'a [&'a str], found: fn(&str) -> bool) -> impl Iterator<Item = &'static Need> + 'a {
    NEEDS
        .iter()
        .filter(|need| need.tiers.iter().any(|tier| tiers.contains(tier)))
        .filter(move |need| !found(need.program))
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
        let nothing = |_: &str| false;
        let programs = |tiers| missing(tiers, nothing).map(|need| need.program).collect::<Vec<_>>();
        assert_eq!(programs(&["unit", "web"]), Vec::<&str>::new());
        assert_eq!(programs(&["dashboards"]), ["ip", "ipset", "prometheus", "promtool"]);
        assert_eq!(missing(&["kernel"], |program| program != "strace").count(), 1);
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
