//! The namespaces of a process, as part of its fact.

use serde::{Deserialize, Serialize};

/// Inode numbers, as `readlink /proc/PID/ns/mnt` shows them; each 0 when not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespaces {
    /// Mount namespace.
    pub mount: u32,
    /// Pid namespace the process itself is in, whatever its children's will be.
    pub pid: u32,
    /// Network namespace.
    pub net: u32,
}

impl Namespaces {
    /// Whether none is known.
    pub fn is_unknown(&self) -> bool {
        *self == Namespaces::default()
    }
}
