//! The flight recorder: the last minutes of records, for answers about the past. In: released records, in
//! time order. Out: an [`Excerpt`] that any window's answer can be folded from.
//!
//! Records are kept in chunks. Each chunk begins with a keyframe (facts that rebuild who and what was known
//! then), so it can be folded alone; a full chunk is compressed. The oldest chunks go first, by age and by
//! bytes, and what goes is counted.

use super::Capture;
use crate::decode;
use crate::fold::Window;
use std::collections::VecDeque;
use std::sync::Arc;

/// A chunk is sealed at this size: large enough to compress well, small enough to copy for a reader.
pub const CHUNK_BYTES: usize = 2 << 20;
/// And at this age, so that a short look-back on a quiet node need not fold minutes.
pub const CHUNK_NS: u64 = 20_000_000_000;
/// How much before a window's start an answer begins to fold, so that loops that were going on are whole.
pub const LEAD_NS: u64 = 5_000_000_000;

/// Bounds of the recorder.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Longest time kept.
    pub keep_ns: u64,
    /// Most bytes kept: compressed ones, and those of the open chunk.
    pub bytes_max: usize,
}

impl Bounds {
    /// What a chunk grows to: [`CHUNK_BYTES`], or less where that would be much of all.
    fn chunk_bytes(&self) -> usize {
        CHUNK_BYTES.min(self.bytes_max / 8)
    }
}

impl Default for Bounds {
    /// Ten minutes in at most 12 MiB, which keeps the whole agent below its memory limit.
    fn default() -> Self {
        Bounds { keep_ns: 600_000_000_000, bytes_max: 12 << 20 }
    }
}

/// A sealed chunk.
#[derive(Debug)]
struct Chunk {
    from_ns: u64,
    until_ns: u64,
    records: u64,
    packed: Vec<u8>,
}

/// The recorder.
#[derive(Debug)]
pub struct Recent {
    bounds: Bounds,
    sealed: VecDeque<Arc<Chunk>>,
    sealed_bytes: usize,
    open: Vec<u8>,
    /// Bytes of the keyframe that `open` begins with.
    keyframe_bytes: usize,
    open_from_ns: u64,
    open_until_ns: u64,
    open_records: u64,
    evicted: Capture,
    evicted_until_ns: u64,
}

/// What a reader takes away: chunks it shares, and a copy of the open one.
#[derive(Debug)]
pub struct Excerpt {
    sealed: Vec<Arc<Chunk>>,
    open: Vec<u8>,
    /// The first instant the recorder still covers; 0 while nothing was evicted.
    pub kept_from_ns: u64,
    /// The last record's instant.
    pub until_ns: u64,
}

/// Sizes of the recorder, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Bytes held, the open chunk included.
    pub bytes: usize,
    /// Bytes allowed.
    pub bytes_max: usize,
    /// Time covered.
    pub span_ns: u64,
}

impl Recent {
    /// An empty recorder.
    pub fn new(bounds: Bounds) -> Self {
        Recent {
            bounds,
            sealed: VecDeque::new(),
            sealed_bytes: 0,
            open: Vec::new(),
            keyframe_bytes: 0,
            open_from_ns: 0,
            open_until_ns: 0,
            open_records: 0,
            evicted: Capture::default(),
            evicted_until_ns: 0,
        }
    }

    /// Whether the next records should begin a new chunk, behind a keyframe.
    pub fn wants_keyframe(&self, now_ns: u64) -> bool {
        // Beyond its keyframe, or one large keyframe would call for the next at once.
        self.open.len() - self.keyframe_bytes >= self.bounds.chunk_bytes()
            || (self.open_from_ns > 0 && now_ns.saturating_sub(self.open_from_ns) >= CHUNK_NS)
    }

