//! The tree as the rules see it: every Rust file, the other text files, and the committed kernel object.

use super::source::Source;
use anyhow::Context;
use std::path::Path;

/// Folders that hold nothing of ours.
const NOT_OURS: [&str; 3] = ["target", ".git", "node_modules"];
/// Suffixes of text files that some rule reads.
const TEXT: [&str; 12] = ["md", "json", "yaml", "yml", "go", "js", "css", "html", "sh", "toml", "sum", "mod"];
/// The committed kernel object.
pub(super) const OBJECT: &str = "agent-ebpf/built/slowpod.bpf.o";

/// What the rules look at.
#[derive(Debug, Default)]
pub(super) struct Tree {
    /// Every Rust file, by path.
    pub(super) rust: Vec<Source>,
    /// Every other text file: its path from the root, and its text.
    pub(super) texts: Vec<(String, String)>,
    /// The committed kernel object, when there is one.
    pub(super) object: Option<Vec<u8>>,
}

impl Tree {
    /// Reads the tree under `root`.
    pub(super) fn load(root: &Path) -> anyhow::Result<Tree> {
        let mut tree = Tree::default();
        tree.add_folder(root, "")?;
        tree.rust.sort_by(|one, other| one.path.cmp(&other.path));
        tree.texts.sort();
        tree.object = std::fs::read(root.join(OBJECT)).ok();
        Ok(tree)
    }

    fn add_folder(&mut self, folder: &Path, above: &str) -> anyhow::Result<()> {
        let entries = std::fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = format!("{above}{name}");
            if entry.file_type()?.is_dir() {
                if !NOT_OURS.contains(&name.as_str()) {
                    self.add_folder(&entry.path(), &format!("{path}/"))?;
                }
                continue;
            }
            let suffix = name.rsplit_once('.').map_or("", |(_, suffix)| suffix);
            if suffix == "rs" || TEXT.contains(&suffix) {
                let text = std::fs::read(entry.path()).with_context(|| format!("reading {path}"))?;
                self.add(&path, &String::from_utf8_lossy(&text));
            }
        }
        Ok(())
    }

    fn add(&mut self, path: &str, text: &str) {
        if path.ends_with(".rs") {
            self.rust.push(Source::new(path, text));
        } else {
            self.texts.push((path.to_owned(), text.to_owned()));
        }
    }

    /// The Rust files under a folder (`agent/src/fold/`) or at a path.
    pub(super) fn under<'a>(&'a self, folder: &'a str) -> impl Iterator<Item = &'a Source> {
        self.rust.iter().filter(move |source| source.path.starts_with(folder))
    }

    /// Whether there is a Rust file at this path.
    pub(super) fn has(&self, path: &str) -> bool {
        self.rust.iter().any(|source| source.path == path)
    }

    /// A tree made of paths and texts.
    #[cfg(test)]
    pub(super) fn of(files: &[(&str, &str)]) -> Tree {
        let mut tree = Tree::default();
        files.iter().for_each(|(path, text)| tree.add(path, text));
        tree
    }
}
