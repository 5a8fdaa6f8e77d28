//! Names of just-in-time compiled functions. In: the map that a runtime leaves for profilers in
//! `/tmp/perf-PID.map` (Node.js `--perf-basic-prof`, .NET `DOTNET_PerfMapEnabled`, JVM agents). Out: names by
//! address.
//!
//! The format is perf's (tools/perf/Documentation/jit-interface.txt): a start address and a size in hexadecimal,
//! then a name to the end of the line. It only grows, and a later line replaces the earlier ones it overlaps.

use super::bytes::{Flaw, ReadAt, bytes};
use super::demangle::NAME_BYTES_MAX;

/// Read at most of a map; one of Node.js after hours has some ten MiB. What is behind is left out.
const TEXT_BYTES_MAX: u64 = 32 << 20;
/// Functions kept of a process.
const FUNCTIONS_MAX: usize = 200_000;
/// Bytes of names kept of those.
const NAMES_BYTES_MAX: usize = 8 << 20;
/// Read at a time.
const CHUNK_BYTES: usize = 256 << 10;
/// Longest line; a longer one is left out.
const LINE_BYTES_MAX: usize = 4 << 10;

/// A process's just-in-time compiled functions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PerfMap {
    functions: Vec<Function>,
    names: Vec<u8>,
    /// There were more than are kept.
    pub cut: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Function {
    start: u64,
    end: u64,
    name: u32,
    name_bytes: u32,
}

impl PerfMap {
    /// Reads a map; lines that are none are left out.
    ///
    /// # Errors
    /// What reading gives.
    pub fn read(file: &dyn ReadAt) -> Result<PerfMap, Flaw> {
        let mut map = PerfMap { cut: file.size_bytes() > TEXT_BYTES_MAX, ..PerfMap::default() };
        let end = file.size_bytes().min(TEXT_BYTES_MAX);
        let (mut at, mut left) = (0, Vec::new());
        while at < end {
            let len = (end - at).min(CHUNK_BYTES as u64);
            left.extend_from_slice(&bytes(file, at, len, CHUNK_BYTES)?);
            at += len;
            // The last line may go on in the next chunk.
            let whole = match left.iter().rposition(|byte| *byte == b'\n') {
                Some(newline) => newline + 1,
                None if at == end => left.len(),
                None => 0,
            };
            left[..whole].split(|byte| *byte == b'\n').for_each(|line| map.add(line));
            left.drain(..whole);
            if left.len() > LINE_BYTES_MAX {
                // Its rest is no line either: it does not begin with two numbers.
                left.clear();
            }
        }
        map.add(&left);
        map.settle();
        Ok(map)
    }

    fn add(&mut self, line: &[u8]) {
        let Some((start, size, name)) = function(line) else { return };
        let name = &name[..name.len().min(NAME_BYTES_MAX)];
        if self.functions.len() >= FUNCTIONS_MAX || self.names.len() + name.len() > NAMES_BYTES_MAX {
            self.cut = true;
            return;
        }
        let (at, name_bytes) = (self.names.len() as u32, name.len() as u32);
        self.functions.push(Function { start, end: start.saturating_add(size), name: at, name_bytes });
        self.names.extend_from_slice(name);
    }

    /// Sorts, and lets the later of two at one address stand.
    fn settle(&mut self) {
        self.functions.sort_by_key(|function| (function.start, std::cmp::Reverse(function.name)));
        self.functions.dedup_by_key(|function| function.start);
        self.functions.shrink_to_fit();
        self.names.shrink_to_fit();
    }

    /// The function at an address.
    pub fn find(&self, address: u64) -> Option<&[u8]> {
        let after = self.functions.partition_point(|function| function.start <= address);
        let function = self.functions[..after].last().filter(|function| address < function.end)?;
        let start = function.name as usize;
        Some(&self.names[start..start + function.name_bytes as usize])
    }

    /// Memory it takes.
    pub fn held_bytes(&self) -> usize {
        self.functions.capacity() * size_of::<Function>() + self.names.capacity()
    }
}

/// Start, size and name of a line.
fn function(line: &[u8]) -> Option<(u64, u64, &[u8])> {
    let mut fields = line.splitn(3, |byte| *byte == b' ');
    let mut number = || {
        let field = std::str::from_utf8(fields.next()?).ok()?;
        u64::from_str_radix(field.strip_prefix("0x").unwrap_or(field), 16).ok()
    };
    let (start, size) = (number()?, number()?);
    let name = fields.next()?.trim_ascii();
    (size > 0 && !name.is_empty()).then_some((start, size, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(text: &str) -> PerfMap {
        PerfMap::read(&text.as_bytes()).unwrap()
    }

    #[test]
    fn names_by_address() {
        let map = map(
            "7f00 20 LazyCompile:~add /app/a.js:3\n0x7f40 0x10 void [App] Main()\n7f00 20 *add\nrubbish\n7f60 0 x",
        );
        assert_eq!(map.find(0x7f1f), Some(&b"*add"[..]), "compiled again: the later line");
        assert_eq!(map.find(0x7f20), None);
        assert_eq!(map.find(0x7f4f), Some(&b"void [App] Main()"[..]));
        assert_eq!(map.find(0x7f60), None, "no size");
    }

    #[test]
    fn a_last_line_without_newline_counts_and_a_long_one_does_not() {
        assert_eq!(map("10 4 a\n20 4 b").find(0x20), Some(&b"b"[..]));
        let long = format!("10 4 {}\n20 4 b\n", "x".repeat(2 * CHUNK_BYTES));
        let map = map(&long);
        assert_eq!((map.find(0x10), map.find(0x20)), (None, Some(&b"b"[..])));
    }

    #[test]
    fn chunks_do_not_cut_lines() {
        let text: String = (0..40_000).map(|n| format!("{:x} 10 function_{n}\n", 0x1000 + n * 16)).collect();
        assert!(text.len() > 3 * CHUNK_BYTES);
        let map = map(&text);
        for n in [0, 1, 13_107, 26_215, 39_999_u64] {
            assert_eq!(map.find(0x1000 + n * 16 + 5), Some(format!("function_{n}").as_bytes()));
        }
    }

    #[test]
    fn a_huge_sparse_map_is_cut_and_quick() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("perf-1.map");
        std::fs::write(&path, "10 4 a\n").unwrap();
        std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(5 << 30).unwrap();
        let found =
            crate::capture::symbols::open::Found::on_host(path.as_os_str().as_encoded_bytes()).unwrap();
        let begun = std::time::Instant::now();
        let map = PerfMap::read(&found.open(None).unwrap()).unwrap();
        assert!(map.cut && map.find(0x10).is_some());
        assert!(begun.elapsed().as_secs() < 5 && map.held_bytes() < 1 << 20);
    }
}
