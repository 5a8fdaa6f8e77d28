//! Hand-made tables of each version. Real programs are compared with Go's own tools in the node tier.

use super::*;
use crate::capture::symbols::bytes::{Flaw, ReadAt};

/// Where the made-up program's text starts.
const TEXT: u64 = 0x40_1000;
/// Where its inlining trees start.
const TREES: u64 = 0x50_0000;
/// Bytes of each function.
const FUNCTION_BYTES: u64 = 0x100;

/// A table and the memory that it refers to.
pub(in crate::capture::symbols) struct Made {
    pub(in crate::capture::symbols) table: Vec<u8>,
    pub(in crate::capture::symbols) memory: Trees,
}

/// The inlining trees by their address.
pub(in crate::capture::symbols) struct Trees(Vec<u8>);

impl ReadAt for Trees {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), Flaw> {
        self.0.read_at(offset.checked_sub(TREES).ok_or(Flaw::Short)?, buf)
    }

    fn size_bytes(&self) -> u64 {
        u64::MAX
    }
}

/// A program of three functions. `main.outer` calls `main.inlined` in its second line, from 0x20 to 0x40, and that
/// calls `main.deeper`, from 0x28 to 0x30.
pub(in crate::capture::symbols) fn made(version: Version) -> Made {
    let names = ["go:buildid", "main.outer", "main.inlined", "main.deeper", "main.plain"];
    let (names, name_at) = strings(&names);
    let (files, file_at) = strings(&["/src/main.go", "/src/other.go"]);
    let units: Vec<u8> = file_at.iter().flat_map(|at| (*at as u32).to_le_bytes()).collect();

    // Offset 0 means no table.
    let mut values = vec![0];
    let mut put = |runs: &[(i32, u32)]| {
        let at = values.len() as u32;
        values.extend(encode_runs(runs));
        at
    };
    let first_file = if version == Version::Go12 { 1 } else { 0 };
    let outer_files = put(&[(first_file, 0x28), (first_file + 1, 8), (first_file, 0xd0)]);
    let outer_lines = put(&[(10, 0x20), (30, 8), (50, 8), (31, 0x10), (12, 0xc0)]);
    let outer_inline = put(&[(-1, 0x20), (0, 8), (1, 8), (0, 0x10), (-1, 0xc0)]);
    let plain_files = put(&[(first_file + 1, 0x100)]);
    let plain_lines = put(&[(300, 0x80), (70_000, 0x80)]);

    let trees = match version {
        Version::Go120 => [
            [0, name_at[2] as u32, 0x10, 1].map(u32::to_le_bytes).concat(),
            [0, name_at[3] as u32, 0x24, 1].map(u32::to_le_bytes).concat(),
        ],
        Version::Go12 | Version::Go116 | Version::Go118 => [
            [0, 0, 0, name_at[2] as u32, 0x10].map(u32::to_le_bytes).concat(),
            [0, 0, 0, name_at[3] as u32, 0x24].map(u32::to_le_bytes).concat(),
        ],
    };
    let outer = (name_at[1], outer_files, outer_lines, Some(outer_inline));
    let plain = (name_at[4], plain_files, plain_lines, None);
    let functions = [outer, plain, (name_at[0], 0, 0, None)];
    let parts = Parts { version, names, units, files, file_at, values };
    Made { table: parts.table(&functions), memory: Trees(trees.concat()) }
}

struct Parts {
    version: Version,
    names: Vec<u8>,
    units: Vec<u8>,
    files: Vec<u8>,
    file_at: Vec<usize>,
    values: Vec<u8>,
}

/// Name, files, lines, inlining: offsets.
type MadeFunction = (usize, u32, u32, Option<u32>);

impl Parts {
    fn table(&self, functions: &[MadeFunction]) -> Vec<u8> {
        let magic: u32 = match self.version {
            Version::Go12 => 0xffff_fffb,
            Version::Go116 => 0xffff_fffa,
            Version::Go118 => 0xffff_fff0,
            Version::Go120 => 0xffff_fff1,
        };
        let count = functions.len() as u64;
        let start = [&magic.to_le_bytes()[..], &[0, 0, 1, 8], &count.to_le_bytes()].concat();
        if self.version == Version::Go12 {
            return self.go12(start, functions);
        }
        let words = if self.version == Version::Go116 { 6 } else { 7 };
        let mut at = start.len() as u64 + words * 8;
        let mut header = [start, 2_u64.to_le_bytes().to_vec()].concat();
        if self.version >= Version::Go118 {
            header.extend(TEXT.to_le_bytes());
        }
        let mut body = Vec::new();
        for part in [&self.names, &self.units, &self.files, &self.values] {
            header.extend(at.to_le_bytes());
            body.extend_from_slice(part);
            at += part.len() as u64;
        }
        header.extend(at.to_le_bytes());
        [header, body, self.functions(functions, 0)].concat()
    }

