//! One address looked up: its function, the calls inlined there, and their lines.

use super::{Debug, DebugFrame, Dwarf, Extent, Slice, Stretch, Unit, unit_offset};
use gimli::{AttributeValue, UnitOffset};

/// Entries of a function walked at most; the largest true ones have some ten thousand.
const ENTRIES_MAX: usize = 500_000;
/// Inlined calls followed; C++ templates nest some twenty deep.
const INLINE_DEPTH_MAX: usize = 64;
/// Ranges of one inlined call looked at.
const RANGES_MAX: usize = 1_000;
/// References followed from an entry to the one that has its name.
const ORIGINS_MAX: usize = 8;
/// Rows of a line program run through; the largest units have a million, which take 20 ms.
const ROWS_MAX: usize = 2_000_000;
/// Longest name or path taken.
const TEXT_BYTES_MAX: usize = 2 << 10;

/// A call that was inlined.
struct Call {
    name: Vec<u8>,
    file: u64,
    line: u32,
}

impl Debug {
    /// The functions at an address, the innermost inlined one first; empty when there is none.
    pub fn find(&self, vaddr: u64) -> Vec<DebugFrame> {
        let function = Stretch::find(&self.functions, vaddr);
        let Some(place) = function.or_else(|| Stretch::find(&self.covered, vaddr)) else { return Vec::new() };
        let dwarf = self.dwarf();
        let Some(unit) = self.unit(&dwarf, place.unit) else { return Vec::new() };
        let lookup = Lookup { debug: self, dwarf: &dwarf, unit: &unit, vaddr };
        // Outermost first, up to where the walk failed.
        let mut calls = Vec::new();
        let mut name = Vec::new();
        if let Some(function) = function {
            name = lookup.name(unit_offset(function.entry)).unwrap_or_default();
            let _ = lookup.calls(unit_offset(function.entry), &mut calls);
        }

        let (mut file, mut line) = lookup.line().unwrap_or_default();
        let mut frames = Vec::new();
        for call in calls.into_iter().rev() {
            frames.push(DebugFrame { name: call.name, file, line });
            (file, line) = (lookup.file(call.file), call.line);
        }
        frames.push(DebugFrame { name, file, line });
        frames
    }
}

struct Lookup<'a, 'd> {
    debug: &'a Debug,
    dwarf: &'d Dwarf<'a>,
    unit: &'d Unit<'a>,
    vaddr: u64,
}

