//! Function, file and line of Go programs, stripped or not: a reader of the table that Go's runtime itself needs
//! (`.gopclntab`). In: the table's bytes and an address. Out: the functions there, inlined ones first.
//!
//! The format has no specification but its writers and readers. This one follows Go's source: the header and the
//! tables as in `debug/gosym/pclntab.go` and `runtime/symtab.go` (`pcHeader`, `functab`, `pcvalue`), records as in
//! `runtime/runtime2.go` (`_func`), inlining as in `runtime/symtabinl.go` (and, before 1.20, `runtime/symtab.go`).
//!
//! | magic | Go | what differs |
//! | --- | --- | --- |
//! | `0xfffffffb` | 1.2 to 1.15 | one table of addresses; files by number in the program |
//! | `0xfffffffa` | 1.16, 1.17 | separate tables for names, files and pc values; files by number in the compilation unit |
//! | `0xfffffff0` | 1.18, 1.19 | addresses are 32-bit offsets from the start of the text |
//! | `0xfffffff1` | 1.20 and later | shorter inlining records; from 1.26 the header no longer says where the text starts |
//!
//! Not read: inlining before 1.16, and position-independent programs before 1.18, whose table is filled in only
//! when they are loaded. Big-endian machines have no slowpod.

pub mod find;
mod inline;
mod values;

use super::bytes::{Blocks, Flaw, ReadAt, bytes, bytes_up_to, number, string};
use super::demangle::MANGLED_BYTES_MAX;
pub use inline::InlineBase;

/// Functions read at most. The Kubernetes programs have 30,000 to 150,000; the table takes 8 bytes of each.
const FUNCTIONS_MAX: u64 = 1 << 20;
/// Longest path of a source file.
const FILE_BYTES_MAX: usize = 1 << 10;
/// Calls inlined into each other; Go's compiler stops far below.
const INLINE_DEPTH_MAX: usize = 32;
/// Largest `_func` read: its fields and those of its tables that are needed, which come first.
const FUNC_BYTES_MAX: usize = 128;

/// Which layout a table has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// Go 1.2 to 1.15.
    Go12,
    /// Go 1.16 and 1.17.
    Go116,
    /// Go 1.18 and 1.19.
    Go118,
    /// Go 1.20 and later.
    Go120,
}

impl Version {
    fn of_magic(magic: u32) -> Option<Version> {
        match magic {
            0xffff_fffb => Some(Version::Go12),
            0xffff_fffa => Some(Version::Go116),
            0xffff_fff0 => Some(Version::Go118),
            0xffff_fff1 => Some(Version::Go120),
            _ => None,
        }
    }
}

/// Where the parts of a table begin, from the table's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tables {
    names: u64,
    units: u64,
    files: u64,
    values: u64,
    functions: u64,
}

/// What begins a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Its layout.
    pub version: Version,
    /// Bytes of a pointer, 4 or 8.
    pub pointer_bytes: u8,
    /// Functions there are.
    pub functions: u64,
    /// Where the text starts, from Go 1.18 to 1.25; else 0.
    pub text_start: u64,
    quantum: u64,
    tables: Tables,
}

impl Header {
    /// Reads the header at the start of `table`.
    ///
    /// # Errors
    /// [`Flaw::Not`] when there is none.
    pub fn read(table: &dyn ReadAt) -> Result<Header, Flaw> {
        let not = Flaw::Not("Go line table");
        let start = bytes(table, 0, 8, 8).map_err(|_| not)?;
        let version = Version::of_magic(number::<4>(table, 0)? as u32).ok_or(not)?;
        let (quantum, pointer_bytes) = (start[6], start[7]);
        if start[4..6] != [0, 0] || ![1, 2, 4].contains(&quantum) || ![4, 8].contains(&pointer_bytes) {
            return Err(not);
        }
        let word = |index: u64| pointer(table, 8 + index * u64::from(pointer_bytes), pointer_bytes);
        let (text_start, tables) = match version {
            Version::Go12 => {
                // Everything is counted from the start; the functions' addresses stand behind their number, and
                // the files behind those.
                let functions = 8 + u64::from(pointer_bytes);
                let count = word(0)?.min(FUNCTIONS_MAX + 1);
                let files = functions + (2 * count + 1) * u64::from(pointer_bytes);
                let files = number::<4>(table, files).unwrap_or(0);
                (0, Tables { files, functions, ..Tables::default() })
            }
            Version::Go116 => (0, tables(word, 2)?),
            Version::Go118 | Version::Go120 => (word(2)?, tables(word, 3)?),
        };
        let functions = word(0)?;
        if functions == 0 {
            return Err(not);
        }
        if functions > FUNCTIONS_MAX {
            return Err(Flaw::TooMany("Go functions"));
        }
        Ok(Header { version, pointer_bytes, functions, text_start, quantum: quantum.into(), tables })
    }

