//! Cgroup records: the path follows the fixed part.

use super::{Garbled, fixed, part};
use slowpod_ebpf::abi;

/// A cgroup made or removed, with its path.
#[derive(Clone, Copy, Debug)]
pub struct Cgroup<'a> {
    /// The fixed part of the record.
    pub fixed: abi::cgroup::Cgroup,
    /// Path relative to the hierarchy's root.
    pub path: &'a [u8],
}

pub(super) fn cgroup(bytes: &[u8]) -> Result<Cgroup<'_>, Garbled> {
    let (fixed, rest) = fixed::<abi::cgroup::Cgroup>(bytes)?;
    let (path, _) = part(bytes, rest, fixed.path_len as usize)?;
    Ok(Cgroup { fixed, path })
}
