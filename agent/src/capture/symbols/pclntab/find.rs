//! Where a program keeps its Go tables. In: an ELF file. Out: the line table's place, and what module data says.
//!
//! The table has a section of its own, unless a C linker merged it into another or section headers were stripped;
//! then its header is looked for in the data. Module data is the runtime's directory of the program (`runtime.firstmoduledata`): it begins
//! with pointers to the table's header and to its names, by which it is found in the writable data without any
//! symbol. In a position-independent program these pointers are filled in by the loader; relocations tell them.

use super::{Header, InlineBase, Pclntab, Version};
use crate::capture::symbols::bytes::{Flaw, Part, ReadAt, bytes, number};
use crate::capture::symbols::elf::{Elf, Segment};
use object::elf::{R_AARCH64_RELATIVE, R_X86_64_RELATIVE, SHT_RELA};
use std::ops::Range;

/// Names of the table's section: plain, and position-independent.
const SECTIONS: [&str; 2] = [".gopclntab", ".data.rel.ro.gopclntab"];
/// Sections that say a program is Go's.
const MARKS: [&str; 2] = [".go.buildinfo", ".note.go.buildid"];
/// Searched at most for a table without a section, or for module data.
const SEARCH_BYTES_MAX: u64 = 128 << 20;
/// Read at a time in a search.
const CHUNK_BYTES: usize = 256 << 10;
/// Relocations read at most: a position-independent kubelet has about a million.
const RELOCATIONS_MAX: u64 = 4 << 20;
/// Bytes of a relocation with addend, of 64-bit programs.
const RELA_BYTES: usize = 24;
/// Words of module data read: as far as the base of inlining stands in any release, and some more.
const MODULE_WORDS: usize = 56;
/// The word that says where the text starts (`moduledata.text`): in its place since Go 1.16.
const TEXT_WORD: usize = 22;
/// The words among which the base of inlining stands (`moduledata.gofunc`): 38 in Go 1.18, 40 in 1.20, 43 in 1.27.
const INLINE_WORDS: Range<usize> = 36..50;

/// A program's Go tables.
#[derive(Clone, Debug)]
pub struct GoTables {
    /// Its line table.
    pub pclntab: Pclntab,
    /// The table's bytes in the file.
    pub file: Range<u64>,
}

impl GoTables {
    /// Finds and reads the tables; `None` when the program is not Go's.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn read(elf: &Elf, file: &dyn ReadAt) -> Result<Option<GoTables>, Flaw> {
        let Some((range, vaddr)) = locate(elf, file)? else { return Ok(None) };
        let table = Part::new(file, range.clone());
        let header = Header::read(&table)?;
        let words = if header.version >= Version::Go116 {
            module_data(elf, file, vaddr, header.names_offset())
        } else {
            Vec::new()
        };
        let text_start = match header.version {
            Version::Go12 | Version::Go116 => 0,
            Version::Go118 | Version::Go120 => words.get(TEXT_WORD).copied().unwrap_or(0),
        };
        let mut pclntab = Pclntab::read(&table, text_start)?;
        if header.version >= Version::Go118 && pclntab.text_start == 0 {
            // Neither knows: the text section, which is right unless C code was linked in.
            let text = elf.section(".text").ok_or(Flaw::Absurd("a Go program without text"))?;
            pclntab.text_start = text.vaddr;
        }
        let base_words = words.get(INLINE_WORDS).unwrap_or_default();
        let base = InlineBase::find(&pclntab, &table, &elf.memory(file), base_words);
        pclntab.set_inline(base);
        Ok(Some(GoTables { pclntab, file: range }))
    }
}

/// The table's bytes in the file and its address.
fn locate(elf: &Elf, file: &dyn ReadAt) -> Result<Option<(Range<u64>, u64)>, Flaw> {
    if let Some(section) = SECTIONS.iter().find_map(|name| elf.section(name)) {
        return Ok(Some((section.file.clone(), section.vaddr)));
    }
    let is_go = MARKS.iter().any(|name| elf.section(name).is_some());
    if !is_go && !elf.sections.is_empty() {
        return Ok(None);
    }
    let mut left = SEARCH_BYTES_MAX;
    for segment in elf.segments.iter().filter(|segment| !segment.executable) {
        let found = search(file, segment, &mut left, |at, bytes| {
            let magic = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            Version::of_magic(magic).is_some()
                && Header::read(&Part::new(file, at..u64::MAX)).is_ok()
                && Pclntab::read(&Part::new(file, at..u64::MAX), 0).is_ok()
        })?;
        if let Some(at) = found {
            let end = segment.offset.saturating_add(segment.file_bytes);
            return Ok(Some((at..end, segment.vaddr + (at - segment.offset))));
        }
    }
    Ok(None)
}

