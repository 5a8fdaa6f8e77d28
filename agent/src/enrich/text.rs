//! Text that came from a process, made safe to show. In: any bytes. Out: one line of visible characters.
//!
//! A hostile process chooses its comm, paths and arguments. Everything of that sort passes through [`safe`]
//! once, before it reaches a terminal, a log, JSON, HTML or a metric label (which still do their own quoting).

use std::borrow::Cow;
use std::fmt::Write;

/// What a text ends with when it was cut.
const CUT_MARK: char = '…';

/// `bytes` as one line of visible text of at most `max_bytes` bytes.
///
/// Control characters become `\n`, `\t`, `\r` or `\x1b`; bytes that are no UTF-8 become `\xff`; characters
/// that are invisible or reorder their neighbours become `\u{202e}`. Everything else, backslashes included,
/// stays as it is, so the result of `safe` passes through `safe` unchanged. What does not fit is cut at a
/// whole character or escape, and the text then ends in `…`.
pub fn safe(bytes: &[u8], max_bytes: usize) -> Cow<'_, str> {
    if bytes.len() <= max_bytes
        && let Ok(text) = std::str::from_utf8(bytes)
        && !text.chars().any(needs_escape)
    {
        return Cow::Borrowed(text);
    }
    Cow::Owned(escaped(bytes, max_bytes))
}

/// The last component of a path, trailing slashes left out; a path of nothing but slashes stays whole.
pub fn base_name(path: &[u8]) -> &[u8] {
    let Some(last) = path.iter().rposition(|byte| *byte != b'/') else { return path };
    let trimmed = &path[..=last];
    let start = trimmed.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    &trimmed[start..]
}

/// A kernel `comm` field (NUL-padded) as safe text.
pub fn comm(field: &[u8; 16]) -> String {
    safe(until_nul(field), COMM_TEXT_BYTES).into_owned()
}

/// `bytes` up to its first NUL, or whole.
pub fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or(bytes)
}

/// Whether `list`, words separated by single spaces, holds `word`.
pub fn is_listed(list: &str, word: &[u8]) -> bool {
    // Over bytes: searching text for a character takes several times as long.
    list.as_bytes().split(|byte| *byte == b' ').any(|entry| entry == word)
}

/// Longest text of a comm: 15 bytes, each of which may become `\xNN`.
const COMM_TEXT_BYTES: usize = 64;

fn escaped(bytes: &[u8], max_bytes: usize) -> String {
    let mut text = String::with_capacity(bytes.len().min(max_bytes) + 8);
    // Where the text ends if the next piece does not fit: room for the cut mark is kept behind it.
    let mut cut_at = 0;
    let mut piece = String::new();
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            piece.clear();
            push_character(&mut piece, character);
            if !push_piece(&mut text, &piece, &mut cut_at, max_bytes) {
                return text;
            }
        }
        for byte in chunk.invalid() {
            piece.clear();
            push_byte(&mut piece, *byte);
            if !push_piece(&mut text, &piece, &mut cut_at, max_bytes) {
                return text;
            }
        }
    }
    text
}

/// Appends one piece; when it does not fit, cuts the text, marks the cut and returns false.
fn push_piece(text: &mut String, piece: &str, cut_at: &mut usize, max_bytes: usize) -> bool {
    if text.len() + piece.len() > max_bytes {
        text.truncate(*cut_at);
        if text.len() + CUT_MARK.len_utf8() <= max_bytes {
            text.push(CUT_MARK);
        }
        return false;
    }
    text.push_str(piece);
    if text.len() + CUT_MARK.len_utf8() <= max_bytes {
        *cut_at = text.len();
    }
    true
}

fn push_character(piece: &mut String, character: char) {
    match character {
        '\n' => piece.push_str("\\n"),
        '\t' => piece.push_str("\\t"),
        '\r' => piece.push_str("\\r"),
        _ if character.is_ascii_control() => push_byte(piece, character as u8),
        _ if needs_escape(character) => piece.extend(character.escape_unicode()),
        _ => piece.push(character),
    }
}

fn push_byte(piece: &mut String, byte: u8) {
    // Writing to a String cannot fail.
    let _ = write!(piece, "\\x{byte:02x}");
}

