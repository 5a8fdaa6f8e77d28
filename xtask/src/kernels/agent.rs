//! The agent as one static program, which needs nothing of the machine it runs on, and what it is asked to do there.

use crate::sh;
use anyhow::bail;
use std::path::PathBuf;

/// A target given by name keeps these flags from build scripts and macros, which cannot be static.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// What is asked of the agent inside each kernel: which rungs it gets, and whether it sees an exec storm to its end.
pub(super) const SMOKE: &[&str] = &["uname -r", "slowpod probes -o json"];

/// Builds it and returns where it lies.
pub(super) fn build() -> anyhow::Result<PathBuf> {
    let mut build = sh::cargo(&["build", "--workspace", "--bin", "slowpod", "--target", TARGET]);
    build.env("RUSTFLAGS", "-C target-feature=+crt-static -C strip=debuginfo");
    sh::run(&mut build)?;
    let binary = sh::target_dir().join(TARGET).join("debug/slowpod");
    if !binary.is_file() {
        bail!("cargo built no {}", binary.display());
    }
    Ok(binary)
}
