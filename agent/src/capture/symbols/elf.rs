//! What an ELF file says about itself. In: any bytes. Out: its segments, sections and build id, or the [`Flaw`].
//!
//! Only headers and notes are read here; tables are read by those who need them, each within its own bounds.

use super::bytes::{Flaw, Part, ReadAt};
use object::LittleEndian;
use object::elf::{self, FileHeader32, FileHeader64};
use object::read::elf::{FileHeader, ProgramHeader as _, SectionHeader as _};
use object::read::{ReadCache, ReadCacheOps, ReadRef};
use std::cell::Cell;
use std::fmt::Write;
use std::ops::Range;

/// Read at most for headers, section names and notes. The largest true ones, of programs with a section per
/// function, take some hundred KiB.
const HEADER_BYTES_MAX: u64 = 4 << 20;
/// Longest build id believed in; real ones have 16 to 32 bytes.
const BUILD_ID_BYTES_MAX: usize = 64;
/// Longest section name compared; those looked for are shorter.
const SECTION_NAME_BYTES_MAX: usize = 64;
/// Type of the note in which Go's linker leaves its build id (cmd/internal/buildid).
const NT_GO_BUILD_ID: u32 = 4;

/// An ELF file's shape.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Elf {
    /// What the loader maps.
    pub segments: Vec<Segment>,
    /// Sections that have bytes in the file; none at all when the headers were stripped.
    pub sections: Vec<Section>,
    /// Build id in hexadecimal (GNU), or as Go writes it; empty when there is none.
    pub build_id: String,
    /// Bytes of a pointer: 4 or 8.
    pub pointer_bytes: u8,
    /// It runs at the addresses it is linked at (`ET_EXEC`), wherever it is loaded.
    pub fixed: bool,
}

/// A `PT_LOAD` program header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where it is linked to be.
    pub vaddr: u64,
    /// Where it begins in the file.
    pub offset: u64,
    /// Bytes in the file.
    pub file_bytes: u64,
    /// Code.
    pub executable: bool,
    /// Data that changes.
    pub writable: bool,
}

/// A section header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Its name; empty when it is too long to be one we look for.
    pub name: String,
    /// `SHT_*`.
    pub kind: u32,
    /// `SHF_*`.
    pub flags: u64,
    /// Where it is linked to be; 0 when it is not loaded.
    pub vaddr: u64,
    /// Its bytes in the file.
    pub file: Range<u64>,
    /// Number of the section this one refers to, as an index into all section headers.
    pub link: u32,
    /// Its own number.
    pub index: u32,
}

impl Elf {
    /// Reads the headers.
    ///
    /// # Errors
    /// [`Flaw::Not`] when it is no ELF file of a little-endian machine; else what is wrong with it.
    pub fn read(file: &dyn ReadAt) -> Result<Elf, Flaw> {
        let mut ident = [0; size_of::<elf::Ident>()];
        let whole = file.read_at(0, &mut ident).is_ok();
        let [m0, m1, m2, m3, class, data, ..] = ident;
        if !whole || [m0, m1, m2, m3] != elf::ELFMAG || data != elf::ELFDATA2LSB {
            return Err(Flaw::Not("ELF file"));
        }
        let cache = ReadCache::new(Cursor { file, at: 0 });
        let left = Cell::new(HEADER_BYTES_MAX);
        let from = Bounded { cache: &cache, left: &left };
        match class {
            elf::ELFCLASS64 => headers::<FileHeader64<LittleEndian>>(from, 8),
            elf::ELFCLASS32 => headers::<FileHeader32<LittleEndian>>(from, 4),
            _ => Err(Flaw::Not("ELF file")),
        }
    }

    /// The address that a byte of the file is linked to be at. Code is preferred where segments share a page.
    pub fn vaddr_of(&self, offset: u64) -> Option<u64> {
        let holds =
            |segment: &&Segment| offset.checked_sub(segment.offset).is_some_and(|at| at < segment.file_bytes);
        let found = self.segments.iter().filter(holds).max_by_key(|segment| segment.executable)?;
        found.vaddr.checked_add(offset - found.offset)
    }

    /// The section of this name.
    pub fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.name == name)
    }

    /// The section with this number.
    pub fn section_at(&self, index: u32) -> Option<&Section> {
        self.sections.iter().find(|section| section.index == index)
    }

    /// Memory it takes.
    pub fn held_bytes(&self) -> usize {
        let sections = self.sections.iter().map(|section| size_of::<Section>() + section.name.len());
        sections.sum::<usize>() + self.segments.len() * size_of::<Segment>()
    }

    /// The file's bytes by the address they are linked to be at.
    pub fn memory<'a>(&'a self, file: &'a dyn ReadAt) -> Memory<'a> {
        Memory { elf: self, file }
    }
}

