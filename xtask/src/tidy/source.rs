//! In: the text of a Rust file. Out: the same text with comments, literals and tests blanked out, so that a rule can
//! look for words without being misled; every byte keeps its place, so lines and columns stay right.

/// One Rust file as the rules see it.
#[derive(Debug)]
pub(super) struct Source {
    /// Path from the repository's root, with `/`.
    pub(super) path: String,
    /// The text as it stands in the file.
    pub(super) text: String,
    /// The text without comments and without the insides of string and character literals.
    pub(super) code: String,
    /// [`Source::code`] without `#[cfg(test)]` items and `#[test]` functions too; nothing in a file of tests.
    pub(super) shipped: String,
}

impl Source {
    /// Reads a file's text.
    pub(super) fn new(path: &str, text: &str) -> Source {
        let code = without_comments_and_literals(text);
        let tests_only = is_tests_only(path);
        let shipped = if tests_only { String::new() } else { without_tests(&code) };
        Source { path: path.to_owned(), text: text.to_owned(), code, shipped }
    }

    /// The file's name without folder and suffix.
    pub(super) fn stem(&self) -> &str {
        let name = self.path.rsplit('/').next().unwrap_or(&self.path);
        name.strip_suffix(".rs").unwrap_or(name)
    }
}

/// Whether the file is a module of tests: its parent says what they are for.
pub(super) fn is_tests_only(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.ends_with("_tests.rs") || path.contains("/tests/")
}

/// Number of the line that holds the byte at `offset`, from 1.
pub(super) fn line_of(text: &str, offset: usize) -> usize {
    1 + text.as_bytes()[..offset].iter().filter(|byte| **byte == b'\n').count()
}

/// Offset just past the bracket that closes the one at `open`; the text's end when nothing closes it.
pub(super) fn past_bracket(code: &str, open: usize) -> usize {
    let mut depth = 0usize;
    for (offset, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return offset + 1;
                }
            }
            _ => {}
        }
    }
    code.len()
}

/// Offsets at which `word` stands alone, not as part of a longer name.
pub(super) fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    code.match_indices(word).map(|(offset, _)| offset).filter(move |offset| {
        let before = offset.checked_sub(1).and_then(|at| code.as_bytes().get(at));
        let after = code.as_bytes().get(offset + word.len());
        !before.is_some_and(is_name) && !after.is_some_and(is_name)
    })
}

/// Blanks comments and the insides of literals.
fn without_comments_and_literals(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = if bytes[at..].starts_with(b"//") {
            find(bytes, at, b"\n")
        } else if bytes[at..].starts_with(b"/*") {
            past_block_comment(bytes, at)
        } else if let Some(end) = past_literal(bytes, at) {
            blank(&mut code[at + 1..end - 1]);
            at = end;
            continue;
        } else {
            at += past_name(&bytes[at..]).max(1);
            continue;
        };
        blank(&mut code[at..end]);
        at = end;
    }
    String::from_utf8(code).expect("only whole characters are blanked, and blanks are ASCII")
}

/// Blanks what a release build does not contain: items under `#[cfg(test)]` and functions under `#[test]`.
fn without_tests(code: &str) -> String {
    let mut shipped = code.as_bytes().to_vec();
    for marker in ["#[cfg(test)]", "#[test]"] {
        for (start, _) in code.match_indices(marker) {
            let body =
                code[start + marker.len()..].find(['{', ';']).map(|found| start + marker.len() + found);
            let end = match body {
                Some(open) if code.as_bytes()[open] == b'{' => past_bracket(code, open),
                Some(semicolon) => semicolon + 1,
                None => code.len(),
            };
            blank(&mut shipped[start..end]);
        }
    }
    String::from_utf8(shipped).expect("only whole characters are blanked, and blanks are ASCII")
}

fn blank(bytes: &mut [u8]) {
    bytes.iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
}

/// Offset of the next `needle` from `at`; the end when there is none.
fn find(bytes: &[u8], at: usize, needle: &[u8]) -> usize {
    bytes[at..]
        .windows(needle.len())
        .position(|window| window == needle)
        .map_or(bytes.len(), |found| at + found)
}

/// Block comments nest in Rust.
fn past_block_comment(bytes: &[u8], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0usize);
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    at
}

/// Length of the name or number that starts here, so that the `r` of `for"` is not taken for a raw string.
fn past_name(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count()
}

