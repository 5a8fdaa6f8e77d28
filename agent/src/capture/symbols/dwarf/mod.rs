//! Lines and inlined functions from DWARF. In: an ELF file's `.debug_*` sections. Out: functions by address.
//!
//! `gimli` reads the format; the usual layer above it (`addr2line`) is not used, because it keeps what it parsed,
//! recurses as deep as functions are nested, and follows the same list of ranges as often as it is referred to: a
//! file made for it takes all memory or the stack. Here one pass notes where functions and units begin, and each lookup
//! walks one function and one line program, without keeping anything and within counted steps.
//!
//! Not read: split DWARF (`.dwo`), `.gnu_debugaltlink` (names that `dwz` moved to another file are missing then, and
//! the symbol table names the function), sections compressed by zstd.

mod lookup;
pub(super) mod sections;

use super::bytes::{Flaw, ReadAt};
use super::elf::Elf;
use gimli::{
    AttributeValue, DebugInfoOffset, DwarfSections, EndianSlice, EntriesRaw, LittleEndian, UnitHeader,
    UnitOffset,
};
use std::time::{Duration, Instant};

/// Stretches of code noted at most, of functions and of units each; 24 bytes each.
const STRETCHES_MAX: usize = 200_000;
/// Units noted at most.
const UNITS_MAX: usize = 32_768;
/// Time for noting where code is; a program at the bounds takes a third of it.
const INDEX_TIME_MAX: Duration = Duration::from_secs(1);

type Slice<'a> = EndianSlice<'a, LittleEndian>;
type Dwarf<'a> = gimli::Dwarf<Slice<'a>>;
type Unit<'a> = gimli::Unit<Slice<'a>>;

/// A file's debug information.
#[derive(Debug)]
pub struct Debug {
    sections: DwarfSections<Vec<u8>>,
    sections_bytes: usize,
    /// Where each unit begins in `.debug_info`.
    units: Vec<usize>,
    /// By where they begin. A function can have several.
    functions: Vec<Stretch>,
    /// Of units: functions without anything inlined into them may have no entry (`-gline-tables-only`).
    covered: Vec<Stretch>,
    /// There was more than is noted.
    pub cut: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stretch {
    start: u64,
    end: u64,
    /// Index into the units.
    unit: u32,
    /// Where its entry begins in its unit.
    entry: u32,
}

impl Stretch {
    /// The one that holds an address.
    fn find(stretches: &[Stretch], vaddr: u64) -> Option<&Stretch> {
        let after = stretches.partition_point(|stretch| stretch.start <= vaddr);
        stretches[..after].last().filter(|stretch| vaddr < stretch.end)
    }
}

/// A function at an address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DebugFrame {
    /// Its name as the linker knows it, or as the source has it; empty when there is none.
    pub name: Vec<u8>,
    /// Its source file; empty when there is none.
    pub file: Vec<u8>,
    /// The line, of the address or of the call inlined there; 0 when there is none.
    pub line: u32,
}

impl Debug {
    /// Reads the sections and notes the functions; `None` when there is no debug information.
    ///
    /// # Errors
    /// When it is more than is believed in, or damaged beyond use.
    pub fn read(elf: &Elf, file: &dyn ReadAt) -> Result<Option<Debug>, Flaw> {
        let Some((sections, sections_bytes)) = sections::read(elf, file)? else { return Ok(None) };
        let mut debug = Debug {
            sections,
            sections_bytes,
            units: Vec::new(),
            functions: Vec::new(),
            covered: Vec::new(),
            cut: false,
        };
        let mut index = Index::default();
        debug.cut = !index.all(&debug.dwarf(), Instant::now() + INDEX_TIME_MAX);
        for stretches in [&mut index.functions, &mut index.covered] {
            stretches.sort_by_key(|stretch| (stretch.start, stretch.end));
            stretches.shrink_to_fit();
        }
        let Index { units, functions, covered } = index;
        Ok(Some(Debug { units, functions, covered, ..debug }))
    }

    /// Memory it takes.
    pub fn held_bytes(&self) -> usize {
        let stretches = self.functions.capacity() + self.covered.capacity();
        self.sections_bytes + stretches * size_of::<Stretch>() + self.units.len() * size_of::<usize>()
    }

    fn dwarf(&self) -> Dwarf<'_> {
        self.sections.borrow(|section| EndianSlice::new(section, LittleEndian))
    }

    /// A unit, if its tables are of believable size.
    fn unit<'a>(&'a self, dwarf: &Dwarf<'a>, index: u32) -> Option<Unit<'a>> {
        let offset = *self.units.get(index as usize)?;
        let header = dwarf.unit_header(DebugInfoOffset(offset)).ok()?;
        unit(dwarf, header)
    }
}

/// Parses a unit's tables, unless its line program has a header that is larger than any true one.
fn unit<'a>(dwarf: &Dwarf<'a>, header: UnitHeader<Slice<'a>>) -> Option<Unit<'a>> {
    let abbreviations = dwarf.abbreviations(&header).ok()?;
    let mut root = header.entries_raw(&abbreviations, None).ok()?;
    let entry = root.read_abbreviation().ok()??;
    for spec in entry.attributes() {
        let attribute = root.read_attribute(*spec).ok()?;
        if let (gimli::DW_AT_stmt_list, AttributeValue::DebugLineRef(at)) =
            (attribute.name(), attribute.value())
            && !sections::line_header_is_believable(dwarf, at.0)
        {
            return None;
        }
    }
    Unit::new_with_abbreviations(dwarf, header, abbreviations).ok()
}

