//! The contract's own rules: what its structs may hold, and that each record is found under one name on both sides.

use super::Finding;
use super::paths::{Named, paths};
use super::source::{Source, line_of, past_bracket, words};
use super::tree::Tree;

/// The contract's folder.
const ABI: &str = "agent-ebpf/src/abi/";
/// The kernel's half, and the agent's.
const PROBES: &str = "agent-ebpf/src/probes/";
const DECODERS: &str = "agent/src/decode/";
/// Integers of the same width everywhere.
const FIXED_WIDTH: [&str; 8] = ["u8", "u16", "u32", "u64", "i8", "i16", "i32", "i64"];

/// A struct that crosses the border.
struct Struct<'a> {
    name: &'a str,
    offset: usize,
    /// Names and types of its fields.
    fields: Vec<(&'a str, &'a str)>,
}

/// The `#[repr(C)]` structs of a file.
fn structs(source: &Source) -> Vec<Struct<'_>> {
    let code = source.shipped.as_str();
    let after_attribute = code.match_indices("#[repr(C").map(|(at, _)| at);
    after_attribute
        .filter_map(|attribute| {
            let offset = attribute + words(&code[attribute..], "struct").next()?;
            let rest = code[offset + "struct".len()..].trim_start();
            let name = &rest[..rest.find(|c: char| !c.is_alphanumeric() && c != '_')?];
            let open = offset + code[offset..].find('{')?;
            let body = &code[open + 1..past_bracket(code, open) - 1];
            Some(Struct { name, offset, fields: split_fields(body) })
        })
        .collect()
}

/// Splits at the commas outside brackets.
fn split_fields(body: &str) -> Vec<(&str, &str)> {
    let (mut at, mut start) = (0, 0);
    let mut parts = Vec::new();
    while at < body.len() {
        match body.as_bytes()[at] {
            b'(' | b'[' | b'{' => at = past_bracket(body, at),
            b',' => {
                parts.push(&body[start..at]);
                at += 1;
                start = at;
            }
            _ => at += 1,
        }
    }
    parts.push(&body[start..]);
    let field = |part: &'_ str| -> Option<(usize, usize)> {
        let colon = part.find(": ")?;
        let name = part[..colon].rfind(char::is_whitespace).map_or(0, |space| space + 1);
        Some((name, colon))
    };
    parts
        .into_iter()
        .filter_map(|part| field(part).map(|(name, colon)| (&part[name..colon], part[colon + 2..].trim())))
        .collect()
}

/// Breaks of: contract structs hold fixed-width integers, arrays of them and other contract structs.
pub(super) fn fields(tree: &Tree) -> Vec<Finding> {
    let known: Vec<&str> = tree.under(ABI).flat_map(structs).map(|found| found.name).collect();
    let mut findings = Vec::new();
    for source in tree.under(ABI) {
        for found in structs(source) {
            for (field, kind) in found.fields.iter().filter(|(_, kind)| !allowed(kind, &known)) {
                let what = format!("{}.{field} is a {kind}", found.name);
                findings.push(Finding::new(&source.path, line_of(&source.shipped, found.offset), what));
            }
        }
    }
    findings
}

fn allowed(kind: &str, structs: &[&str]) -> bool {
    if let Some((element, _)) = kind.strip_prefix('[').and_then(|array| array.split_once(';')) {
        return allowed(element.trim(), structs);
    }
    let name = kind.rsplit("::").next().unwrap_or(kind);
    FIXED_WIDTH.contains(&kind) || structs.contains(&name)
}

/// Breaks of: a size assert stands beside each contract struct, and a record starts with its header.
pub(super) fn sizes_and_headers(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in tree.under(ABI) {
        for found in structs(source) {
            let line = line_of(&source.shipped, found.offset);
            let assert = format!("const _: () = assert!(size_of::<{}>() == ", found.name);
            if !source.shipped.contains(&assert) {
                findings.push(Finding::new(&source.path, line, format!("no size assert for {}", found.name)));
            }
            let header = found.fields.iter().position(|(_, kind)| *kind == "Header");
            if header.is_some_and(|position| position > 0) {
                findings.push(Finding::new(
                    &source.path,
                    line,
                    format!("{} does not start with it", found.name),
                ));
            }
        }
    }
    findings
}

