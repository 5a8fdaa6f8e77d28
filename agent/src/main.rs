//! The `slowpod` binary: arguments to a verb, its outcome to an exit code. The only place that exits.

use clap::Parser;
use slowpod::cli::{self, Cli};
use slowpod::memory;
use std::process::ExitCode;

fn main() -> ExitCode {
    if cli::resync::is_stand_in() {
        return ExitCode::SUCCESS;
    }
    memory::keep_little();
    let cli = Cli::parse();
    match cli::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("slowpod: {failure}");
            failure.exit_code()
        }
    }
}
