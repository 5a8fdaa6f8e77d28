//! The programs that run inside a guest, and what they are linked with. In: this workspace. Out: files by their path
//! inside, from this machine's own debug build: what the tests have built already.

use crate::sh;
use anyhow::bail;
use std::path::{Path, PathBuf};

/// A file for the guest: its path inside, and where it lies here.
pub(super) type File = (String, PathBuf);

/// The agent and the tests' workloads, which keep their own account.
const PROGRAMS: [&str; 2] = ["slowpod", "workload"];

/// Builds both, and finds their libraries.
pub(super) fn build() -> anyhow::Result<Vec<File>> {
    sh::run(&mut sh::cargo(&["build", "--workspace", "--bins"]))?;
    let mut files: Vec<File> = Vec::new();
    for name in PROGRAMS {
        let program = sh::target_dir().join("debug").join(name);
        if !program.is_file() {
            bail!("cargo built no {}", program.display());
        }
        files.extend(libraries(&program)?);
        files.push((format!("bin/{name}"), program));
    }
    files.sort();
    files.dedup();
    Ok(files)
}

/// The libraries a program is loaded with, the loader among them, each to be put where it lies here.
fn libraries(program: &Path) -> anyhow::Result<Vec<File>> {
    let listed = sh::read(std::process::Command::new("ldd").arg(program))?;
    let files: Vec<File> = paths(&listed).map(|path| (path[1..].to_owned(), path.into())).collect();
    Ok(files)
}

/// The paths in what ldd prints: `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x7f…)`, `/lib64/ld… (0x7f…)`.
fn paths(listed: &str) -> impl Iterator<Item = &str> {
    listed.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_read_from_what_ldd_prints() {
        let listed =
            "\tlinux-vdso.so.1 (0x7ff)\n\tlibc.so.6 => /lib/x/libc.so.6 (0x7f)\n\t/lib64/ld.so.2 (0x7f)\n";
        assert_eq!(paths(listed).collect::<Vec<_>>(), ["/lib/x/libc.so.6", "/lib64/ld.so.2"]);
    }
}
