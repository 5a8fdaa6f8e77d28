//! The committed kernel object against the table of probes: no kernel is needed to see that a program is missing.

use super::Finding;
use super::tree::{OBJECT, Tree};
use object::{Object, ObjectSymbol};
use slowpod_ebpf::abi::probes::PROBES;
use std::collections::BTreeSet;

/// Breaks of: every program of PROBES exists in the committed kernel object.
pub(super) fn has_every_program(tree: &Tree) -> Vec<Finding> {
    let Some(bytes) = &tree.object else {
        return vec![Finding::new(OBJECT, 1, "is not there: run `cargo xtask ebpf`")];
    };
    let functions = match functions(bytes) {
        Ok(functions) => functions,
        Err(error) => return vec![Finding::new(OBJECT, 1, format!("is no ELF object: {error}"))],
    };
    programs()
        .difference(&functions)
        .map(|name| Finding::new(OBJECT, 1, format!("has no program {name:?}, which PROBES names")))
        .collect()
}

/// Programs that the table of probes names.
fn programs() -> BTreeSet<String> {
    let rungs = PROBES.iter().flat_map(|probe| probe.rungs);
    rungs.flat_map(|rung| rung.programs).map(|program| program.name.to_owned()).collect()
}

/// Functions an ELF object defines.
fn functions(bytes: &[u8]) -> Result<BTreeSet<String>, object::Error> {
    let file = object::File::parse(bytes)?;
    let defined = file.symbols().filter(|symbol| symbol.is_definition());
    defined.map(|symbol| symbol.name().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_or_missing_object_is_caught() {
        assert_eq!(has_every_program(&Tree::default()).len(), 1);
        let text = Tree { object: Some(b"no ELF".to_vec()), ..Tree::default() };
        assert!(has_every_program(&text)[0].what.starts_with("is no ELF object"));
    }

    #[test]
    fn an_object_without_our_programs_is_caught() {
        // This test's own executable is an ELF object that has functions, and none of PROBES.
        let own = std::fs::read("/proc/self/exe").expect("a process can read its own executable");
        let names = functions(&own).expect("what runs is an ELF object");
        assert!(!names.is_empty());
        let tree = Tree { object: Some(own), ..Tree::default() };
        assert_eq!(has_every_program(&tree).len(), programs().len());
    }
}
