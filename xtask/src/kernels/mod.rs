//! `cargo xtask kernels`: slowpod on kernels other than this machine's. In: Debian's packaged kernels, the agent, the
//! tests' workloads. Out: whether each kernel gives the rungs it should, and the agent sees a storm to its end there.
//!
//! Some rungs of the hook ladder can be tried in no other way: a development machine's kernel may refuse trampolines
//! or have no kprobes, and has one layout of `task_struct`.

mod agent;
mod guest;
mod initramfs;
mod packages;
mod smoke;

use anyhow::{Context, bail};
use std::time::Instant;

/// Options of `cargo xtask kernels`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Boot these kernels only (5.10, 6.1, 6.12, 7.x); all of them when not given.
    #[arg(long)]
    kernel: Vec<String>,
    /// Run this shell command inside, and print what it says, instead of the smoke test. It has five minutes.
    #[arg(long)]
    command: Vec<String>,
}

impl Options {
    /// The smoke test in these kernels.
    pub(crate) fn smoke(kernels: &[&str]) -> Options {
        Options { kernel: kernels.iter().map(|name| (*name).to_owned()).collect(), command: Vec::new() }
    }
}

/// Boots each kernel and runs the commands inside.
///
/// # Errors
/// When a kernel cannot be had or booted, or a command inside fails; all kernels are tried before.
pub(crate) fn run(options: Options) -> anyhow::Result<()> {
    let kernels: Vec<_> = packages::KERNELS
        .iter()
        .filter(|kernel| options.kernel.is_empty() || options.kernel.iter().any(|name| name == kernel.name))
        .collect();
    if kernels.is_empty() {
        let names: Vec<_> = packages::KERNELS.iter().map(|kernel| kernel.name).collect();
        bail!("no such kernel; there are: {}", names.join(", "));
    }
    let commands = if options.command.is_empty() { smoke::commands() } else { options.command.clone() };
    let files = agent::build()?;
    let busybox = packages::busybox()?;
    let qemu = packages::qemu()?;
    let mut failed = Vec::new();
    for kernel in kernels {
        let image = packages::image(kernel)?;
        let started = Instant::now();
        let ran = guest::boot(&qemu, &image, &busybox, &files, &commands)
            .with_context(|| format!("kernel {}", kernel.name))?;
        println!(
            "\n== kernel {} ({}), {:.1} s",
            kernel.name,
            image.display(),
            started.elapsed().as_secs_f64()
        );
        let judged = match options.command.is_empty() {
            true => smoke::judge(kernel, &ran),
            false => shown(&ran),
        };
        if let Err(error) = judged {
            println!("{error:#}");
            failed.push(kernel.name);
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    bail!("failed on {}", failed.join(", "))
}

/// Prints what the user's own commands said.
fn shown(ran: &[guest::Ran]) -> anyhow::Result<()> {
    for ran in ran {
        println!("$ {}\n{}", ran.command, ran.output.trim_end());
    }
    match ran.iter().find(|ran| ran.exit != 0) {
        Some(ran) => bail!("exit code {} of {:?}", ran.exit, ran.command),
        None => Ok(()),
    }
}
