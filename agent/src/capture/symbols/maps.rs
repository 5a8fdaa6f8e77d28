//! The code a process has mapped. In: the text of `/proc/PID/maps`. Out: its mappings by address.
//!
//! Paths are the process's to choose: they may hold blanks, newlines (which the kernel writes as `\012`) and the
//! words ` (deleted)` that the kernel adds itself. So a path is shown, and a file is never opened on its strength
//! alone: see [`super::open`]. Format: proc_pid_maps(5).

use super::elf::Elf;
use std::ops::Range;

/// Read at most of a process's maps: Linux allows 65,530 mappings unless told otherwise (`vm.max_map_count`), of
/// some hundred bytes each.
pub const MAPS_BYTES_MAX: usize = 8 << 20;
/// Mappings kept of a process. Only code is kept: a JVM has some hundred of it, most programs a dozen.
const MAPPINGS_MAX: usize = 4_096;
/// Longest path kept of a mapping.
const PATH_BYTES_MAX: usize = 512;
/// What the kernel adds to the path of a file that was removed.
const DELETED: &[u8] = b" (deleted)";

/// A process's mappings of code, by address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Maps {
    mappings: Vec<Mapping>,
    /// There were more than are kept.
    pub cut: bool,
}

/// A mapping.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Mapping {
    /// Its addresses.
    pub range: Range<u64>,
    /// Offset in its file of the first of them.
    pub offset: u64,
    /// Inode number of its file; 0 when it has none.
    pub inode: u64,
    /// What is there.
    pub kind: MappingKind,
}

/// What a mapping holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum MappingKind {
    /// A file: its path in the process's mount namespace, as the kernel writes it.
    File {
        /// Without the mark of a removed file.
        path: Vec<u8>,
        /// The file was removed, or the path ends as if it were.
        deleted: bool,
    },
    /// The kernel's code for user space.
    Vdso,
    /// The heap; code in it is none that a compiler put there.
    Heap,
    /// The main thread's stack.
    Stack,
    /// Memory without a file, in which just-in-time compilers put code.
    Anonymous,
}

impl Maps {
    /// Reads the text; lines that are none are left out.
    pub fn parse(text: &[u8]) -> Maps {
        let mut maps = Maps::default();
        for mapping in text.split(|byte| *byte == b'\n').filter_map(Mapping::parse) {
            // The kernel writes them in order; whatever else comes would not be found.
            if maps.mappings.last().is_some_and(|last| last.range.end > mapping.range.start) {
                continue;
            }
            if maps.mappings.len() >= MAPPINGS_MAX {
                maps.cut = true;
                break;
            }
            maps.mappings.push(mapping);
        }
        maps
    }

    /// The code of a program that runs at the addresses it is linked at, as it is mapped in every process of it;
    /// `None` for any other program.
    pub fn of_fixed_program(elf: &Elf, path: &[u8], inode: u64) -> Option<Maps> {
        let code = elf.segments.iter().filter(|segment| elf.fixed && segment.executable);
        let mut mappings: Vec<Mapping> = code
            .filter_map(|segment| {
                let range = segment.vaddr..segment.vaddr.checked_add(segment.file_bytes)?;
                let kind = MappingKind::File { path: path.into(), deleted: false };
                Some(Mapping { range, offset: segment.offset, inode, kind })
            })
            .collect();
        mappings.sort_by_key(|mapping| mapping.range.start);
        mappings.truncate(MAPPINGS_MAX);
        (!mappings.is_empty()).then_some(Maps { mappings, cut: false })
    }

    /// The mapping that holds an address, and its number.
    pub fn find(&self, address: u64) -> Option<(usize, &Mapping)> {
        let after = self.mappings.partition_point(|mapping| mapping.range.start <= address);
        let index = after.checked_sub(1)?;
        let mapping = self.mappings.get(index)?;
        mapping.range.contains(&address).then_some((index, mapping))
    }

    /// All, by address.
    pub fn iter(&self) -> impl Iterator<Item = &Mapping> {
        self.mappings.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.mappings.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.mappings.is_empty()
    }

    /// Memory they take.
    pub fn held_bytes(&self) -> usize {
        let path = |mapping: &Mapping| match &mapping.kind {
            MappingKind::File { path, .. } => path.len(),
            MappingKind::Vdso | MappingKind::Heap | MappingKind::Stack | MappingKind::Anonymous => 0,
        };
        self.mappings.iter().map(|mapping| size_of::<Mapping>() + path(mapping)).sum()
    }
}

