//! Where the fields of kernel structures are on this kernel, for the globals of the kernel object.

use super::btf::Btf;
use slowpod_ebpf::abi::offsets::{MISSING, OFFSETS};

/// Every row of [`OFFSETS`] with its value on this kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Offsets {
    values: Vec<(&'static str, u32)>,
}

impl Offsets {
    /// Looks every field up, trying its spellings in turn.
    pub(super) fn resolve(btf: &Btf<'_>) -> Offsets {
        let find = |spellings: &[&str]| spellings.iter().find_map(|spelling| btf.offset(spelling));
        Offsets {
            values: OFFSETS.iter().map(|row| (row.global, find(row.spellings).unwrap_or(MISSING))).collect(),
        }
    }

    /// Globals and their values; [`MISSING`] where this kernel has no such field.
    pub(super) fn globals(&self) -> &[(&'static str, u32)] {
        &self.values
    }

    /// Of `fields`, those that this kernel does not have, by their first spelling.
    pub(super) fn missing(&self, fields: &[&str]) -> Vec<&'static str> {
        OFFSETS
            .iter()
            .zip(&self.values)
            .filter(|(row, (_, value))| *value == MISSING && fields.contains(&row.global))
            .map(|(row, _)| row.spellings[0])
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_a_kernel_without_any_of_it_everything_is_missing_and_named() {
        // A header, no types, one empty string.
        let mut bytes = vec![0x9f, 0xeb, 1, 0, 24, 0, 0, 0];
        for word in [0u32, 0, 0, 1] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        bytes.push(0);
        let btf = Btf::parse(&bytes).expect("an empty description is one");
        let offsets = Offsets::resolve(&btf);
        assert_eq!(offsets.globals().len(), OFFSETS.len());
        assert!(offsets.globals().iter().all(|(_, value)| *value == MISSING));
        assert_eq!(offsets.missing(&["OFF_TASK_PID", "OFF_RQ_CLOCK"]), ["task_struct.pid", "rq.clock"]);
        assert!(offsets.missing(&[]).is_empty());
    }

    #[test]
    fn globals_are_listed_once_and_probes_name_only_those() {
        let names: std::collections::BTreeSet<_> = OFFSETS.iter().map(|row| row.global).collect();
        assert_eq!(names.len(), OFFSETS.len());
        for rung in slowpod_ebpf::abi::probes::PROBES.iter().flat_map(|probe| probe.rungs) {
            assert!(rung.fields.iter().all(|field| names.contains(field)), "{}", rung.name);
        }
    }
}