/// Offset past the string or character literal that starts at `at`; `None` when none starts there.
fn past_literal(bytes: &[u8], at: usize) -> Option<usize> {
    let rest = &bytes[at..];
    let prefix = [&b"br"[..], b"cr", b"b", b"c", b"r"]
        .into_iter()
        .find(|prefix| {
            rest.starts_with(prefix) && matches!(rest.get(prefix.len()), Some(b'"' | b'#' | b'\''))
        })
        .unwrap_or(b"");
    let open = at + prefix.len();
    let raw = prefix.ends_with(b"r");
    match bytes.get(open)? {
        b'"' if !raw => Some(past_quoted(bytes, open, b'"')),
        b'"' | b'#' if raw => past_raw(bytes, open),
        b'\'' if !raw => past_character(bytes, open),
        _ => None,
    }
}

fn past_quoted(bytes: &[u8], open: usize, quote: u8) -> usize {
    let mut at = open + 1;
    while at < bytes.len() && bytes[at] != quote {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(bytes.len())
}

/// `r"..."`, `r#"..."#` and so on; `None` for a raw name such as `r#type`.
fn past_raw(bytes: &[u8], open: usize) -> Option<usize> {
    let hashes = bytes[open..].iter().take_while(|byte| **byte == b'#').count();
    if bytes.get(open + hashes) != Some(&b'"') {
        return None;
    }
    let close = [&b"\""[..], &b"#".repeat(hashes)].concat();
    Some((find(bytes, open + hashes + 1, &close) + close.len()).min(bytes.len()))
}

/// `'x'` or `'\n'`; `None` for a lifetime.
fn past_character(bytes: &[u8], open: usize) -> Option<usize> {
    if bytes.get(open + 1) == Some(&b'\\') {
        return Some(past_quoted(bytes, open, b'\''));
    }
    let width = match bytes.get(open + 1)? {
        0..=0x7f => 1,
        0xc0..=0xdf => 2,
        0xe0..=0xef => 3,
        _ => 4,
    };
    (bytes.get(open + 1 + width) == Some(&b'\'')).then_some(open + width + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_comments_and_literals_and_nothing_else() {
        let text = "let a = \"std::fs // \\\" x\"; // std::fs\nlet c = '\"'; /* a /* b */ c */ let l: &'static str = r#\"q\"uo\"#;\nlet é = 'é';";
        let code = Source::new("x.rs", text).code;
        assert_eq!(code.len(), text.len());
        assert!(!code.contains("std::fs") && !code.contains("uo") && !code.contains(" b "), "{code}");
        assert!(code.contains("let c = ' ';") && code.contains("let l: &'static str = r"), "{code}");
        assert_eq!(code.lines().count(), 3);
    }

    #[test]
    fn tells_shipped_code_from_tests() {
        let text =
            "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() { c() }\n}\n#[cfg(test)]\nuse d;\nfn e() {}\n";
        let source = Source::new("x.rs", text);
        assert!(source.shipped.contains("fn a") && source.shipped.contains("fn e"));
        assert!(!source.shipped.contains("fn b") && !source.shipped.contains("use d"), "{}", source.shipped);
    }

    #[test]
    fn a_file_of_tests_ships_nothing() {
        assert_eq!(Source::new("agent/src/enrich/identity/tests.rs", "fn a() {}").shipped, "");
        assert_eq!(Source::new("agent/src/enrich/tests/table.rs", "fn a() {}").shipped, "");
        assert_eq!(Source::new("tests/kernel/main.rs", "fn a() {}").shipped, "fn a() {}");
    }

    #[test]
    fn a_name_that_ends_in_r_opens_no_raw_string() {
        let source = Source::new("x.rs", "write!(for\"a\"); let x = br\"std\\\"; let r#type = 1; // end");
        assert!(source.code.contains("let r#type = 1;"), "{}", source.code);
        assert!(!source.code.contains("std") && !source.code.contains("end"), "{}", source.code);
    }

    #[test]
    fn finds_whole_words_and_lines() {
        assert_eq!(words("aya aya_obj xaya (aya)", "aya").collect::<Vec<_>>(), [0, 18]);
        assert_eq!(line_of("a\nb\nc", 4), 3);
        assert_eq!(past_bracket("f(a, [b]) {", 1), 9);
    }
}
