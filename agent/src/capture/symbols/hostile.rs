//! Files made to harm their reader, by the thousand: real ones cut, flipped and filled with huge numbers. None may
//! panic, take long, or take much memory.

/// What the fuzz targets do as well.
#[path = "../../../../fuzz/entries.rs"]
mod entries;

use crate as slowpod;

use super::dwarf::{Debug, sections::SECTIONS_BYTES_MAX};
use super::elf::{Elf, Section, Segment};
use super::pclntab::Pclntab;
use super::pclntab::find::GoTables;
use super::pclntab::tests::{VERSIONS, made};
use super::samples::{DEBUG, SMALL, STRIPPED, UNWIND};
use super::unwind::cfi::{self, SECTION_BYTES_MAX};
use crate::decode::fact::{self, Fact};
use slowpod_ebpf::abi;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::{Duration, Instant};
use zerocopy::{FromZeros, IntoBytes};

/// No file of a few KiB may take longer, in a build without optimisation on a busy machine.
const TIME_MAX: Duration = Duration::from_secs(8);
/// Nor more memory than this at once.
const MEMORY_BYTES_MAX: usize = 96 << 20;
/// Files tried of each kind.
const ROUNDS: usize = 1_500;

thread_local! {
    /// Bytes this thread holds, and the most it held.
    static HELD: Cell<(isize, isize)> = const { Cell::new((0, 0)) };
}

/// The system's allocator, counting by thread.
struct Counting;

impl Counting {
    fn count(bytes: isize) {
        // A thread that is ending has no counter any more.
        let _ = HELD.try_with(|held| {
            let now = held.get().0 + bytes;
            held.set((now, held.get().1.max(now)));
        });
    }
}

// SAFETY: all calls go to the system's allocator as they are.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Counting::count(layout.size() as isize);
        // SAFETY: the caller's promises are those that the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        Counting::count(-(layout.size() as isize));
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Counting::count(size as isize - layout.size() as isize);
        // SAFETY: as above.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Runs something on hostile bytes and holds it to the bounds.
fn bounded(what: &str, bytes: &[u8], read: impl Fn(&Vec<u8>)) {
    let bytes = bytes.to_vec();
    let before = HELD.with(|held| {
        held.set((held.get().0, held.get().0));
        held.get().0
    });
    let begun = Instant::now();
    read(&bytes);
    let took = begun.elapsed();
    let peak = HELD.with(|held| held.get().1 - before).unsigned_abs();
    assert!(took <= TIME_MAX && peak <= MEMORY_BYTES_MAX, "{what}: {took:?}, {peak} bytes");
}

/// Numbers that look random and are the same in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end.max(1)
    }

    /// The bytes with one to four things wrong.
    fn damage(&mut self, bytes: &[u8]) -> Vec<u8> {
        const NUMBERS: [u64; 8] = [0, 1, 0x7f, 0xff, 0xffff, 0x7fff_ffff, u32::MAX as u64, u64::MAX];
        let mut bytes = bytes.to_vec();
        for _ in 0..=self.below(3) {
            let at = self.below(bytes.len());
            match self.below(5) {
                0 => bytes.truncate(at),
                1 => bytes[at..].iter_mut().take(1).for_each(|byte| *byte ^= 1 << (at % 8)),
                2 => {
                    let width = [1, 2, 4, 8][self.below(4)];
                    let number = NUMBERS[self.below(NUMBERS.len())].to_le_bytes();
                    bytes[at..].iter_mut().zip(&number[..width]).for_each(|(byte, new)| *byte = *new);
                }
                3 => {
                    let from = self.below(bytes.len());
                    let len = self.below(64).min(bytes.len() - at.max(from));
                    bytes.copy_within(from..from + len, at);
                }
                _ => {
                    let len = self.below(32);
                    bytes[at..].iter_mut().take(len).for_each(|byte| *byte = 0xff);
                }
            }
            if bytes.is_empty() {
                break;
            }
        }
        bytes
    }
}

#[test]
fn elf_and_dwarf() {
    let mut dice = Dice(1);
    for (name, seed) in [("small.elf", SMALL), ("small.debug", DEBUG), ("small.stripped", STRIPPED)] {
        for round in 0..ROUNDS {
            bounded(&format!("{name} {round}"), &dice.damage(seed), entries::code);
        }
        for cut in (0..seed.len()).step_by(13) {
            bounded(&format!("{name} cut at {cut}"), &seed[..cut], entries::code);
        }
    }
}

#[test]
fn frames() {
    let mut dice = Dice(5);
    for round in 0..ROUNDS {
        bounded(&format!("unwind.elf {round}"), &dice.damage(UNWIND), entries::frames);
    }
    for cut in 0..UNWIND.len() {
        bounded(&format!("unwind.elf cut at {cut}"), &UNWIND[..cut], entries::frames);
    }
}

