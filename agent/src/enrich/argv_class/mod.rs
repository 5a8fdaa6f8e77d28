//! The argv class of a command line. In: what exec was given. Out: `ipset add`, `ip route replace`,
//! `iptables -A`: the binary's name plus its leading sub-command words, with the variable words removed.
//!
//! - Tools of this field are in a table ([`tools`]) that says which options take a value and how many words
//!   name the sub-command. Spellings of one command become one class: `--append` is `-A`, `ip r rep` is
//!   `ip route replace`, `ipset -A` is `ipset add`. Versions in names stay.
//! - An unknown tool gives its name, and its first argument when that is plainly a word (`foo sync`).
//! - A wrapper is shown before what it runs: `timeout ipset add`. Most wrappers become their program by a
//!   second exec, or fork it; that exec has a class of its own, and one name for both would count it twice.
//! - A `#!` script goes by its own name; a script given to an interpreter by both: `python3 sync.py`.
//! - BusyBox and its like go by the applet's name. What was run through `/proc/self/exe` or a descriptor
//!   goes by `argv[0]`, else by comm.

mod iproute;
mod shape;
mod tools;

use super::text;
use slowpod_ebpf::abi::exec::{FLAG_ARGV_CUT, FLAG_ARGV_UNREAD, FLAG_CLASS_ONLY, FLAG_PATH_CUT, FLAG_SCRIPT};
use std::borrow::Cow;

/// Longest class, in bytes. It is a table key and a metric label; sub-command words are short.
pub const CLASS_BYTES: usize = 64;

/// What exec was given, as it stands in an [`slowpod_ebpf::abi::exec::Exec`] record.
#[derive(Clone, Copy, Debug, Default)]
pub struct CommandLine<'a> {
    /// The path as given to exec.
    pub path: &'a [u8],
    /// NUL-separated arguments, program name first; may be cut.
    pub argv: &'a [u8],
    /// The process's comm after the exec; NUL padding is ignored.
    pub comm: &'a [u8],
    /// `FLAG_*` bits of [`slowpod_ebpf::abi::exec`]: script, path cut, argv cut, class only.
    pub flags: u32,
}

impl<'a> CommandLine<'a> {
    /// The whole words of argv. The last word of a cut argv may be half of one and is left out.
    fn words(&self) -> Vec<&'a [u8]> {
        if self.argv.is_empty() || self.has(FLAG_ARGV_UNREAD) {
            return Vec::new();
        }
        let ended = self.argv.strip_suffix(b"\0");
        let mut words: Vec<&[u8]> = ended.unwrap_or(self.argv).split(|byte| *byte == 0).collect();
        if ended.is_none() && self.has(FLAG_ARGV_CUT) {
            words.pop();
        }
        words
    }

    fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }
}

/// The argv class: visible text of 1 to [`CLASS_BYTES`] bytes. `?` when nothing at all is known.
pub fn argv_class(command: &CommandLine<'_>) -> String {
    class_words(command).join(" ")
}

/// The words of the argv class, one by one.
pub fn class_words(command: &CommandLine<'_>) -> Vec<String> {
    let mut class = Class::default();
    let words = command.words();
    let first = words.first().and_then(|word| usable_name(word));
    if command.has(FLAG_CLASS_ONLY) {
        words.iter().for_each(|word| class.push(word));
    } else if command.has(FLAG_SCRIPT) {
        let named = path_name(command).or_else(|| words.get(1).and_then(|word| usable_name(word)));
        class.push(named.or(first).unwrap_or(command.comm));
    } else {
        let mut name = path_name(command).or(first).unwrap_or(text::until_nul(command.comm));
        if let Some(first) = first
            && tools::is_multi_call(name)
        {
            name = first;
        }
        shape::describe(&mut class, name, words.get(1..).unwrap_or_default(), 0);
    }
    if class.words.is_empty() {
        class.push(text::until_nul(command.comm));
    }
    if class.words.is_empty() {
        class.push(b"?");
    }
    class.words
}

/// Name of the file that was run; `None` when its path does not tell.
fn path_name<'a>(command: &CommandLine<'a>) -> Option<&'a [u8]> {
    if command.has(FLAG_PATH_CUT) {
        return None;
    }
    // The start-up scan reads paths from `/proc/PID/exe`, which marks removed files so.
    usable_name(command.path.strip_suffix(b" (deleted)").unwrap_or(command.path))
}

/// Base name of a path, unless the path only points at a file (`/proc/self/exe`, a descriptor, a memfd) or
/// is empty. The dash that marks a login shell's `argv[0]` is left out.
fn usable_name(path: &[u8]) -> Option<&[u8]> {
    let points = path.starts_with(b"/dev/fd/")
        || path.starts_with(b"/memfd:")
        || path.strip_prefix(b"/proc/").is_some_and(|rest| {
            let mut parts = rest.split(|byte| *byte == b'/').skip(1);
            matches!(parts.next(), Some(b"exe" | b"fd"))
        });
    let name = text::base_name(path);
    let name = name.strip_prefix(b"-").unwrap_or(name);
    (!points && !name.is_empty()).then_some(name)
}

/// A class being put together.
#[derive(Default)]
struct Class {
    words: Vec<String>,
    /// Bytes taken so far, separating spaces included.
    bytes: usize,
    /// A word did not fit: later ones would be out of place.
    full: bool,
}

impl Class {
    /// Adds a word, made safe. A word that does not fit ends the class; the first one is cut to fit.
    fn push(&mut self, word: &[u8]) {
        if word.is_empty() || self.full {
            return;
        }
        let separator = usize::from(!self.words.is_empty());
        let text: Cow<'_, str> = text::safe(word, CLASS_BYTES);
        if self.bytes + separator + text.len() > CLASS_BYTES {
            self.full = true;
            return;
        }
        self.bytes += separator + text.len();
        self.words.push(text.into_owned());
    }
}

#[cfg(test)]
mod tests;
