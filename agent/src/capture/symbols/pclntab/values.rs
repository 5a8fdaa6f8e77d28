//! Pc values: for each stretch of a function's code, a number (a line, a file, an inlined call). In: where the
//! run-length text of one function begins. Out: the number at an address.
//!
//! A run is two varints: by how much the value changes (zigzag, from -1 at first; 0 ends the table, except as the
//! very first) and for how many units of the machine's instruction size it then holds.

use super::{Func, Pclntab};
use crate::capture::symbols::bytes::{Flaw, ReadAt};

/// Runs read at most before giving up, half a millisecond's worth. The largest generated functions have some
/// ten thousand.
const RUNS_MAX: usize = 1 << 17;
/// Read at a time.
const CHUNK_BYTES: usize = 256;

impl Pclntab {
    /// The value at `pc` in the pc values at `offset`; `None` where the table says nothing.
    pub(super) fn value(
        &self,
        table: &dyn ReadAt,
        func: &Func,
        offset: u64,
        pc: u64,
    ) -> Result<Option<i32>, Flaw> {
        // Offset 0 means: no table.
        if offset == 0 || !(func.entry..func.end).contains(&pc) {
            return Ok(None);
        }
        let at = self.header.tables.values.checked_add(offset).ok_or(Flaw::Short)?;
        let mut bytes = Bytes { table, at, chunk: [0; CHUNK_BYTES], len: 0, used: 0 };
        let (mut value, mut until) = (-1_i32, func.entry);
        for run in 0..RUNS_MAX {
            let change = bytes.varint()?;
            if change == 0 && run > 0 {
                return Ok(None);
            }
            let change = if change & 1 != 0 { !(change >> 1) } else { change >> 1 };
            value = value.wrapping_add(change as i32);
            until = until.saturating_add(u64::from(bytes.varint()?) * self.header.quantum);
            if pc < until {
                return Ok(Some(value));
            }
        }
        Err(Flaw::TooMany("pc values"))
    }
}

/// Bytes one after the other.
struct Bytes<'a> {
    table: &'a dyn ReadAt,
    at: u64,
    chunk: [u8; CHUNK_BYTES],
    len: usize,
    used: usize,
}

impl Bytes<'_> {
    fn next(&mut self) -> Result<u8, Flaw> {
        if self.used == self.len {
            let there = self.table.size_bytes().saturating_sub(self.at);
            self.len = there.min(CHUNK_BYTES as u64) as usize;
            self.used = 0;
            self.table.read_at(self.at, &mut self.chunk[..self.len])?;
            self.at += self.len as u64;
        }
        let byte = *self.chunk[..self.len].get(self.used).ok_or(Flaw::Short)?;
        self.used += 1;
        Ok(byte)
    }

    fn varint(&mut self) -> Result<u32, Flaw> {
        let mut number = 0;
        for shift in (0..35).step_by(7) {
            let byte = self.next()?;
            number |= u32::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Flaw::Absurd("a number that does not end"))
    }
}