/// As many functions as a section holds, and functions that all share a beginning as long as half a section.
#[test]
fn frames_that_take_long() {
    // A common beginning (version 1, no augmentation, addresses of 8 bytes), and functions of 16 bytes each with some instructions.
    let common = |instructions: &[u8]| {
        let body = [&[0, 0, 0, 0, 1, 0, 1, 0x78, 16, 0x0c, 7, 8, 0x90, 1][..], instructions].concat();
        [&(body.len() as u32).to_le_bytes()[..], &body].concat()
    };
    let function = |at: usize, number: usize, instructions: &[u8]| {
        let pointer = (at as u32 + 4).to_le_bytes();
        let address = (0x1000 + 16 * number as u64).to_le_bytes();
        let body = [&pointer[..], &address, &16_u64.to_le_bytes(), instructions].concat();
        [&(body.len() as u32).to_le_bytes()[..], &body].concat()
    };
    let section = |common: Vec<u8>, instructions: &[u8]| {
        let mut section = common;
        for number in 0.. {
            let function = function(section.len(), number, instructions);
            if section.len() + function.len() > SECTION_BYTES_MAX {
                break;
            }
            section.extend(function);
        }
        section
    };
    // One byte on, and the stack pointer elsewhere: a row in three bytes.
    let rows: Vec<u8> = (0..15).flat_map(|row| [0x41, 0x0e, 8 * (row % 2) + 8]).collect();
    for (what, content) in [
        ("functions", section(common(&[]), &[])),
        ("rows", section(common(&[]), &rows)),
        ("a long beginning", section(common(&vec![0x0a; SECTION_BYTES_MAX / 2]), &[])),
        ("a long beginning of nothing", section(common(&vec![0; SECTION_BYTES_MAX / 2]), &[])),
    ] {
        let file = 0..content.len() as u64;
        let frames = Section {
            name: ".eh_frame".into(),
            kind: 1,
            flags: 2,
            vaddr: 0x80_0000,
            file,
            link: 0,
            index: 0,
        };
        let code =
            Segment { vaddr: 0x1000, offset: 0, file_bytes: 1 << 30, executable: true, writable: false };
        let elf = Elf { pointer_bytes: 8, sections: vec![frames], segments: vec![code], ..Elf::default() };
        bounded(what, &content, |content| {
            let table = cfi::table(&elf, content);
            assert_eq!(what == "functions", table.is_ok_and(|table| table.is_some()), "the rest is too much");
        });
    }
}

#[test]
fn go_tables() {
    let mut dice = Dice(2);
    for version in VERSIONS {
        let made = made(version);
        for round in 0..ROUNDS {
            bounded(&format!("{version:?} {round}"), &dice.damage(&made.table), |table| {
                entries::go_table(table, &made.memory);
            });
        }
    }
}

/// A Go program without section headers around a made-up table: the table and module data are searched for.
#[test]
fn go_programs() {
    let mut program = SMALL.to_vec();
    program[0x28..0x30].fill(0);
    program[0x3c..0x40].fill(0);
    let at = program.len().next_multiple_of(8);
    program.resize(at, 0);
    let table = made(VERSIONS[3]).table;
    program.extend(&table);
    // The first segment now reaches to the end of the file, and is data.
    let len = program.len() as u64;
    program[0x40 + 4..0x40 + 8].copy_from_slice(&6_u32.to_le_bytes());
    program[0x40 + 32..0x40 + 40].copy_from_slice(&len.to_le_bytes());
    let elf = Elf::read(&program).unwrap();
    let found = GoTables::read(&elf, &program).unwrap().unwrap();
    assert_eq!(found.file.start, at as u64);

    let mut dice = Dice(3);
    for round in 0..ROUNDS {
        bounded(&format!("program {round}"), &dice.damage(&program), entries::go_program);
    }
}

/// A tape's beginning: facts, and a stack.
fn records() -> Vec<u8> {
    let mut tape = Vec::new();
    let clock = Fact::Clock { wall_unix_ns: 1_767_323_045_000_000_000 };
    let cgroup = Fact::Cgroup { id: 5, hierarchy: 0, path: b"/system.slice/a.service".as_slice().into() };
    [clock, cgroup].iter().for_each(|fact| fact::encode(1_000, fact, &mut tape));
    let mut stack = abi::stack::Stack::new_zeroed();
    stack.header = abi::Header {
        ktime_ns: 1_000,
        kind: abi::Kind::Stack as u32,
        len_bytes: size_of::<abi::stack::Stack>() as u32 + 16,
    };
    (stack.id, stack.depth, stack.user) = (9, 2, 1);
    tape.extend_from_slice(stack.as_bytes());
    tape.extend_from_slice(&[0x40; 16]);
    tape
}

