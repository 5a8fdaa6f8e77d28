//! Installs what building the kernel object takes, from Debian and crates.io.

use super::toolchain::{self, linker};
use crate::sh;
use crate::test::setup::apt_install;
use anyhow::bail;

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

/// Installs what is missing; does nothing when the tools are complete.
///
/// # Errors
/// When something is missing and we are not root, or an installer fails.
pub(super) fn run() -> anyhow::Result<()> {
    let Err(missing) = toolchain::find(None) else { return Ok(()) };
    if !sh::is_root() {
        bail!("{missing:#}\nInstalling takes root: run `sudo -E cargo xtask ebpf --install`");
    }
    apt_install(PACKAGES)?;
    if linker().is_none() {
        let mut install =
            sh::cargo(&["install", LINKER, "--locked", "--no-default-features", "--features", "llvm-22"]);
        sh::run(install.env("LLVM_PREFIX", LLVM).env("LLVM_SYS_221_PREFIX", LLVM))?;
    }
    toolchain::find(None).map(drop)
}
