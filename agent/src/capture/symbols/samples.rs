//! The small files that tests read: see `tests/data/symbols/small.c` for what they are made of.

/// A whole program: symbols, DWARF 5, build id.
pub(super) const SMALL: &[u8] = include_bytes!("../../../../tests/data/symbols/small.elf");
/// The same without symbols and DWARF, with a debug link.
pub(super) const STRIPPED: &[u8] = include_bytes!("../../../../tests/data/symbols/small.stripped");
/// What was stripped.
pub(super) const DEBUG: &[u8] = include_bytes!("../../../../tests/data/symbols/small.debug");

/// Where the program's functions are: `outer`, into which two others are inlined, `loop_forever`, `_start`.
pub(super) const OUTER: u64 = 0x40_0140;
/// In `twice`, in `nested`, in `outer`.
pub(super) const INLINED: u64 = 0x40_0155;
/// `loop_forever`.
pub(super) const LOOP: u64 = 0x40_0170;
/// `_start`, the last.
pub(super) const START: u64 = 0x40_0190;

/// Functions for each way in which frames are described: see `tests/data/symbols/unwind.s`.
pub(super) const UNWIND: &[u8] = include_bytes!("../../../../tests/data/symbols/unwind.elf");
