//! `cargo xtask ebpf`: builds the kernel object, and proves that the committed one comes from the sources beside it.
//!
//! In: `agent-ebpf/`, a compiler with its own sources, bpf-linker. Out: `agent-ebpf/built/`.

mod build;
mod install;
mod stamp;
mod toolchain;

use crate::sh;
use anyhow::{Context, bail, ensure};
use stamp::{Stamp, sha256};
use std::fs;
use std::path::PathBuf;

/// Build the kernel programs.
#[derive(clap::Args, Default)]
pub(crate) struct Options {
    /// Install what building takes: Debian's compiler, LLVM's libraries and bpf-linker. Needs root.
    #[arg(long)]
    install: bool,
    /// Change nothing; fail when the committed object does not come from the sources beside it. The object that
    /// was built to see that stays under target/ebpf/.
    #[arg(long)]
    check: bool,
}

/// Where the object and its stamp are committed.
fn built(file: &str) -> PathBuf {
    sh::root().join("agent-ebpf/built").join(file)
}

const OBJECT: &str = "slowpod.bpf.o";
const STAMP: &str = "slowpod.bpf.stamp";

/// Does what is asked.
///
/// # Errors
/// When a tool is missing, the build fails, or (with `--check`) the object and the sources do not belong together.
pub(crate) fn run(options: Options) -> anyhow::Result<()> {
    if options.install {
        install::run(committed().ok().as_ref())?;
    }
    if options.check {
        return check();
    }
    // To install is not to ask for a new object.
    if options.install {
        return Ok(());
    }
    let toolchain = toolchain::find(committed().ok().as_ref())?;
    let object = build::run(&toolchain)?;
    let stamp = stamp::of(&object, &toolchain)?;
    fs::create_dir_all(built("")).context("making agent-ebpf/built")?;
    fs::write(built(OBJECT), &object).context("writing the object")?;
    fs::write(built(STAMP), stamp.to_string()).context("writing the stamp")?;
    println!("{OBJECT}: {} bytes, {} with {}", object.len(), stamp.compiler, stamp.linker);
    Ok(())
}

/// The committed stamp.
fn committed() -> anyhow::Result<Stamp> {
    let text = fs::read_to_string(built(STAMP))
        .context("there is no agent-ebpf/built/slowpod.bpf.stamp: run `cargo xtask ebpf`")?;
    Stamp::parse(&text).context("agent-ebpf/built/slowpod.bpf.stamp is not a stamp: run `cargo xtask ebpf`")
}

fn check() -> anyhow::Result<()> {
    let stamp = committed()?;
    let object = fs::read(built(OBJECT)).context("there is no agent-ebpf/built/slowpod.bpf.o")?;
    ensure!(
        sha256(&object) == stamp.object,
        "the committed kernel object is not the one its stamp was written for: run `cargo xtask ebpf`"
    );
    let sources = stamp::sources()?;
    ensure!(
        sources == stamp.sources,
        "the kernel sources have changed since the object was built: run `cargo xtask ebpf` and commit agent-ebpf/built"
    );
    let toolchain = toolchain::find(Some(&stamp))?;
    let rebuilt = build::run(&toolchain)?;
    let left_at = sh::target_dir().join("ebpf").join(OBJECT);
    fs::create_dir_all(left_at.parent().context("the target directory has no name")?)?;
    fs::write(&left_at, &rebuilt).with_context(|| format!("writing {}", left_at.display()))?;
    if let Some(difference) = stamp.other_tools(toolchain.versions()) {
        return not_compared(&difference, sh::is_ci());
    }
    if rebuilt != object {
        bail!(
            "the same tools made another object from the same sources: compare {} with {}",
            built(OBJECT).display(),
            left_at.display()
        );
    }
    println!("{OBJECT} belongs to its sources, byte for byte");
    Ok(())
}

/// What it means that the bytes could not be compared: in CI a failure, elsewhere a loud word.
fn not_compared(difference: &str, is_ci: bool) -> anyhow::Result<()> {
    let told = format!(
        "{OBJECT} belongs to its sources, but NOBODY COMPARED ITS BYTES: {difference}. `cargo xtask ebpf --install` \
         gets the newest tools; an object made by tools that cannot be had any more is to be built anew"
    );
    ensure!(!is_ci, told);
    eprintln!("\nWARNING: {told}\n");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::not_compared;

    #[test]
    fn bytes_that_cannot_be_compared_fail_in_ci() {
        assert!(not_compared("made by A, here is B", false).is_ok());
        let error = not_compared("made by A, here is B", true).unwrap_err().to_string();
        assert!(error.contains("made by A, here is B"), "{error}");
    }
}
