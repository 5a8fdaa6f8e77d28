//! The code that the kernel maps into every process (`vdso`: clocks, random numbers). In: our own copy of it,
//! which is everyone's. Out: its bytes, an ELF file.

use super::binary::Binary;
use super::maps::{MAPS_BYTES_MAX, Mapping, MappingKind, Maps};
use crate::capture::facts::proc::Directory;
use crate::decode::fact::symbols::Function;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Largest code believed in; it has two pages.
const VDSO_BYTES_MAX: u64 = 64 << 10;

/// The vdso of 64-bit processes.
#[derive(Debug, Default)]
pub struct Vdso {
    bytes: Vec<u8>,
    binary: Option<Binary>,
}

impl Vdso {
    /// Reads it; without names where there is none, or it cannot be read.
    pub fn read() -> Vdso {
        let bytes = own_bytes().unwrap_or_default();
        let binary = Binary::read(&bytes).ok();
        Vdso { bytes, binary }
    }

    /// Its build id; empty when it has none.
    pub fn build_id(&self) -> &str {
        self.binary.as_ref().map_or("", Binary::build_id)
    }

    /// The functions so far into a mapping of it. A mapping of another size is that of a 32-bit process.
    pub fn functions(&self, mapping: &Mapping, offset: u64) -> Vec<Function> {
        let ours = mapping.range.end - mapping.range.start == self.bytes.len() as u64;
        let binary = self.binary.as_ref().filter(|_| ours);
        let at = binary.and_then(|binary| Some((binary, binary.vaddr_of(offset)?)));
        at.and_then(|(binary, vaddr)| binary.symbol(&self.bytes, vaddr)).into_iter().collect()
    }
}

/// Our own copy.
pub(super) fn own_bytes() -> Option<Vec<u8>> {
    let own = Directory::open(Path::new(&format!("/proc/{}", std::process::id()))).ok()?;
    let maps = Maps::parse(&own.read_lines(c"maps", MAPS_BYTES_MAX).ok()?);
    let mapping = maps.iter().find(|mapping| mapping.kind == MappingKind::Vdso)?;
    let len = mapping.range.end - mapping.range.start;
    let mut bytes = vec![0; usize::try_from(len.min(VDSO_BYTES_MAX)).ok()?];
    // Our own memory, read as a file: no pointer is made of the address.
    File::open("/proc/self/mem").ok()?.read_exact_at(&mut bytes, mapping.range.start).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_has_names() {
        let vdso = Vdso::read();
        assert!(!vdso.build_id().is_empty());
        let mapping = |bytes| Mapping { range: 0..bytes, offset: 0, inode: 0, kind: MappingKind::Vdso };
        let names = |bytes| -> Vec<String> {
            let functions = (0..bytes).flat_map(|at| vdso.functions(&mapping(bytes), at));
            functions.map(|function| function.name).collect()
        };
        let size = vdso.bytes.len() as u64;
        assert!(names(size).iter().any(|name| name.contains("clock_gettime")));
        assert!(names(size / 2).is_empty(), "another vdso");
    }
}