    /// Seals the open chunk and begins the next with a keyframe's records.
    pub fn begin_chunk(&mut self, now_ns: u64, keyframe: &[u8]) {
        if !self.open.is_empty() {
            let packed = lz4_flex::compress_prepend_size(&self.open);
            self.sealed_bytes += packed.len();
            self.sealed.push_back(Arc::new(Chunk {
                from_ns: self.open_from_ns,
                until_ns: self.open_until_ns,
                records: self.open_records,
                packed,
            }));
        }
        // The same vector, whose pages are in place; but one storm's chunk must not keep its size for good.
        self.open.clear();
        let chunk_bytes = self.bounds.chunk_bytes();
        self.open.shrink_to(keyframe.len() + chunk_bytes + chunk_bytes / 4);
        self.open.extend_from_slice(keyframe);
        self.keyframe_bytes = keyframe.len();
        self.open_from_ns = now_ns;
        self.open_until_ns = now_ns;
        self.open_records = 0;
        self.evict(now_ns);
    }

    /// Appends whole records, in time order.
    pub fn push(&mut self, records: &[u8], count: u64, until_ns: u64) {
        if self.open_from_ns == 0 {
            self.open_from_ns = decode::header(records).map_or(until_ns, |header| header.ktime_ns);
        }
        self.open.extend_from_slice(records);
        self.open_records += count;
        self.open_until_ns = self.open_until_ns.max(until_ns);
    }

    /// What is needed to answer about a window.
    pub fn excerpt(&self, window: &Window) -> Excerpt {
        let lead_ns = window.from_ns.saturating_sub(LEAD_NS);
        // The last chunk that begins before the lead, and all after it up to the window's end.
        let first = self.sealed.partition_point(|chunk| chunk.from_ns <= lead_ns).saturating_sub(1);
        let open = self.open_from_ns < window.until_ns;
        let only_open = self.open_from_ns > 0 && self.open_from_ns <= lead_ns;
        let first = if only_open { self.sealed.len() } else { first };
        let wanted = self.sealed.range(first..).filter(|chunk| chunk.from_ns < window.until_ns);
        Excerpt {
            sealed: wanted.cloned().collect(),
            open: if open { self.open.clone() } else { Vec::new() },
            kept_from_ns: self.evicted_until_ns,
            until_ns: self.open_until_ns,
        }
    }

    /// What was evicted since the last call.
    pub fn take_evicted(&mut self) -> Capture {
        std::mem::take(&mut self.evicted)
    }

    /// Up to which instant records are in; 0 before the first.
    pub fn until_ns(&self) -> u64 {
        self.open_until_ns
    }

    /// Longest time kept.
    pub fn keep_ns(&self) -> u64 {
        self.bounds.keep_ns
    }

    /// Sizes, for metrics.
    pub fn size(&self) -> Size {
        let from_ns = self.sealed.front().map_or(self.open_from_ns, |chunk| chunk.from_ns);
        Size {
            bytes: self.sealed_bytes + self.open.len(),
            bytes_max: self.bounds.bytes_max,
            span_ns: self.open_until_ns.saturating_sub(from_ns),
        }
    }

    fn evict(&mut self, now_ns: u64) {
        // The open chunk as large as it will be.
        let open_bytes = self.keyframe_bytes + self.bounds.chunk_bytes();
        let sealed_bytes_max = self.bounds.bytes_max.saturating_sub(open_bytes);
        while let Some(oldest) = self.sealed.front() {
            let too_old = now_ns.saturating_sub(oldest.until_ns) > self.bounds.keep_ns;
            if !too_old && self.sealed_bytes <= sealed_bytes_max {
                return;
            }
            self.sealed_bytes -= oldest.packed.len();
            self.evicted_until_ns = oldest.until_ns;
            // Growing old is the recorder's purpose; only what had to go early is a loss.
            if !too_old {
                self.evicted.evicted_records += oldest.records;
                self.evicted.evicted_bytes += oldest.packed.len() as u64;
            }
            self.sealed.pop_front();
        }
    }
}

