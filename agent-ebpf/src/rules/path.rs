//! Base names of paths, found without a branch per byte: the verifier follows one way through, not one per
//! place the last slash may be.

/// How much of a path's end is searched for its last slash: one bit each of a word.
pub const TAIL_BYTES: usize = 64;

/// Where the base name begins in `tail`, the last bytes of a path: after the last slash, or at 0 when there
/// is none.
#[inline(always)]
pub fn base_name(tail: &[u64; TAIL_BYTES / 8]) -> u64 {
    let mut slashes = 0;
    let mut index = 0;
    while index < tail.len() {
        slashes |= slash_bits(tail[index]) << (index * 8);
        index += 1;
    }
    u64::from(u64::BITS - slashes.leading_zeros())
}

/// One bit per byte of a word (the first byte in the lowest), set where the byte is a slash.
#[inline(always)]
const fn slash_bits(word: u64) -> u64 {
    const LOW_SEVEN: u64 = u64::from_ne_bytes([0x7f; 8]);
    const SLASHES: u64 = u64::from_ne_bytes([b'/'; 8]);
    // Gathers the lowest bits of eight bytes in the top byte.
    const GATHER: u64 = 0x0102_0408_1020_4080;
    let other = u64::from_le(word) ^ SLASHES;
    // A byte's top bit stays clear only if all its bits are.
    let not_zero = ((other & LOW_SEVEN).wrapping_add(LOW_SEVEN) | other) & !LOW_SEVEN;
    let zero = (!not_zero & !LOW_SEVEN) >> 7;
    zero.wrapping_mul(GATHER) >> 56
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start_in(path: &[u8]) -> u64 {
        let mut bytes = [0; TAIL_BYTES];
        bytes[..path.len()].copy_from_slice(path);
        let mut tail = [0; TAIL_BYTES / 8];
        for (word, eight) in tail.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *word = u64::from_ne_bytes(*eight);
        }
        base_name(&tail)
    }

    #[test]
    fn each_byte_has_its_bit_and_neighbours_do_not_touch_it() {
        for place in 0..8 {
            for byte in 0..=255u8 {
                let mut bytes = [b'/' + 1; 8];
                bytes[place] = byte;
                let expected = u64::from(byte == b'/') << place;
                assert_eq!(slash_bits(u64::from_ne_bytes(bytes)), expected, "{byte} at {place}");
            }
        }
        assert_eq!(slash_bits(u64::from_ne_bytes([b'/'; 8])), 0xff);
    }

    #[test]
    fn the_name_is_what_follows_the_last_slash() {
        for (path, name) in
            [("/usr/sbin/ipset", "ipset"), ("ip", "ip"), ("./x/y", "y"), ("/", ""), ("", ""), ("//a//b", "b")]
        {
            assert_eq!(&path[start_in(path.as_bytes()) as usize..], name, "{path:?}");
        }
        let mut long = [b'n'; TAIL_BYTES];
        assert_eq!(start_in(&long), 0);
        long[TAIL_BYTES - 1] = b'/';
        assert_eq!(start_in(&long), TAIL_BYTES as u64);
        long[0] = b'/';
        long[TAIL_BYTES - 1] = b'n';
        assert_eq!(start_in(&long), 1);
    }
}
