//! From sources to an object that may be committed: the same bytes wherever the checkout lies.

use super::toolchain::Toolchain;
use crate::sh;
use anyhow::Context;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What decides the object's bytes beside the sources; part of the stamp. Debug information is what BTF is made
/// from; `v3` brings atomic operations that hand back the old value, and 32-bit jumps (Linux 5.12).
pub(super) const FLAGS: &[&str] = &["-Cdebuginfo=2", "-Clink-arg=--btf", "-Ctarget-cpu=v3"];
/// Settings of cargo's release profile for this target, likewise.
pub(super) const PROFILE: &[(&str, &str)] = &[
    ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "3"),
    ("CARGO_PROFILE_RELEASE_DEBUG", "2"),
    ("CARGO_PROFILE_RELEASE_LTO", "off"),
    ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1"),
    ("CARGO_PROFILE_RELEASE_PANIC", "abort"),
    // The programs read registers through offsets found at load, so they serve every architecture; aya-ebpf's
    // bindings still want one.
    ("AYA_BPF_TARGET_ARCH", "x86_64"),
];
/// The target. Big-endian machines are not supported.
const TARGET: &str = "bpfel-unknown-none";

/// Builds the object and strips it to what a loader needs.
///
/// # Errors
/// When a tool fails.
pub(super) fn run(toolchain: &Toolchain) -> anyhow::Result<Vec<u8>> {
    // A folder of its own, or host builds and this one would undo each other's work.
    let target_dir = sh::target_dir().join("bpf");
    let mut cargo = toolchain.compiler.cargo();
    cargo
        .args(["build", "--locked", "--release", "-Zbuild-std=core", "--target", TARGET])
        .args(["--package", "slowpod-ebpf", "--bin", "slowpod-ebpf", "--target-dir"])
        .arg(&target_dir)
        .current_dir(sh::root())
        .env("CARGO_ENCODED_RUSTFLAGS", rustflags(toolchain)?)
        .env("PATH", path_with(&toolchain.linker_dir)?)
        .envs(PROFILE.iter().copied());
    // Set by the cargo that runs us, and not meant for this build.
    for name in ["RUSTFLAGS", "RUSTUP_TOOLCHAIN", "RUSTC_WRAPPER", "CARGO_BUILD_TARGET"] {
        cargo.env_remove(name);
    }
    sh::run(&mut cargo)?;
    let made = target_dir.join(TARGET).join("release/slowpod-ebpf");
    let stripped = target_dir.join("slowpod.bpf.o");
    // DWARF goes; .BTF and .BTF.ext stay, which carry what the verifier's messages and the loader need.
    sh::run(Command::new(&toolchain.objcopy).arg("--strip-debug").arg(&made).arg(&stripped))?;
    fs::read(&stripped).with_context(|| format!("reading {}", stripped.display()))
}

/// The flags, with the paths that differ between machines mapped to names.
fn rustflags(toolchain: &Toolchain) -> anyhow::Result<String> {
    let root = sh::root();
    let maps = [
        (root.as_path(), "/slowpod"),
        (&registry()?, "/registry"),
        (toolchain.library.as_path(), "/rust/library"),
    ];
    let maps = maps.map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display()));
    Ok(FLAGS.iter().map(|flag| (*flag).to_owned()).chain(maps).collect::<Vec<_>>().join("\x1f"))
}

/// Folder that cargo unpacks the registry's packages in.
fn registry() -> anyhow::Result<PathBuf> {
    let metadata = super::stamp::metadata()?;
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let aya = packages
        .filter(|package| package["name"] == "aya-ebpf")
        .find_map(|package| package["manifest_path"].as_str());
    let folder = aya.and_then(|manifest| Path::new(manifest).ancestors().nth(2));
    folder.map(Path::to_owned).context("aya-ebpf is not among the packages")
}

fn path_with(dir: &Path) -> anyhow::Result<std::ffi::OsString> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).chain([dir.to_owned()]);
    std::env::join_paths(dirs).context("PATH")
}
