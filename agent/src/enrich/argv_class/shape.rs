//! How a tool's command line is laid out, and how each layout is read.

use super::{Class, iproute, tools};
use crate::enrich::text::{self, is_listed};

/// Longest sub-command word of a known tool. Longer ones are values in the wrong place.
const COMMAND_BYTES: usize = 32;
/// Longest leading word taken from an unknown tool.
const GUESS_BYTES: usize = 16;
/// Most sub-command words (`cilium bpf ct list` has three).
const COMMAND_WORDS: usize = 3;
/// Wrappers inside wrappers that are followed (`sudo nsenter timeout ip`).
const WRAPPERS: u32 = 3;

/// Words, separated by single spaces.
pub(super) type List = &'static str;
/// `word=shown` pairs, separated by single spaces.
pub(super) type Pairs = &'static str;
/// Letters of short options.
pub(super) type Letters = &'static str;

/// A tool's layout.
pub(super) enum Shape {
    /// What follows the name is data (`cat FILE`).
    Name,
    /// Options, then sub-command words.
    Words(&'static Words),
    /// The command is an option (`iptables -t nat -A`).
    Flags(&'static Flags),
    /// iproute2: options, an object, a verb, each of which may be abbreviated.
    Objects(&'static iproute::Grammar),
    /// Options, then a program file, or code given as an option.
    Interpreter(&'static Interpreter),
    /// Options and operands, then another command.
    Wrapper(&'static Wrapper),
    /// The next word is the command itself (`busybox sh`).
    MultiCall,
}

/// Layout of tools with sub-commands.
pub(super) struct Words {
    /// Options whose value is the next word.
    pub(super) valued: List,
    /// Sub-commands that are followed by another one (`git remote add`).
    pub(super) groups: List,
    /// Options that are a command themselves, and how they are shown (`nft --file` as `-f`).
    pub(super) commands: Pairs,
}

/// Layout of tools whose command is an option, in getopt's terms.
pub(super) struct Flags {
    /// Short options that are commands.
    pub(super) commands: Letters,
    /// Short options whose value is the rest of the word or the next word.
    pub(super) valued: Letters,
    /// Short options whose value, if any, is the rest of the word.
    pub(super) attached: Letters,
    /// Long options that are commands, and the short form they are shown in.
    pub(super) longs: Pairs,
}

/// Layout of interpreters.
pub(super) struct Interpreter {
    /// Short options that hold code: the class ends with them (`sh -c`).
    pub(super) code: Letters,
    /// Short option that names a module (`python3 -m`), shown with its name.
    pub(super) module: Letters,
    /// As in [`Flags`].
    pub(super) valued: Letters,
    /// As in [`Flags`].
    pub(super) attached: Letters,
    /// Long options whose value is the next word.
    pub(super) valued_longs: List,
}

/// Layout of tools that run another command.
pub(super) struct Wrapper {
    /// As in [`Flags`].
    pub(super) valued: Letters,
    /// Long options whose value is the next word.
    pub(super) valued_longs: List,
    /// Words between the options and the command (`timeout 5 CMD` has one).
    pub(super) operands: usize,
}

/// What a short-option word (`-nvL`) holds.
enum Short {
    /// A letter of the wanted set.
    Wanted(u8),
    /// An option whose value is the next word.
    NeedsValue,
    /// Nothing of interest.
    Other,
}

/// Adds the class of a command: its name, and the words its layout says.
pub(super) fn describe(class: &mut Class, name: &[u8], args: &[&[u8]], depth: u32) {
    let shape = tools::shape(name);
    if !matches!(shape, Some(Shape::MultiCall)) || args.first().is_none_or(|word| !is_command(word)) {
        class.push(name);
    }
    match shape {
        None => guess(class, args),
        Some(Shape::Name) => {}
        Some(Shape::Words(words)) => sub_commands(class, words, args),
        Some(Shape::Flags(flags)) => command_flag(class, flags, args),
        Some(Shape::Objects(grammar)) => {
            if let Some(inner) = iproute::describe(class, grammar, args) {
                command(class, inner, depth);
            }
        }
        Some(Shape::Interpreter(interpreter)) => program_file(class, interpreter, args),
        Some(Shape::Wrapper(wrapper)) => command(class, unwrap(wrapper, args), depth),
        Some(Shape::MultiCall) => {
            if args.first().is_some_and(|word| is_command(word)) {
                command(class, args, depth);
            }
        }
    }
}

/// A command inside another one.
fn command(class: &mut Class, words: &[&[u8]], depth: u32) {
    if let Some((name, args)) = words.split_first()
        && depth < WRAPPERS
        && !name.starts_with(b"-")
    {
        describe(class, text::base_name(name), args, depth + 1);
    }
}

/// An unknown tool: its first argument when it cannot be anything but a word.
fn guess(class: &mut Class, args: &[&[u8]]) {
    if let Some(word) = args.first()
        && word.len() <= GUESS_BYTES
        && word.first().is_some_and(u8::is_ascii_lowercase)
        && word.iter().all(|byte| byte.is_ascii_lowercase() || *byte == b'-')
    {
        class.push(word);
    }
}

fn sub_commands(class: &mut Class, words: &Words, args: &[&[u8]]) {
    let mut rest = args.iter();
    let mut taken = 0;
    while let Some(word) = rest.next() {
        if let Some(shown) = paired(words.commands, word) {
            return class.push(shown.as_bytes());
        }
        if word.starts_with(b"-") {
            if is_listed(words.valued, word) {
                rest.next();
            }
            continue;
        }
        // `nft 'add rule ip nat ...'` gives the whole command as one word.
        for part in word.split(|byte| *byte == b' ') {
            if !is_command(part) {
                return;
            }
            class.push(part);
            taken += 1;
            if !is_listed(words.groups, part) || taken == COMMAND_WORDS {
                return;
            }
        }
    }
}

fn command_flag(class: &mut Class, flags: &Flags, args: &[&[u8]]) {
    let mut rest = args.iter();
    while let Some(word) = rest.next() {
        if word.contains(&b' ') {
            // `--comment "-A ..."`: text, whatever it starts with.
        } else if word.starts_with(b"--") {
            let name = word.split(|byte| *byte == b'=').next().unwrap_or(word);
            if let Some(shown) = paired(flags.longs, name) {
                return class.push(shown.as_bytes());
            }
        } else if word.starts_with(b"-") {
            match short_options(word, flags.commands, flags.valued, flags.attached) {
                Short::Wanted(letter) => return class.push(&[b'-', letter]),
                Short::NeedsValue => skip(&mut rest),
                Short::Other => {}
            }
        }
    }
}

fn program_file(class: &mut Class, interpreter: &Interpreter, args: &[&[u8]]) {
    let wanted = [interpreter.code, interpreter.module].concat();
    let mut rest = args.iter();
    while let Some(word) = rest.next() {
        if word.starts_with(b"--") && word.len() > 2 {
            if is_listed(interpreter.valued_longs, word) {
                rest.next();
            }
            continue;
        }
        if word.len() > 1 && (word.starts_with(b"-") || word.starts_with(b"+")) && *word != b"--" {
            match short_options(word, &wanted, interpreter.valued, interpreter.attached) {
                Short::Wanted(letter) => {
                    class.push(&[b'-', letter]);
                    if interpreter.module.as_bytes().contains(&letter)
                        && let Some(module) = rest.next()
                    {
                        class.push(module);
                    }
                    return;
                }
                Short::NeedsValue => skip(&mut rest),
                Short::Other => {}
            }
            continue;
        }
        if !matches!(*word, b"-" | b"--" | b"") {
            return class.push(text::base_name(word));
        }
    }
}

/// The command that a wrapper runs: what is left after its options, `NAME=value` words and operands.
fn unwrap<'a, 'b>(wrapper: &Wrapper, args: &'a [&'b [u8]]) -> &'a [&'b [u8]] {
    let mut at = 0;
    while let Some(word) = args.get(at) {
        if *word == b"--" {
            at += 1;
            break;
        } else if word.starts_with(b"--") {
            at += usize::from(is_listed(wrapper.valued_longs, word));
        } else if word.starts_with(b"-") {
            at += usize::from(matches!(short_options(word, "", wrapper.valued, ""), Short::NeedsValue));
        } else if !is_assignment(word) {
            break;
        }
        at += 1;
    }
    args.get(at + wrapper.operands..).unwrap_or_default()
}

/// Passes over an option's value.
fn skip<'a>(rest: &mut impl Iterator<Item = &'a &'a [u8]>) {
    rest.next();
}

/// Reads one word of short options as getopt does: letters, until one of them takes the rest as its value.
fn short_options(word: &[u8], wanted: &str, valued: &str, attached: &str) -> Short {
    let letters = word.get(1..).unwrap_or_default();
    for (at, letter) in letters.iter().enumerate() {
        if wanted.as_bytes().contains(letter) {
            return Short::Wanted(*letter);
        }
        if valued.as_bytes().contains(letter) {
            return if at + 1 == letters.len() { Short::NeedsValue } else { Short::Other };
        }
        if attached.as_bytes().contains(letter) {
            return Short::Other;
        }
    }
    Short::Other
}

/// What a word is paired with.
fn paired(pairs: Pairs, word: &[u8]) -> Option<&'static str> {
    let entries = pairs.split(' ').filter_map(|entry| entry.split_once('='));
    entries.into_iter().find(|(from, _)| from.as_bytes() == word).map(|(_, shown)| shown)
}

/// Whether a word can be a sub-command of a known tool: a letter, then letters, digits, `-`, `_`, `.`.
fn is_command(word: &[u8]) -> bool {
    word.len() <= COMMAND_BYTES
        && word.first().is_some_and(u8::is_ascii_alphabetic)
        && word.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

/// Whether a word is `NAME=value`, as env and sudo take before the command.
fn is_assignment(word: &[u8]) -> bool {
    let Some(equals) = word.iter().position(|byte| *byte == b'=') else { return false };
    equals > 0 && word[..equals].iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
}