impl Section {
    /// The section's bytes.
    pub fn part<'a>(&self, file: &'a dyn ReadAt) -> Part<'a> {
        Part::new(file, self.file.clone())
    }
}

/// A file's bytes by address; what no segment holds is not there.
#[derive(Clone, Copy)]
pub struct Memory<'a> {
    elf: &'a Elf,
    file: &'a dyn ReadAt,
}

impl ReadAt for Memory<'_> {
    fn read_at(&self, vaddr: u64, buf: &mut [u8]) -> Result<(), Flaw> {
        let holds = |segment: &&Segment| {
            let at = vaddr.checked_sub(segment.vaddr);
            at.and_then(|at| at.checked_add(buf.len() as u64)).is_some_and(|end| end <= segment.file_bytes)
        };
        let segment = self.elf.segments.iter().find(holds).ok_or(Flaw::Short)?;
        let offset = segment.offset.checked_add(vaddr - segment.vaddr).ok_or(Flaw::Short)?;
        self.file.read_at(offset, buf)
    }

    fn size_bytes(&self) -> u64 {
        u64::MAX
    }
}

fn headers<E: FileHeader<Endian = LittleEndian>>(data: Bounded<'_>, pointer_bytes: u8) -> Result<Elf, Flaw> {
    const BAD: Flaw = Flaw::Absurd("its headers");
    let header = E::parse(data).map_err(|_| Flaw::Not("ELF file"))?;
    let fixed = header.e_type(LittleEndian) == elf::ET_EXEC;
    let mut elf = Elf { pointer_bytes, fixed, ..Elf::default() };
    let programs = header.program_headers(LittleEndian, data).map_err(|_| BAD)?;
    for program in programs.iter().filter(|program| program.p_type(LittleEndian) == elf::PT_LOAD) {
        let flags = program.p_flags(LittleEndian);
        elf.segments.push(Segment {
            vaddr: program.p_vaddr(LittleEndian).into(),
            offset: program.p_offset(LittleEndian).into(),
            file_bytes: program.p_filesz(LittleEndian).into(),
            executable: flags & elf::PF_X != 0,
            writable: flags & elf::PF_W != 0,
        });
    }
    // A program that runs needs no sections, so damaged ones are none.
    if let Ok(sections) = header.sections(LittleEndian, data) {
        for (index, section) in sections.enumerate() {
            if let Some((offset, size)) = section.file_range(LittleEndian) {
                let name = sections.section_name(LittleEndian, section).unwrap_or_default();
                let name = if name.len() > SECTION_NAME_BYTES_MAX { b"" } else { name };
                elf.sections.push(Section {
                    name: String::from_utf8_lossy(name).into_owned(),
                    kind: section.sh_type(LittleEndian),
                    flags: section.sh_flags(LittleEndian).into(),
                    vaddr: section.sh_addr(LittleEndian).into(),
                    file: offset..offset.checked_add(size).ok_or(BAD)?,
                    link: section.sh_link(LittleEndian),
                    index: index.0 as u32,
                });
            }
            if let Ok(Some(notes)) = section.notes(LittleEndian, data) {
                note_build_id::<E>(notes, &mut elf.build_id);
            }
        }
    }
    for program in programs {
        if elf.build_id.is_empty()
            && let Ok(Some(notes)) = program.notes(LittleEndian, data)
        {
            note_build_id::<E>(notes, &mut elf.build_id);
        }
    }
    Ok(elf)
}

/// Takes the build id from notes. The GNU id, which debug files are found by, goes before Go's own.
fn note_build_id<E: FileHeader>(notes: object::read::elf::NoteIterator<'_, E>, id: &mut String)
where
    E::Endian: Default,
{
    let endian = E::Endian::default();
    for note in notes.flatten().filter(|note| !note.desc().is_empty()) {
        match (note.name(), note.n_type(endian)) {
            (elf::ELF_NOTE_GNU, elf::NT_GNU_BUILD_ID) if note.desc().len() <= BUILD_ID_BYTES_MAX => {
                id.clear();
                note.desc().iter().for_each(|byte| {
                    let _ = write!(id, "{byte:02x}");
                });
                return;
            }
            (b"Go", NT_GO_BUILD_ID) if id.is_empty() => {
                *id = crate::enrich::text::safe(note.desc(), 2 * BUILD_ID_BYTES_MAX).into_owned();
            }
            _ => {}
        }
    }
}

/// A file as `object` reads streams.
struct Cursor<'a> {
    file: &'a dyn ReadAt,
    at: u64,
}