    /// Where the names begin, from the table's start: Go's module data points there too. 0 before Go 1.16.
    pub fn names_offset(&self) -> u64 {
        self.tables.names
    }

    /// Bytes of an address or an offset in the table of functions.
    fn field_bytes(&self) -> u64 {
        if self.version >= Version::Go118 { 4 } else { self.pointer_bytes.into() }
    }
}

fn tables(word: impl Fn(u64) -> Result<u64, Flaw>, first: u64) -> Result<Tables, Flaw> {
    Ok(Tables {
        names: word(first)?,
        units: word(first + 1)?,
        files: word(first + 2)?,
        values: word(first + 3)?,
        functions: word(first + 4)?,
    })
}

fn pointer(from: &dyn ReadAt, offset: u64, pointer_bytes: u8) -> Result<u64, Flaw> {
    if pointer_bytes == 4 { number::<4>(from, offset) } else { number::<8>(from, offset) }
}

/// One function at an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoFrame {
    /// Its name as Go writes it: `net/http.(*conn).serve`.
    pub name: Vec<u8>,
    /// Its file; empty when the table has none.
    pub file: Vec<u8>,
    /// Line of the address, or of the call that was inlined there; 0 when the table has none.
    pub line: u32,
}

/// A table, ready to be asked. The functions' addresses are in memory; all else is read when needed.
#[derive(Clone, Debug)]
pub struct Pclntab {
    header: Header,
    text_start: u64,
    /// (address, offset of the `_func`) of each function, then the end of the last: fields of
    /// [`Header::field_bytes`].
    functions: Vec<u8>,
    inline: Option<InlineBase>,
}

/// A function's record.
struct Func {
    entry: u64,
    end: u64,
    name: u64,
    files: u64,
    lines: u64,
    unit: u64,
    /// Offset of the pc values that tell which inlined call an address is in; 0 for none.
    inline_values: u64,
    /// What the record says of its inlined calls; `None` for none.
    inline_tree: Option<u64>,
}

impl Pclntab {
    /// Reads the table of functions. `text_start` is where module data says the text starts; 0 when it is not
    /// known, and then the header is believed.
    ///
    /// # Errors
    /// What is wrong with the table.
    pub fn read(table: &dyn ReadAt, text_start: u64) -> Result<Pclntab, Flaw> {
        let header = Header::read(table)?;
        let len = (2 * header.functions + 1) * header.field_bytes();
        let functions = bytes(table, header.tables.functions, len, usize::MAX)?;
        let text_start = if text_start > 0 { text_start } else { header.text_start };
        let table = Pclntab { header, text_start, functions, inline: None };
        if table.header.version < Version::Go118 && table.address(0) == 0 {
            return Err(Flaw::Not("Go line table that is whole before it is loaded"));
        }
        Ok(table)
    }

    /// Says where inlining is recorded.
    pub fn set_inline(&mut self, base: Option<InlineBase>) {
        self.inline = base;
    }

    /// Its layout.
    pub fn version(&self) -> Version {
        self.header.version
    }

    /// Addresses of all functions, in order.
    pub fn entries(&self) -> impl Iterator<Item = u64> {
        (0..self.header.functions as usize).map(|index| self.address(index))
    }

    /// Memory it takes.
    pub fn held_bytes(&self) -> usize {
        self.functions.capacity()
    }

    /// The functions at an address, the innermost inlined one first; `None` when no Go function is there.
    /// `memory` is the program by address.
    ///
    /// # Errors
    /// What is wrong with the table.
    pub fn find(
        &self,
        table: &dyn ReadAt,
        memory: &dyn ReadAt,
        pc: u64,
    ) -> Result<Option<Vec<GoFrame>>, Flaw> {
        let table = &Blocks::new(table);
        let Some(func) = self.func(table, pc)? else { return Ok(None) };
        let mut frames = Vec::new();
        let mut at = pc;
        // Each inlined call says where in the function it was inlined; that place may itself be inlined.
        while frames.len() < INLINE_DEPTH_MAX
            && let Some(base) = &self.inline
            && let Some(call) = base.call(self, table, memory, &func, at)?
        {
            frames.push(self.frame(table, &func, call.name, at)?);
            at = func.entry + call.parent;
        }
        frames.push(self.frame(table, &func, func.name, at)?);
        Ok(Some(frames))
    }

