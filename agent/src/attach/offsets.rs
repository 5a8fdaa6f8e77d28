//! Where the fields of kernel structures are on this kernel, for the globals of the kernel object.

use super::btf::Btf;
use slowpod_ebpf::abi::offsets::{MISSING, OFFSETS};

/// Every row of [`OFFSETS`] with its value on this kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offsets {
    values: Vec<(&'static str, u32)>,
}

impl Offsets {
    /// Looks every field up, trying its spellings in turn.
    pub fn resolve(btf: &Btf<'_>) -> Offsets {
        let find = |spellings: &[&str]| spellings.iter().find_map(|spelling| btf.offset(spelling));
        Offsets {
            values: OFFSETS.iter().map(|row| (row.global, find(row.spellings).unwrap_or(MISSING))).collect(),
        }
    }

    /// Globals and their values; [`MISSING`] where this kernel has no such field.
    pub fn globals(&self) -> &[(&'static str, u32)] {
        &self.values
    }

    /// Of `fields`, those that this kernel does not have, by their first spelling.
    pub fn missing(&self, fields: &[&str]) -> Vec<&'static str> {
        OFFSETS
            .iter()
            .zip(&self.values)
            .filter(|(row, (_, value))| *value == MISSING && fields.contains(&row.global))
            .map(|(row, _)| row.spellings[0])
            .collect()
    }

    /// Whether this kernel has the field behind a global.
    pub fn has(&self, global: &str) -> bool {
        self.values.iter().any(|(name, value)| *name == global && *value != MISSING)
    }
}
