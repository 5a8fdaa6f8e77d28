//! Base names of paths, found without a branch per byte: the verifier follows one way through, not one per
//! place the last slash may be.

use super::verifier::opaque;

/// How much of a path's end is searched for its last slash.
pub const TAIL_BYTES: usize = 64;

/// Where the base name begins in `tail`, the last bytes of a path: after the last slash, or at 0 when there
/// is none.
#[inline(always)]
pub fn base_name(tail: &[u8; TAIL_BYTES]) -> u64 {
    let mut start = 0;
    let mut next = 0;
    while next < TAIL_BYTES {
        let difference = u64::from(tail[next] ^ b'/');
        next += 1;
        // All ones when this byte is a slash, else all zeroes; hidden, or the optimiser makes it a branch again.
        let slash = opaque((difference.wrapping_sub(1) as i64 >> 63) as u64);
        start = (start & !slash) | (next as u64 & slash);
    }
    start
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(path: &str) -> &str {
        let mut tail = [0; TAIL_BYTES];
        tail[..path.len()].copy_from_slice(path.as_bytes());
        &path[base_name(&tail) as usize..]
    }

    #[test]
    fn the_name_is_what_follows_the_last_slash() {
        for (path, name) in
            [("/usr/sbin/ipset", "ipset"), ("ip", "ip"), ("./x/y", "y"), ("/", ""), ("", ""), ("//a//b", "b")]
        {
            assert_eq!(of(path), name, "{path:?}");
        }
        assert_eq!(of(&"n".repeat(TAIL_BYTES)), "n".repeat(TAIL_BYTES));
        assert_eq!(of(&format!("{}/", "d".repeat(TAIL_BYTES - 1))), "");
    }
}