    fn frame(&self, table: &dyn ReadAt, func: &Func, name: u64, at: u64) -> Result<GoFrame, Flaw> {
        let line = self.value(table, func, func.lines, at)?.and_then(|line| u32::try_from(line).ok());
        let file = self.value(table, func, func.files, at)?.and_then(|file| u64::try_from(file).ok());
        Ok(GoFrame {
            name: self.name(table, name)?,
            file: file.map(|file| self.file(table, func, file)).transpose()?.unwrap_or_default(),
            line: line.unwrap_or(0),
        })
    }

    fn name(&self, table: &dyn ReadAt, offset: u64) -> Result<Vec<u8>, Flaw> {
        string(table, self.header.tables.names.saturating_add(offset), MANGLED_BYTES_MAX)
    }

    fn file(&self, table: &dyn ReadAt, func: &Func, number_of_file: u64) -> Result<Vec<u8>, Flaw> {
        /// No file: code that the linker made.
        const NONE: u64 = u32::MAX as u64;
        let Tables { units, files, .. } = self.header.tables;
        let entry = |base: u64, index: u64| {
            index.checked_mul(4).and_then(|at| base.checked_add(at)).ok_or(Flaw::Absurd("a file's number"))
        };
        let at = match self.header.version {
            // Here 0 means none.
            Version::Go12 if number_of_file == 0 => return Ok(Vec::new()),
            Version::Go12 => number::<4>(table, entry(files, number_of_file)?)?,
            Version::Go116 | Version::Go118 | Version::Go120 => {
                match number::<4>(table, entry(units, func.unit.saturating_add(number_of_file))?)? {
                    NONE => return Ok(Vec::new()),
                    offset => files.saturating_add(offset),
                }
            }
        };
        string(table, at, FILE_BYTES_MAX)
    }

    fn field(&self, index: usize) -> u64 {
        let width = self.header.field_bytes() as usize;
        let field = self.functions.get(index * width..(index + 1) * width).unwrap_or_default();
        field.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
    }

    /// Where a function begins; of the number of functions, where the last one ends.
    fn address(&self, index: usize) -> u64 {
        let field = self.field(2 * index);
        if self.header.version >= Version::Go118 { self.text_start.wrapping_add(field) } else { field }
    }

    fn func(&self, table: &dyn ReadAt, pc: u64) -> Result<Option<Func>, Flaw> {
        let count = self.header.functions as usize;
        let (mut low, mut high) = (0, count);
        while low < high {
            let middle = usize::midpoint(low, high);
            if self.address(middle) <= pc { low = middle + 1 } else { high = middle }
        }
        if low == 0 || (low == count && pc >= self.address(count)) {
            return Ok(None);
        }
        let index = low - 1;
        let offset = self.field(2 * index + 1);
        // Before 1.16 offsets count from the table's start.
        let base = if self.header.version == Version::Go12 { 0 } else { self.header.tables.functions };
        let record = bytes_up_to(table, base.saturating_add(offset), FUNC_BYTES_MAX)?;
        self.record(&record, self.address(index), self.address(index + 1)).map(Some)
    }

    /// Reads a `_func`.
    fn record(&self, record: &Vec<u8>, entry: u64, end: u64) -> Result<Func, Flaw> {
        let version = self.header.version;
        let entry_bytes = self.header.field_bytes();
        // By the field's number in the struct; field 0 is the address.
        let field = |index: u64| number::<4>(record, entry_bytes + (index - 1) * 4);
        let fields = match version {
            Version::Go12 => 7,
            Version::Go116 | Version::Go118 => 8,
            Version::Go120 => 9,
        };
        let tail = entry_bytes + fields * 4;
        let (values, trees) = (field(7)?, number::<1>(record, tail + 3)?);
        let inline = inline::locate(version, self.header.pointer_bytes, tail + 4, values, trees);
        Ok(Func {
            entry,
            end,
            name: field(1)?,
            files: field(5)?,
            lines: field(6)?,
            unit: if version == Version::Go12 { 0 } else { field(8)? },
            inline_values: inline.map_or(Ok(0), |at| number::<4>(record, at.values))?,
            inline_tree: inline.map(|at| pointer(record, at.tree, at.tree_bytes)).transpose()?,
        })
    }
}

#[cfg(test)]
mod tests;
