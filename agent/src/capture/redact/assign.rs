//! Names with a value inside one word: `--password=x`, `PASSWORD=x`, `Authorization: x`, `"token":"x"`,
//! `?api_key=x&y=z`, in options, URLs, JSON and shell text.

use super::{keys, line::Marks};
use crate::enrich::text::is_listed;
use std::ops::Range;

/// Values that say yes or no and are no secrets.
pub(super) const SWITCHES: &str = "true false yes no on off none null 0 1";

/// Marks the values of all secret names in the word at `range` of `argv`. `is_packets` tells whether a name
/// before a colon may be a service in a packet filter's comment.
pub(super) fn mark(argv: &[u8], range: Range<usize>, is_packets: &dyn Fn() -> bool, marks: &mut Marks) {
    let word = &argv[range.clone()];
    let mut at = 0;
    while let Some(found) = word[at..].iter().position(|byte| matches!(byte, b'=' | b':')) {
        let separator = at + found;
        at = separator + 1;
        let Some(name) = name_before(word, separator) else { continue };
        let key = trim_dashes(&word[name.clone()]);
        if !keys::is_secret(key) {
            continue;
        }
        if word[separator] == b':' {
            let path = name.start > 0 && word[name.start - 1] == b'/';
            if path || word[at..].starts_with(b"//") || is_packets() {
                continue;
            }
        }
        let start = at + word[at..].iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        if is_working_directory(key, &word[start..]) {
            continue;
        }
        let opener = name.start.checked_sub(1).map(|before| word[before]);
        let end = if name.start == 0 || word[0] == b'-' || is_single(word) {
            // The word is this one assignment; its value may hold anything.
            word.len()
        } else if let Some(quote @ (b'"' | b'\'')) = opener
            && !word[name.end..separator].contains(&quote)
        {
            // "Authorization: Bearer x": the quotes are around both.
            word[start..].iter().position(|byte| *byte == quote).map_or(word.len(), |length| start + length)
        } else {
            value_end(word, start)
        };
        if !is_listed(SWITCHES, &word[start..end]) {
            marks.add(range.start + start..range.start + end);
        }
        at = at.max(end);
    }
}

/// Whether no other text can follow a value in the word: it is neither a URL nor shell text.
fn is_single(word: &[u8]) -> bool {
    !word.iter().any(u8::is_ascii_whitespace) && find(word, b"://").is_none()
}

/// Where the name before a separator stands. Quotes and blanks between them are passed over.
fn name_before(word: &[u8], separator: usize) -> Option<Range<usize>> {
    let mut end = separator;
    while end > 0 && matches!(word[end - 1], b'"' | b'\'' | b'\\' | b' ') {
        end -= 1;
    }
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    let length = word[..end].iter().rev().take_while(|byte| is_name(byte)).count();
    (length > 0).then(|| end - length..end)
}

fn trim_dashes(name: &[u8]) -> &[u8] {
    let dashes = name.iter().take_while(|byte| **byte == b'-').count();
    &name[dashes..]
}

/// `PWD=/somewhere` is the shell's working directory.
fn is_working_directory(key: &[u8], value: &[u8]) -> bool {
    matches!(key, b"PWD" | b"OLDPWD") && value.starts_with(b"/")
}

/// Where a value ends that is followed by other text: at white space, `&` or `;` outside quotes.
fn value_end(word: &[u8], start: usize) -> usize {
    let mut at = start;
    while at < word.len() {
        match word[at] {
            b'&' | b';' => return at,
            byte if byte.is_ascii_whitespace() => return at,
            b'"' | b'\'' | b'\\' => {
                let past = past_quotes(word, at, word.len());
                if past == at {
                    return at;
                }
                at = past;
            }
            _ => at += 1,
        }
    }
    at
}

/// The place behind the quoted stretch or escape that begins at `at`; `at` itself when nothing is quoted
/// there, or the quote has no partner before `end`.
pub(super) fn past_quotes(bytes: &[u8], at: usize, end: usize) -> usize {
    let partner =
        |quote: &[u8]| find(&bytes[at + quote.len()..end], quote).map(|found| at + found + 2 * quote.len());
    match &bytes[at..end] {
        // JSON inside a JSON string, or in a double-quoted shell word.
        [b'\\', b'"', ..] => partner(b"\\\"").unwrap_or(at + 2),
        [b'\\', _, ..] => at + 2,
        [quote @ (b'"' | b'\''), ..] => partner(&[*quote]).unwrap_or(at),
        _ => at,
    }
}

/// Where `needle` begins in `bytes`.
pub(super) fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).position(|window| window == needle)
}
