//! The `.debug_*` sections in memory. In: an ELF file. Out: the bytes, decompressed, within bounds.

use super::Dwarf;
use crate::capture::symbols::bytes::{Flaw, ReadAt, bytes, number};
use crate::capture::symbols::elf::{Elf, Section};
use gimli::{DwarfSections, Section as _, SectionId};
use object::elf::{ELFCOMPRESS_ZLIB, SHF_COMPRESSED};

/// Held at most of one file's sections. A program with more is named from its symbol table, without lines: the agent's
/// memory is worth more.
pub(in crate::capture::symbols) const SECTIONS_BYTES_MAX: usize = 8 << 20;
/// Largest `.debug_abbrev`: parsed, it takes thirty times as much for a moment.
const ABBREV_BYTES_MAX: usize = 1 << 20;
/// Largest header of a line program: the list of its files, which parsed takes a hundred times as much.
const LINE_HEADER_BYTES_MAX: u64 = 256 << 10;
/// The sections that lookups need.
const WANTED: [SectionId; 9] = [
    SectionId::DebugAbbrev,
    SectionId::DebugAddr,
    SectionId::DebugInfo,
    SectionId::DebugLine,
    SectionId::DebugLineStr,
    SectionId::DebugStr,
    SectionId::DebugStrOffsets,
    SectionId::DebugRanges,
    SectionId::DebugRngLists,
];

/// Sections as read, and their size in memory.
pub(super) type Read = (DwarfSections<Vec<u8>>, usize);

/// The sections; `None` when there is no debug information.
pub(super) fn read(elf: &Elf, file: &dyn ReadAt) -> Result<Option<Read>, Flaw> {
    if elf.section(SectionId::DebugInfo.name()).is_none()
        || elf.section(SectionId::DebugAbbrev.name()).is_none()
    {
        return Ok(None);
    }
    let mut left = SECTIONS_BYTES_MAX;
    let sections = DwarfSections::load(|id| {
        let Some(section) = elf.section(id.name()).filter(|_| WANTED.contains(&id)) else {
            return Ok(Vec::new());
        };
        let max = if id == SectionId::DebugAbbrev { ABBREV_BYTES_MAX } else { left };
        let bytes = contents(section, file, elf.pointer_bytes, max)?;
        left = left.saturating_sub(bytes.len());
        Ok(bytes)
    })?;
    Ok(Some((sections, SECTIONS_BYTES_MAX - left)))
}

/// A section's bytes, decompressed where they are compressed. Layout: elf(5), `Elf64_Chdr` and `Elf32_Chdr`.
fn contents(section: &Section, file: &dyn ReadAt, pointer_bytes: u8, max: usize) -> Result<Vec<u8>, Flaw> {
    let too_many = Flaw::TooMany("bytes of debug information");
    let raw = bytes(&section.part(file), 0, section.part(file).size_bytes(), max).map_err(|_| too_many)?;
    if section.flags & u64::from(SHF_COMPRESSED) == 0 {
        return Ok(raw);
    }
    let (size_at, header) = if pointer_bytes == 8 { (8, 24) } else { (4, 12) };
    let size = if pointer_bytes == 8 { number::<8>(&raw, size_at)? } else { number::<4>(&raw, size_at)? };
    if number::<4>(&raw, 0)? != u64::from(ELFCOMPRESS_ZLIB) {
        return Err(Flaw::Not("section compressed by zlib"));
    }
    let max = usize::try_from(size).ok().filter(|size| *size <= max).ok_or(too_many)?;
    let packed = raw.get(header..).ok_or(Flaw::Short)?;
    miniz_oxide::inflate::decompress_to_vec_zlib_with_limit(packed, max)
        .map_err(|_| Flaw::Absurd("a compressed section"))
}

/// Whether the header of a line program is no larger than a true one. Layout: DWARF 5, 6.2.4.
pub(super) fn line_header_is_believable(dwarf: &Dwarf<'_>, offset: usize) -> bool {
    let section = dwarf.debug_line.reader().slice();
    let length = |at: usize, wide: bool| {
        let at = (offset + at) as u64;
        if wide { number::<8>(&section, at) } else { number::<4>(&section, at) }
    };
    let measure = || -> Result<u64, Flaw> {
        let wide = length(0, false)? == 0xffff_ffff;
        let version_at = if wide { 12 } else { 4 };
        let version = number::<2>(&section, (offset + version_at) as u64)?;
        // Version 5 tells the sizes of addresses in between.
        length(version_at + if version >= 5 { 4 } else { 2 }, wide)
    };
    measure().is_ok_and(|header_bytes| header_bytes <= LINE_HEADER_BYTES_MAX)
}
