//! Argument lists that readers of argv trip over.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use anyhow::{Result, bail};
use serde_json::{Value, json};

use crate::Work;
use crate::args::Args;
use crate::spawn::{Child, How, Program, start};

pub(crate) const OPTIONS: &str =
    "newline|escape|invalid-utf8|huge|many|none|empty-string [--how spawn|fork|vfork]";

/// Length of the huge argument; one argument may have 128 KiB (`MAX_ARG_STRLEN`).
const HUGE_BYTES: usize = 100_000;
/// Length of the long list.
const MANY: usize = 5_000;
/// How much of the argv is printed, as it lies in memory: each string with its NUL.
const HEAD_BYTES: usize = 4096;

/// One /bin/true with such an argv.
pub(crate) fn prepare(args: &mut Args) -> Result<Work> {
    let kind = args.word().unwrap_or_default();
    let how = args.value("--how", How::Spawn)?;
    let argv: Vec<Vec<u8>> = match kind.as_str() {
        "newline" => vec![b"true".into(), b"one\ntwo".into(), b"\n".into(), b"tab\there\r".into()],
        // Colours the terminal, retitles it, and clears the screen, for whoever prints it raw.
        "escape" => vec![b"true".into(), b"\x1b[31mred\x1b]0;title\x07".into(), b"\x1b[2J\x08\x7f".into()],
        "invalid-utf8" => vec![b"true".into(), b"\xff\xfe".into(), b"half \xe2\x82".into()],
        "huge" => vec![b"true".into(), vec![b'x'; HUGE_BYTES], b"after".into()],
        "many" => {
            std::iter::once(b"true".to_vec()).chain((0..MANY).map(|n| format!("{n:04}").into())).collect()
        }
        "none" => vec![],
        "empty-string" => vec![b"true".into(), b"".into()],
        other => bail!("which argv? {other:?} is none of them"),
    };
    Ok(Box::new(move || run(&kind, how, &argv)))
}

fn run(kind: &str, how: How, argv: &[Vec<u8>]) -> Result<Value> {
    let words: Vec<_> = argv.iter().map(|word| OsStr::from_bytes(word)).collect();
    let program = Program::new("/bin/true", &words);
    let child = Child::run(|| start(how, &program))?.expect_exit(0)?;
    // Since Linux 5.18 the kernel gives a program without arguments one empty string.
    let seen: Vec<&[u8]> = if argv.is_empty() { vec![b""] } else { argv.iter().map(Vec::as_slice).collect() };
    let in_memory: Vec<u8> = seen.iter().flat_map(|word| word.iter().copied().chain([0])).collect();
    let head = &in_memory[..in_memory.len().min(HEAD_BYTES)];
    Ok(json!({
        "kind": kind,
        "argc": seen.len(),
        "argv_total_bytes": in_memory.len(),
        "argv_head_hex": head.iter().map(|byte| format!("{byte:02x}")).collect::<String>(),
        "child": child.json(),
    }))
}
