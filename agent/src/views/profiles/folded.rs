//! Folded stacks: a line each, `pod;container;process;outermost;...;innermost VALUE`, for every tool that takes them.

use super::flame::Tree;
use super::model::Profile;
use std::fmt::Write;

/// MIME type.
pub const CONTENT_TYPE: &str = "text/plain; charset=utf-8";

/// Writes one value of a profile.
pub fn encode(profile: &Profile, value: usize) -> Vec<u8> {
    let mut tree = Tree::new();
    tree.add(profile, value, 0);
    let mut out = String::new();
    tree.lines(0, |stack, [own, _]| {
        let _ = writeln!(out, "{stack} {own}");
    });
    out.into_bytes()
}
