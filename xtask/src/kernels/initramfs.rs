//! In: files. Out: the root file system a kernel starts with, as a cpio archive in the "newc" format
//! (Documentation/driver-api/early-userspace/buffer-format.rst in the kernel's sources).

/// File type bits of a mode (POSIX `sys/stat.h`).
const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;

/// An archive being written.
#[derive(Default)]
pub(super) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    /// Adds a directory; its parents must have been added before.
    pub(super) fn directory(&mut self, path: &str) {
        self.entry(path, DIRECTORY | 0o755, &[]);
    }

    /// Adds an executable file.
    pub(super) fn executable(&mut self, path: &str, content: &[u8]) {
        self.entry(path, REGULAR | 0o755, content);
    }

    /// The finished archive.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        let size = u32::try_from(content.len()).expect("a file for a small virtual machine is below 4 GiB");
        let name_size = u32::try_from(path.len() + 1).expect("a path is short");
        let inode = self.entries;
        let links = 1;
        // inode, mode, uid, gid, links, mtime, size, device (2), device node (2), name size, checksum
        let fields = [inode, mode, 0, 0, links, 0, size, 0, 0, 0, 0, name_size, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    /// Names and contents end on multiples of four bytes.
    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_is_aligned() {
        let mut archive = Archive::default();
        archive.directory("bin");
        archive.executable("init", b"#!/bin/sh\n");
        let bytes = archive.finish();
        assert_eq!(bytes.len() % 4, 0);
        assert_eq!(bytes.windows(6).filter(|window| window == b"070701").count(), 3);
        // The second header follows the first: 110 bytes, "bin" with its NUL, and padding.
        assert_eq!(&bytes[116..122], b"070701");
        // Its mode, and the size of its ten bytes of content.
        assert_eq!(&bytes[116 + 14..116 + 22], b"000081ed");
        assert_eq!(&bytes[116 + 54..116 + 62], b"0000000a");
    }
}