/// Breaks of: a record is found under one name on both sides.
pub(super) fn mirrors(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    // Stages that are not there at all are the compiler's business.
    let has_probes = tree.under(PROBES).next().is_some();
    for record in tree.under(ABI).filter(|source| has_probes && !records(source).is_empty()) {
        let namesake = format!("{PROBES}{}.rs", record.stem());
        if !tree.has(&namesake) {
            findings.push(Finding::new(&record.path, 1, format!("has a record, but there is no {namesake}")));
        }
    }
    for decoder in tree.under(DECODERS).filter(|source| source.stem() != "mod") {
        for (record, file) in tree.under(ABI).flat_map(records) {
            let names = |named: &Named| named.segments.windows(2).any(|pair| pair == [file, record]);
            if file != decoder.stem() && paths(&decoder.shipped).iter().any(names) {
                let what = format!("decodes {record}, which belongs in {DECODERS}{file}.rs");
                findings.push(Finding::new(&decoder.path, 1, what));
            }
        }
    }
    findings
}

/// The records of a contract file, each with the file's name.
fn records(source: &Source) -> Vec<(&str, &str)> {
    let starts_with_header = |found: &Struct| found.fields.first().is_some_and(|(_, kind)| *kind == "Header");
    let records = structs(source).into_iter().filter(starts_with_header);
    records.map(|found| (found.name, source.stem())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "#[repr(C)]\n#[derive(Clone)]\npub struct Exec {\n    /// a, b\n    pub header: Header,\n    \
        pub counts: [TypeCount; 4],\n    pub task: super::Task,\n    pub len: u16,\n}\n\
        const _: () = assert!(size_of::<Exec>() == 8);\n";
    const OTHERS: &str = "#[repr(C)] pub struct Header { pub a: u64, }\n#[repr(C)] struct Task { a: u8 }\n\
        #[repr(C)] struct TypeCount { a: u8 }\n#[repr(u32)] pub enum Kind { Exec = 1 }\n\
        const _: () = assert!(size_of::<Header>() == 8);\nconst _: () = assert!(size_of::<Task>() == 1);\n\
        const _: () = assert!(size_of::<TypeCount>() == 1);\n";

    fn tree(exec: &str) -> Tree {
        Tree::of(&[("agent-ebpf/src/abi/exec.rs", exec), ("agent-ebpf/src/abi/mod.rs", OTHERS)])
    }

    #[test]
    fn fields_of_other_kinds_are_caught() {
        assert_eq!(fields(&tree(GOOD)), []);
        for kind in ["usize", "bool", "Kind", "[usize; 2]", "Option<u32>", "*const u8"] {
            assert_eq!(fields(&tree(&GOOD.replace("u16", kind))).len(), 1, "{kind}");
        }
    }

    #[test]
    fn a_missing_assert_and_a_late_header_are_caught() {
        assert_eq!(sizes_and_headers(&tree(GOOD)), []);
        assert_eq!(sizes_and_headers(&tree(&GOOD.replace("assert!", "check!"))).len(), 1);
        let late =
            GOOD.replace("pub header: Header,", "").replace("len: u16,", "len: u16,\npub header: Header,");
        assert_eq!(sizes_and_headers(&tree(&late)).len(), 1);
    }

    #[test]
    fn a_record_under_other_names_is_caught() {
        let with = |probe, decoder| {
            Tree::of(&[
                ("agent-ebpf/src/abi/exec.rs", GOOD),
                ("agent-ebpf/src/abi/mod.rs", OTHERS),
                (probe, "//! x"),
                (decoder, "use slowpod_ebpf::abi::{Header, exec::{Exec, FLAG}};"),
            ])
        };
        assert_eq!(mirrors(&with("agent-ebpf/src/probes/exec.rs", "agent/src/decode/exec.rs")), []);
        assert_eq!(mirrors(&with("agent-ebpf/src/probes/exit.rs", "agent/src/decode/exec.rs")).len(), 1);
        assert_eq!(mirrors(&with("agent-ebpf/src/probes/exec.rs", "agent/src/decode/names.rs")).len(), 1);
    }
}
