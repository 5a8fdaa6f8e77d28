//! Programs in Go that the tests run: built offline with Debian's Go.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::tools::Tool;

/// Builds the package in a directory below `tests`, under this name and with these further options of `go build`.
///
/// # Panics
/// When Go is missing or it does not build.
pub fn build(directory: &str, name: &str, options: &[&str]) -> PathBuf {
    let go = Tool::Go.require();
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = tests.join("../target").join(Path::new(directory).file_name().expect("a directory's name"));
    let binary = target.join(name);
    let status = Command::new(go)
        // No version stamp: it would fail in a checkout that belongs to someone else.
        .args(["build", "-trimpath", "-buildvcs=false"])
        .args(options)
        .arg("-o")
        .arg(&binary)
        .arg(".")
        .current_dir(tests.join(directory))
        .env("CGO_ENABLED", "0")
        .env("GOFLAGS", "-mod=mod")
        .env("GOPROXY", "off")
        .env("GO111MODULE", "on")
        .env("GOCACHE", target.join("cache"))
        .env("GOPATH", target.join("path"))
        .status()
        .unwrap_or_else(|error| panic!("go build: {error}"));
    assert!(status.success(), "go build of {directory} failed");
    binary
}
