//! Names places in a program that was never looked at before, as the agent does: how long that takes, and how much
//! memory at once, is the truth.

use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use slowpod::capture::symbols::elf::Elf;
use slowpod::capture::symbols::lately::{Origin, Program};
use slowpod::capture::symbols::open::host_mount_ns;
use slowpod::capture::symbols::resolver::{Resolver, World};
use slowpod::decode::Stack;
use slowpod_ebpf::abi::{self, Header, Kind, Task};

use crate::Work;
use crate::args::Args;
use crate::sys::{check, monotonic_ns};

pub(crate) const OPTIONS: &str = "--program PATH [--frames N]";
/// A pid that nobody has: all is read from the file, as for a process that is gone.
const NOBODY: u32 = (1 << 22) - 1;

/// One stack of `--frames` frames, spread over the program's code. The file is read from the disk: what the system
/// remembers of it is let go before.
pub(crate) fn prepare(args: &mut Args) -> Result<Work> {
    let program = PathBuf::from(args.text("--program", "")?).canonicalize().context("--program")?;
    let frames = args.count("--frames", 64, 127)?;
    Ok(Box::new(move || run(&program, frames)))
}

fn run(program: &Path, depth: u64) -> Result<Value> {
    let (frames, bytes) = spread(program, depth)?;
    forget(program)?;
    let task = Task { tgid: NOBODY, tid: 1, start_ns: 0 };
    let header = Header { ktime_ns: 1, kind: Kind::Stack as u32, len_bytes: 0 };
    let fixed = abi::stack::Stack { header, task, id: 1, depth: depth as u32, user: 1 };
    let path = program.as_os_str().as_bytes().to_vec();
    let mount_ns = host_mount_ns().context("the mount namespace")?;
    let program = Arc::new(Program { path, mount_ns, executed_ns: monotonic_ns() });
    let origin = Origin { program: Some(program), parent: None, since_ns: 0 };
    let stack = Stack { fixed, frames };
    let mut resolver = Resolver::new(World { proc: "/proc".into(), clk_tck: 100 });
    // The peak is counted from here on (`man 5 proc`, clear_refs).
    std::fs::write("/proc/self/clear_refs", "5").context("clear_refs")?;
    let before_bytes = status_bytes("VmRSS:")?;
    let begun = Instant::now();
    resolver.resolve(&stack, &origin);
    let first_ns = begun.elapsed().as_nanos() as u64;
    let peak_bytes = status_bytes("VmHWM:")?.saturating_sub(before_bytes);
    let begun = Instant::now();
    resolver.resolve(&stack, &origin);
    let again_ns = begun.elapsed().as_nanos() as u64;
    let counts = resolver.counts();
    // Between functions there may be bytes of nobody.
    if counts.processes_gone > 0 || counts.files_flawed > 0 || counts.unknown_frames > 2 * depth / 20 {
        bail!("it has no names: {counts:?}");
    }
    Ok(json!({
        "file_bytes": bytes, "first_ns": first_ns, "again_ns": again_ns, "peak_bytes": peak_bytes,
        "held_bytes": counts.held_bytes, "frames": counts.frames, "unknown_frames": counts.unknown_frames,
    }))
}

/// Addresses in a program's code, at no regular distance; and how large the file is.
fn spread(program: &Path, count: u64) -> Result<(Vec<u64>, usize)> {
    let file = std::fs::read(program)?;
    let elf = Elf::read(&file)?;
    let text = elf.section(".text").context("it has no code")?;
    let mut dice = 7_u64;
    let mut next = || {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        text.vaddr + (dice >> 20) % (text.file.end - text.file.start)
    };
    Ok(((0..count).map(|_| next()).collect(), file.len()))
}

/// Lets the system forget what it holds of a file.
fn forget(program: &Path) -> Result<()> {
    let file = std::fs::File::open(program)?;
    file.sync_all()?;
    // SAFETY: plain numbers, and a descriptor that lives for the call.
    let refused = unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
    check(-refused).context("posix_fadvise")?;
    Ok(())
}

/// A field of `/proc/self/status`, in bytes.
fn status_bytes(field: &str) -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)).context("no such field")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? << 10)
}
