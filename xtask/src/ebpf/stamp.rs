//! What the committed object was made from and by: a text beside it.

use super::build::{FLAGS, PROFILE};
use super::toolchain::Toolchain;
use crate::sh;
use anyhow::{Context, bail};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// The stamp.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    /// Hash over everything of ours that decides the bytes, and the versions of the libraries.
    pub(super) sources: String,
    /// The compiler's version.
    pub(super) compiler: String,
    /// bpf-linker's.
    pub(super) linker: String,
    /// That of LLVM's objcopy.
    pub(super) strip: String,
    /// Hash of the object.
    pub(super) object: String,
}

/// Names of the stamp's lines, in order.
const LINES: [&str; 5] = ["sources", "compiler", "linker", "strip", "object"];

impl Stamp {
    /// Reads a stamp; `None` when it is not one.
    pub(super) fn parse(text: &str) -> Option<Stamp> {
        let lines: BTreeMap<&str, &str> = text
            .lines()
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name, value.trim()))
            .collect();
        let [sources, compiler, linker, strip, object] =
            LINES.map(|name| lines.get(name).map(|value| (*value).to_owned()));
        Some(Stamp {
            sources: sources?,
            compiler: compiler?,
            linker: linker?,
            strip: strip?,
            object: object?,
        })
    }

    /// In what the tools that made the object differ from those of these [versions](Toolchain::versions), as a clause;
    /// `None` when they are the same, so that the same sources must give the same bytes.
    pub(super) fn other_tools(&self, now: [&str; 3]) -> Option<String> {
        let then = [&*self.compiler, &self.linker, &self.strip];
        let others = then.iter().zip(&now).filter(|(then, now)| then != now);
        let clauses: Vec<_> =
            others.map(|(then, now)| format!("it was made by {then}, and here is {now}")).collect();
        (!clauses.is_empty()).then(|| clauses.join("; "))
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values = [&self.sources, &self.compiler, &self.linker, &self.strip, &self.object];
        LINES.iter().zip(values).try_for_each(|(name, value)| writeln!(f, "{name}: {value}"))
    }
}

/// The stamp of an object just made from the sources as they are.
///
/// # Errors
/// When the sources cannot be read.
pub(super) fn of(object: &[u8], toolchain: &Toolchain) -> anyhow::Result<Stamp> {
    Ok(Stamp {
        sources: sources()?,
        compiler: toolchain.compiler_version.clone(),
        linker: toolchain.linker_version.clone(),
        strip: toolchain.objcopy_version.clone(),
        object: sha256(object),
    })
}

/// Hash over the package's files, the locked versions of what it depends on, and how it is built.
///
/// # Errors
/// When a file cannot be read, or cargo cannot say what is locked.
pub(super) fn sources() -> anyhow::Result<String> {
    let package = sh::root().join("agent-ebpf");
    let mut files = vec![package.join("Cargo.toml")];
    files_under(&package.join("src"), &mut files)?;
    let mut parts = BTreeMap::new();
    for file in files {
        let name = file.strip_prefix(&package).unwrap_or(&file).to_string_lossy().into_owned();
        parts.insert(name, fs::read(&file).with_context(|| format!("reading {}", file.display()))?);
    }
    Ok(hash(&parts, &locked(&metadata()?)?))
}

