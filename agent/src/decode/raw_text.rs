//! Bytes that are text only by custom (paths, argv, comm, cgroup names). In: any bytes. Out: a string that
//! JSON can hold and that gives the very same bytes back.
//!
//! The escaping: UTF-8 stands for itself, but for `\` as `\\` and NUL as `\0`; every byte that is not part of
//! valid UTF-8 is `\x` and two hexadecimal digits. So `ipset\0add\0` is an argv, and `caf\xe9` a Latin-1 name.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use std::fmt;

/// Bytes as the kernel gave them; escaped when shown or serialised.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RawText(pub Vec<u8>);

impl RawText {
    /// Reads an escaped string back. `None` if it has a `\` that starts none of the three escapes.
    pub fn unescape(text: &str) -> Option<RawText> {
        let mut bytes = Vec::with_capacity(text.len());
        let mut rest = text.bytes();
        while let Some(byte) = rest.next() {
            bytes.push(match byte {
                b'\\' => match rest.next()? {
                    b'\\' => b'\\',
                    b'0' => 0,
                    b'x' => hex_digit(rest.next()?)? << 4 | hex_digit(rest.next()?)?,
                    _ => return None,
                },
                plain => plain,
            });
        }
        Some(RawText(bytes))
    }
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|digit| digit as u8)
}

impl fmt::Display for RawText {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for piece in chunk.valid().split_inclusive(['\\', '\0']) {
                // Each piece in one go: an argv has few of them, and a keyframe many argvs.
                let plain = piece.strip_suffix(['\\', '\0']).unwrap_or(piece);
                out.write_str(plain)?;
                match &piece[plain.len()..] {
                    "\\" => out.write_str("\\\\")?,
                    "\0" => out.write_str("\\0")?,
                    _ => {}
                }
            }
            for byte in chunk.invalid() {
                write!(out, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for RawText {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "\"{self}\"")
    }
}

impl From<&[u8]> for RawText {
    fn from(bytes: &[u8]) -> RawText {
        RawText(bytes.to_vec())
    }
}

impl From<&str> for RawText {
    fn from(text: &str) -> RawText {
        RawText(text.as_bytes().to_vec())
    }
}

impl Serialize for RawText {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RawText {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<RawText, D::Error> {
        let text = String::deserialize(from)?;
        RawText::unescape(&text).ok_or_else(|| D::Error::custom(format_args!("bad escape in {text:?}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_each_kind_of_byte_becomes() {
        for (bytes, escaped) in [
            (&b"/usr/sbin/ipset"[..], "/usr/sbin/ipset"),
            (b"ipset\0add\0", "ipset\\0add\\0"),
            (b"a\\0b", "a\\\\0b"),
            (b"caf\xe9", "caf\\xe9"),
            ("café 🦀".as_bytes(), "café 🦀"),
            (b"\xf0\x9f\xa6", "\\xf0\\x9f\\xa6"),
            (b"\xed\xa0\x80", "\\xed\\xa0\\x80"),
            (b"\x1b[31m\n", "\x1b[31m\n"),
            (b"", ""),
        ] {
            assert_eq!(RawText::from(bytes).to_string(), escaped);
            assert_eq!(RawText::unescape(escaped), Some(RawText::from(bytes)));
        }
    }

    #[test]
    fn all_pairs_of_bytes_survive_json() {
        for first in 0..=255u8 {
            for second in 0..=255u8 {
                let text = RawText(vec![first, second, b'\\', first]);
                let json = serde_json::to_string(&text).expect("a string");
                assert_eq!(serde_json::from_str::<RawText>(&json).expect(&json), text);
            }
        }
    }

    #[test]
    fn a_stray_backslash_is_an_error() {
        for text in ["\\", "\\n", "\\x", "\\x4", "\\xg0", "a\\x+1"] {
            assert_eq!(RawText::unescape(text), None, "{text}");
        }
        let error = serde_json::from_str::<RawText>(r#""\\q""#).expect_err("no such escape");
        assert!(error.to_string().contains("bad escape"), "{error}");
    }
}
