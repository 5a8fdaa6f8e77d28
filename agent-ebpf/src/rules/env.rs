//! Looking for the variables of a CNI call in a program's environment, in two steps.
//!
//! Nearly every program is no plugin, so the first step only asks, block by block and eight bytes at once, whether
//! a variable begins as `CNI_COMMAND` does ([`hints`]). Where one does, the second goes from variable to variable
//! ([`walk`]). The order of variables is random on every exec (libcni writes them from a Go map), so both go on to
//! the end.
//!
//! Both are cut into short loops, one in the other, each a function that the kernel verifies by itself: it follows
//! every turn of a loop and compares it with all turns before.

use super::verifier::opaque;

/// Bytes of an environment read at once by the first step.
pub const BLOCK_BYTES: usize = 4_096;
/// Bytes read behind a block, so that a name across its end shows.
pub const BEHIND_BYTES: usize = 16;
/// Blocks looked at. A runtime passes some KiB on; at a microsecond for each this bounds what a program with a huge
/// environment pays at about 30 us.
pub const BLOCKS_MAX: u32 = 32;
/// Words asked about in one go.
pub const STRETCH_WORDS: u64 = 64;
/// Such stretches in a block.
pub const STRETCHES: u64 = BLOCK_BYTES as u64 / 8 / STRETCH_WORDS;
/// A block and what is behind it, as words in the order they lie in memory.
pub type Block = [u64; (BLOCK_BYTES + BEHIND_BYTES) / 8];

/// Most bytes of a variable read at once by the second step, the NUL included: longer than any value that is kept, so
/// that the length of such a value shows in one read.
pub const PIECE_BYTES: usize = 2_048;
/// Pieces looked at in one go, and
pub const PIECES_AT_ONCE: u32 = 16;
/// how often, at 40 ns and more for each piece. A runtime passes 6 to 60 variables on.
pub const GOES_MAX: u32 = 32;

/// What `CNI_COMMAND=` begins with: one word.
const HINT: u64 = u64::from_le_bytes(*b"CNI_COMM");

/// Whether the first variable of an environment hints at a call.
#[inline(always)]
pub fn hints_at_start(block: &Block) -> bool {
    u64::from_le(block[0]) == HINT
}

/// Whether a variable that follows a NUL in a stretch hints at a call. Words beyond the environment's end may hold
/// anything: at worst the second step finds nothing.
#[inline(always)]
pub fn hints(block: &Block, stretch: u64) -> bool {
    let stretch = opaque(stretch);
    if stretch >= STRETCHES {
        return false;
    }
    let first = block.as_ptr().wrapping_add((stretch * STRETCH_WORDS) as usize);
    for index in 0..STRETCH_WORDS as usize {
        // SAFETY: inside the stretch, which is inside the block.
        let word = u64::from_le(unsafe { first.add(index).read() });
        let ends = zero_bytes(word);
        if ends == 0 {
            continue;
        }
        // SAFETY: behind the last word of the block there are BEHIND_BYTES more.
        let next = u64::from_le(unsafe { first.add(index + 1).read() });
        let behind = word >> 8 | next << 56;
        // Few variables begin with a C.
        let begins = ends & zero_bytes(behind ^ (LOW * b'C' as u64));
        if begins != 0 && hinted(begins, word, next) {
            return true;
        }
    }
    false
}

/// Whether the eight bytes behind one of the marked bytes of `word` are the hint.
#[inline(always)]
fn hinted(marked: u64, word: u64, next: u64) -> bool {
    for byte in 1..=8 {
        // The last shift of `word` in two, since one by all its bits is none.
        let behind = word >> (8 * byte - 8) >> 8 | next << (64 - 8 * byte);
        if opaque(marked) >> (8 * byte - 1) & 1 != 0 && behind == HINT {
            return true;
        }
    }
    false
}

/// One in each byte.
const LOW: u64 = 0x0101_0101_0101_0101;

/// The highest bit of each byte that is 0, and of a 1 that follows such a byte (Hacker's Delight, 6-1).
#[inline(always)]
const fn zero_bytes(word: u64) -> u64 {
    word.wrapping_sub(LOW) & !word & (LOW << 7)
}

/// A variable that is kept. All others are looked at and forgotten.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// What the plugin is asked for; without it there is no CNI call.
    Command = 0,
    /// The sandbox.
    ContainerId = 1,
    /// Path of the sandbox's network namespace.
    NetNs = 2,
    /// Name of the interface.
    IfName = 3,
    /// `K=V;K=V`: the pod, among others.
    Args = 4,
    /// W3C trace context.
    TraceParent = 5,
}

impl Key {
    /// All keys, in numeric order.
    pub const ALL: [Key; 6] =
        [Key::Command, Key::ContainerId, Key::NetNs, Key::IfName, Key::Args, Key::TraceParent];

