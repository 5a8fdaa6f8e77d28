//! The tools that make a kernel object: a compiler that can build `core` from source, bpf-linker, and a program that
//! takes the debug information out again.

use super::stamp::Stamp;
use crate::sh;
use anyhow::{Context, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What is said when a tool is missing.
const HOW_TO_INSTALL: &str = "`sudo -E cargo xtask ebpf --install` installs what building takes";

/// A complete set of tools.
pub(super) struct Toolchain {
    pub(super) compiler: Compiler,
    /// What `rustc --version` says.
    pub(super) compiler_version: String,
    /// Where the compiler's own library sources are.
    pub(super) library: PathBuf,
    /// What `bpf-linker --version` says.
    pub(super) linker_version: String,
    /// Folder bpf-linker is in, for PATH.
    pub(super) linker_dir: PathBuf,
    /// LLVM's objcopy.
    pub(super) objcopy: PathBuf,
    /// What it says of its version.
    pub(super) objcopy_version: String,
}

/// A compiler that can build `core`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Compiler {
    /// Debian's `rustc-web`, which is a release but may be told to act as a nightly.
    Debian,
    /// The nightly of rustup.
    Nightly,
}

impl Toolchain {
    /// Versions of compiler, linker and objcopy.
    pub(super) fn versions(&self) -> [&str; 3] {
        [&self.compiler_version, &self.linker_version, &self.objcopy_version]
    }
}

impl Compiler {
    /// The compiler's cargo, with what makes it use this compiler.
    pub(super) fn cargo(&self) -> Command {
        match self {
            Compiler::Debian => {
                let mut command = Command::new("/usr/bin/cargo");
                command.env("RUSTC", "/usr/bin/rustc").env("RUSTC_BOOTSTRAP", "1");
                command
            }
            Compiler::Nightly => {
                let mut command = Command::new("rustup");
                command.args(["run", "nightly", "cargo"]).env_remove("RUSTC");
                command
            }
        }
    }

    fn rustc(&self, args: &[&str]) -> Command {
        match self {
            Compiler::Debian => sh::program("/usr/bin/rustc", args),
            Compiler::Nightly => sh::program("rustup", &[&["run", "nightly", "rustc"], args].concat()),
        }
    }

    /// Its version and its library sources, when both are there.
    fn probe(&self) -> Option<(String, PathBuf)> {
        let version = sh::read(&mut self.rustc(&["--version"])).ok()?;
        let sysroot = sh::read(&mut self.rustc(&["--print=sysroot"])).ok()?;
        let library = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library");
        library.join("core/src/lib.rs").is_file().then(|| (version.trim().to_owned(), library))
    }
}

/// Finds a complete set of tools; of several of a kind, the one that `like` was made by. Else Debian's compiler, and
/// the newest objcopy.
///
/// # Errors
/// When a tool is missing; the error names it and says how to get it.
pub(super) fn find(like: Option<&Stamp>) -> anyhow::Result<Toolchain> {
    let mut compilers: Vec<_> = [Compiler::Debian, Compiler::Nightly]
        .into_iter()
        .filter_map(|compiler| compiler.probe().map(|(version, library)| (compiler, version, library)))
        .collect();
    compilers.sort_by_key(|(_, version, _)| like.is_none_or(|stamp| stamp.compiler != *version));
    let Some((compiler, compiler_version, library)) = compilers.into_iter().next() else {
        bail!(
            "no compiler here can build `core` for BPF: neither Debian's rustc-web with rust-web-src, nor a rustup \
             nightly with rust-src (`rustup toolchain install nightly --component rust-src`); {HOW_TO_INSTALL}"
        );
    };
    let linker = linker().with_context(|| format!("there is no bpf-linker; {HOW_TO_INSTALL}"))?;
    let linker_version = sh::read(Command::new(&linker).arg("--version"))?.trim().to_owned();
    let (objcopy, objcopy_version) =
        objcopy(like).with_context(|| format!("there is no llvm-objcopy; {HOW_TO_INSTALL}"))?;
    let linker_dir = linker.parent().context("bpf-linker is in no folder")?.to_owned();
    Ok(Toolchain {
        compiler,
        compiler_version,
        library,
        linker_version,
        linker_dir,
        objcopy,
        objcopy_version,
    })
}

/// bpf-linker, on PATH or where cargo installs.
pub(super) fn linker() -> Option<PathBuf> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")));
    let installed = home.map(|home| home.join("bin/bpf-linker")).filter(|file| file.is_file());
    sh::on_path("bpf-linker").or(installed)
}

/// An objcopy of LLVM's and its version, of Debian's versions and the one on PATH: `like`'s, else the newest.
fn objcopy(like: Option<&Stamp>) -> Option<(PathBuf, String)> {
    let versions = (14..=40).rev().map(|version| format!("/usr/lib/llvm-{version}/bin/llvm-objcopy"));
    let files = versions.map(PathBuf::from).filter(|file| file.is_file()).chain(sh::on_path("llvm-objcopy"));
    let mut found: Vec<_> = files
        .filter_map(|file| {
            let version = llvm_version(&sh::read(Command::new(&file).arg("--version")).ok()?)?;
            Some((file, version))
        })
        .collect();
    found.sort_by_key(|(_, version)| like.is_none_or(|stamp| stamp.strip != *version));
    found.into_iter().next()
}

/// `LLVM 22.1.8` out of what an LLVM tool prints for `--version`.
fn llvm_version(text: &str) -> Option<String> {
    let (_, version) = text.split_once("LLVM version ")?;
    Some(format!("LLVM {}", version.split_whitespace().next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llvm_versions_are_found_in_distributions_texts() {
        let debian =
            "llvm-objcopy, compatible with GNU objcopy\nDebian LLVM version 22.1.8\n  Optimized build.\n";
        assert_eq!(llvm_version(debian).as_deref(), Some("LLVM 22.1.8"));
        assert_eq!(llvm_version("GNU objcopy (GNU Binutils) 2.40"), None);
    }
}
