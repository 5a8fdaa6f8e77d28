//! Untrusted files as bounded bytes. In: an offset and a length. Out: those bytes, or the [`Flaw`].
//!
//! Nothing here maps a file: a mapped file that is truncated meanwhile kills the reader (SIGBUS), a read only
//! fails. Every length comes from the file itself and is believed only up to a bound that the caller names.

use std::cell::RefCell;
use std::ops::Range;

/// Why a file, or a part of it, cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// It ends before what it promises.
    #[error("it ends before what it promises")]
    Short,
    /// More of something than is believed in.
    #[error("it claims more {0} than are believed in")]
    TooMany(&'static str),
    /// It is no such thing.
    #[error("it is no {0}")]
    Not(&'static str),
    /// A number that cannot be.
    #[error("it contradicts itself: {0}")]
    Absurd(&'static str),
    /// The system would not give it.
    #[error("it cannot be read")]
    Unreadable,
}

/// Something that has bytes at offsets.
pub trait ReadAt {
    /// Fills `buf` from `offset`.
    ///
    /// # Errors
    /// [`Flaw::Short`] when it ends before that.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), Flaw>;

    /// Bytes from the start to the end.
    fn size_bytes(&self) -> u64;
}

impl ReadAt for &[u8] {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), Flaw> {
        let start = usize::try_from(offset).map_err(|_| Flaw::Short)?;
        let end = start.checked_add(buf.len()).ok_or(Flaw::Short)?;
        buf.copy_from_slice(self.get(start..end).ok_or(Flaw::Short)?);
        Ok(())
    }

    fn size_bytes(&self) -> u64 {
        self.len() as u64
    }
}

impl ReadAt for Vec<u8> {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), Flaw> {
        self.as_slice().read_at(offset, buf)
    }

    fn size_bytes(&self) -> u64 {
        self.len() as u64
    }
}

/// The bytes `at..at + len` of a file, as if they were one.
#[derive(Clone, Copy)]
pub struct Part<'a> {
    whole: &'a dyn ReadAt,
    at: u64,
    len: u64,
}

impl<'a> Part<'a> {
    /// A part of `whole`; what reaches past its end is left out.
    pub fn new(whole: &'a dyn ReadAt, range: Range<u64>) -> Self {
        let end = range.end.min(whole.size_bytes());
        Part { whole, at: range.start.min(end), len: end.saturating_sub(range.start) }
    }
}

impl ReadAt for Part<'_> {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), Flaw> {
        let end = offset.checked_add(buf.len() as u64).ok_or(Flaw::Short)?;
        if end > self.len {
            return Err(Flaw::Short);
        }
        self.whole.read_at(self.at + offset, buf)
    }

    fn size_bytes(&self) -> u64 {
        self.len
    }
}

/// Bytes kept of the file around the last reads.
const BLOCK_BYTES: usize = 4 << 10;
/// Blocks kept: a lookup goes back and forth between a handful of tables.
const BLOCKS: usize = 8;

/// A file whose last read places are kept, so that small reads beside each other cost one system call.
pub struct Blocks<'a> {
    whole: &'a dyn ReadAt,
    kept: RefCell<Vec<(u64, Vec<u8>)>>,
}

impl<'a> Blocks<'a> {
    /// Keeps nothing yet.
    pub fn new(whole: &'a dyn ReadAt) -> Self {
        Blocks { whole, kept: RefCell::new(Vec::new()) }
    }

    /// The block that begins at `start`, most lately used last.
    fn with_block<T>(&self, start: u64, use_it: impl FnOnce(&[u8]) -> T) -> Result<T, Flaw> {
        let mut kept = self.kept.borrow_mut();
        let block = match kept.iter().position(|(at, _)| *at == start) {
            Some(found) => kept.remove(found).1,
            None => {
                let len = self.whole.size_bytes().saturating_sub(start).min(BLOCK_BYTES as u64);
                let mut block = vec![0; len as usize];
                self.whole.read_at(start, &mut block)?;
                block
            }
        };
        if kept.len() >= BLOCKS {
            kept.remove(0);
        }
        let result = use_it(&block);
        kept.push((start, block));
        Ok(result)
    }
}

impl ReadAt for Blocks<'_> {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), Flaw> {
        if buf.len() > BLOCK_BYTES {
            return self.whole.read_at(offset, buf);
        }
        let mut done = 0;
        while done < buf.len() {
            let at = offset.checked_add(done as u64).ok_or(Flaw::Short)?;
            let start = at / BLOCK_BYTES as u64 * BLOCK_BYTES as u64;
            let within = (at - start) as usize;
            let copied = self.with_block(start, |block| {
                let from = block.get(within..).unwrap_or_default();
                let len = from.len().min(buf.len() - done);
                buf[done..done + len].copy_from_slice(&from[..len]);
                len
            })?;
            if copied == 0 {
                return Err(Flaw::Short);
            }
            done += copied;
        }
        Ok(())
    }

    fn size_bytes(&self) -> u64 {
        self.whole.size_bytes()
    }
}

