//! Secrets in command lines, taken out before a record is kept anywhere. In: an `Exec` record as the kernel
//! wrote it. Out: the same record with its argv rewritten.
//!
//! Command lines are world-readable on the node, yet a tape or a report travels further. So redaction is the
//! first thing that happens to an exec record: before the tape, the flight recorder and decoding. It errs on
//! the side of taking too much, but leaves alone what attribution needs: container ids, pod UIDs, paths,
//! netns names, image digests, and the commands of packet filters, whose chain and set names are hashes.
//!
//! Best effort by design: a secret without a telling name or shape (`login alice hunter2`) passes. Where that
//! is not good enough, [`ArgvMode::Class`] keeps no argument at all.

mod assign;
mod follow;
mod keys;
mod line;
mod shapes;

use crate::decode::fact::Process;
use crate::decode::raw_text::RawText;
use crate::enrich::argv_class::{CommandLine, class_words};
use slowpod_ebpf::abi::exec::{ARGV_BYTES, Exec, FLAG_ARGV_CUT, FLAG_CLASS_ONLY, FLAG_REDACTED, FLAG_SCRIPT};
use slowpod_ebpf::abi::{Kind, prefix};
use zerocopy::IntoBytes;

/// What a secret is replaced with.
pub const MASK: &[u8] = b"***";

/// How much of a command line is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ArgvMode {
    /// The words of the argv class only. Pods of runc and shims, found by the container id in their argv,
    /// are then known by cgroup alone.
    Class,
    /// Everything but what looks like a secret.
    #[default]
    Redacted,
    /// Everything.
    Full,
}

impl ArgvMode {
    /// The value of `--argv` that chooses it.
    pub const fn name(self) -> &'static str {
        match self {
            ArgvMode::Class => "class",
            ArgvMode::Redacted => "redacted",
            ArgvMode::Full => "full",
        }
    }
}

/// The record's lengths contradict each other, so its argv cannot be found: the caller counts and drops it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an exec record whose lengths do not add up")]
pub struct Garbled;

/// Rewrites the argv of an `Exec` record in place. Returns whether something was replaced, which also sets
/// [`FLAG_REDACTED`] in it. `argv_total_bytes` stays what it was; records of other kinds stay untouched.
///
/// # Errors
/// [`Garbled`] when the record is not as long as it says. It may hold secrets and must not be kept.
pub fn redact_exec_record(record: &mut Vec<u8>, mode: ArgvMode) -> Result<bool, Garbled> {
    let (mut exec, rest) = match prefix::<Exec>(record) {
        Some((exec, rest)) if exec.header.kind == Kind::Exec as u32 => (exec, rest),
        Some(_) => return Ok(false),
        None => return not_exec(record),
    };
    let (path_len, argv_len) = (usize::from(exec.path_len), usize::from(exec.argv_len));
    if exec.header.len_bytes as usize != record.len() || rest.len() != path_len + argv_len {
        return Err(Garbled);
    }
    let (path, argv) = rest.split_at(path_len);
    let command = CommandLine { path, argv, comm: &exec.comm, flags: exec.flags };
    let Some((replaced, flags)) = redact(&command, mode) else { return Ok(false) };
    exec.flags |= flags;
    let path_end = size_of::<Exec>() + path_len;
    record.truncate(path_end);
    record.extend_from_slice(&replaced);
    // Both fit: ARGV_BYTES and the longest path are far below u16::MAX.
    exec.argv_len = replaced.len() as u16;
    exec.header.len_bytes = record.len() as u32;
    record[..size_of::<Exec>()].copy_from_slice(exec.as_bytes());
    Ok(true)
}

/// Does the same for a process that a scan found.
pub fn redact_process(process: &mut Process, mode: ArgvMode) {
    let flags =
        if process.script { FLAG_SCRIPT } else { 0 } | if process.argv_cut { FLAG_ARGV_CUT } else { 0 };
    let command = CommandLine { path: &process.path.0, argv: &process.argv.0, comm: &process.comm.0, flags };
    let Some((replaced, flags)) = redact(&command, mode) else { return };
    process.argv_cut |= flags & FLAG_ARGV_CUT != 0;
    process.class_only = flags & FLAG_CLASS_ONLY != 0;
    process.argv = RawText(replaced);
}

/// Masks secrets in a text for people, by the same rules: its words are taken for those of a command line.
pub fn redact_words(text: &str) -> String {
    // The first word of a command line is its program, which is never masked.
    const PROGRAM: &[u8] = b"-\0";
    let words = text.bytes().map(|byte| if byte.is_ascii_whitespace() { 0 } else { byte });
    let argv: Vec<u8> = PROGRAM.iter().copied().chain(words).collect();
    let command = CommandLine { path: b"", argv: &argv, comm: b"", flags: 0 };
    let Some(mut replaced) = line::redact(&command) else { return text.to_owned() };
    let mut words = replaced.split_off(PROGRAM.len());
    words.iter_mut().filter(|byte| **byte == 0).for_each(|byte| *byte = b' ');
    String::from_utf8_lossy(&words).into_owned()
}

/// What to keep in place of a command's arguments, and the flags that say so; `None` = all of it.
fn redact(command: &CommandLine<'_>, mode: ArgvMode) -> Option<(Vec<u8>, u32)> {
    let (mut replaced, class_only) = match mode {
        ArgvMode::Full => return None,
        ArgvMode::Redacted => (line::redact(command)?, 0),
        ArgvMode::Class => (joined(&class_words(command)), FLAG_CLASS_ONLY),
    };
    if replaced == command.argv && command.flags & class_only == class_only {
        return None;
    }
    let cut = if replaced.len() > ARGV_BYTES { FLAG_ARGV_CUT } else { 0 };
    replaced.truncate(ARGV_BYTES);
    Some((replaced, FLAG_REDACTED | class_only | cut))
}

/// A record too short for an `Exec`: another kind, or half of one.
fn not_exec(record: &[u8]) -> Result<bool, Garbled> {
    match prefix::<slowpod_ebpf::abi::Header>(record) {
        Some((header, _)) if header.kind != Kind::Exec as u32 => Ok(false),
        _ => Err(Garbled),
    }
}

fn joined(words: &[String]) -> Vec<u8> {
    words.iter().flat_map(|word| word.bytes().chain([0])).collect()
}

#[cfg(test)]
mod tests;
