//! Everything that a file of code says about its addresses. In: an ELF file. Out: the functions at an address.
//!
//! What stays in memory are sorted addresses; names and lines are read from the file when an address is asked for,
//! so that a 100 MB program costs a megabyte. Only DWARF ([`super::dwarf`]) is held whole, if it is small.

use super::bytes::{Blocks, Flaw, Part, ReadAt};
use super::debug_files::DebugLink;
use super::demangle::{NAME_BYTES_MAX, function_name};
use super::dwarf::{Debug, DebugFrame};
use super::elf::Elf;
use super::pclntab::{GoFrame, find::GoTables};
use super::symtab::SymbolTable;
use crate::decode::fact::symbols::Function;
use crate::enrich::text;
use object::elf::SHT_SYMTAB;

/// Longest source file path handed on; of a longer one the end, which tells more.
const FILE_BYTES_MAX: usize = 256;
/// Functions handed on for one address. C++ templates nest deeper at times.
const FUNCTIONS_MAX: usize = 16;

/// A file of code.
#[derive(Clone, Debug)]
pub struct Binary {
    elf: Elf,
    go: Option<GoTables>,
    symbols: SymbolTable,
    link: Option<DebugLink>,
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
        let go = GoTables::read(&elf, file);
        let link = DebugLink::read(&elf, file);
        let mut binary = Binary::of_symbols(elf, file);
        match go {
            Ok(go) => binary.go = go,
            Err(flaw) => binary.flaw = Some(flaw),
        }
        Ok(Binary { link, ..binary })
    }

    /// Reads a separate debug file, of which the loaded parts are left out.
    pub fn of_symbols(elf: Elf, file: &dyn ReadAt) -> Binary {
        let symbols = SymbolTable::read(&elf, file);
        let flaw = symbols.as_ref().err().copied();
        Binary { elf, go: None, symbols: symbols.unwrap_or_default(), link: None, flaw }
    }

    /// Its build id; empty when it has none.
    pub fn build_id(&self) -> &str {
        &self.elf.build_id
    }

    /// What it says of its debug file.
    pub fn debug_link(&self) -> Option<&DebugLink> {
        self.link.as_ref()
    }

    /// The address at which a byte of the file is linked.
    pub fn vaddr_of(&self, offset: u64) -> Option<u64> {
        self.elf.vaddr_of(offset)
    }

    /// Whether names were stripped from it that a debug file may have.
    pub fn is_stripped(&self) -> bool {
        self.go.is_none() && !self.elf.sections.iter().any(|section| section.kind == SHT_SYMTAB)
    }

    /// Whether it has debug information.
    pub fn has_debug(&self) -> bool {
        self.elf.section(".debug_info").is_some()
    }

    /// Its debug information.
    ///
    /// # Errors
    /// See [`Debug::read`].
    pub fn debug(&self, file: &dyn ReadAt) -> Result<Option<Debug>, Flaw> {
        Debug::read(&self.elf, file)
    }

    /// The functions that Go's own table has at a linked address, an inlined one before the one it was inlined
    /// into. `None` when the program is not Go's, has other code there, or its table is damaged at that place.
    pub fn go_functions(&self, file: &dyn ReadAt, vaddr: u64) -> Option<Vec<Function>> {
        let go = self.go.as_ref()?;
        let table = Part::new(file, go.file.clone());
        let frames = go.pclntab.find(&table, &self.elf.memory(file), vaddr).ok()??;
        Some(outermost(&frames).iter().map(GoFrame::function).collect())
    }

    /// The function that the symbol tables have at a linked address.
    pub fn symbol(&self, file: &dyn ReadAt, vaddr: u64) -> Option<Function> {
        let (name, _) = self.symbols.find(vaddr, &Blocks::new(file))?;
        Some(Function { name: function_name(&name), ..Function::default() })
    }

    /// Memory it takes.
    pub fn held_bytes(&self) -> usize {
        let go = self.go.as_ref().map_or(0, |go| go.pclntab.held_bytes());
        go + self.symbols.held_bytes() + self.elf.held_bytes()
    }
}

/// What debug information and symbol table have at one address, put together: the outermost function has the
/// symbol's name if it has none of its own.
pub fn debug_functions(frames: &[DebugFrame], symbol: Option<Function>) -> Vec<Function> {
    let mut functions: Vec<Function> = outermost(frames).iter().map(DebugFrame::function).collect();
    match (functions.last_mut(), symbol) {
        (Some(outermost), Some(symbol)) if outermost.name.is_empty() => outermost.name = symbol.name,
        (None, Some(symbol)) => functions.push(symbol),
        (Some(_) | None, _) => {}
    }
    functions.retain(|function| !function.name.is_empty());
    functions
}

/// The outermost functions of an address: the one that is called is worth more than all that is inlined into it.
fn outermost<T>(frames: &[T]) -> &[T] {
    &frames[frames.len().saturating_sub(FUNCTIONS_MAX)..]
}

impl DebugFrame {
    fn function(&self) -> Function {
        Function { name: function_name(&self.name), file: source_file(&self.file), line: self.line }
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
fn source_file(path: &[u8]) -> String {
    let end = &path[path.len().saturating_sub(FILE_BYTES_MAX)..];
    text::safe(end, FILE_BYTES_MAX).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(name: &str, line: u32) -> DebugFrame {
        DebugFrame { name: name.into(), file: b"a.c".to_vec(), line }
    }

    #[test]
    fn the_symbol_fills_in_what_debug_information_lacks() {
        let symbol = || Some(Function { name: "symbol".into(), ..Function::default() });
        let named = |functions: Vec<Function>| -> Vec<(String, u32)> {
            functions.into_iter().map(|function| (function.name, function.line)).collect()
        };
        let both = debug_functions(&[frame("inlined", 3), frame("", 9)], symbol());
        assert_eq!(named(both), [("inlined".to_owned(), 3), ("symbol".to_owned(), 9)]);
        let own = debug_functions(&[frame("own", 3)], symbol());
        assert_eq!(named(own), [("own".to_owned(), 3)]);
        assert_eq!(named(debug_functions(&[], symbol())), [("symbol".to_owned(), 0)]);
        assert_eq!(named(debug_functions(&[frame("", 1)], None)), []);
    }

    #[test]
    fn of_a_long_path_the_end_is_shown() {
        let path = format!("/{}/main.go", "very/".repeat(100));
        let shown = source_file(path.as_bytes());
        assert!(shown.len() == FILE_BYTES_MAX && shown.ends_with("/main.go"));
    }
}