/// Offset in the file of the first place in a segment, at a multiple of 8, of which `is_it` says yes when shown
/// 16 bytes there.
fn search(
    file: &dyn ReadAt,
    segment: &Segment,
    left: &mut u64,
    mut is_it: impl FnMut(u64, &[u8]) -> bool,
) -> Result<Option<u64>, Flaw> {
    const STEP: usize = 8;
    const SHOWN: usize = 16;
    let end = segment.offset.saturating_add(segment.file_bytes.min(*left)).min(file.size_bytes());
    let mut at = segment.offset.next_multiple_of(STEP as u64);
    while at.saturating_add(SHOWN as u64) <= end {
        let len = (end - at).min(CHUNK_BYTES as u64);
        let chunk = bytes(file, at, len, CHUNK_BYTES)?;
        *left = left.saturating_sub(len);
        for start in (0..=chunk.len() - SHOWN).step_by(STEP) {
            if is_it(at + start as u64, &chunk[start..start + SHOWN]) {
                return Ok(Some(at + start as u64));
            }
        }
        // The last place that was not shown whole is shown first next time.
        at += ((chunk.len() - SHOWN) / STEP * STEP + STEP) as u64;
    }
    Ok(None)
}

/// The first words of module data; empty when it is not found. Pointers in 64-bit programs only: there is no
/// 32-bit machine among slowpod's.
fn module_data(elf: &Elf, file: &dyn ReadAt, table: u64, names_offset: u64) -> Vec<u64> {
    if elf.pointer_bytes != 8 || table == 0 {
        return Vec::new();
    }
    let names = table.wrapping_add(names_offset);
    let mut left = SEARCH_BYTES_MAX;
    for segment in elf.segments.iter().filter(|segment| segment.writable) {
        let begins =
            |_: u64, bytes: &[u8]| bytes[..8] == table.to_le_bytes() && bytes[8..] == names.to_le_bytes();
        if let Ok(Some(at)) = search(file, segment, &mut left, begins) {
            let word = |index: usize| number::<8>(file, at + index as u64 * 8).unwrap_or(0);
            return (0..MODULE_WORDS).map(word).collect();
        }
    }
    relocated_module_data(elf, file, table, names).unwrap_or_default()
}

/// The same of a position-independent program.
fn relocated_module_data(elf: &Elf, file: &dyn ReadAt, table: u64, names: u64) -> Result<Vec<u64>, Flaw> {
    let mut begins = None;
    each_pointer(elf, file, |place, target| {
        // Two pointers beside each other; relocations are sorted by where they apply.
        match begins {
            Some((start, false)) if target == names && place == start + 8 => begins = Some((start, true)),
            Some((_, true)) => {}
            _ if target == table => begins = Some((place, false)),
            _ => {}
        }
    })?;
    let Some((start, true)) = begins else { return Ok(Vec::new()) };
    // Plain numbers stand in the file, pointers in the relocations.
    let memory = elf.memory(file);
    let word = |index: usize| number::<8>(&memory, start + index as u64 * 8).unwrap_or(0);
    let mut words: Vec<u64> = (0..MODULE_WORDS).map(word).collect();
    each_pointer(elf, file, |place, target| {
        let index = place.checked_sub(start).filter(|at| at % 8 == 0).map(|at| (at / 8) as usize);
        if let Some(word) = index.and_then(|index| words.get_mut(index)) {
            *word = target;
        }
    })?;
    Ok(words)
}

/// Hands over where the loader will put a pointer, and to what.
fn each_pointer(elf: &Elf, file: &dyn ReadAt, mut each: impl FnMut(u64, u64)) -> Result<(), Flaw> {
    let mut left = RELOCATIONS_MAX;
    for section in elf.sections.iter().filter(|section| section.kind == SHT_RELA) {
        let part = section.part(file);
        let count = (part.size_bytes() / RELA_BYTES as u64).min(left);
        left -= count;
        let mut done = 0;
        while done < count {
            let here = (count - done).min((CHUNK_BYTES / RELA_BYTES) as u64);
            let chunk = bytes(&part, done * RELA_BYTES as u64, here * RELA_BYTES as u64, CHUNK_BYTES)?;
            done += here;
            for entry in chunk.chunks_exact(RELA_BYTES) {
                let entry = &entry;
                let kind = number::<4>(entry, 8)? as u32;
                if kind == R_X86_64_RELATIVE || kind == R_AARCH64_RELATIVE {
                    each(number::<8>(entry, 0)?, number::<8>(entry, 16)?);
                }
            }
        }
    }
    Ok(())
}
