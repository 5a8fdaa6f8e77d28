//! Secrets that give themselves away by their shape, whatever stands before them: passwords in URLs, keys and
//! tokens of known makers, PEM blocks, and long strings that look random.

use super::assign::find;
use super::line::Marks;
use std::ops::Range;

/// Shortest string that is called random.
const RANDOM_BYTES: usize = 24;
/// Likewise, for one that was cut off: part of a token is still worth hiding.
const CUT_RANDOM_BYTES: usize = 12;
/// Shortest rest after a maker's prefix.
const PREFIXED_BYTES: usize = 16;
/// What makers put before their tokens.
const PREFIXES: &[&str] = &[
    "AKIA", // AWS access keys, and the next three
    "ASIA",
    "AROA",
    "AIDA",
    "AIza", // Google
    "ya29.",
    "ghp_", // GitHub, and the next five
    "gho_",
    "ghu_",
    "ghs_",
    "ghr_",
    "github_pat_",
    "glpat-", // GitLab
    "xoxb-",  // Slack, and the next four
    "xoxp-",
    "xoxa-",
    "xoxs-",
    "xapp-",
    "sk-",      // OpenAI and its like
    "sk_live_", // Stripe, and the next two
    "sk_test_",
    "rk_live_",
    "hvs.",      // Vault
    "dckr_pat_", // Docker
    "npm_",
    "pypi-",
    "SG.", // SendGrid
    "K10", // k3s
];

/// Marks what looks like a secret in the word at `range`. `cut`: the word goes on past the end of argv.
/// `is_packets` tells whether long strings are names of chains and sets here.
pub(super) fn mark(
    argv: &[u8],
    range: Range<usize>,
    cut: bool,
    is_packets: &dyn Fn() -> bool,
    marks: &mut Marks,
) {
    let word = &argv[range.clone()];
    let mut add = |found: Range<usize>| marks.add(range.start + found.start..range.start + found.end);
    if word.contains(&b'@') {
        user_info(word, &mut add);
        dsn(word, &mut add);
    }
    let least = |end: usize| if cut && end == word.len() { CUT_RANDOM_BYTES } else { RANDOM_BYTES };
    if word.len() < least(word.len()).min(PREFIXED_BYTES) {
        return;
    }
    if let Some(found) = pem(word) {
        add(found);
    }
    for run in runs(word, |byte| is_token_byte(byte) || byte == b'.') {
        if run.len() >= PREFIXED_BYTES
            && let Some(found) = prefixed(word, run.clone()).or_else(|| bootstrap_token(word, run))
        {
            add(found);
        }
    }
    if word.len() >= least(word.len()) {
        let random = random(word, least);
        if !random.is_empty() && !is_packets() {
            random.into_iter().for_each(add);
        }
    }
}

/// Stretches that look random and are at least as long as `least` says for one that ends there.
fn random(word: &[u8], least: impl Fn(usize) -> usize) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let long = |run: &Range<usize>| run.len() >= least(run.end);
    let alphanumeric = runs(word, |byte| byte.is_ascii_alphanumeric());
    found.extend(alphanumeric.filter(long).filter(|run| is_random_piece(word, run.clone())));
    let mixed = |run: &Range<usize>| is_mixed(&word[run.clone()]);
    found.extend(runs(word, |byte| is_token_byte(byte) || byte == b'+').filter(long).filter(mixed));
    // Base64 with slashes in it, but no path.
    let is_path = |run: &Range<usize>| {
        word[run.start] == b'/' || word[..run.start].last().is_some_and(|before| b".~:".contains(before))
    };
    let slashed = runs(word, |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'));
    found.extend(slashed.filter(long).filter(|run| !is_path(run)).filter(mixed));
    found
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

/// Every longest stretch of bytes that `belongs` accepts.
fn runs(word: &[u8], belongs: impl Fn(u8) -> bool) -> impl Iterator<Item = Range<usize>> {
    let mut start = 0;
    std::iter::from_fn(move || {
        start += word[start..].iter().position(|byte| belongs(*byte))?;
        let length = word[start..].iter().take_while(|byte| belongs(**byte)).count();
        let run = start..start + length;
        start = run.end;
        Some(run)
    })
}

/// From `-----BEGIN` to the end of the last `-----END` line, or of the word.
fn pem(word: &[u8]) -> Option<Range<usize>> {
    // The words of the line are apart by blanks.
    if !word.contains(&b' ') {
        return None;
    }
    let start = find(word, b"-----BEGIN")?;
    let last = word.windows(8).rposition(|window| window == b"-----END").filter(|end| *end > start);
    let end = last.and_then(|end| find(&word[end + 8..], b"-----").map(|dashes| end + 8 + dashes + 5));
    Some(start..end.unwrap_or(word.len()))
}

/// The password of `scheme://user:password@host`, or a token in the user's place.
fn user_info(word: &[u8], add: &mut impl FnMut(Range<usize>)) {
    let mut at = 0;
    while let Some(found) = find(&word[at..], b"://") {
        let start = at + found + 3;
        at = start;
        let rest = &word[start..];
        let ends = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b'"' | b'\'' | b'<' | b'>');
        let text = &rest[..rest.iter().position(ends).unwrap_or(rest.len())];
        let authority = &text[..text.iter().position(|byte| *byte == b'/').unwrap_or(text.len())];
        let colon = authority.iter().position(|byte| *byte == b':');
        let is_port = |colon: usize| authority[colon + 1..].iter().all(u8::is_ascii_digit);
        let sign = authority.iter().rposition(|byte| *byte == b'@').or_else(|| {
            // A password with a slash in it: what follows the colon is then no port.
            let password = colon.filter(|colon| !is_port(*colon) && !authority.starts_with(b"["))?;
            text[password..].iter().position(|byte| *byte == b'@').map(|sign| password + sign)
        });
        match (colon, sign) {
            (Some(colon), Some(sign)) if colon < sign => add(start + colon + 1..start + sign),
            (_, Some(sign)) if sign >= PREFIXED_BYTES => add(start..start + sign),
            _ => {}
        }
    }
}

