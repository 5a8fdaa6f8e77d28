//! In: Rust code. Out: every path it names, with `use` trees written out, so that `use std::{fs, net}` is seen for
//! what it is.

/// A path such as `std::fs::read`, and the line that names it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) segments: Vec<String>,
    pub(super) line: usize,
}

impl Named {
    /// Whether the path is `prefix` or goes on from it.
    pub(super) fn starts_with(&self, prefix: &str) -> bool {
        let mut segments = self.segments.iter();
        prefix.split("::").all(|wanted| segments.next().is_some_and(|segment| segment == wanted))
    }
}

/// Every path in `code` (comments and literals already blanked), in the order it stands there.
pub(super) fn paths(code: &str) -> Vec<Named> {
    let tokens = tokens(code);
    let mut named = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let before = named.len();
        at = path(&tokens, at, &[], &mut named);
        if named.len() == before {
            at += 1;
        }
    }
    named
}

/// A name, `::`, `{`, `}` or `,`: what paths and use trees are made of. Anything else is `Other`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    Name(&'a str),
    Colons,
    Open,
    Close,
    Comma,
    Star,
    Other,
}

/// Each token, with its line.
fn tokens(code: &str) -> Vec<(Token<'_>, usize)> {
    let bytes = code.as_bytes();
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let mut tokens = Vec::new();
    let (mut at, mut line) = (0, 1);
    while at < bytes.len() {
        let start = at;
        let token = match bytes[at] {
            byte if is_name(byte) => {
                at += bytes[at..].iter().take_while(|byte| is_name(**byte)).count();
                tokens.push((Token::Name(&code[start..at]), line));
                continue;
            }
            byte if byte.is_ascii_whitespace() => {
                line += usize::from(byte == b'\n');
                at += 1;
                continue;
            }
            b':' if bytes.get(at + 1) == Some(&b':') => {
                at += 1;
                Token::Colons
            }
            b'{' => Token::Open,
            b'}' => Token::Close,
            b',' => Token::Comma,
            b'*' => Token::Star,
            _ => Token::Other,
        };
        at += 1;
        tokens.push((token, line));
    }
    tokens
}

/// Reads the path, or use tree, at `at` and returns where it ends.
fn path(tokens: &[(Token, usize)], mut at: usize, above: &[String], named: &mut Vec<Named>) -> usize {
    let mut segments = above.to_vec();
    let Some((Token::Name(_) | Token::Colons | Token::Star, line)) = tokens.get(at) else { return at };
    let line = *line;
    let kind = |at: usize| tokens.get(at).map(|(token, _)| *token);
    if kind(at) == Some(Token::Colons) {
        at += 1; // `::std` names the same crate as `std`.
    }
    loop {
        match kind(at) {
            Some(Token::Name("self")) if !above.is_empty() => at += 1,
            Some(Token::Name(name)) => {
                segments.push(name.to_owned());
                at += 1;
            }
            Some(Token::Star) if !segments.is_empty() => at += 1,
            Some(Token::Open) if segments.len() > above.len() => {
                return tree(tokens, at + 1, &segments, named);
            }
            _ => break,
        }
        if kind(at) != Some(Token::Colons) {
            break;
        }
        at += 1;
    }
    if !segments.is_empty() {
        named.push(Named { segments, line });
    }
    at
}

/// Reads what stands between the braces of a use tree, and returns where the tree ends.
fn tree(tokens: &[(Token, usize)], mut at: usize, above: &[String], named: &mut Vec<Named>) -> usize {
    while at < tokens.len() {
        match tokens[at].0 {
            Token::Close => return at + 1,
            Token::Comma => at += 1,
            Token::Name("as") => at += 2,
            _ => at = path(tokens, at, above, named).max(at + 1),
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(code: &str) -> Vec<String> {
        paths(code).iter().map(|named| named.segments.join("::")).collect()
    }

    #[test]
    fn writes_use_trees_out() {
        assert_eq!(
            all("use std::{fs, io::{self, Read as _}, net::*};"),
            ["use", "std::fs", "std::io", "std::io::Read", "std::net"]
        );
    }

    #[test]
    fn sees_paths_in_expressions_and_types() {
        let named = all("let x: ::tokio::Handle = foo(std::fs::read(p)?) * aya::Ebpf::load;");
        for path in ["tokio::Handle", "std::fs::read", "aya::Ebpf::load"] {
            assert!(named.contains(&path.to_owned()), "{path} in {named:?}");
        }
    }

    #[test]
    fn compares_whole_segments() {
        let named = &paths("\nstd::fs2::x")[0];
        assert_eq!(named.line, 2);
        assert!(named.starts_with("std") && named.starts_with("std::fs2") && !named.starts_with("std::fs"));
    }

    #[test]
    fn does_not_take_a_body_for_a_tree() {
        assert_eq!(all("struct A { b: C::D } "), ["struct", "A", "b", "C::D"]);
    }
}