impl Mapping {
    /// A line, if it is one of code, of the heap, or of the stack.
    fn parse(line: &[u8]) -> Option<Mapping> {
        let mut rest = line;
        let mut field = || {
            let end = rest.iter().position(|byte| *byte == b' ').unwrap_or(rest.len());
            let (field, after) = rest.split_at(end);
            rest = after.get(1..).unwrap_or_default();
            std::str::from_utf8(field).ok()
        };
        let (start, end) = field()?.split_once('-')?;
        let protection = field()?;
        let offset = u64::from_str_radix(field()?, 16).ok()?;
        let _device = field()?;
        let inode = field()?.parse().ok()?;
        let path = rest.trim_ascii_start();
        let (start, end) = (u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
        let kind = kind(path, inode);
        let wanted = protection.as_bytes().get(2) == Some(&b'x')
            || matches!(kind, MappingKind::Heap | MappingKind::Stack);
        (wanted && start < end).then_some(Mapping { range: start..end, offset, inode, kind })
    }
}

fn kind(path: &[u8], inode: u64) -> MappingKind {
    match path {
        b"[vdso]" => MappingKind::Vdso,
        b"[heap]" => MappingKind::Heap,
        b"[stack]" => MappingKind::Stack,
        _ if inode == 0 || !path.starts_with(b"/") => MappingKind::Anonymous,
        _ => {
            let stem = path.strip_suffix(DELETED);
            let kept = stem.unwrap_or(path);
            MappingKind::File { path: kept[..kept.len().min(PATH_BYTES_MAX)].into(), deleted: stem.is_some() }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] = b"\
00400000-00452000 r--p 00000000 08:02 173521      /usr/bin/dbus-daemon
00452000-00552000 r-xp 00052000 08:02 173521      /usr/bin/dbus-daemon
00e03000-00e24000 rw-p 00000000 00:00 0           [heap]
35b1800000-35b1820000 r-xp 00000000 08:02 135522  /usr/lib64/a b\\012c (deleted) (deleted)
7f0000000000-7f0000001000 rwxp 00000000 00:00 0 
7f0000001000-7f0000002000 r-xp 00000000 00:01 2048 /memfd:doublemapper (deleted)
7f0000002000-7f0000003000 r-xp 00000000 00:00 0   [anon:v8]
7fffb2c0d000-7fffb2c2e000 rw-p 00000000 00:00 0   [stack]
7fffb2d48000-7fffb2d49000 r-xp 00000000 00:00 0   [vdso]
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0 [vsyscall]
";

    fn file(path: &[u8], deleted: bool) -> MappingKind {
        MappingKind::File { path: path.into(), deleted }
    }

    #[test]
    fn each_kind_of_line() {
        let maps = Maps::parse(TEXT);
        let kinds: Vec<_> = maps.mappings.iter().map(|mapping| mapping.kind.clone()).collect();
        assert_eq!(
            kinds,
            [
                file(b"/usr/bin/dbus-daemon", false),
                MappingKind::Heap,
                file(b"/usr/lib64/a b\\012c (deleted)", true),
                MappingKind::Anonymous,
                file(b"/memfd:doublemapper", true),
                MappingKind::Anonymous,
                MappingKind::Stack,
                MappingKind::Vdso,
                MappingKind::Anonymous,
            ]
        );
        let (index, mapping) = maps.find(0x45_2001).unwrap();
        assert_eq!((index, mapping.offset, mapping.inode), (0, 0x52000, 173_521));
        assert_eq!(maps.find(0x40_0000), None, "no code");
        assert_eq!(maps.find(0x55_2000), None, "just past the end");
    }

    #[test]
    fn rubbish_is_left_out() {
        for line in [
            "",
            "-",
            "x-y r-xp 0 0:0 0",
            "10-5 r-xp 0 00:00 0",
            "10-20",
            "10-20 r-xp",
            "10-20 r-xp zz 0:0 1 /a",
            "10-20 r 0 0:0 1 /a",
            "fffffffffffffffff-20 r-xp 0 0:0 1 /a",
        ] {
            assert!(Maps::parse(line.as_bytes()).is_empty(), "{line}");
        }
        let overlapping = Maps::parse(b"10-30 r-xp 0 0:0 1 /a\n20-40 r-xp 0 0:0 1 /b\n30-40 r-xp 0 0:0 1 /c");
        assert_eq!(overlapping.len(), 2);
    }

    #[test]
    fn more_code_than_any_program_has_is_cut() {
        let text: String = (0..MAPPINGS_MAX + 1)
            .map(|index| format!("{:x}-{:x} r-xp 0 0:0 1 /a\n", index * 16, index * 16 + 16))
            .collect();
        let maps = Maps::parse(text.as_bytes());
        assert_eq!((maps.len(), maps.cut), (MAPPINGS_MAX, true));
    }

    #[test]
    fn the_tests_own_maps() {
        let maps = Maps::parse(&std::fs::read("/proc/self/maps").unwrap());
        let here = the_tests_own_maps as *const () as u64;
        let (_, mapping) = maps.find(here).unwrap();
        let own = std::env::current_exe().unwrap();
        assert_eq!(mapping.kind, file(own.as_os_str().as_encoded_bytes(), false));
        assert!(maps.mappings.iter().any(|mapping| mapping.kind == MappingKind::Vdso));
    }
}
