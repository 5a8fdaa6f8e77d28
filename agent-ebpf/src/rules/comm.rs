//! A task's comm as two words. Older kernels leave bytes of the former name behind the NUL.

/// The comm with everything behind its first NUL cleared, without a branch per byte.
#[inline(always)]
pub const fn up_to_nul(words: [u64; 2]) -> [u64; 2] {
    let [first, second] = [u64::from_le(words[0]), u64::from_le(words[1])];
    let first_kept = kept(first);
    let second_kept = if first_kept == u64::MAX { kept(second) } else { 0 };
    [(first & first_kept).to_le(), (second & second_kept).to_le()]
}

/// Ones for the bytes before a word's first NUL (its lowest), zeroes from there on; all ones when it has none.
#[inline(always)]
const fn kept(word: u64) -> u64 {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const TOP_BITS: u64 = u64::from_ne_bytes([0x80; 8]);
    // The lowest of these bits is exact; a borrow can set a wrong one only above it.
    let nuls = word.wrapping_sub(ONES) & !word & TOP_BITS;
    let lowest = nuls & nuls.wrapping_neg();
    (lowest >> 7).wrapping_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tidy(bytes: &[u8; 16]) -> [u8; 16] {
        let (words, _) = bytes.as_chunks::<8>();
        let words = up_to_nul([u64::from_ne_bytes(words[0]), u64::from_ne_bytes(words[1])]);
        let mut out = [0; 16];
        out[..8].copy_from_slice(&words[0].to_ne_bytes());
        out[8..].copy_from_slice(&words[1].to_ne_bytes());
        out
    }

    #[test]
    fn what_follows_the_first_nul_is_cleared_wherever_it_is() {
        for len in 0..=16 {
            // 0x01 and 0x80 are the bytes that borrow and mask might mistake for a NUL.
            for rest in [b'x', 0, 1, 0x80, 0xff] {
                let mut bytes = [rest; 16];
                bytes[..len].copy_from_slice(&b"\x01\x80containerd-shi"[..len]);
                if len < 16 {
                    bytes[len] = 0;
                }
                let mut expected = [0; 16];
                expected[..len].copy_from_slice(&b"\x01\x80containerd-shi"[..len]);
                assert_eq!(tidy(&bytes), expected, "{len} bytes, then {rest:#x}");
            }
        }
    }
}