    /// Before 1.16 all offsets count from the start of the table.
    fn go12(&self, start: Vec<u8>, functions: &[MadeFunction]) -> Vec<u8> {
        let records = start.len();
        let bare: Vec<MadeFunction> =
            functions.iter().map(|(name, files, lines, _)| (*name, *files, *lines, None)).collect();
        let names = records + self.functions(&bare, records).len();
        let shift = |at: u32| if at == 0 { 0 } else { at + (names + self.names.len()) as u32 };
        let functions: Vec<MadeFunction> = bare
            .iter()
            .map(|(name, files, lines, _)| (name + names, shift(*files), shift(*lines), None))
            .collect();
        let values = names + self.names.len();
        let strings = values + self.values.len();
        let files = strings + self.files.len();
        let mut body = self.functions(&functions, records);
        // The table of functions ends with the offset of the files' table.
        let pointers = (2 * functions.len() + 1) * 8;
        body[pointers..pointers + 4].copy_from_slice(&(files as u32).to_le_bytes());
        let mut table = [start, body, self.names.clone(), self.values.clone(), self.files.clone()].concat();
        // The first entry is the number of files.
        table.extend((self.file_at.len() as u32 + 1).to_le_bytes());
        self.file_at.iter().for_each(|at| table.extend(((strings + at) as u32).to_le_bytes()));
        table
    }

    /// The table of functions and their records, `base` bytes behind what offsets count from.
    fn functions(&self, functions: &[MadeFunction], base: usize) -> Vec<u8> {
        let wide = self.version < Version::Go118;
        let put = |out: &mut Vec<u8>, address: u64| match wide {
            true => out.extend(address.to_le_bytes()),
            false => out.extend((address as u32).to_le_bytes()),
        };
        let text = if wide { TEXT } else { 0 };
        let field = if wide { 8 } else { 4 };
        let gap = if self.version == Version::Go12 { 8 } else { 0 };
        let mut at = (2 * functions.len() + 1) * field + gap;
        let (mut table, mut records) = (Vec::new(), Vec::new());
        for (index, function) in functions.iter().enumerate() {
            let entry = text + index as u64 * FUNCTION_BYTES;
            put(&mut table, entry);
            put(&mut table, (base + at) as u64);
            let record = self.record(entry, function);
            at += record.len();
            records.extend(record);
        }
        put(&mut table, text + functions.len() as u64 * FUNCTION_BYTES);
        table.extend(vec![0; gap]);
        [table, records].concat()
    }

    fn record(&self, entry: u64, (name, files, lines, inline): &MadeFunction) -> Vec<u8> {
        let mut record = match self.version >= Version::Go118 {
            true => (entry as u32).to_le_bytes().to_vec(),
            false => entry.to_le_bytes().to_vec(),
        };
        let (values, trees) = if inline.is_some() { (3, 4_u8) } else { (0, 0) };
        let fields = [*name as u32, 0, 0, 0, *files, *lines, values];
        fields.iter().for_each(|field| record.extend(field.to_le_bytes()));
        if self.version > Version::Go12 {
            record.extend(0_u32.to_le_bytes());
        }
        if self.version == Version::Go120 {
            record.extend(9_u32.to_le_bytes());
        }
        record.extend([0, 0, 0, trees]);
        if let Some(inline) = inline {
            [0, 0, *inline].iter().for_each(|value| record.extend(value.to_le_bytes()));
            match self.version {
                Version::Go12 => {}
                Version::Go116 => {
                    record.resize(record.len().next_multiple_of(8), 0);
                    [0, 0, 0, TREES].iter().for_each(|tree| record.extend(tree.to_le_bytes()));
                }
                Version::Go118 | Version::Go120 => {
                    [u32::MAX, u32::MAX, u32::MAX, 0]
                        .iter()
                        .for_each(|tree| record.extend(tree.to_le_bytes()));
                }
            }
        }
        // Records are aligned to pointers.
        record.resize(record.len().next_multiple_of(8), 0);
        record
    }
}

/// Texts behind each other, each ending in NUL, and where each begins.
fn strings(texts: &[&str]) -> (Vec<u8>, Vec<usize>) {
    let (mut bytes, mut at) = (Vec::new(), Vec::new());
    for text in texts {
        at.push(bytes.len());
        bytes.extend(text.bytes().chain([0]));
    }
    (bytes, at)
}

