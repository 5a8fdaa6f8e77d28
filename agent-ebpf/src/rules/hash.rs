//! FNV-1a over 64-bit words: names stacks. Not for anything an attacker may choose collisions in and gain.
//! Source: <http://www.isthe.com/chongo/tech/comp/fnv/>, with words in place of octets.

/// Start value.
pub const START: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

/// Adds one word.
#[inline(always)]
pub const fn step(hash: u64, word: u64) -> u64 {
    // The shift mixes high bits back down: word-wise FNV alone never moves them below bit 40.
    let mixed = (hash ^ word).wrapping_mul(PRIME);
    mixed ^ (mixed >> 29)
}

/// Ends a hash that serves as an id where 0 means "none".
#[inline(always)]
pub const fn id(hash: u64) -> u64 {
    if hash == 0 { 1 } else { hash }
}