impl ReadCacheOps for Cursor<'_> {
    fn len(&mut self) -> Result<u64, ()> {
        Ok(self.file.size_bytes())
    }

    fn seek(&mut self, at: u64) -> Result<u64, ()> {
        self.at = at;
        Ok(at)
    }

    fn read(&mut self, buf: &mut [u8]) -> Result<usize, ()> {
        let there = self.file.size_bytes().saturating_sub(self.at);
        let len = buf.len().min(usize::try_from(there).unwrap_or(usize::MAX));
        self.read_exact(&mut buf[..len])?;
        Ok(len)
    }

    fn read_exact(&mut self, buf: &mut [u8]) -> Result<(), ()> {
        self.file.read_at(self.at, buf).map_err(|_| ())?;
        self.at += buf.len() as u64;
        Ok(())
    }
}

/// `object`'s cache, which believes every length, behind a bound on what it may hold in all.
#[derive(Clone, Copy)]
struct Bounded<'a> {
    cache: &'a ReadCache<Cursor<'a>>,
    left: &'a Cell<u64>,
}

impl<'a> Bounded<'a> {
    fn spend(self, bytes: u64) -> Result<(), ()> {
        self.left.set(self.left.get().checked_sub(bytes).ok_or(())?);
        Ok(())
    }
}

impl<'a> ReadRef<'a> for Bounded<'a> {
    fn len(self) -> Result<u64, ()> {
        self.cache.len()
    }

    fn read_bytes_at(self, offset: u64, size: u64) -> Result<&'a [u8], ()> {
        self.spend(size)?;
        self.cache.read_bytes_at(offset, size)
    }

    fn read_bytes_at_until(self, range: Range<u64>, delimiter: u8) -> Result<&'a [u8], ()> {
        let text = self.cache.read_bytes_at_until(range, delimiter)?;
        self.spend(text.len() as u64)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::symbols::bytes::{bytes, number};
    use crate::capture::symbols::samples::{DEBUG, OUTER, SMALL, STRIPPED};

    #[test]
    fn segments_sections_and_build_id() {
        for file in [SMALL, STRIPPED, DEBUG] {
            assert_eq!(Elf::read(&file).unwrap().build_id, "5107f0d0");
        }
        let elf = Elf::read(&SMALL).unwrap();
        let text = elf.section(".text").unwrap();
        assert_eq!(elf.vaddr_of(text.file.start), Some(text.vaddr));
        assert_eq!(text.vaddr, OUTER);
        assert_eq!(elf.section_at(text.index), Some(text));
        assert_eq!(elf.vaddr_of(u64::MAX), None);
        let code = bytes(&text.part(&SMALL), 0, 8, 8).unwrap();
        assert_eq!(number::<8>(&elf.memory(&SMALL), OUTER), number::<8>(&code, 0));
        assert_eq!(number::<8>(&elf.memory(&SMALL), u64::MAX), Err(Flaw::Short));
        assert!(!Elf::read(&DEBUG).unwrap().sections.iter().any(|section| section.name == ".text"));
    }

    #[test]
    fn what_is_no_elf_file_of_ours_says_so() {
        let not = Err(Flaw::Not("ELF file"));
        assert_eq!(Elf::read(&Vec::new()), not);
        assert_eq!(Elf::read(&b"#!/bin/sh\n".to_vec()), not);
        for (at, byte) in [(0, 0), (4, 3), (5, 2)] {
            let mut file = SMALL.to_vec();
            file[at] = byte;
            assert_eq!(Elf::read(&file), not, "byte {at}");
        }
    }

    #[test]
    fn without_section_headers_it_is_still_a_program() {
        let mut file = SMALL.to_vec();
        file[0x28..0x30].fill(0);
        file[0x3c..0x40].fill(0);
        let elf = Elf::read(&file).unwrap();
        assert!(elf.sections.is_empty() && !elf.segments.is_empty());
        assert_eq!(elf.build_id, "5107f0d0", "from the notes of the program headers");
    }

    #[test]
    fn headers_that_ask_for_more_than_there_can_be_are_refused() {
        // A sparse file may be as long as it likes; the headers are not read without end.
        struct Sparse;
        impl ReadAt for Sparse {
            fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), Flaw> {
                buf.fill(0);
                let head = &SMALL[..64];
                for (at, byte) in buf.iter_mut().enumerate() {
                    *byte = head.get(offset as usize + at).copied().unwrap_or(0);
                    // 0xfffe program headers, and as many sections as a field of section 0 says.
                    *byte = if matches!(offset as usize + at, 0x38 | 0x39) { 0xfe } else { *byte };
                }
                Ok(())
            }

            fn size_bytes(&self) -> u64 {
                1 << 50
            }
        }
        let begun = std::time::Instant::now();
        let _ = Elf::read(&Sparse);
        assert!(begun.elapsed().as_secs() < 5);
    }
}
