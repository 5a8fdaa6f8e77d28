//! Everything that a file of code says about its addresses. In: an ELF file. Out: the functions at an address.
//!
//! What stays in memory are sorted addresses; names and lines are read from the file when an address is asked for,
//! so that a 100 MB program costs a megabyte.

use super::bytes::{Blocks, Flaw, ReadAt};
use super::demangle::{NAME_BYTES_MAX, function_name};
use super::elf::Elf;
use super::pclntab::{GoFrame, find::GoTables};
use super::symtab::SymbolTable;
use crate::decode::fact::symbols::Function;
use crate::enrich::text;

/// Longest source file path handed on; of a longer one the end, which tells more.
const FILE_BYTES_MAX: usize = 256;
/// Functions handed on for one address. More are inlined into each other only by machines.
const FUNCTIONS_MAX: usize = 16;

/// A file of code.
#[derive(Clone, Debug)]
pub struct Binary {
    elf: Elf,
    go: Option<GoTables>,
    symbols: SymbolTable,
    /// A table of it that cannot be read, and why.
    pub flaw: Option<Flaw>,
}

impl Binary {
    /// Reads the tables.
    ///
    /// # Errors
    /// When it is no ELF file. A damaged table of it counts as none, and is told by [`Binary::flaw`].
    pub fn read(file: &dyn ReadAt) -> Result<Binary, Flaw> {
        let elf = Elf::read(file)?;
        let mut flaw = None;
        let go = GoTables::read(&elf, file).unwrap_or_else(|error| {
            flaw = Some(error);
            None
        });
        let symbols = SymbolTable::read(&elf, file).unwrap_or_else(|error| {
            flaw = Some(error);
            SymbolTable::default()
        });
        Ok(Binary { elf, go, symbols, flaw })
    }

    /// Its build id; empty when it has none.
    pub fn build_id(&self) -> &str {
        &self.elf.build_id
    }

    /// The address at which a byte of the file is linked.
    pub fn vaddr_of(&self, offset: u64) -> Option<u64> {
        self.elf.vaddr_of(offset)
    }

    /// The functions at a linked address, an inlined one before the one it was inlined into; empty when none is
    /// known. `file` is the one that was read.
    pub fn functions(&self, file: &dyn ReadAt, vaddr: u64) -> Vec<Function> {
        let file = &Blocks::new(file);
        let go = self.go.as_ref().and_then(|go| go.functions(&self.elf, file, vaddr));
        if let Some(frames) = go {
            return frames.iter().take(FUNCTIONS_MAX).map(GoFrame::function).collect();
        }
        let symbol = self.symbols.find(vaddr, file);
        let function =
            |(name, _): (Vec<u8>, u64)| Function { name: function_name(&name), ..Function::default() };
        symbol.map(function).into_iter().collect()
    }

    /// Memory it takes.
    pub fn held_bytes(&self) -> usize {
        let go = self.go.as_ref().map_or(0, |go| go.pclntab.held_bytes());
        go + self.symbols.held_bytes() + self.elf.held_bytes()
    }
}

impl GoTables {
    /// The functions at an address; `None` when Go knows of none there, or the table is damaged at that place.
    fn functions(&self, elf: &Elf, file: &dyn ReadAt, vaddr: u64) -> Option<Vec<GoFrame>> {
        let table = super::bytes::Part::new(file, self.file.clone());
        self.pclntab.find(&table, &elf.memory(file), vaddr).ok().flatten()
    }
}

impl GoFrame {
    fn function(&self) -> Function {
        Function {
            name: text::safe(&self.name, NAME_BYTES_MAX).into_owned(),
            file: source_file(&self.file),
            line: self.line,
        }
    }
}

/// A source file's path as safe text of bounded length.
pub fn source_file(path: &[u8]) -> String {
    let end = &path[path.len().saturating_sub(FILE_BYTES_MAX)..];
    text::safe(end, FILE_BYTES_MAX).into_owned()
}