fn hash(files: &BTreeMap<String, Vec<u8>>, locked: &BTreeSet<String>) -> String {
    let mut hasher = Sha256::new();
    // Each part with its length, so that no two sets of parts read the same.
    let mut part = |bytes: &[u8]| {
        hasher.update((bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    for (name, bytes) in files {
        part(name.as_bytes());
        part(bytes);
    }
    locked.iter().for_each(|version| part(version.as_bytes()));
    FLAGS.iter().for_each(|flag| part(flag.as_bytes()));
    PROFILE.iter().for_each(|(name, value)| part(format!("{name}={value}").as_bytes()));
    hex(&hasher.finalize())
}

/// Names and versions of the packages that `slowpod-ebpf` is built from, its own left out.
fn locked(metadata: &serde_json::Value) -> anyhow::Result<BTreeSet<String>> {
    let nodes: BTreeMap<&str, Vec<&str>> = metadata["resolve"]["nodes"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|node| {
            let dependencies = node["dependencies"].as_array()?.iter().filter_map(serde_json::Value::as_str);
            Some((node["id"].as_str()?, dependencies.collect()))
        })
        .collect();
    let packages: BTreeMap<&str, (&str, &str)> = metadata["packages"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|package| {
            Some((package["id"].as_str()?, (package["name"].as_str()?, package["version"].as_str()?)))
        })
        .collect();
    let Some(own) = packages.iter().find(|(_, (name, _))| *name == "slowpod-ebpf").map(|(id, _)| *id) else {
        bail!("slowpod-ebpf is not a package of this workspace");
    };
    let mut seen = BTreeSet::from([own]);
    let mut next = vec![own];
    while let Some(id) = next.pop() {
        next.extend(nodes.get(id).into_iter().flatten().filter(|dependency| seen.insert(dependency)));
    }
    seen.remove(own);
    let text = |id: &str| packages.get(id).map(|(name, version)| format!("{name} {version}"));
    Ok(seen.into_iter().filter_map(text).collect())
}

/// What cargo knows of the workspace and everything it is built from.
///
/// # Errors
/// When cargo fails; offline, that is when a package was never fetched.
pub(super) fn metadata() -> anyhow::Result<serde_json::Value> {
    let text = sh::read(&mut sh::cargo(&["metadata", "--locked", "--format-version=1"]))?;
    serde_json::from_str(&text).context("cargo metadata")
}

fn files_under(folder: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() { files_under(&path, files)? } else { files.push(path) }
    }
    Ok(())
}

/// Hash of some bytes, in hexadecimal digits.
pub(super) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp() -> Stamp {
        let [sources, compiler, linker, strip, object] =
            ["5a", "rustc 1", "bpf-linker 2", "LLVM 3", "0b"].map(str::to_owned);
        Stamp { sources, compiler, linker, strip, object }
    }

    #[test]
    fn stamps_are_read_as_they_are_written() {
        assert_eq!(Stamp::parse(&stamp().to_string()), Some(stamp()));
        assert_eq!(Stamp::parse("sources: 5a\ncompiler: rustc 1\n"), None);
        let Stamp { compiler, linker, strip, .. } = &stamp();
        assert_eq!(stamp().other_tools([compiler, linker, strip]), None);
        let difference = stamp().other_tools([compiler, linker, "LLVM 4"]);
        assert_eq!(difference.as_deref(), Some("it was made by LLVM 3, and here is LLVM 4"));
    }

    #[test]
    fn every_part_counts_and_parts_cannot_be_shifted() {
        let files = |name: &str, text: &str| BTreeMap::from([(name.to_owned(), text.as_bytes().to_vec())]);
        let versions = |text: &str| BTreeSet::from([text.to_owned()]);
        let all = [
            hash(&files("a", "bc"), &versions("x 1")),
            hash(&files("ab", "c"), &versions("x 1")),
            hash(&files("a", "bd"), &versions("x 1")),
            hash(&files("a", "bc"), &versions("x 2")),
        ];
        assert_eq!(BTreeSet::from(all).len(), 4);
    }

    #[test]
    fn only_what_the_package_is_built_from_is_locked() {
        let metadata = serde_json::json!({
            "packages": [
                {"id": "own", "name": "slowpod-ebpf", "version": "1"},
                {"id": "a", "name": "a", "version": "2"},
                {"id": "b", "name": "b", "version": "3"},
                {"id": "c", "name": "c", "version": "4"},
            ],
            "resolve": {"nodes": [
                {"id": "own", "dependencies": ["a"]},
                {"id": "a", "dependencies": ["b"]},
                {"id": "b", "dependencies": ["a"]},
                {"id": "c", "dependencies": ["own"]},
            ]},
        });
        assert_eq!(locked(&metadata).unwrap(), BTreeSet::from(["a 2".to_owned(), "b 3".to_owned()]));
        assert!(locked(&serde_json::json!({})).is_err());
    }
}
