//! In: names of kernels. Out: their images, a QEMU that runs them and a static BusyBox, from Debian's archive, kept
//! under `target/kernels/`. Nothing is installed but QEMU itself, and /etc/apt is not touched: each suite has a
//! private apt of its own.

use crate::{sh, test::setup};
use anyhow::{Context, bail};
use std::path::{Path, PathBuf};

/// A kernel to boot.
pub(super) struct Kernel {
    /// Its version, as users say it.
    pub(super) name: &'static str,
    /// Debian's suite that has it.
    suite: &'static str,
    /// Starts the package's name.
    before: &'static str,
    /// Ends the package's name; digits, dots, `+` and `-` stand between.
    after: &'static str,
    /// Probes it cannot have.
    pub(super) without: &'static [&'static str],
    /// It skips programs when its CPU is busy (ARCHITECTURE.md): what is missing must be said to be.
    pub(super) skips_programs: bool,
}

/// Kernels of the matrix: the oldest Debian still mends, two in wide use, and the newest there is.
pub(super) const KERNELS: &[Kernel] = &[
    Kernel {
        name: "5.10",
        suite: "bullseye",
        before: "linux-image-5.10.0-",
        after: "-cloud-amd64",
        // No `bpf_get_current_task_btf` (5.11), nor the tracepoint `contention_begin` (5.19).
        without: &[
            "reap",
            "exec_fail",
            "clone_enter",
            "netlink_send",
            "netlink_error",
            "sample",
            "lock_holder",
            "mutex_owner",
            "output",
        ],
        skips_programs: false,
    },
    Kernel {
        name: "6.1",
        suite: "bookworm",
        before: "linux-image-6.1.0-",
        after: "-cloud-amd64",
        // No `sock_recv_length` (6.3).
        without: &["netlink_error"],
        skips_programs: false,
    },
    Kernel {
        name: "6.12",
        suite: "trixie",
        before: "linux-image-6.12.",
        after: "-cloud-amd64",
        without: &[],
        skips_programs: false,
    },
    Kernel {
        name: "7.x",
        suite: "sid",
        before: "linux-binary-7.",
        after: "-cloud-amd64",
        without: &[],
        skips_programs: true,
    },
];

/// First major version of QEMU in which guests were seen to run soundly. In bookworm's 7.2 those from 6.12 on had random
/// oopses, and 6.1 stood still now and then, both CPUs at an instruction that a tracepoint had just been patched out of.
const SOUND_QEMU: u32 = 10;
/// The suite that has such a QEMU for bookworm; unpacked, it runs with bookworm's libraries.
const SOUND_QEMU_SUITE: &str = "bookworm-backports";
const SOUND_QEMU_PACKAGES: [&str; 3] = ["qemu-system-x86", "qemu-system-common", "qemu-system-data"];

/// A QEMU: its program, and the arguments that tell it where its firmware lies.
pub(super) struct Qemu {
    pub(super) program: PathBuf,
    pub(super) search: Vec<String>,
}

/// BusyBox as one static program.
pub(super) fn busybox() -> anyhow::Result<PathBuf> {
    program("busybox", "busybox-static")
}

/// A QEMU that emulates soundly: the installed one, or the newer suite's.
pub(super) fn qemu() -> anyhow::Result<Qemu> {
    let installed = program("qemu-system-x86_64", "qemu-system-x86")?;
    let version = sh::read(std::process::Command::new(&installed).arg("--version"))?;
    if major(&version) >= SOUND_QEMU {
        return Ok(Qemu { program: installed, search: Vec::new() });
    }
    let unpacked = cache().join("qemu");
    if !unpacked.join("usr/bin/qemu-system-x86_64").is_file() {
        let apt = Apt::new(SOUND_QEMU_SUITE)?;
        SOUND_QEMU_PACKAGES.iter().try_for_each(|package| apt.unpack(package, &unpacked))?;
    }
    let share = unpacked.join("usr/share/qemu").display().to_string();
    let search =
        ["-L", &share, "-L", "/usr/share/seabios", "-L", "/usr/share/qemu"].map(str::to_owned).to_vec();
    Ok(Qemu { program: unpacked.join("usr/bin/qemu-system-x86_64"), search })
}

/// The newest image of this kernel that its suite has, or the one fetched before.
pub(super) fn image(kernel: &Kernel) -> anyhow::Result<PathBuf> {
    let unpacked = cache().join(kernel.name);
    if let Some(image) = find_image(&unpacked) {
        return Ok(image);
    }
    let apt = Apt::new(kernel.suite)?;
    let packages = apt.names()?;
    let Some(package) = newest(packages.lines(), kernel) else {
        bail!("{} has no package {}*{}", kernel.suite, kernel.before, kernel.after);
    };
    apt.unpack(package, &unpacked)?;
    find_image(&unpacked).with_context(|| format!("{package} holds no vmlinuz"))
}

