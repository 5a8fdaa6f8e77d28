//! Function names by address, from an ELF file's symbol tables. In: `.symtab` and `.dynsym`. Out: a sorted table
//! that holds 16 bytes per function; names stay in the file until one is asked for.

use super::bytes::{Flaw, ReadAt, string};
use super::demangle::MANGLED_BYTES_MAX;
use super::elf::{Elf, Section};
use object::elf::{SHT_DYNSYM, SHT_SYMTAB, STT_FUNC, STT_GNU_IFUNC, STT_NOTYPE};

/// Symbols read at most. A browser has a million; a table beyond that is cut, and its size is 16 MiB.
const SYMBOLS_MAX: usize = 1 << 20;
/// Read of a table at a time.
const CHUNK_BYTES: u64 = 64 << 10;
/// How far behind a symbol without a size an address may be. Hand-written assembly has such symbols.
const UNSIZED_REACH: u64 = 4 << 10;

/// The functions of one file, by address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SymbolTable {
    functions: Vec<Function>,
    /// String tables, each as (begin, end) in the file.
    strings: Vec<(u64, u64)>,
    /// There were more symbols than are held.
    pub cut: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Function {
    vaddr: u64,
    bytes: u32,
    /// Offset of the name in its string table; the top bit says in which.
    name: u32,
}

const SECOND_STRINGS: u32 = 1 << 31;

impl SymbolTable {
    /// Reads both tables; a file without any gives an empty one.
    ///
    /// # Errors
    /// What reading gives.
    pub fn read(elf: &Elf, file: &dyn ReadAt) -> Result<SymbolTable, Flaw> {
        let mut table = SymbolTable::default();
        for kind in [SHT_SYMTAB, SHT_DYNSYM] {
            let Some(symbols) = elf.sections.iter().find(|section| section.kind == kind) else { continue };
            let Some(strings) = elf.section_at(symbols.link) else { continue };
            let mark = if table.strings.is_empty() { 0 } else { SECOND_STRINGS };
            table.strings.push((strings.file.start, strings.file.end));
            table.add(symbols, file, elf.pointer_bytes == 8, mark)?;
        }
        // Of several names for one address the first stays: `.symtab` before `.dynsym`, with a size before without.
        table.functions.sort_by_key(|function| (function.vaddr, function.bytes == 0));
        table.functions.dedup_by_key(|function| function.vaddr);
        table.functions.shrink_to_fit();
        Ok(table)
    }

    fn add(&mut self, symbols: &Section, file: &dyn ReadAt, wide: bool, mark: u32) -> Result<(), Flaw> {
        let entry = if wide { 24 } else { 16 };
        let part = symbols.part(file);
        let (mut at, end) = (0, part.size_bytes() / entry * entry);
        let mut chunk = Vec::new();
        while at < end {
            chunk.resize((end - at).min(CHUNK_BYTES / entry * entry) as usize, 0);
            part.read_at(at, &mut chunk)?;
            at += chunk.len() as u64;
            for bytes in chunk.chunks_exact(entry as usize) {
                if self.functions.len() >= SYMBOLS_MAX {
                    self.cut = true;
                    return Ok(());
                }
                self.functions.extend(function(bytes, wide, mark));
            }
        }
        Ok(())
    }

    /// The function that holds an address: its mangled name and how far in the address is.
    pub fn find(&self, vaddr: u64, file: &dyn ReadAt) -> Option<(Vec<u8>, u64)> {
        let after = self.functions.partition_point(|function| function.vaddr <= vaddr);
        let function = self.functions[..after].last()?;
        let into = vaddr - function.vaddr;
        let reach = if function.bytes > 0 { u64::from(function.bytes) } else { UNSIZED_REACH };
        if into >= reach {
            return None;
        }
        let (begin, end) = *self.strings.get(usize::from(function.name & SECOND_STRINGS != 0))?;
        let at = begin.checked_add(u64::from(function.name & !SECOND_STRINGS)).filter(|at| *at < end)?;
        let name = string(file, at, MANGLED_BYTES_MAX).ok()?;
        (!name.is_empty()).then_some((name, into))
    }

    /// Functions held.
    pub fn len(&self) -> usize {
        self.functions.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.functions.is_empty()
    }

    /// Memory it takes.
    pub fn held_bytes(&self) -> usize {
        self.functions.capacity() * size_of::<Function>()
    }
}

/// A symbol table's entry, if it is a defined function. Layout: elf(5), `Elf64_Sym` and `Elf32_Sym`.
fn function(entry: &[u8], wide: bool, mark: u32) -> Option<Function> {
    let number =
        |at: usize, len: usize| entry[at..at + len].iter().rev().fold(0, |n, b| n << 8 | u64::from(*b));
    let (info, section, vaddr, bytes) = match wide {
        true => (entry[4], number(6, 2), number(8, 8), number(16, 8)),
        false => (entry[12], number(14, 2), number(4, 4), number(8, 4)),
    };
    let name = number(0, 4) as u32;
    let is_code = match info & 0xf {
        STT_FUNC | STT_GNU_IFUNC => true,
        // Labels of assembly, but not the marks between code and data that some assemblers leave.
        STT_NOTYPE => bytes > 0,
        _ => false,
    };
    // Section 0 means: defined elsewhere.
    (is_code && section != 0 && vaddr != 0 && name != 0 && name < SECOND_STRINGS).then_some(Function {
        vaddr,
        bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
        name: name | mark,
    })
}
