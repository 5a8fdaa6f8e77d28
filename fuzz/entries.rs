//! What is done with each kind of file that others wrote. Shared by the fuzz targets and by the unit tests' own damage
//! (`agent/src/capture/symbols/hostile.rs`), so that both try the same. In: bytes. Out: nothing, and no panic.

use super::slowpod::capture::symbols::binary::Binary;
use super::slowpod::capture::symbols::bytes::ReadAt;
use super::slowpod::capture::symbols::elf::Elf;
use super::slowpod::capture::symbols::kernel::Kernel;
use super::slowpod::capture::symbols::maps::Maps;
use super::slowpod::capture::symbols::pclntab::find::GoTables;
use super::slowpod::capture::symbols::pclntab::{InlineBase, Pclntab};
use super::slowpod::capture::symbols::perf_map::PerfMap;
use super::slowpod::capture::symbols::unwind::cfi;
use super::slowpod::fold::{Limits, State, Window};
use slowpod_ebpf::rules::unwind;

/// Where the sample's functions are (`samples.rs`): addresses that a file which is nearly whole has names for.
const PLACES: std::ops::Range<u64> = 0x40_0135..0x40_0195;

/// A program or library: its tables, DWARF, and Go's tables, if it has any.
pub(crate) fn code(file: &Vec<u8>) {
    let Ok(binary) = Binary::read(file) else { return };
    let debug = binary.debug(file).ok().flatten();
    for vaddr in PLACES.step_by(7).chain([0, 1, u64::MAX]) {
        let _ = binary.vaddr_of(vaddr);
        let _ = binary.go_functions(file, vaddr);
        let _ = binary.symbol(file, vaddr);
        if let Some(debug) = &debug {
            let _ = debug.find(vaddr);
        }
    }
}

/// A binary's descriptions of frames, and the table that is made of them.
pub(crate) fn frames(file: &Vec<u8>) {
    let Ok(elf) = Elf::read(file) else { return };
    let Ok(Some(table)) = cfi::table(&elf, file) else { return };
    for pc in (0..0x200).chain([u64::from(u32::MAX), u64::MAX]) {
        let _ = unwind::find(table.index_nodes, pc, |number| table.nodes.get(number as usize));
    }
}

/// A Go program whose tables have to be searched for.
pub(crate) fn go_program(file: &Vec<u8>) {
    let Ok(elf) = Elf::read(file) else { return };
    let Ok(Some(go)) = GoTables::read(&elf, file) else { return };
    for pc in go.pclntab.entries().take(8) {
        let _ = go.pclntab.find(file, &elf.memory(file), pc);
    }
}

/// A Go table by itself, and the memory it refers to.
pub(crate) fn go_table(table: &Vec<u8>, memory: &dyn ReadAt) {
    let Ok(mut pclntab) = Pclntab::read(table, 0) else { return };
    let base = InlineBase::find(&pclntab, table, memory, &[0x50_0000]);
    pclntab.set_inline(base);
    let first = pclntab.entries().next().unwrap_or(0);
    for pc in (first..first.saturating_add(0x310)).step_by(5) {
        let _ = pclntab.find(table, memory, pc);
    }
}

/// A just-in-time compiler's map.
pub(crate) fn perf_map(text: &Vec<u8>) {
    let _ = PerfMap::read(text).map(|map| map.find(0x7f00_1122_3350).map(<[u8]>::len));
}

/// `/proc/PID/maps`.
pub(crate) fn maps(text: &[u8]) {
    let maps = Maps::parse(text);
    maps.iter().for_each(|mapping| {
        let found = maps.find(mapping.range.start).expect("a mapping holds its first address");
        assert_eq!(found.1, mapping);
    });
}

/// `/proc/kallsyms`.
pub(crate) fn kallsyms(text: &[u8]) {
    let _ = Kernel::read(text).map(|kernel| kernel.find(0xffff_ffff_8100_0010).offset);
}

/// Records of a tape.
pub(crate) fn records(bytes: &[u8]) {
    let mut state = State::new(Window::ALL, Limits::WINDOW);
    let mut rest = bytes;
    while let Ok(header) = super::slowpod::decode::header(rest) {
        let (record, behind) = rest.split_at(header.len_bytes as usize);
        state.step(record);
        rest = behind;
    }
    let _ = state.finish(u64::MAX);
}
