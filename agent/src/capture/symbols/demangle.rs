//! Names as their authors wrote them. In: a symbol's bytes. Out: safe text of bounded length.
//!
//! A crafted name of a few hundred bytes can stand for gigabytes of text, so the demanglers write into a text that
//! refuses more than it should hold; a name that does not fit stays as it is in the file.

use crate::enrich::text;
use cpp_demangle::{BorrowedSymbol, DemangleOptions, ParseOptions};
use std::fmt::{self, Write};

/// Longest symbol read; a longer one is cut, and so cannot be demangled.
pub const MANGLED_BYTES_MAX: usize = 2 << 10;
/// Longest name handed on, in bytes.
pub const NAME_BYTES_MAX: usize = 512;
/// Written at most before a name is made safe and cut. Above [`NAME_BYTES_MAX`], so that a long name is shown
/// demangled and cut instead of mangled.
const DEMANGLED_BYTES_MAX: usize = 4 << 10;
/// How deep a C++ name may nest; each level takes stack.
const CPP_DEPTH_MAX: u32 = 64;

/// The name of a function, readable and safe to show.
pub fn function_name(symbol: &[u8]) -> String {
    let text = std::str::from_utf8(symbol).ok();
    let demangled = text.and_then(|text| rust(text).or_else(|| cpp(text)));
    let name = demangled.as_deref().map_or(symbol, str::as_bytes);
    text::safe(name, NAME_BYTES_MAX).into_owned()
}

fn rust(symbol: &str) -> Option<String> {
    // Not the hash at the end, which says nothing to people.
    let name = rustc_demangle::try_demangle(symbol).ok()?;
    Bounded::written(|out| write!(out, "{name:#}"))
}

fn cpp(symbol: &str) -> Option<String> {
    if !symbol.starts_with("_Z") && !symbol.starts_with("__Z") {
        return None;
    }
    let parse = ParseOptions::default().recursion_limit(CPP_DEPTH_MAX);
    let show = DemangleOptions::default().recursion_limit(CPP_DEPTH_MAX).no_params().no_return_type();
    let name = BorrowedSymbol::new_with_options(symbol.as_bytes(), &parse).ok()?;
    Bounded::written(|out| name.structured_demangle(out, &show))
}

/// A text that takes only so much; what was cut by the bound is kept, since names are read from the left.
#[derive(Default)]
struct Bounded {
    text: String,
    full: bool,
}

impl Bounded {
    fn written(write: impl FnOnce(&mut Bounded) -> fmt::Result) -> Option<String> {
        let mut out = Bounded::default();
        let result = write(&mut out);
        (result.is_ok() || out.full).then_some(out.text).filter(|text| !text.is_empty())
    }
}

impl Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.text.len() + text.len() > DEMANGLED_BYTES_MAX {
            self.full = true;
            return Err(fmt::Error);
        }
        self.text.push_str(text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_each_language() {
        for (symbol, expected) in [
            ("main.(*proxy).syncProxyRules", "main.(*proxy).syncProxyRules"),
            ("do_flock", "do_flock"),
            ("_ZN4core3fmt9Formatter3pad17h0123456789abcdefE", "core::fmt::Formatter::pad"),
            ("_RNvCs1234_7mycrate3foo", "mycrate::foo"),
            ("_ZNSt6vectorIiSaIiEE9push_backERKi", "std::vector<int, std::allocator<int> >::push_back"),
            ("_Znot_a_name", "_Znot_a_name"),
            ("", ""),
        ] {
            assert_eq!(function_name(symbol.as_bytes()), expected);
        }
        assert_eq!(function_name(b"a\x1b[2J\xff"), r"a\x1b[2J\xff");
    }

    #[test]
    fn crafted_names_stay_small_and_quick() {
        // Each substitution doubles the text before it; the depth is what a recursive parser would follow.
        let mut doubling = String::from("_Z1fI");
        for step in 0..40 {
            let of = if step == 0 { "i".to_owned() } else { format!("S{}_", step_name(step - 1)) };
            doubling += &format!("St4pairI{of}{of}E");
        }
        let deep = format!("_Z1f{}i", "P".repeat(1_000));
        let deep_rust = format!("_R{}", "B_".repeat(900));
        let backreferences = format!("_RNvC1a{}", "INvB_1bB_E".repeat(100));
        for symbol in [doubling, deep, deep_rust, backreferences] {
            let begun = std::time::Instant::now();
            assert!(function_name(symbol.as_bytes()).len() <= NAME_BYTES_MAX);
            assert!(begun.elapsed().as_millis() < 500, "{symbol}");
        }
    }

    fn step_name(number: usize) -> String {
        if number == 0 {
            String::new()
        } else {
            char::from_digit(number as u32 % 36, 36).unwrap().to_uppercase().to_string()
        }
    }
}