    /// The variable's name with its `=`: what a piece begins with. At most 16 bytes.
    pub const fn text(self) -> &'static str {
        match self {
            Key::Command => "CNI_COMMAND=",
            Key::ContainerId => "CNI_CONTAINERID=",
            Key::NetNs => "CNI_NETNS=",
            Key::IfName => "CNI_IFNAME=",
            Key::Args => "CNI_ARGS=",
            Key::TraceParent => "TRACEPARENT=",
        }
    }

    /// The bit that stands for it where several are told of at once.
    pub const fn bit(self) -> u32 {
        1 << self as u32
    }
}

/// First sixteen bytes of a piece, in the order they lie in memory. What stands behind the piece's NUL does
/// not matter.
pub type Head = [u64; 2];

/// The key a piece begins with.
#[inline(always)]
pub fn key(head: &Head) -> Option<Key> {
    const CNI: u32 = u32::from_le_bytes(*b"CNI_");
    const TRAC: u32 = u32::from_le_bytes(*b"TRAC");
    // Nearly every variable ends here.
    let beginning = u64::from_le(head[0]) as u32;
    if beginning != CNI && beginning != TRAC {
        return None;
    }
    if begins(head, Key::Command) {
        return Some(Key::Command);
    }
    if begins(head, Key::ContainerId) {
        return Some(Key::ContainerId);
    }
    if begins(head, Key::NetNs) {
        return Some(Key::NetNs);
    }
    if begins(head, Key::IfName) {
        return Some(Key::IfName);
    }
    if begins(head, Key::Args) {
        return Some(Key::Args);
    }
    if begins(head, Key::TraceParent) {
        return Some(Key::TraceParent);
    }
    None
}

#[inline(always)]
fn begins(head: &Head, key: Key) -> bool {
    let (words, masks) = pattern(key.text());
    head[0] & masks[0] == words[0] && head[1] & masks[1] == words[1]
}

/// A text as two words, and which of their bits count.
#[inline(always)]
const fn pattern(text: &str) -> (Head, Head) {
    let text = text.as_bytes();
    let (mut bytes, mut masks) = ([[0; 8]; 2], [[0; 8]; 2]);
    let mut at = 0;
    while at < text.len() {
        bytes[at / 8][at % 8] = text[at];
        masks[at / 8][at % 8] = 0xff;
        at += 1;
    }
    (
        [u64::from_ne_bytes(bytes[0]), u64::from_ne_bytes(bytes[1])],
        [u64::from_ne_bytes(masks[0]), u64::from_ne_bytes(masks[1])],
    )
}

/// How a walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Walked {
    /// The whole environment was seen.
    Whole,
    /// There was more than is looked at.
    Cut,
    /// A piece could not be read.
    Unread,
}

/// Where a walk stands: the address of the next piece, and whether it goes on with the variable before it. One
/// number, since that is what a function verified by itself can return; 0 = the last piece could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(pub u64);

impl Place {
    const UNREAD: Place = Place(0);

    /// The beginning of an environment.
    #[inline(always)]
    pub const fn start(address: u64) -> Place {
        Place(address << 1)
    }

    /// Address of the next piece. User addresses have 57 bits at most.
    #[inline(always)]
    pub const fn address(self) -> u64 {
        self.0 >> 1
    }

    /// Whether a variable begins here.
    #[inline(always)]
    pub const fn begins(self) -> bool {
        self.0 & 1 == 0
    }

    /// The place behind a piece of so many bytes, the NUL included: [`PIECE_BYTES`] when the variable may go on, 0
    /// when it could not be read. So a piece begins where a variable begins or in the middle of a long one: a key never
    /// lies across a border.
    #[inline(always)]
    fn behind(self, len: u64) -> Place {
        match len {
            0 => Place::UNREAD,
            // The helper put a NUL in place of the last byte of a string that goes on.
            _ if len >= PIECE_BYTES as u64 => Place((self.address() + PIECE_BYTES as u64 - 1) << 1 | 1),
            _ => Place((self.address() + len) << 1),
        }
    }
}

/// Looks at some pieces from a place on. `look` reads the one at a place and says how many bytes it has.
#[inline(always)]
pub fn go(mut place: Place, end: u64, mut look: impl FnMut(Place) -> u64) -> Place {
    for _ in 0..PIECES_AT_ONCE {
        if opaque(place.address()) >= end || place == Place::UNREAD {
            break;
        }
        place = place.behind(look(place));
    }
    place
}

/// Walks the environment between two addresses. `go` is [`go`] with the same end.
#[inline(always)]
pub fn walk(start: u64, end: u64, mut go: impl FnMut(Place) -> Place) -> Walked {
    let mut place = Place::start(start);
    for _ in 0..GOES_MAX {
        // Hidden from the optimiser, which would otherwise count pieces by address.
        if opaque(place.address()) >= end {
            return Walked::Whole;
        }
        place = go(place);
        if place == Place::UNREAD {
            return Walked::Unread;
        }
    }
    if place.address() >= end { Walked::Whole } else { Walked::Cut }
}

#[cfg(test)]
mod tests;
