//! Looking for the variables of a CNI call in a program's environment, piece by piece.
//!
//! A string helper reads at most one variable at a time, so a piece begins where a variable begins or, behind
//! a variable longer than [`PIECE_BYTES`], in the middle of one: a key never lies across a border.
//! The order of variables is random on every exec (libcni writes them from a Go map), so the walk goes on to
//! the end.

use super::verifier::opaque;

/// Most bytes read at once, the NUL included: longer than any value that is kept, so that the length of such
/// a value shows in one read.
pub const PIECE_BYTES: usize = 2_048;
/// Pieces read of one environment. A runtime passes 6 to 60 variables on; at 30 to 40 ns for each this bounds
/// what a program with a huge environment pays at about 20 us.
pub const PIECES_MAX: u32 = 512;

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

/// What a string helper read: its result, which counts the NUL, and the piece's head.
#[derive(Clone, Copy)]
pub struct Read {
    /// Bytes read, the NUL included; [`PIECE_BYTES`] when the string may go on.
    pub len: u64,
    /// First bytes of the piece.
    pub head: Head,
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

/// Walks the environment between two addresses. `read` reads a piece; `found` is told a key, the address of its
/// value, and the value's length in bytes (at least [`PIECE_BYTES`] less the key's when it is longer than a piece).
#[inline(always)]
pub fn walk(
    start: u64,
    end: u64,
    mut read: impl FnMut(u64) -> Option<Read>,
    mut found: impl FnMut(Key, u64, u64),
) -> Walked {
    let (mut at, mut continues) = (start, false);
    for _ in 0..PIECES_MAX {
        // Hidden from the optimiser, which would otherwise count pieces by address.
        if opaque(at) >= end {
            return Walked::Whole;
        }
        let Some(piece) = read(at) else { return Walked::Unread };
        if !continues && let Some(key) = key(&piece.head) {
            let name_bytes = key.text().len() as u64;
            found(key, at + name_bytes, piece.len - 1 - name_bytes);
        }
        continues = piece.len >= PIECE_BYTES as u64;
        // The helper put a NUL in place of the last byte of a string that goes on.
        at += if continues { PIECE_BYTES as u64 - 1 } else { piece.len };
    }
    if at >= end { Walked::Whole } else { Walked::Cut }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::{format, string::String, vec, vec::Vec};

    const BASE: u64 = 0x7ffd_0000;

    /// The helper as the kernel has it: at most [`PIECE_BYTES`], NUL included.
    fn helper(memory: &[u8], at: u64, stale: u64) -> Option<Read> {
        let rest = memory.get((at - BASE) as usize..).filter(|rest| !rest.is_empty())?;
        let text: Vec<u8> =
            rest.iter().copied().take(PIECE_BYTES - 1).take_while(|byte| *byte != 0).collect();
        let mut head = stale.to_ne_bytes().repeat(2);
        for (place, byte) in head.iter_mut().zip(text.iter().chain([&0])) {
            *place = *byte;
        }
        let word = |half: &[u8]| u64::from_ne_bytes(half.try_into().unwrap());
        Some(Read { len: text.len() as u64 + 1, head: [word(&head[..8]), word(&head[8..])] })
    }

    fn scan(variables: &[String]) -> (Vec<(Key, String)>, Walked) {
        let memory: Vec<u8> = variables.iter().flat_map(|text| text.bytes().chain([0])).collect();
        let mut kept = vec![];
        let walked = walk(
            BASE,
            BASE + memory.len() as u64,
            |at| helper(&memory, at, u64::from_ne_bytes(*b"NETNS=xx")),
            |key, at, len| {
                let from = (at - BASE) as usize;
                kept.push((key, String::from_utf8(memory[from..from + len as usize].to_vec()).unwrap()));
            },
        );
        (kept, walked)
    }

    fn call() -> Vec<String> {
        Key::ALL.iter().map(|key| format!("{}value of {key:?}", key.text())).collect()
    }

    #[test]
    fn every_key_is_found_in_any_order_among_others() {
        let mut random = 7_u64;
        let mut next = |below: usize| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) as usize % below
        };
        for _ in 0..200 {
            let mut variables = call();
            variables.extend((0..40).map(|at| format!("VAR_{at}={}", "x".repeat(next(90)))));
            for at in (1..variables.len()).rev() {
                variables.swap(at, next(at + 1));
            }
            let (mut kept, walked) = scan(&variables);
            kept.sort_by_key(|(key, _)| *key as u32);
            let expected: Vec<_> = Key::ALL.iter().map(|key| (*key, format!("value of {key:?}"))).collect();
            assert_eq!((kept, walked), (expected, Walked::Whole));
        }
    }

    #[test]
    fn what_only_looks_like_a_key_is_none() {
        for text in [
            "CNI_COMMAND",
            "CNI_COMMANDS=ADD",
            "XCNI_COMMAND=ADD",
            "CNI_PATH=/opt",
            "CNI_",
            "",
            "TRACE=1",
            "cni_command=ADD",
            "CNI_CONTAINERID",
            "A=CNI_COMMAND=ADD",
            "CNI_",
        ] {
            let (kept, walked) = scan(&[text.into()]);
            assert_eq!((kept, walked), (vec![], Walked::Whole), "{text:?}");
        }
    }

    #[test]
    fn a_key_behind_a_long_variable_is_found_wherever_the_border_falls() {
        // The long variable ends before, at and behind each border, and looks like keys all along.
        for length in PIECE_BYTES - 20..PIECE_BYTES + 20 {
            for pieces in 0..3 {
                let long = "CNI_COMMAND=".repeat(pieces * PIECE_BYTES / 12) + &"y".repeat(length);
                let (kept, walked) = scan(&[format!("LONG={long}"), "CNI_COMMAND=DEL".into()]);
                assert_eq!((kept, walked), (vec![(Key::Command, "DEL".into())], Walked::Whole), "{length}");
            }
        }
    }

    #[test]
    fn a_value_longer_than_a_piece_tells_so_by_its_length() {
        let (kept, _) = scan(&[format!("CNI_ARGS={}", "z".repeat(3 * PIECE_BYTES))]);
        assert_eq!(kept.len(), 1);
        assert_eq!(kept[0].1.len(), PIECE_BYTES - 1 - "CNI_ARGS=".len());
    }

    #[test]
    fn an_environment_without_end_is_cut_and_one_that_cannot_be_read_says_so() {
        let many: Vec<String> = (0..PIECES_MAX + 1).map(|at| format!("V{at}=")).collect();
        assert_eq!(scan(&many).1, Walked::Cut);
        assert_eq!(scan(&many[1..]).1, Walked::Whole);
        assert_eq!(walk(BASE, BASE + 9, |_| None, |_, _, _| unreachable!()), Walked::Unread);
    }

    #[test]
    fn no_key_is_longer_than_a_head() {
        assert!(Key::ALL.iter().all(|key| key.text().len() <= size_of::<Head>()));
    }
}