/// The one pass that notes where code is.
#[derive(Default)]
struct Index {
    units: Vec<usize>,
    functions: Vec<Stretch>,
    covered: Vec<Stretch>,
}

impl Index {
    /// Notes all units; false when there are more than it may, or time is up.
    fn all(&mut self, dwarf: &Dwarf<'_>, until: Instant) -> bool {
        let mut headers = dwarf.units();
        while let Ok(Some(header)) = headers.next() {
            let full = self.functions.len().max(self.covered.len()) >= STRETCHES_MAX;
            if full || self.units.len() >= UNITS_MAX || Instant::now() > until {
                return false;
            }
            let Some(offset) = header.debug_info_offset() else { continue };
            let number = self.units.len() as u32;
            self.units.push(offset.0);
            // A damaged unit has the functions up to the damage.
            if let Some(unit) = unit(dwarf, header) {
                let _ = self.unit(dwarf, &unit, number, until);
            }
        }
        true
    }

    fn unit(&mut self, dwarf: &Dwarf<'_>, unit: &Unit<'_>, number: u32, until: Instant) -> gimli::Result<()> {
        let mut entries = unit.entries_raw(None)?;
        let root = entries.next_offset();
        let mut walked = 0_usize;
        while !entries.is_empty() {
            walked += 1;
            if walked.is_multiple_of(4_096) && Instant::now() > until {
                break;
            }
            let at = entries.next_offset();
            let Some(entry) = entries.read_abbreviation()? else { continue };
            let stretches = match entry.tag() {
                gimli::DW_TAG_subprogram => &mut self.functions,
                _ if at == root => &mut self.covered,
                _ => {
                    entries.skip_attributes(entry.attributes())?;
                    continue;
                }
            };
            let extent = Extent::read(dwarf, unit, &mut entries, entry.attributes(), |_| {})?;
            let Ok(entry) = u32::try_from(at.0) else { continue };
            let room = STRETCHES_MAX.saturating_sub(stretches.len());
            extent.each(dwarf, unit, room, |start, end| {
                stretches.push(Stretch { start, end, unit: number, entry });
                false
            })?;
            // One list of ranges is soon read, but every function may refer to it.
            if Instant::now() > until {
                break;
            }
        }
        Ok(())
    }
}

/// The addresses of a function.
#[derive(Default)]
struct Extent<'a> {
    low: Option<u64>,
    high: Option<u64>,
    length: Option<u64>,
    ranges: Option<AttributeValue<Slice<'a>>>,
}

impl<'a> Extent<'a> {
    /// Reads an entry's attributes; those that are none of its addresses go to `other`.
    fn read(
        dwarf: &Dwarf<'a>,
        unit: &Unit<'a>,
        entries: &mut EntriesRaw<'_, Slice<'a>>,
        attributes: &[gimli::AttributeSpecification],
        mut other: impl FnMut(&gimli::Attribute<Slice<'a>>),
    ) -> gimli::Result<Extent<'a>> {
        let mut extent = Extent::default();
        for spec in attributes {
            let attribute = entries.read_attribute(*spec)?;
            match attribute.name() {
                gimli::DW_AT_low_pc => extent.low = dwarf.attr_address(unit, attribute.value())?,
                gimli::DW_AT_high_pc => match attribute.udata_value() {
                    Some(length) => extent.length = Some(length),
                    None => extent.high = dwarf.attr_address(unit, attribute.value())?,
                },
                gimli::DW_AT_ranges => extent.ranges = Some(attribute.value()),
                _ => other(&attribute),
            }
        }
        Ok(extent)
    }

    /// Hands over at most `max` ranges of addresses, until it is told that this was enough.
    fn each(
        &self,
        dwarf: &Dwarf<'a>,
        unit: &Unit<'a>,
        max: usize,
        mut enough: impl FnMut(u64, u64) -> bool,
    ) -> gimli::Result<()> {
        // Functions that the linker left out are put to 0, or to the end of all addresses.
        let mut real = |start: u64, end: u64| start != 0 && start < end && enough(start, end);
        if let Some(ranges) = &self.ranges {
            let Some(mut ranges) = dwarf.attr_ranges(unit, *ranges)? else { return Ok(()) };
            for _ in 0..max {
                match ranges.next()? {
                    Some(range) if !real(range.begin, range.end) => {}
                    Some(_) | None => break,
                }
            }
        } else if let Some(low) = self.low {
            let high = self.high.or_else(|| low.checked_add(self.length?));
            let _ = max > 0 && high.is_some_and(|high| real(low, high));
        }
        Ok(())
    }

    /// Whether an address is inside.
    fn holds(&self, dwarf: &Dwarf<'a>, unit: &Unit<'a>, vaddr: u64, max: usize) -> gimli::Result<bool> {
        let mut found = false;
        self.each(dwarf, unit, max, |start, end| {
            found |= (start..end).contains(&vaddr);
            found
        })?;
        Ok(found)
    }
}

/// An entry's place in its unit.
fn unit_offset(entry: u32) -> UnitOffset<usize> {
    UnitOffset(entry as usize)
}

#[cfg(test)]
mod tests;
