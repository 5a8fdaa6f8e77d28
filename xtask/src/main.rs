//! `cargo xtask VERB`: everything that is done to this repository. One file or folder per verb.

mod bench;
mod ebpf;
mod kernels;
mod sh;
mod test;
mod tidy;

use clap::Parser;
use std::process::ExitCode;

/// What can be done to this repository.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Verb {
    /// Run every check and every test, as CI does.
    Test(test::Options),
    /// Build the kernel programs, or check that the committed ones come from their sources.
    Ebpf(ebpf::Options),
    /// Hold the design's invariants by script.
    Tidy(tidy::Options),
    /// Measure what the agent costs, as ratios against the same work without it.
    Bench(bench::Options),
    /// Boot Debian's kernels under QEMU and run the agent inside.
    Kernels(kernels::Options),
}

fn main() -> ExitCode {
    let done = match Verb::parse() {
        Verb::Test(options) => test::run(options),
        Verb::Ebpf(options) => ebpf::run(options),
        Verb::Tidy(options) => tidy::run(options),
        Verb::Bench(options) => bench::run(options),
        Verb::Kernels(options) => kernels::run(options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cargo xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