/// Whether a character must not be shown as it is: controls, and characters that are invisible, break lines
/// or change the direction of what stands beside them (Unicode TR 36, "bidirectional text spoofing").
fn needs_escape(character: char) -> bool {
    match character {
        ' '..='~' => false,
        '\u{ad}'                    // soft hyphen
        | '\u{61c}'                 // Arabic letter mark
        | '\u{180e}'                // Mongolian vowel separator
        | '\u{200b}'..='\u{200f}'   // zero-width characters, direction marks
        | '\u{2028}'..='\u{202e}'   // line and paragraph separators, direction overrides
        | '\u{2060}'..='\u{206f}'   // word joiner, invisible operators, direction isolates
        | '\u{feff}'                // byte order mark
        | '\u{fff9}'..='\u{fffb}'   // interlinear annotations
        | '\u{e0000}'..='\u{e0fff}' // tags and variation selectors
        => true,
        _ => character.is_control(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_is_borrowed_as_it_is() {
        for text in ["ipset add", "kube-proxy", "größe", "日本", "run-\\x2d.mount", ""] {
            assert!(matches!(safe(text.as_bytes(), 64), Cow::Borrowed(same) if same == text), "{text}");
        }
    }

    #[test]
    fn hostile_bytes_become_visible() {
        for (bytes, expected) in [
            (&b"a\x1b[31mred"[..], r"a\x1b[31mred"),
            (b"two\nlines\r\t", r"two\nlines\r\t"),
            (b"\x00\x07\x7f", r"\x00\x07\x7f"),
            (b"\xff\xfe ok", r"\xff\xfe ok"),
            (b"half \xe2\x82", r"half \xe2\x82"),
            (b"surrogate \xed\xa0\x80", r"surrogate \xed\xa0\x80"),
            ("c1 \u{9b}31m".as_bytes(), r"c1 \u{9b}31m"),
            ("rtl \u{202e}gpj.exe".as_bytes(), r"rtl \u{202e}gpj.exe"),
            ("\u{200b}hidden\u{feff}".as_bytes(), r"\u{200b}hidden\u{feff}"),
            ("line\u{2028}line".as_bytes(), r"line\u{2028}line"),
            ("tag\u{e0041}".as_bytes(), r"tag\u{e0041}"),
        ] {
            assert_eq!(safe(bytes, 64), expected);
        }
    }

    #[test]
    fn cuts_keep_characters_and_escapes_whole() {
        assert_eq!(safe(b"abcdefgh", 8), "abcdefgh");
        assert_eq!(safe(b"abcdefghi", 8), "abcde…");
        assert_eq!(safe("ääääää".as_bytes(), 8), "ää…");
        assert_eq!(safe(b"ab\x1b\x1b\x1b", 8), r"ab…");
        assert_eq!(safe(b"abcdef", 2), "");
        assert_eq!(safe(b"abc", 0), "");
    }

    #[test]
    fn any_bytes_give_a_short_visible_line_and_a_second_pass_changes_nothing() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        for round in 0..20_000_usize {
            let mut bytes = Vec::new();
            for _ in 0..round % 40 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                bytes.push((state >> 56) as u8);
            }
            let max_bytes = round % 70;
            let text = safe(&bytes, max_bytes);
            assert!(text.len() <= max_bytes, "{bytes:x?}");
            assert!(!text.chars().any(needs_escape), "{bytes:x?} gave {text:?}");
            assert_eq!(safe(text.as_bytes(), max_bytes), text, "{bytes:x?}");
        }
    }

    #[test]
    fn base_names() {
        for (path, expected) in [
            ("/usr/sbin/ipset", "ipset"),
            ("ipset", "ipset"),
            ("/opt/cni/bin/", "bin"),
            ("./x//", "x"),
            ("/", "/"),
            ("", ""),
        ] {
            assert_eq!(base_name(path.as_bytes()), expected.as_bytes(), "{path}");
        }
    }

    #[test]
    fn comms_end_at_the_first_nul() {
        assert_eq!(comm(b"ipset\0\0\0\0\0\0\0\0\0\0\0"), "ipset");
        assert_eq!(comm(b"exactly16bytes!!"), "exactly16bytes!!");
        assert_eq!(comm(b"\x1b[2J\n\xff\0\0\0\0\0\0\0\0\0\0"), r"\x1b[2J\n\xff");
    }
}