impl Excerpt {
    /// Each chunk's bytes in turn, unpacked; a chunk that does not unpack is skipped and told by `None`.
    pub fn chunks(&self) -> impl Iterator<Item = Option<std::borrow::Cow<'_, [u8]>>> {
        let sealed = self.sealed.iter().map(|chunk| {
            lz4_flex::decompress_size_prepended(&chunk.packed).ok().map(std::borrow::Cow::Owned)
        });
        sealed.chain(std::iter::once(Some(std::borrow::Cow::Borrowed(self.open.as_slice()))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::fact::{Fact, encode};

    fn record(ktime_ns: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(ktime_ns, &Fact::Clock { wall_unix_ns: ktime_ns as i64 }, &mut bytes);
        bytes
    }

    fn times(excerpt: &Excerpt) -> Vec<u64> {
        let mut times = Vec::new();
        for chunk in excerpt.chunks().flatten() {
            let mut rest = &chunk[..];
            while let Ok(header) = decode::header(rest) {
                times.push(header.ktime_ns);
                rest = &rest[header.len_bytes as usize..];
            }
        }
        times
    }

    const S: u64 = 1_000_000_000;

    #[test]
    fn an_excerpt_begins_with_the_chunk_before_the_window() {
        let mut recent = Recent::new(Bounds::default());
        for second in 1..=100 {
            if recent.wants_keyframe(second * S) {
                recent.begin_chunk(second * S, &record(second * S));
            }
            recent.push(&record(second * S), 1, second * S);
        }
        let all = times(&recent.excerpt(&Window::ALL));
        assert!(all.len() >= 100 && all.first() == Some(&S));
        let late = times(&recent.excerpt(&Window { from_ns: 70 * S, until_ns: 75 * S }));
        assert!(late[0] <= 65 * S && late[0] > 30 * S, "{}", late[0] / S);
        let first = times(&recent.excerpt(&Window { from_ns: 2 * S, until_ns: 3 * S }));
        assert_eq!(first[0], S);
        assert!(*first.last().unwrap() < 30 * S, "later chunks are left out");
    }

    #[test]
    fn the_open_chunk_is_within_the_bytes() {
        // A keyframe larger than a chunk, and records that cannot be compressed.
        let (bytes_max, keyframe) = (1 << 20, vec![0; 200 << 10]);
        let mut recent = Recent::new(Bounds { keep_ns: 1_000 * S, bytes_max });
        let mut noise = 1_u64;
        for step in 1..=4_000 {
            let words = (0..128).flat_map(|_| {
                noise = noise.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                (noise >> 8).to_le_bytes()
            });
            let written = words.collect::<Vec<u8>>();
            if recent.wants_keyframe(step) {
                recent.begin_chunk(step, &keyframe);
            }
            recent.push(&written, 1, step);
            assert!(recent.size().bytes <= bytes_max, "{:?} at step {step}", recent.size());
        }
        assert!(recent.size().bytes > bytes_max / 2, "{:?}", recent.size());
        assert!(recent.take_evicted().evicted_records > 2_000);
    }

    #[test]
    fn bounds_hold_by_age_and_by_bytes_and_early_losses_are_told() {
        let mut recent = Recent::new(Bounds { keep_ns: 50 * S, bytes_max: 1 << 20 });
        for second in 1..=200 {
            if recent.wants_keyframe(second * S) {
                recent.begin_chunk(second * S, &record(second * S));
            }
            recent.push(&record(second * S), 1, second * S);
        }
        assert_eq!(recent.take_evicted(), Capture::default(), "old age is no loss");
        assert!(recent.excerpt(&Window::ALL).kept_from_ns >= 100 * S);

        let mut tight = Recent::new(Bounds { keep_ns: 1_000 * S, bytes_max: 200 });
        for second in 1..=200 {
            if tight.wants_keyframe(second * S) {
                tight.begin_chunk(second * S, &record(second * S));
            }
            tight.push(&record(second * S), 1, second * S);
        }
        assert!(tight.take_evicted().evicted_records > 0);
        assert!(tight.size().bytes < 200 + 3 * CHUNK_BYTES);
    }
}