/// `len` bytes from `offset`; `max` is what the caller is ready to hold.
///
/// # Errors
/// [`Flaw::TooMany`] past `max`, [`Flaw::Short`] past the end: neither allocates.
pub fn bytes(from: &dyn ReadAt, offset: u64, len: u64, max: usize) -> Result<Vec<u8>, Flaw> {
    let len = usize::try_from(len).ok().filter(|len| *len <= max).ok_or(Flaw::TooMany("bytes"))?;
    if offset.checked_add(len as u64).is_none_or(|end| end > from.size_bytes()) {
        return Err(Flaw::Short);
    }
    let mut bytes = vec![0; len];
    from.read_at(offset, &mut bytes)?;
    Ok(bytes)
}

/// What is there from `offset` on, but not more than `max` bytes.
///
/// # Errors
/// What reading gives; an offset past the end is [`Flaw::Short`].
pub fn bytes_up_to(from: &dyn ReadAt, offset: u64, max: usize) -> Result<Vec<u8>, Flaw> {
    let there = from.size_bytes().checked_sub(offset).ok_or(Flaw::Short)?;
    bytes(from, offset, there.min(max as u64), max)
}

/// A little-endian number of `N` bytes.
///
/// # Errors
/// [`Flaw::Short`] when it is not there.
pub fn number<const N: usize>(from: &dyn ReadAt, offset: u64) -> Result<u64, Flaw> {
    const { assert!(N <= 8) };
    let mut bytes = [0; N];
    from.read_at(offset, &mut bytes)?;
    Ok(bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
}

/// The bytes before the next NUL; of more than `max` the first `max`.
///
/// # Errors
/// [`Flaw::Short`] when the file ends without a NUL.
pub fn string(from: &dyn ReadAt, offset: u64, max: usize) -> Result<Vec<u8>, Flaw> {
    /// Most names are shorter.
    const STEP: usize = 64;
    let mut text = Vec::new();
    while text.len() < max {
        let at = offset.checked_add(text.len() as u64).ok_or(Flaw::Short)?;
        let piece = bytes_up_to(from, at, STEP.min(max - text.len()))?;
        match piece.iter().position(|byte| *byte == 0) {
            Some(nul) => {
                text.extend_from_slice(&piece[..nul]);
                return Ok(text);
            }
            None if piece.is_empty() => return Err(Flaw::Short),
            None => text.extend_from_slice(&piece),
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_end_where_they_end() {
        let whole = b"0123456789".to_vec();
        let part = Part::new(&whole, 2..5);
        assert_eq!(bytes(&part, 0, 3, 8), Ok(b"234".to_vec()));
        assert_eq!(bytes(&part, 1, 3, 8), Err(Flaw::Short));
        assert_eq!(Part::new(&whole, 8..99).size_bytes(), 2);
        assert_eq!(Part::new(&whole, 50..99).size_bytes(), 0);
        assert_eq!(Part::new(&whole, u64::MAX..u64::MAX).size_bytes(), 0);
        assert_eq!(bytes(&part, u64::MAX, 3, 8), Err(Flaw::Short));
    }

    #[test]
    fn a_huge_length_is_refused_before_it_is_allocated() {
        let whole = vec![0_u8; 4];
        assert_eq!(bytes(&whole, 0, u64::MAX, usize::MAX), Err(Flaw::Short));
        assert_eq!(bytes(&whole, 0, 1 << 60, 8), Err(Flaw::TooMany("bytes")));
        assert_eq!(bytes_up_to(&whole, 1, 8), Ok(vec![0; 3]));
    }

    #[test]
    fn strings_and_numbers() {
        let whole = b"ab\0cd\x01\x02".to_vec();
        assert_eq!(string(&whole, 0, 9), Ok(b"ab".to_vec()));
        assert_eq!(string(&whole, 3, 2), Ok(b"cd".to_vec()));
        assert_eq!(string(&whole, 3, 9), Err(Flaw::Short));
        assert_eq!(number::<2>(&whole, 5), Ok(0x0201));
        assert_eq!(number::<4>(&whole, 5), Err(Flaw::Short));
        assert_eq!(string(&vec![b'a'; 300], 0, 200), Ok(vec![b'a'; 200]));
    }

    #[test]
    fn blocks_give_what_the_file_gives() {
        let whole: Vec<u8> = (0..3 * BLOCK_BYTES + 17).map(|n| (n * 7 % 251) as u8).collect();
        let blocks = Blocks::new(&whole);
        let mut at = 1_usize;
        for round in 0..4_000_usize {
            at = (at * 7_919 + round) % (whole.len() + 20);
            let len = round % 5_000;
            assert_eq!(
                bytes(&blocks, at as u64, len as u64, len),
                bytes(&whole, at as u64, len as u64, len),
                "{at} {len}"
            );
        }
    }
}
