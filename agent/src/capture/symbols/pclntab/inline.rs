//! Which functions were inlined where. In: a function's record and the tree of inlined calls it refers to. Out:
//! the call that an address belongs to.
//!
//! A function's pc values number 2 name the entry of its tree that an address is in. The tree stands outside the
//! table, in the program's read-only data: before Go 1.18 the record points to it, since then it holds the
//! distance from a symbol (`go:func.*`) that a stripped program no longer has. Module data does
//! ([`super::find`]), at a place that moves between releases, so that each word there is tried on real records.

use super::{Func, Pclntab, Version};
use crate::capture::symbols::bytes::{Blocks, Flaw, ReadAt, number};

/// `PCDATA_InlTreeIndex` (internal/abi/symtab.go).
const VALUES_INDEX: u64 = 2;
/// `FUNCDATA_InlTree`.
const TREE_INDEX: u64 = 3;
/// Functions looked at to tell whether a word is the right one.
const TRIED_FUNCTIONS: usize = 2_048;
/// Trees of theirs that must make sense.
const TRIED_TREES: usize = 16;

/// What trees are counted from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InlineBase(u64);

/// Where in a function's record its inlining stands.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) values: u64,
    pub(super) tree: u64,
    pub(super) tree_bytes: u8,
}

/// An inlined call.
pub(super) struct Call {
    /// Offset of the called function's name.
    pub(super) name: u64,
    /// Where it was called: an address, counted from the function's start.
    pub(super) parent: u64,
}

/// Finds inlining in a record whose fields end at `fields_end` and that has so many pc values and trees.
pub(super) fn locate(
    version: Version,
    pointer_bytes: u8,
    fields_end: u64,
    values: u64,
    trees: u64,
) -> Option<Place> {
    if values <= VALUES_INDEX || trees <= TREE_INDEX || version == Version::Go12 {
        return None;
    }
    let values_end = fields_end.checked_add(values.checked_mul(4)?)?;
    let (first_tree, tree_bytes) = match version {
        Version::Go12 | Version::Go116 => (values_end.next_multiple_of(pointer_bytes.into()), pointer_bytes),
        Version::Go118 | Version::Go120 => (values_end, 4),
    };
    let tree = first_tree.checked_add(TREE_INDEX * u64::from(tree_bytes))?;
    Some(Place { values: fields_end + VALUES_INDEX * 4, tree, tree_bytes })
}

impl InlineBase {
    /// The base for this table: nothing before Go 1.18, whose records hold addresses; else the first of `words`
    /// that makes sense of the table's functions. `None` when none does, or the table has no inlining.
    pub fn find(
        pclntab: &Pclntab,
        table: &dyn ReadAt,
        memory: &dyn ReadAt,
        words: &[u64],
    ) -> Option<InlineBase> {
        let table = &Blocks::new(table);
        match pclntab.header.version {
            Version::Go12 => None,
            Version::Go116 => Some(InlineBase(0)).filter(|base| base.makes_sense(pclntab, table, memory)),
            Version::Go118 | Version::Go120 => {
                let mut bases = words.iter().filter(|word| **word != 0).map(|word| InlineBase(*word));
                bases.find(|base| base.makes_sense(pclntab, table, memory))
            }
        }
    }

    fn makes_sense(self, pclntab: &Pclntab, table: &dyn ReadAt, memory: &dyn ReadAt) -> bool {
        let mut seen = 0;
        for entry in pclntab.entries().take(TRIED_FUNCTIONS) {
            let Ok(Some(func)) = pclntab.func(table, entry) else { continue };
            if func.tree(pclntab).is_none() {
                continue;
            }
            match self.entry(pclntab, table, memory, &func, 0) {
                Ok(Some(_)) => seen += 1,
                Ok(None) | Err(_) => return false,
            }
            if seen >= TRIED_TREES {
                return true;
            }
        }
        seen > 0
    }

    /// The inlined call that `pc` belongs to; `None` when it belongs to the function itself.
    pub(super) fn call(
        self,
        pclntab: &Pclntab,
        table: &dyn ReadAt,
        memory: &dyn ReadAt,
        func: &Func,
        pc: u64,
    ) -> Result<Option<Call>, Flaw> {
        if func.tree(pclntab).is_none() {
            return Ok(None);
        }
        match pclntab.value(table, func, func.inline_values, pc)?.map(u64::try_from) {
            Some(Ok(index)) => self.entry(pclntab, table, memory, func, index),
            Some(Err(_)) | None => Ok(None),
        }
    }

    /// An entry of a function's tree; `None` when it makes no sense: names stand one behind the other, each
    /// ending in NUL, and a call lies in its function.
    fn entry(
        self,
        pclntab: &Pclntab,
        table: &dyn ReadAt,
        memory: &dyn ReadAt,
        func: &Func,
        index: u64,
    ) -> Result<Option<Call>, Flaw> {
        let Some(tree) = func.tree(pclntab) else { return Ok(None) };
        let (entry_bytes, name_at, parent_at) = match pclntab.header.version {
            Version::Go120 => (16, 4, 8),
            Version::Go12 | Version::Go116 | Version::Go118 => (20, 12, 16),
        };
        let entry = index.checked_mul(entry_bytes).and_then(|at| tree.checked_add(at));
        let at = entry.and_then(|at| self.0.checked_add(at)).ok_or(Flaw::Absurd("an inlining tree"))?;
        let name = number::<4>(memory, at.saturating_add(name_at))?;
        let parent = number::<4>(memory, at.saturating_add(parent_at))?;
        let tables = pclntab.header.tables;
        let names_bytes = tables.units.saturating_sub(tables.names);
        // The first name is that of no function that could be called. Zeros are what wrong places are full of.
        if name == 0 || name >= names_bytes || parent >= func.end - func.entry {
            return Ok(None);
        }
        let starts_name = number::<1>(table, tables.names.saturating_add(name - 1))? == 0;
        Ok(starts_name.then_some(Call { name, parent }))
    }
}

impl Func {
    /// Where its tree stands, from the base; `None` when nothing is inlined in it.
    fn tree(&self, pclntab: &Pclntab) -> Option<u64> {
        let none = match pclntab.header.version {
            Version::Go12 | Version::Go116 => 0,
            Version::Go118 | Version::Go120 => u64::from(u32::MAX),
        };
        self.inline_tree.filter(|tree| *tree != none && self.end > self.entry)
    }
}
