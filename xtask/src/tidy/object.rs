//! The committed kernel object against the tables of probes and offsets: no kernel is needed to see that a program or a
//! global is missing.

use super::Finding;
use super::tree::{OBJECT, Tree};
use object::{Object, ObjectSymbol};
use slowpod_ebpf::abi::{offsets::OFFSETS, probes::PROBES, probes::WAKES};
use std::collections::BTreeSet;

/// Breaks of: what PROBES and OFFSETS name exists in the committed kernel object.
pub(super) fn has_what_is_named(tree: &Tree) -> Vec<Finding> {
    let Some(bytes) = &tree.object else {
        return vec![Finding::new(OBJECT, 1, "is not there: run `cargo xtask ebpf`")];
    };
    let defined = match symbols(bytes) {
        Ok(defined) => defined,
        Err(error) => return vec![Finding::new(OBJECT, 1, format!("is no ELF object: {error}"))],
    };
    let missing = named().into_iter().filter(|(_, name)| !defined.contains(*name));
    missing.map(|(kind, name)| Finding::new(OBJECT, 1, format!("has no {kind} {name}"))).collect()
}

/// Programs that the table of probes names, and globals that the table of offsets names.
fn named() -> BTreeSet<(&'static str, &'static str)> {
    let rungs = PROBES.iter().flat_map(|probe| probe.rungs);
    let programs =
        rungs.chain([&WAKES]).flat_map(|rung| rung.programs).map(|program| ("program", program.name));
    programs.chain(OFFSETS.iter().map(|offset| ("global", offset.global))).collect()
}

/// Names an ELF object defines.
fn symbols(bytes: &[u8]) -> Result<BTreeSet<String>, object::Error> {
    let file = object::File::parse(bytes)?;
    let defined = file.symbols().filter(|symbol| symbol.is_definition());
    defined.map(|symbol| symbol.name().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_or_missing_object_is_caught() {
        assert_eq!(has_what_is_named(&Tree::default()).len(), 1);
        let text = Tree { object: Some(b"no ELF".to_vec()), ..Tree::default() };
        assert!(has_what_is_named(&text)[0].what.starts_with("is no ELF object"));
    }

    #[test]
    fn an_object_without_our_programs_is_caught() {
        // This test's own executable is an ELF object that has symbols, and none of ours.
        let own = std::fs::read("/proc/self/exe").expect("a process can read its own executable");
        let names = symbols(&own).expect("what runs is an ELF object");
        assert!(!names.is_empty());
        let tree = Tree { object: Some(own), ..Tree::default() };
        assert_eq!(has_what_is_named(&tree).len(), named().len());
    }
}
