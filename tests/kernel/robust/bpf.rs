//! What a process holds in the kernel's BPF tables, and whether the kernel still has it. Ids are never used twice
//! soon, so that other agents on the machine do not matter.

use std::collections::BTreeSet;
use std::fs;

/// `BPF_PROG_GET_NEXT_ID`, `BPF_MAP_GET_NEXT_ID` and `BPF_LINK_GET_NEXT_ID` of `linux/bpf.h`.
const TABLES: [(&str, i64); 3] = [("prog_id", 11), ("map_id", 12), ("link_id", 31)];
/// Bytes of `union bpf_attr` that those commands read and write: `start_id`, `next_id`, `open_flags`.
const ATTR_BYTES: u64 = 12;

/// A program, map or link, by its table and its number there.
pub(super) type Held = (&'static str, u32);

/// What the descriptors of a process stand for; nothing, once it has ended.
pub(super) fn held_by(pid: u32) -> BTreeSet<Held> {
    let files = fs::read_dir(format!("/proc/{pid}/fdinfo")).into_iter().flatten();
    let texts = files.filter_map(|file| fs::read_to_string(file.ok()?.path()).ok());
    texts.flat_map(|text| text.lines().filter_map(parse).collect::<Vec<_>>()).collect()
}

fn parse(line: &str) -> Option<Held> {
    let (key, value) = line.split_once(':')?;
    let (table, _) = TABLES.into_iter().find(|(table, _)| *table == key)?;
    Some((table, value.trim().parse().ok()?))
}

/// Of these, the ones the kernel still has.
pub(super) fn left_of(held: &BTreeSet<Held>) -> Vec<Held> {
    held.iter().copied().filter(|held| exists(*held)).collect()
}

fn exists((table, id): Held) -> bool {
    let (_, command) = TABLES.into_iter().find(|(known, _)| *known == table).expect("one of the tables");
    let mut attr = [id - 1, 0, 0];
    // SAFETY: the attribute is as long as said and outlives the call.
    let failed = unsafe { libc::syscall(libc::SYS_bpf, command, attr.as_mut_ptr(), ATTR_BYTES) };
    if failed == 0 {
        return attr[1] == id;
    }
    let error = std::io::Error::last_os_error();
    assert_eq!(error.raw_os_error(), Some(libc::ENOENT), "the next {table} after {}: {error}", id - 1);
    false
}
