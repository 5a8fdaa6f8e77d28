//! The files that processes map, each read once. In: a mapping. Out: which file it is and what it says.

use super::binary::Binary;
use super::bytes::Flaw;
use super::cache::Cache;
use super::image::Process;
use super::maps::Mapping;
use super::open::{FileId, Found, OpenFile, Refusal};
use crate::decode::fact::symbols::Function;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// Memory for tables of binaries. The largest programs of a node take a megabyte each.
pub const BINARIES_BYTES_MAX: usize = 16 << 20;

/// How to get at a file.
#[derive(Clone, Copy, Debug)]
pub struct Route<'a> {
    /// The process that maps it, while it is there; without it the path is looked for on the host.
    pub process: Option<&'a Process>,
    /// Its mapping.
    pub mapping: &'a Mapping,
    /// Its path as the process sees it.
    pub path: &'a [u8],
}

/// Why nothing is known of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unread {
    /// It was not opened.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It cannot be used.
    #[error(transparent)]
    Flawed(#[from] Flaw),
}

/// Binaries by file, and the files that are open for the stack at hand.
#[derive(Debug)]
pub struct Files {
    binaries: Cache<FileId, Result<Binary, Unread>>,
    open: HashMap<FileId, OpenFile>,
    /// Files whose tables were read.
    pub read: u64,
    /// Files that were not opened.
    pub refused: u64,
    /// Files with a table that cannot be used.
    pub flawed: u64,
}

impl Default for Files {
    fn default() -> Self {
        Files {
            binaries: Cache::new(BINARIES_BYTES_MAX),
            open: HashMap::new(),
            read: 0,
            refused: 0,
            flawed: 0,
        }
    }
}

impl Files {
    /// Which file a mapping is of.
    ///
    /// # Errors
    /// Why it cannot be told.
    pub fn identify(&mut self, route: &Route<'_>) -> Result<FileId, Refusal> {
        route.find().map(|found| found.id).inspect_err(|_| self.refused += 1)
    }

    /// A file's tables, read if they are not held.
    ///
    /// # Errors
    /// Why there are none.
    pub fn binary(&mut self, route: &Route<'_>, id: FileId) -> Result<&Binary, Unread> {
        if self.binaries.get(&id).is_none() {
            let binary = self.open(route, id).map_err(Unread::Refused);
            let binary = binary.and_then(|file| Ok(Binary::read(file)?));
            match &binary {
                Ok(binary) => {
                    self.read += 1;
                    self.flawed += u64::from(binary.flaw.is_some());
                }
                Err(Unread::Refused(_)) => self.refused += 1,
                Err(Unread::Flawed(_)) => self.flawed += 1,
            }
            let bytes = binary.as_ref().map_or(0, Binary::held_bytes);
            self.binaries.put(id, binary, bytes);
        }
        match self.binaries.get(&id) {
            Some(binary) => binary.as_ref().map_err(|unread| *unread),
            None => Err(Unread::Flawed(Flaw::Unreadable)),
        }
    }

    /// The functions at a linked address of a file, as [`Binary::functions`].
    pub fn functions(&mut self, route: &Route<'_>, id: FileId, vaddr: u64) -> Vec<Function> {
        if self.binary(route, id).is_err() || self.open(route, id).is_err() {
            return Vec::new();
        }
        match (self.binaries.get(&id), self.open.get(&id)) {
            (Some(Ok(binary)), Some(file)) => binary.functions(file, vaddr),
            _ => Vec::new(),
        }
    }

    fn open(&mut self, route: &Route<'_>, id: FileId) -> Result<&OpenFile, Refusal> {
        match self.open.entry(id) {
            Entry::Occupied(open) => Ok(open.into_mut()),
            Entry::Vacant(none) => {
                let found = route.find()?;
                if found.id != id {
                    return Err(Refusal::Replaced);
                }
                Ok(none.insert(found.open(route.process.map(|process| &process.directory))?))
            }
        }
    }

    /// Closes what was opened.
    pub fn close(&mut self) {
        self.open.clear();
    }

    /// Whether no file is open.
    pub fn is_closed(&self) -> bool {
        self.open.is_empty()
    }

    /// Tables that had to make room.
    pub fn evicted(&self) -> u64 {
        self.binaries.evicted
    }

    /// Memory held.
    pub fn held_bytes(&self) -> usize {
        self.binaries.held_bytes()
    }
}

impl Route<'_> {
    fn find(&self) -> Result<Found, Refusal> {
        let found = match self.process {
            Some(process) => Found::mapped(&process.directory, self.mapping, self.path)?,
            None => Found::on_host(self.path)?,
        };
        // A process that is gone cannot say which file it had: the inode number must do.
        if found.id.inode == self.mapping.inode || self.process.is_some() {
            Ok(found)
        } else {
            Err(Refusal::Replaced)
        }
    }
}
