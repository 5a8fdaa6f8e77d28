//! Installs what building the kernel object takes, from Debian and crates.io.

use super::stamp::Stamp;
use super::toolchain::{self, Toolchain, linker};
use crate::sh;
use crate::test::setup::apt_install;
use anyhow::bail;
use std::path::Path;
use std::process::Command;

/// Debian's compiler with its own sources, and what bpf-linker is built with.
const PACKAGES: &[&str] = &[
    "rustc-web",
    "cargo-web",
    "rust-web-src",
    "llvm-22",
    "llvm-22-dev",
    "libpolly-22-dev",
    "libzstd-dev",
    "zlib1g-dev",
];
const LINKER: &str = "bpf-linker@0.13.0";
const LLVM: &str = "/usr/lib/llvm-22";

/// Installs what is missing; does nothing when the tools are complete, and those that the committed object was made
/// by. Debian's archive has one version of each, so of other tools the newest are what can be had.
///
/// # Errors
/// When something is missing and we are not root, or an installer fails.
pub(super) fn run(committed: Option<&Stamp>) -> anyhow::Result<()> {
    let found = toolchain::find(committed);
    let is_it =
        |found: &Toolchain| committed.is_none_or(|stamp| stamp.other_tools(found.versions()).is_none());
    if found.as_ref().is_ok_and(is_it) {
        return Ok(());
    }
    if !sh::is_root() {
        let why = found
            .err()
            .map_or("the committed object was made by other tools".into(), |missing| format!("{missing:#}"));
        bail!("{why}\nInstalling takes root: run `sudo -E cargo xtask ebpf --install`");
    }
    apt_install(PACKAGES)?;
    if !linker().is_some_and(|file| is_version(&file)) {
        let mut install =
            sh::cargo(&["install", LINKER, "--locked", "--no-default-features", "--features", "llvm-22"]);
        sh::run(install.env("LLVM_PREFIX", LLVM).env("LLVM_SYS_221_PREFIX", LLVM))?;
    }
    toolchain::find(committed).map(drop)
}

/// Whether this is the bpf-linker that [`LINKER`] names.
fn is_version(file: &Path) -> bool {
    let said = sh::read(Command::new(file).arg("--version")).unwrap_or_default();
    said.trim() == LINKER.replace('@', " ")
}
