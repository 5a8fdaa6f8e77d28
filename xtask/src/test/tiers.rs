//! The tiers: which there are, and how each is run.

use super::libtest::Counts;
use super::setup;
use crate::{kernels, sh, tidy};
use anyhow::Context;
use std::path::PathBuf;

/// Where `cargo xtask ebpf --check` leaves the object it has just built from the sources.
const REBUILT_OBJECT: &str = "ebpf/slowpod.bpf.o";

/// How tiers are run.
#[derive(Clone, Copy)]
pub(super) struct How {
    /// Whether missing tools may be installed.
    pub(super) install: bool,
    /// Whether the live tiers load the object that the checks of this very run have rebuilt, instead of the
    /// committed one.
    pub(super) rebuilt_object: bool,
}

/// The tier that runs the agent inside other kernels than this machine's, and which: the oldest, which lacks most, and
/// one with rungs that development machines' kernels refuse. `cargo xtask kernels` runs all.
const KERNELS_TIER: &str = "kernels";
const KERNELS: &[&str] = &["5.10", "6.1"];

/// The order of the tiers that have their own target in tests/Cargo.toml, cheapest first. Others come after them.
const ORDER: [&str; 5] = ["replay", "web", "kernel", "node", "dashboards"];

/// All tiers, in the order they are run: the checks, the tests beside the code, then each test target of
/// tests/Cargo.toml.
pub(super) fn all() -> anyhow::Result<Vec<String>> {
    let metadata = sh::read(&mut sh::cargo(&["metadata", "--no-deps", "--format-version=1"]))?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata).context("cargo metadata")?;
    let mut targets = test_targets(&metadata);
    targets.sort_by_key(|name| ORDER.iter().position(|known| known == name).unwrap_or(ORDER.len()));
    let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    Ok([own(&["checks", "unit"]), targets, own(&[KERNELS_TIER])].concat())
}

/// Names of the test targets of package `slowpod-tests`.
fn test_targets(metadata: &serde_json::Value) -> Vec<String> {
    let packages = metadata["packages"].as_array().into_iter().flatten();
    packages
        .filter(|package| package["name"] == "slowpod-tests")
        .flat_map(|package| package["targets"].as_array().into_iter().flatten())
        .filter(|target| target["kind"][0] == "test")
        .filter_map(|target| target["name"].as_str().map(str::to_owned))
        .collect()
}

/// Runs one tier to its end, whatever fails in it.
///
/// # Errors
/// When the tier could not even be started.
pub(super) fn run(tier: &str, how: How) -> anyhow::Result<Counts> {
    match tier {
        "checks" => checks(how.install),
        "unit" => {
            // Documentation examples are built by another tool and so need a run of their own.
            let mut counts = cargo_test(&["--lib", "--bins"], &[], &[])?;
            let examples = cargo_test(&["--doc"], &[], &[])?;
            counts.add(&examples);
            Ok(counts)
        }
        KERNELS_TIER => Ok(as_one_test(KERNELS_TIER, kernels::run(kernels::Options::smoke(KERNELS)))),
        live if setup::is_live(live) => {
            sh::run(&mut sh::cargo(&["build", "--workspace", "--bins"]))?;
            // One at a time: the tests share one kernel, and some of them load it to its limits.
            Ok(at_least_one(cargo_test(&["--test", live], &["--test-threads=1"], &live_environment(how))?))
        }
        plain => Ok(at_least_one(cargo_test(&["--test", plain], &[], &[])?)),
    }
}

/// Formatting, lints, invariants, and that the committed kernel object belongs to the sources beside it. Each counts
/// as one test.
fn checks(install: bool) -> anyhow::Result<Counts> {
    let clippy = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
    let object = || -> anyhow::Result<()> {
        if install && sh::is_root() {
            sh::run(&mut sh::xtask(&["ebpf", "--install"]))?;
        }
        sh::run(&mut sh::xtask(&["ebpf", "--check"]))
    };
    let results = [
        ("fmt", sh::run(&mut sh::cargo(&["fmt", "--all", "--check"]))),
        ("clippy", sh::run(&mut sh::cargo(&clippy))),
        ("tidy", tidy::run(tidy::Options::default())),
        ("kernel object", object()),
    ];
    let mut counts = Counts::default();
    for (name, result) in results {
        counts.add(&as_one_test(name, result));
    }
    Ok(counts)
}

/// Something that succeeds or fails as a whole.
fn as_one_test(name: &str, result: anyhow::Result<()>) -> Counts {
    match result {
        Ok(()) => Counts { passed: 1, ..Counts::default() },
        Err(error) => {
            eprintln!("{name}: {error:#}");
            Counts { failed: 1, ..Counts::default() }
        }
    }
}

/// `cargo test` over the whole workspace, so that every tier is built with the same features and nothing is built
/// twice.
fn cargo_test(select: &[&str], to_tests: &[&str], environment: &[(&str, PathBuf)]) -> anyhow::Result<Counts> {
    let mut command = sh::cargo(&["test", "--workspace", "--no-fail-fast"]);
    command.args(select).arg("--").args(to_tests).envs(environment.iter().map(|(name, value)| (name, value)));
    let mut counts = Counts::default();
    let status = sh::watch(&mut command, |line| counts.read(line))?;
    // It did not build, or a test binary died without a closing line.
    if !status.success() && counts.failed == 0 {
        counts.failed = 1;
    }
    Ok(counts)
}

/// A tier that ran no test at all proves nothing: that counts as a failure.
fn at_least_one(mut counts: Counts) -> Counts {
    if counts == Counts::default() {
        eprintln!("this tier ran no test at all");
        counts.failed = 1;
    }
    counts
}

/// What the live tiers are told: the agent to run, and the kernel object to load when it is not the committed one.
fn live_environment(how: How) -> Vec<(&'static str, PathBuf)> {
    let mut environment = vec![("SLOWPOD_BIN", sh::target_dir().join("debug/slowpod"))];
    if how.rebuilt_object {
        environment.push(("SLOWPOD_BPF_OBJECT", sh::target_dir().join(REBUILT_OBJECT)));
    }
    environment
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_test_target_of_the_tests_package_is_a_tier() {
        let metadata = serde_json::json!({ "packages": [
            { "name": "slowpod", "targets": [{ "name": "other", "kind": ["test"] }] },
            { "name": "slowpod-tests", "targets": [
                { "name": "harness", "kind": ["lib"] },
                { "name": "replay", "kind": ["test"] },
                { "name": "kernel", "kind": ["test"] },
            ] },
        ] });
        assert_eq!(test_targets(&metadata), ["replay", "kernel"]);
    }

    #[test]
    fn an_empty_tier_fails() {
        assert_eq!(at_least_one(Counts::default()).failed, 1);
        let one = Counts { passed: 1, ..Counts::default() };
        assert_eq!(at_least_one(one), one);
    }
}