impl<'a> Lookup<'a, '_> {
    /// The calls inlined at the address into the function whose entry is at `at`, each inside the one before.
    fn calls(&self, at: UnitOffset<usize>, calls: &mut Vec<Call>) -> gimli::Result<()> {
        let mut entries = self.unit.entries_raw(Some(at))?;
        let mut inside = 0;
        for walked in 0..ENTRIES_MAX {
            let depth = entries.next_depth();
            if walked > 0 && depth <= 0 {
                break;
            }
            let at = entries.next_offset();
            let Some(entry) = entries.read_abbreviation()? else { continue };
            if entry.tag() != gimli::DW_TAG_inlined_subroutine || depth <= inside {
                entries.skip_attributes(entry.attributes())?;
                continue;
            }
            let mut call = Call { name: Vec::new(), file: 0, line: 0 };
            let attributes = entry.attributes();
            let extent = Extent::read(self.dwarf, self.unit, &mut entries, attributes, |attribute| {
                match (attribute.name(), attribute.value()) {
                    (gimli::DW_AT_call_file, AttributeValue::FileIndex(file)) => call.file = file,
                    (gimli::DW_AT_call_line, _) => {
                        call.line =
                            attribute.udata_value().and_then(|line| u32::try_from(line).ok()).unwrap_or(0);
                    }
                    _ => {}
                }
            })?;
            if extent.holds(self.dwarf, self.unit, self.vaddr, RANGES_MAX)? {
                call.name = self.name(at).unwrap_or_default();
                calls.push(call);
                inside = depth;
                if calls.len() >= INLINE_DEPTH_MAX {
                    break;
                }
            }
        }
        Ok(())
    }

    /// The name of an entry, or of the one it refers to.
    fn name(&self, at: UnitOffset<usize>) -> Option<Vec<u8>> {
        let mut elsewhere: Option<Unit<'a>> = None;
        let mut at = at;
        for _ in 0..ORIGINS_MAX {
            let unit = elsewhere.as_ref().unwrap_or(self.unit);
            let (name, origin) = self.own_name(unit, at)?;
            if let Some(name) = name {
                return Some(name);
            }
            match origin? {
                AttributeValue::UnitRef(offset) => at = offset,
                AttributeValue::DebugInfoRef(offset) => {
                    let units = &self.debug.units;
                    let index = units.partition_point(|start| *start <= offset.0).checked_sub(1)?;
                    at = UnitOffset(offset.0 - units.get(index)?);
                    elsewhere = Some(self.debug.unit(self.dwarf, u32::try_from(index).ok()?)?);
                }
                _ => return None,
            }
        }
        None
    }

    /// An entry's name, the linker's before the source's, and where else to look for one.
    #[expect(clippy::type_complexity, reason = "a pair, taken apart at once")]
    fn own_name(
        &self,
        unit: &Unit<'a>,
        at: UnitOffset<usize>,
    ) -> Option<(Option<Vec<u8>>, Option<AttributeValue<Slice<'a>>>)> {
        let mut entries = unit.entries_raw(Some(at)).ok()?;
        let entry = entries.read_abbreviation().ok()??;
        let (mut linked, mut written, mut origin) = (None, None, None);
        for spec in entry.attributes() {
            let attribute = entries.read_attribute(*spec).ok()?;
            match attribute.name() {
                gimli::DW_AT_linkage_name | gimli::DW_AT_MIPS_linkage_name => {
                    linked = self.text(unit, attribute.value());
                }
                gimli::DW_AT_name => written = self.text(unit, attribute.value()),
                gimli::DW_AT_abstract_origin | gimli::DW_AT_specification => origin = Some(attribute.value()),
                _ => {}
            }
        }
        Some((linked.or(written), origin))
    }

    fn text(&self, unit: &Unit<'a>, value: AttributeValue<Slice<'a>>) -> Option<Vec<u8>> {
        let text = self.dwarf.attr_string(unit, value).ok()?.slice();
        Some(text[..text.len().min(TEXT_BYTES_MAX)].to_vec())
    }

    /// File and line of the address.
    fn line(&self) -> Option<(Vec<u8>, u32)> {
        let mut rows = self.unit.line_program.clone()?.rows();
        let mut before: Option<(u64, u64, u32)> = None;
        for _ in 0..ROWS_MAX {
            let (_, row) = rows.next_row().ok()??;
            // A row holds up to the next one of its sequence.
            if let Some((start, file, line)) = before
                && (start..row.address()).contains(&self.vaddr)
            {
                return Some((self.file(file), line));
            }
            let line = row.line().and_then(|line| u32::try_from(line.get()).ok()).unwrap_or(0);
            before = (!row.end_sequence()).then_some((row.address(), row.file_index(), line));
        }
        None
    }

    /// The path of a file by its number in the unit.
    fn file(&self, number: u64) -> Vec<u8> {
        let Some(header) = self.unit.line_program.as_ref().map(|program| program.header()) else {
            return Vec::new();
        };
        // Before DWARF 5 files count from 1, and 0 means none.
        let Some(file) = header.file(number) else { return Vec::new() };
        let name = self.text(self.unit, file.path_name()).unwrap_or_default();
        if name.starts_with(b"/") {
            return name;
        }
        let folder =
            file.directory(header).and_then(|folder| self.text(self.unit, folder)).unwrap_or_default();
        let base = self.unit.comp_dir.map(|folder| folder.slice()).unwrap_or_default();
        let folder = if folder.starts_with(b"/") { folder } else { join(base, &folder) };
        join(&folder, &name)
    }
}

fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    if folder.is_empty() || name.is_empty() {
        return [folder, name].concat();
    }
    [folder, name].join(&b"/"[..])
}
