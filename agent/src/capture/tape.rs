//! Tapes: everything that entered, in a file. In: released records. Out: the same bytes, read back.
//!
//! The first line is text: `slowpod-tape <version> contract=<hash>`. Records follow as they are in memory,
//! each with its length in its header. A tape that ends in the middle of a record gives all records before
//! it and says where the damage begins.

use super::{CaptureError, Progress, Source};
use slowpod_ebpf::abi;
use std::io::{BufRead, Read, Write};

/// Version of the format.
const VERSION: u32 = 1;
const MAGIC: &str = "slowpod-tape";
/// Longest first line that is read before a file is called foreign.
const FIRST_LINE_BYTES: u64 = 256;
/// Longest record believed in; a longer one means damage.
const RECORD_BYTES_MAX: usize = 1 << 20;
/// Bytes handed on at once.
const BATCH_BYTES: usize = 256 << 10;

/// Writes a tape.
pub struct Writer<W: Write> {
    out: W,
}

impl<W: Write> Writer<W> {
    /// Begins a tape.
    ///
    /// # Errors
    /// What writing the first line gives.
    pub fn new(mut out: W) -> std::io::Result<Self> {
        writeln!(out, "{}", first_line())?;
        Ok(Writer { out })
    }

    /// Appends whole records.
    ///
    /// # Errors
    /// What writing gives; a full disk ends a recording, and the tape so far stays readable.
    pub fn write(&mut self, records: &[u8]) -> std::io::Result<()> {
        self.out.write_all(records)
    }

    /// Ends the tape.
    ///
    /// # Errors
    /// What flushing gives.
    pub fn finish(mut self) -> std::io::Result<W> {
        self.out.flush()?;
        Ok(self.out)
    }
}

/// Reads a tape.
pub struct Reader<R: BufRead> {
    input: R,
    at_byte: u64,
    records: u64,
    /// Where the tape is damaged, once that was met.
    pub damage: Option<Damage>,
}

/// Where a tape stops making sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Offset of the first byte that belongs to no whole record.
    pub at_byte: u64,
    /// Whole records before it.
    pub records: u64,
}

impl<R: BufRead> Reader<R> {
    /// Opens a tape.
    ///
    /// # Errors
    /// [`CaptureError::ForeignTape`] when the first line is not that of a tape this version can read.
    pub fn new(mut input: R) -> Result<Self, CaptureError> {
        let mut line = Vec::new();
        (&mut input).take(FIRST_LINE_BYTES).read_until(b'\n', &mut line)?;
        let at_byte = line.len() as u64;
        let line = String::from_utf8_lossy(&line);
        let line = line.trim_end();
        if !line.starts_with(MAGIC) {
            return Err(CaptureError::ForeignTape("this file is not a slowpod tape".into()));
        }
        if line != first_line() {
            return Err(CaptureError::ForeignTape(format!(
                "this tape was made by another version of slowpod (it says {line:?}, this one reads {:?}); \
                 replay it with the version that recorded it",
                first_line()
            )));
        }
        Ok(Reader { input, at_byte, records: 0, damage: None })
    }

    /// The next record's bytes appended to `batch`; false at the end.
    fn next_record(&mut self, batch: &mut Vec<u8>) -> Result<bool, CaptureError> {
        let start = batch.len();
        let header_bytes = size_of::<abi::Header>();
        let got = read_upto(&mut self.input, batch, header_bytes)?;
        if got == 0 {
            return Ok(false);
        }
        let whole = abi::prefix::<abi::Header>(&batch[start..])
            .map(|(header, _)| header.len_bytes as usize)
            .filter(|len| got == header_bytes && (header_bytes..=RECORD_BYTES_MAX).contains(len));
        let body = match whole {
            Some(len) => len - header_bytes,
            None => return Ok(self.damaged(batch, start)),
        };
        if read_upto(&mut self.input, batch, body)? < body {
            return Ok(self.damaged(batch, start));
        }
        self.at_byte += (batch.len() - start) as u64;
        self.records += 1;
        Ok(true)
    }

    fn damaged(&mut self, batch: &mut Vec<u8>, start: usize) -> bool {
        batch.truncate(start);
        self.damage = Some(Damage { at_byte: self.at_byte, records: self.records });
        false
    }
}

impl<R: BufRead> Source for Reader<R> {
    fn read(&mut self, batch: &mut Vec<u8>) -> Result<Progress, CaptureError> {
        let start = batch.len();
        while batch.len() - start < BATCH_BYTES {
            if self.damage.is_some() || !self.next_record(batch)? {
                return Ok(Progress::End);
            }
        }
        Ok(Progress::More)
    }
}

fn first_line() -> String {
    format!("{MAGIC} {VERSION} contract={:016x}", abi::CONTRACT)
}

/// Reads until `want` bytes were appended or the input ended.
fn read_upto(input: &mut impl Read, out: &mut Vec<u8>, want: usize) -> std::io::Result<usize> {
    input.by_ref().take(want as u64).read_to_end(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::fact::{Fact, encode};

    fn tape(records: u64) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new()).unwrap();
        let mut bytes = Vec::new();
        for number in 1..=records {
            encode(number, &Fact::Clock { wall_unix_ns: 0 }, &mut bytes);
        }
        writer.write(&bytes).unwrap();
        writer.finish().unwrap()
    }

    fn read(bytes: &[u8]) -> (Vec<u8>, Option<Damage>) {
        let mut reader = Reader::new(bytes).unwrap();
        let mut all = Vec::new();
        while reader.read(&mut all).unwrap() == Progress::More {}
        (all, reader.damage)
    }

    #[test]
    fn a_tape_gives_back_what_was_written() {
        let bytes = tape(10_000);
        let (all, damage) = read(&bytes);
        assert_eq!(all, bytes[bytes.iter().position(|b| *b == b'\n').unwrap() + 1..]);
        assert_eq!(damage, None);
    }

    #[test]
    fn every_cut_gives_the_records_before_it_and_says_where() {
        let bytes = tape(3);
        let first = bytes.iter().position(|b| *b == b'\n').unwrap() + 1;
        let each = (bytes.len() - first) / 3;
        for cut in first..bytes.len() {
            let (all, damage) = read(&bytes[..cut]);
            let whole = (cut - first) / each;
            assert_eq!(all.len(), whole * each, "cut at {cut}");
            let expected = Damage { at_byte: (first + whole * each) as u64, records: whole as u64 };
            assert_eq!(damage, (!(cut - first).is_multiple_of(each)).then_some(expected), "cut at {cut}");
        }
    }

    #[test]
    fn a_length_that_cannot_be_is_damage_and_not_an_allocation() {
        let mut bytes = tape(2);
        let first = bytes.iter().position(|b| *b == b'\n').unwrap() + 1;
        bytes[first + 12..first + 16].copy_from_slice(&u32::MAX.to_le_bytes());
        let (all, damage) = read(&bytes);
        assert!(all.is_empty());
        assert_eq!(damage, Some(Damage { at_byte: first as u64, records: 0 }));
    }

    #[test]
    fn foreign_files_are_told_apart_from_old_tapes() {
        let foreign = |bytes: &[u8]| Reader::new(bytes).err().unwrap().to_string();
        assert!(foreign(b"\x7fELF....").contains("not a slowpod tape"));
        assert!(foreign(b"").contains("not a slowpod tape"));
        assert!(foreign(b"slowpod-tape 0 contract=00\n").contains("another version"));
    }
}