/// The password of a data source name without scheme, as Go's MySQL driver takes it:
/// `user:password@tcp(host)/db`.
fn dsn(word: &[u8], add: &mut impl FnMut(Range<usize>)) {
    for mark in [&b"@tcp("[..], b"@unix(", b"@("] {
        let Some(sign) = find(word, mark) else { continue };
        let starts = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b'"' | b'\'');
        let start = word[..sign].iter().rposition(starts).map_or(0, |before| before + 1);
        if let Some(colon) = word[start..sign].iter().position(|byte| *byte == b':') {
            add(start + colon + 1..sign);
        }
    }
}

/// A JSON web token, or a token with its maker's prefix, wherever it begins in a run.
fn prefixed(word: &[u8], run: Range<usize>) -> Option<Range<usize>> {
    let text = &word[run.clone()];
    (0..text.len()).find_map(|at| {
        if at > 0 && text[at - 1].is_ascii_alphanumeric() {
            return None;
        }
        let rest = &text[at..];
        // {"alg... and {"typ... in base64
        let jwt = rest.starts_with(b"eyJ") && rest.len() >= PREFIXED_BYTES;
        let maker = PREFIXES.iter().any(|prefix| {
            rest.strip_prefix(prefix.as_bytes())
                .is_some_and(|tail| tail.len() >= PREFIXED_BYTES && tail.iter().any(u8::is_ascii_digit))
        });
        (jwt || maker).then(|| run.start + at..run.end)
    })
}

/// A kubeadm bootstrap token: six small letters or digits, a dot, sixteen more.
fn bootstrap_token(word: &[u8], run: Range<usize>) -> Option<Range<usize>> {
    let text = &word[run.clone()];
    let small = |part: &[u8]| part.iter().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let fits = text.len() == 23
        && text[6] == b'.'
        && small(&text[..6])
        && small(&text[7..])
        && text[7..].iter().any(u8::is_ascii_digit);
    fits.then_some(run)
}

/// Whether a stretch of letters and digits looks random and is none of the ids that attribution needs.
fn is_random_piece(word: &[u8], run: Range<usize>) -> bool {
    let text = &word[run.clone()];
    let changes = text.windows(2).filter(|pair| pair[0].is_ascii_digit() != pair[1].is_ascii_digit()).count();
    let random = text.iter().any(u8::is_ascii_alphabetic) && changes >= 3;
    random && !is_id(text) && !is_digest(&word[..run.start], text) && !is_path_part(word, run)
}

/// A container id: 64 small hex digits. Or a static pod's UID inside a systemd slice's name.
fn is_id(text: &[u8]) -> bool {
    let small_hex =
        |text: &[u8]| text.iter().all(|byte| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f'));
    text.len() == 64 && small_hex(text)
        || text.strip_prefix(b"pod").is_some_and(|uid| uid.len() == 32 && small_hex(uid))
}

/// `sha256:...`, as images are named.
fn is_digest(before: &[u8], text: &[u8]) -> bool {
    let algorithm = before.strip_suffix(b":").and_then(|before| {
        let start = before.iter().rposition(|byte| !byte.is_ascii_alphanumeric()).map_or(0, |at| at + 1);
        before[start..].strip_prefix(b"sha")
    });
    algorithm.is_some_and(|bits| bits.iter().all(u8::is_ascii_digit))
        && text.iter().all(u8::is_ascii_hexdigit)
}

/// A part of an absolute path that is 32 small letters and digits: a static pod's UID, a Nix store hash.
fn is_path_part(word: &[u8], run: Range<usize>) -> bool {
    let text = &word[run.clone()];
    if text.len() != 32 || text.iter().any(u8::is_ascii_uppercase) || !word[..run.start].ends_with(b"/") {
        return false;
    }
    let is_path = |byte: &u8| is_token_byte(*byte) || matches!(byte, b'/' | b'.' | b'+' | b'@' | b'~');
    let start = run.start - word[..run.start].iter().rev().take_while(|byte| is_path(byte)).count();
    word[start] == b'/' && !word[..start].ends_with(b":")
}

/// Whether capitals, small letters and digits are mixed as in base64: the class changes in at least three of
/// ten steps, or four when there are no digits. Random text has six, five without digits; CamelCase has two.
fn is_mixed(text: &[u8]) -> bool {
    const UPPER: u8 = 1;
    const LOWER: u8 = 2;
    const DIGIT: u8 = 4;
    let class = |byte: &u8| match byte {
        b'A'..=b'Z' => UPPER,
        b'a'..=b'z' => LOWER,
        _ => DIGIT,
    };
    let (mut seen, mut last, mut changes, mut count) = (0, 0, 0, 0);
    for class in text.iter().filter(|byte| byte.is_ascii_alphanumeric()).map(class) {
        changes += usize::from(count > 0 && class != last);
        count += 1;
        seen |= class;
        last = class;
    }
    let least_of_ten = if seen & DIGIT == 0 { 4 } else { 3 };
    seen & (UPPER | LOWER) == UPPER | LOWER && changes * 10 >= count * least_of_ten
}
