//! `cargo xtask kernels`: slowpod on kernels other than this machine's. In: Debian's packaged kernels, a static agent,
//! commands. Out: what the commands said inside each kernel, and whether they succeeded.
//!
//! Some rungs of the hook ladder can be tried in no other way: a development machine's kernel may refuse trampolines
//! or have no kprobes, and has one layout of `task_struct`.

mod agent;
mod guest;
mod initramfs;
mod packages;

use anyhow::{Context, bail};
use std::path::PathBuf;
use std::time::Instant;

/// Options of `cargo xtask kernels`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Boot these kernels only (5.10, 6.1, 6.12, 7.x); all of them when not given.
    #[arg(long)]
    kernel: Vec<String>,
    /// A static program to put at /bin/slowpod instead of building the agent.
    #[arg(long, conflicts_with = "bare")]
    binary: Option<PathBuf>,
    /// Boot with BusyBox alone.
    #[arg(long, requires = "command")]
    bare: bool,
    /// Run this shell command inside instead of the agent's smoke test.
    #[arg(long)]
    command: Vec<String>,
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
    let binary = match options.binary {
        None if options.bare => None,
        None => Some(agent::build()?),
        given => given,
    };
    let commands: Vec<&str> = match options.command.is_empty() {
        true => agent::SMOKE.to_vec(),
        false => options.command.iter().map(String::as_str).collect(),
    };
    let busybox = packages::busybox()?;
    let mut failed = Vec::new();
    for kernel in kernels {
        let qemu = packages::qemu(kernel)?;
        let image = packages::image(kernel)?;
        let files: Vec<_> = binary.iter().map(|binary| ("bin/slowpod", binary.as_path())).collect();
        let started = Instant::now();
        let ran = guest::boot(&qemu, &image, &busybox, &files, &commands)
            .with_context(|| format!("kernel {}", kernel.name))?;
        let booted = started.elapsed().as_secs_f64();
        println!("\n== kernel {} ({}), {booted:.1} s", kernel.name, image.display());
        for ran in &ran {
            println!("$ {}\n{}", ran.command, ran.output.trim_end());
            if ran.exit != 0 {
                println!("exit code {}", ran.exit);
                failed.push(format!("{} on {}", ran.command, kernel.name));
            }
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    bail!("failed: {}", failed.join("; "))
}
