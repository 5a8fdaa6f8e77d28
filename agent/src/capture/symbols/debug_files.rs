//! Where distributions put what they strip from a program. In: a binary's build id, debug link and path. Out: the
//! paths at which its debug file may be, and whether a file is it.
//!
//! The places are GDB's (its manual, "Debugging Information in Separate Files"). A file counts only if it has the
//! same build id; where the binary has none, if its checksum is the one in the debug link.

use super::bytes::{Flaw, ReadAt, bytes, number, string};
use super::elf::Elf;

/// Where debug files are installed.
const FOLDER: &str = "/usr/lib/debug";
/// Longest name in a debug link.
const NAME_BYTES_MAX: usize = 256;
/// Largest debug file whose checksum is computed, which takes a millisecond per MiB.
const CHECKSUM_BYTES_MAX: u64 = 64 << 20;
/// Read at a time for a checksum.
const CHUNK_BYTES: usize = 256 << 10;

/// What a stripped binary says of its debug file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DebugLink {
    name: Vec<u8>,
    checksum: u32,
}

impl DebugLink {
    /// Reads the section `.gnu_debuglink`: a name, NULs up to a multiple of four, a CRC-32.
    pub fn read(elf: &Elf, file: &dyn ReadAt) -> Option<DebugLink> {
        let part = elf.section(".gnu_debuglink")?.part(file);
        let name = string(&part, 0, NAME_BYTES_MAX).ok()?;
        let checksum_at = (name.len() as u64 + 1).next_multiple_of(4);
        let checksum = number::<4>(&part, checksum_at).ok()? as u32;
        let is_name = !name.is_empty() && !name.contains(&b'/');
        is_name.then_some(DebugLink { name, checksum })
    }
}

/// The paths at which the debug file of the binary at `path` may be, best first.
pub fn candidates(build_id: &str, link: Option<&DebugLink>, path: &[u8]) -> Vec<Vec<u8>> {
    let mut paths = Vec::new();
    let is_id = build_id.len() > 2 && build_id.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_id && let Some((first, rest)) = build_id.split_at_checked(2) {
        paths.push(format!("{FOLDER}/.build-id/{first}/{rest}.debug").into_bytes());
    }
    if let Some(link) = link {
        let folder = path.iter().rposition(|byte| *byte == b'/').map_or(&b""[..], |slash| &path[..slash]);
        for before in [&b""[..], FOLDER.as_bytes()] {
            paths.push([before, folder, b"/", &link.name].concat());
        }
        paths.push([folder, b"/.debug/", &link.name].concat());
    }
    // A binary is not its own debug file.
    paths.retain(|candidate| candidate != path);
    paths
}

/// Whether `file`, whose shape is `elf`, is the debug file of the binary with this build id and link.
pub fn belongs(build_id: &str, link: Option<&DebugLink>, elf: &Elf, file: &dyn ReadAt) -> bool {
    if !build_id.is_empty() {
        return elf.build_id == build_id;
    }
    link.is_some_and(|link| checksum(file) == Ok(link.checksum))
}

/// CRC-32 of a whole file (ISO 3309, as zlib and the debug link have it).
fn checksum(file: &dyn ReadAt) -> Result<u32, Flaw> {
    const POLYNOMIAL: u32 = 0xedb8_8320;
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut index = 0;
        while index < 256 {
            let mut value = index as u32;
            let mut bit = 0;
            while bit < 8 {
                value = if value & 1 != 0 { value >> 1 ^ POLYNOMIAL } else { value >> 1 };
                bit += 1;
            }
            table[index] = value;
            index += 1;
        }
        table
    };
    let end = file.size_bytes();
    if end > CHECKSUM_BYTES_MAX {
        return Err(Flaw::TooMany("bytes of debug information"));
    }
    let (mut at, mut sum) = (0, u32::MAX);
    while at < end {
        let chunk = bytes(file, at, (end - at).min(CHUNK_BYTES as u64), CHUNK_BYTES)?;
        at += chunk.len() as u64;
        for byte in chunk {
            sum = TABLE[usize::from(sum as u8 ^ byte)] ^ sum >> 8;
        }
    }
    Ok(!sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(build_id: &str, link: Option<&str>, path: &str) -> Vec<String> {
        let link = link.map(|name| DebugLink { name: name.into(), checksum: 0 });
        let candidates = candidates(build_id, link.as_ref(), path.as_bytes());
        candidates.into_iter().map(|path| String::from_utf8(path).unwrap()).collect()
    }

    #[test]
    fn the_usual_places() {
        assert_eq!(
            paths("0afe12", Some("x.debug"), "/usr/bin/x"),
            [
                "/usr/lib/debug/.build-id/0a/fe12.debug",
                "/usr/bin/x.debug",
                "/usr/lib/debug/usr/bin/x.debug",
                "/usr/bin/.debug/x.debug",
            ]
        );
        assert_eq!(paths("", Some("x"), "/bin/x"), ["/usr/lib/debug/bin/x", "/bin/.debug/x"]);
        assert_eq!(paths("../../etc/x", None, "/bin/x"), Vec::<String>::new());
        assert_eq!(paths("é1", None, "/bin/x"), Vec::<String>::new());
    }

    #[test]
    fn a_file_is_known_by_build_id_or_checksum() {
        let file = b"123456789".to_vec();
        let link = |checksum| DebugLink { name: b"x".to_vec(), checksum };
        let elf = |build_id: &str| Elf { build_id: build_id.into(), ..Elf::default() };
        // The check value of CRC-32.
        assert!(belongs("", Some(&link(0xcbf4_3926)), &elf(""), &file));
        assert!(!belongs("", Some(&link(1)), &elf(""), &file));
        assert!(belongs("ab", Some(&link(1)), &elf("ab"), &file));
        assert!(!belongs("ab", Some(&link(0xcbf4_3926)), &elf("cd"), &file));
        assert!(!belongs("", None, &elf(""), &file));
    }
}