/// Runs of (value, bytes of code) as the linker writes them.
fn encode_runs(runs: &[(i32, u32)]) -> Vec<u8> {
    let (mut bytes, mut last) = (Vec::new(), -1);
    for (value, len) in runs {
        let change = value - last;
        last = *value;
        varint(&mut bytes, (change << 1 ^ change >> 31) as u32);
        varint(&mut bytes, *len);
    }
    bytes.push(0);
    bytes
}

fn varint(bytes: &mut Vec<u8>, mut number: u32) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn read(made: &Made) -> Pclntab {
    let mut pclntab = Pclntab::read(&made.table, 0).unwrap();
    let base = InlineBase::find(&pclntab, &made.table, &made.memory, &[1, TREES - 20, TREES, 3]);
    assert_eq!(base.is_some(), pclntab.version() > Version::Go12);
    pclntab.set_inline(base);
    pclntab
}

fn at(pclntab: &Pclntab, made: &Made, offset: u64) -> Vec<String> {
    let frames = pclntab.find(&made.table, &made.memory, TEXT + offset).unwrap().unwrap_or_default();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    frames.iter().map(|frame| format!("{} {}:{}", text(&frame.name), text(&frame.file), frame.line)).collect()
}

pub(in crate::capture::symbols) const VERSIONS: [Version; 4] =
    [Version::Go12, Version::Go116, Version::Go118, Version::Go120];

#[test]
fn functions_files_and_lines_in_every_version() {
    for version in VERSIONS {
        let made = made(version);
        let pclntab = read(&made);
        assert_eq!(pclntab.version(), version);
        assert_eq!(at(&pclntab, &made, 0x1f), ["main.outer /src/main.go:10"], "{version:?}");
        assert_eq!(at(&pclntab, &made, 0xff), ["main.outer /src/main.go:12"]);
        assert_eq!(at(&pclntab, &made, 0x100), ["main.plain /src/other.go:300"]);
        assert_eq!(at(&pclntab, &made, 0x180), ["main.plain /src/other.go:70000"]);
        assert_eq!(at(&pclntab, &made, 0x2ff), ["go:buildid :0"], "neither files nor lines");
        assert_eq!(at(&pclntab, &made, 0x300), Vec::<String>::new());
        assert_eq!(pclntab.find(&made.table, &made.memory, TEXT - 1), Ok(None));
        assert_eq!(pclntab.find(&made.table, &made.memory, u64::MAX), Ok(None));
    }
}

#[test]
fn calls_that_were_inlined() {
    for version in &VERSIONS[1..] {
        let made = made(*version);
        let pclntab = read(&made);
        assert_eq!(
            at(&pclntab, &made, 0x22),
            ["main.inlined /src/main.go:30", "main.outer /src/main.go:10"],
            "{version:?}"
        );
        assert_eq!(
            at(&pclntab, &made, 0x2f),
            ["main.deeper /src/other.go:50", "main.inlined /src/main.go:30", "main.outer /src/main.go:10"]
        );
        assert_eq!(at(&pclntab, &made, 0x30)[0], "main.inlined /src/main.go:31");
        assert_eq!(at(&pclntab, &made, 0x40), ["main.outer /src/main.go:12"]);
    }
}

#[test]
fn a_call_that_is_inlined_into_itself_ends() {
    let mut made = made(Version::Go120);
    // The first call's parent is inside that call.
    made.memory.0[8..12].copy_from_slice(&0x22_u32.to_le_bytes());
    let pclntab = read(&made);
    assert_eq!(at(&pclntab, &made, 0x22).len(), INLINE_DEPTH_MAX + 1);
}

#[test]
fn what_is_no_table_says_so() {
    let not = Err(Flaw::Not("Go line table"));
    let made = made(Version::Go120).table;
    assert_eq!(Header::read(&Vec::new()), not);
    assert_eq!(Header::read(&vec![0xff; 64]), not);
    for (at, byte) in [(0, 0), (4, 1), (6, 3), (7, 2)] {
        let mut table = made.clone();
        table[at] = byte;
        assert_eq!(Header::read(&table), not, "byte {at}");
    }
    let mut many = made.clone();
    many[8..16].copy_from_slice(&(FUNCTIONS_MAX + 1).to_le_bytes());
    assert_eq!(Header::read(&many), Err(Flaw::TooMany("Go functions")));
    many[8..16].copy_from_slice(&FUNCTIONS_MAX.to_le_bytes());
    assert_eq!(Pclntab::read(&many, 0).unwrap_err(), Flaw::Short, "not allocated");
}