#[test]
fn texts() {
    let maps = b"00400000-00452000 r-xp 00000000 08:02 173521 /usr/bin/a b (deleted)\n7fffb2d48000-7fffb2d49000 r-xp 00000000 00:00 0 [vdso]\n".repeat(9);
    let perf = b"7f0011223340 40 LazyCompile:~add /app/a.js:3\n0x7f0011223380 0x10 void [App]\n".repeat(9);
    let kallsyms = b"ffffffff81000000 T _text\nffffffffc0200000 t nft_trans\t[nf_tables]\n".repeat(9);
    let records = records();
    let mut dice = Dice(4);
    for round in 0..ROUNDS {
        bounded(&format!("maps {round}"), &dice.damage(&maps), |text| entries::maps(text));
        bounded(&format!("perf map {round}"), &dice.damage(&perf), entries::perf_map);
        bounded(&format!("kallsyms {round}"), &dice.damage(&kallsyms), |text| entries::kallsyms(text));
        bounded(&format!("records {round}"), &dice.damage(&records), |bytes| entries::records(bytes));
    }
}

/// A Go table that claims the most functions there may be, all at one address, each with the longest tables.
#[test]
fn a_go_table_of_nothing_but_functions() {
    let mut table = made(VERSIONS[3]).table;
    table[8..16].copy_from_slice(&((1_u64 << 20) - 1).to_le_bytes());
    table.resize(9 << 20, 1);
    bounded("many functions", &table, |table| {
        let pclntab = Pclntab::read(table, 0).unwrap();
        for pc in [0, 0x40_1000, 0x40_1000 + 0x0101_0101, u64::MAX] {
            let _ = pclntab.find(table, &Vec::new(), pc);
        }
    });
}

/// Calls nested far deeper than any compiler does, and functions and calls that all refer to one long list of ranges.
#[test]
fn dwarf_that_nests_and_repeats() {
    // The most that is believed in: half of it entries, half of it ranges.
    const HALF: usize = SECTIONS_BYTES_MAX / 2 - 1_024;
    let address = |address: u64| address.to_le_bytes().to_vec();
    let unit = [vec![1], address(0x1000), address(0x1000)].concat();
    let function = [vec![2], address(0x1000), address(0x1000)].concat();
    let nested = [unit.clone(), function.clone(), vec![3; HALF - 64]].concat();
    let holding = [vec![4], address(0x1000), address(0x1000)].concat().repeat(HALF / 17 - 8);
    let nested_around = [unit.clone(), function.clone(), holding].concat();
    let functions = [unit.clone(), [5, 0, 0, 0, 0].repeat(HALF / 5 - 8)].concat();
    let calls = [unit, function, [6, 0, 0, 0, 0].repeat(HALF / 5 - 16)].concat();
    // A base address that changes nothing, again and again, and then nothing.
    let empty = [u64::MAX, 1].map(u64::to_le_bytes).concat().repeat(HALF / 16);
    let full = [0x10_u64, 0x20].map(u64::to_le_bytes).concat().repeat(HALF / 16);
    for (what, info, ranges) in [
        ("nested calls", &nested, &empty),
        ("nested calls around the address", &nested_around, &empty),
        ("functions of empty ranges", &functions, &empty),
        ("functions of many ranges", &functions, &full),
        ("calls of empty ranges", &calls, &empty),
        ("calls of many ranges", &calls, &full),
    ] {
        let (elf, file) = dwarf_file(info, ranges);
        bounded(what, &file, |file| {
            let debug = Debug::read(&elf, file).unwrap().unwrap();
            for vaddr in [0x1000, 0x1fff, 0x3000] {
                let _ = debug.find(vaddr);
            }
        });
    }
}

/// A file of DWARF 4 with these entries, which end as they may, and this list of ranges.
fn dwarf_file(entries: &[u8], ranges: &[u8]) -> (Elf, Vec<u8>) {
    // Code, tag, has children, then pairs of attribute and form (DWARF 4, figures 18, 20 and 21).
    const ABBREVIATIONS: &[u8] = &[
        1, 0x11, 1, 0x11, 1, 0x12, 7, 0, 0, // a unit from low to high
        2, 0x2e, 1, 0x11, 1, 0x12, 7, 0, 0, // a function likewise
        3, 0x1d, 1, 0, 0, // an inlined call without anything
        4, 0x1d, 1, 0x11, 1, 0x12, 7, 0, 0, // an inlined call from low to high
        5, 0x2e, 0, 0x55, 0x17, 0, 0, // a function of ranges
        6, 0x1d, 0, 0x55, 0x17, 0, 0, // an inlined call of ranges
        0,
    ];
    let length = (entries.len() as u32 + 7).to_le_bytes();
    let header = [&length[..], &4_u16.to_le_bytes(), &0_u32.to_le_bytes(), &[8]].concat();
    let mut file = Vec::new();
    let mut elf = Elf { pointer_bytes: 8, ..Elf::default() };
    let info = [header, entries.to_vec()].concat();
    for (name, bytes) in
        [(".debug_info", &*info), (".debug_abbrev", ABBREVIATIONS), (".debug_ranges", ranges)]
    {
        let start = file.len() as u64;
        file.extend_from_slice(bytes);
        let (name, file) = (name.to_owned(), start..file.len() as u64);
        elf.sections.push(Section { name, kind: 1, flags: 0, vaddr: 0, file, link: 0, index: 0 });
    }
    (elf, file)
}