/// Under boot/, or beside the modules in newer packages.
fn find_image(unpacked: &Path) -> Option<PathBuf> {
    let list = |folder: &Path| {
        let entries = std::fs::read_dir(folder).into_iter().flatten();
        entries.flatten().map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let modules = list(&unpacked.join("usr/lib/modules"));
    let candidates =
        list(&unpacked.join("boot")).into_iter().chain(modules.iter().flat_map(|folder| list(folder)));
    candidates
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz")))
        .max()
}

/// The package with the highest version among those of this kernel.
fn newest<'a>(packages: impl Iterator<Item = &'a str>, kernel: &Kernel) -> Option<&'a str> {
    let version = |package: &'a str| -> Option<Vec<u32>> {
        let middle = package.strip_prefix(kernel.before)?.strip_suffix(kernel.after)?;
        // Debian's own marks (`+deb13`, `+bpo`) come after a plus.
        let numbers = middle.split('+').next()?.split(['.', '-']).map(|number| number.parse().ok());
        numbers.collect()
    };
    packages.filter_map(|package| Some((version(package)?, package))).max().map(|(_, package)| package)
}

fn major(version: &str) -> u32 {
    let digits =
        version.split_whitespace().find_map(|word| word.split_once('.')).map_or("", |(major, _)| major);
    digits.parse().unwrap_or(0)
}

/// A program on PATH, installed before when it is not there and we may.
fn program(name: &str, package: &str) -> anyhow::Result<PathBuf> {
    if sh::on_path(name).is_none() && sh::is_root() {
        setup::apt_install(&[package])?;
    }
    sh::on_path(name).with_context(|| format!("no {name} here: apt-get install {package}"))
}

fn cache() -> PathBuf {
    sh::target_dir().join("kernels")
}

/// A private apt that knows one suite.
struct Apt {
    folder: PathBuf,
}

impl Apt {
    /// Makes it and fetches the suite's lists.
    fn new(suite: &str) -> anyhow::Result<Apt> {
        let apt = Apt { folder: cache().join("apt").join(suite) };
        for folder in ["lists/partial", "cache/archives/partial", "state", "empty"] {
            std::fs::create_dir_all(apt.folder.join(folder))?;
        }
        std::fs::write(apt.folder.join("state/status"), "")?;
        std::fs::write(apt.folder.join("apt.conf"), apt.settings())?;
        let key = "signed-by=/usr/share/keyrings/debian-archive-keyring.gpg";
        let mut sources = format!("deb [{key}] http://deb.debian.org/debian {suite} main\n");
        // Kernels of released suites get their fixes there; the others have no such suite.
        if !suite.contains("backports") && suite != "sid" {
            sources += &format!("deb [{key}] http://deb.debian.org/debian-security {suite}-security main\n");
        }
        std::fs::write(apt.folder.join("sources.list"), sources)?;
        sh::run(&mut apt.command("apt-get", &["-qq", "update"]))?;
        Ok(apt)
    }

    /// Names of all packages of the suite, one a line.
    fn names(&self) -> anyhow::Result<String> {
        sh::read(&mut self.command("apt-cache", &["pkgnames", "linux-"]))
    }

    /// Downloads a package and unpacks it into a folder.
    fn unpack(&self, package: &str, into: &Path) -> anyhow::Result<()> {
        let downloads = self.folder.join(format!("download-{package}"));
        if downloads.exists() {
            std::fs::remove_dir_all(&downloads)?; // What an interrupted run left.
        }
        std::fs::create_dir_all(&downloads)?;
        sh::run(self.command("apt-get", &["-qq", "download", package]).current_dir(&downloads))?;
        let file = std::fs::read_dir(&downloads)?.next().context("apt-get downloaded nothing")??.path();
        std::fs::create_dir_all(into)?;
        sh::run(std::process::Command::new("dpkg-deb").arg("-x").arg(file).arg(into))?;
        Ok(std::fs::remove_dir_all(downloads)?)
    }

    fn command(&self, program: &str, args: &[&str]) -> std::process::Command {
        let mut command = sh::program(program, args);
        command.env("APT_CONFIG", self.folder.join("apt.conf"));
        command
    }

    /// Settings that keep it apart from the machine's own apt.
    fn settings(&self) -> String {
        let folder = self.folder.display();
        format!(
            "Dir::Etc::sourcelist \"{folder}/sources.list\";
Dir::Etc::sourceparts \"{folder}/empty\";
Dir::Etc::preferencesparts \"{folder}/empty\";
Dir::State \"{folder}/state\";
Dir::State::lists \"{folder}/lists\";
Dir::State::status \"{folder}/state/status\";
Dir::Cache \"{folder}/cache\";
APT::Sandbox::User \"root\";
Acquire::Languages \"none\";
"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn picks_the_newest_package() {
        let [_, old, new, _] = KERNELS else { panic!("four kernels") };
        let packages =
            ["linux-image-6.1.0-9-cloud-amd64", "linux-image-6.1.0-56-cloud-amd64", "linux-image-amd64"];
        assert_eq!(newest(packages.into_iter(), old), Some("linux-image-6.1.0-56-cloud-amd64"));
        let packages =
            ["linux-image-6.12.107+deb13-cloud-amd64", "linux-image-6.12.95+deb13-cloud-amd64-unsigned"];
        assert_eq!(newest(packages.into_iter(), new), Some("linux-image-6.12.107+deb13-cloud-amd64"));
        assert_eq!(newest(packages.into_iter(), old), None);
    }

    #[test]
    fn reads_qemus_version() {
        assert_eq!(major("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)"), 7);
        assert_eq!(major("QEMU emulator version 10.0.2 (Debian)"), 10);
        assert_eq!(major("something else"), 0);
    }
}
