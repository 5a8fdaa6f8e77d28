//! The files that processes map, each read once. In: a mapping. Out: which file it is and what it says.

use super::binary::{Binary, debug_functions};
use super::bytes::Flaw;
use super::cache::Cache;
use super::debug_files::{belongs, candidates};
use super::dwarf::Debug;
use super::elf::Elf;
use super::image::Process;
use super::maps::Mapping;
use super::open::{FileId, Found, OpenFile, Refusal};
use crate::capture::facts::proc::Directory;
use crate::decode::fact::symbols::Function;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::{Duration, Instant};

/// Memory for tables of binaries. The largest programs of a node take a megabyte each.
pub const BINARIES_BYTES_MAX: usize = 8 << 20;
/// Memory for debug information while stacks come: see [`Files::rest`]. A file's that takes more is the only one
/// held.
pub const DEBUG_BYTES_MAX: usize = 8 << 20;

/// Rests after which a table of a binary goes that was not used meanwhile.
const BINARIES_REST: u32 = 6;

/// Part of the time that may go into reading debug information, over [`DEBUG_CREDIT_MAX`]: on a node where many programs
/// have some, and there is not memory for all of it at once, it would be read again and again.
const DEBUG_TIME_PART: u32 = 10;
/// How much of it may be spent at once: several programs' worth.
const DEBUG_CREDIT_MAX: Duration = Duration::from_secs(2);

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

/// A binary, and the file that its names were moved to.
#[derive(Debug)]
struct Held {
    binary: Binary,
    separate: Option<Separate>,
}

impl Held {
    /// The file with this id: the separate one, or the binary itself.
    fn source(&self, id: FileId) -> &Binary {
        match &self.separate {
            Some(separate) if separate.id == id => &separate.binary,
            Some(_) | None => &self.binary,
        }
    }
}

/// A separate debug file.
#[derive(Debug)]
struct Separate {
    id: FileId,
    path: Vec<u8>,
    /// In the process's root, not the host's.
    inside: bool,
    binary: Binary,
}

/// Binaries by file, and the files that are open for the stack at hand.
#[derive(Debug)]
pub struct Files {
    binaries: Cache<FileId, Result<Held, Unread>>,
    debug: Cache<FileId, Option<Debug>>,
    open: HashMap<FileId, OpenFile>,
    /// Files whose tables were read.
    pub read: u64,
    /// Files that were not opened.
    pub refused: u64,
    /// Files with a table that cannot be used.
    pub flawed: u64,
    /// Places named without their lines and inlined functions, because of [`DEBUG_TIME_PART`].
    pub lines_left_out: u64,
    debug_credit: Credit,
    rests: u32,
}

/// Time that may be spent: some at first, more as time goes by.
#[derive(Debug)]
struct Credit {
    left: Duration,
    counted: Instant,
}

impl Credit {
    /// Whether there is some at this instant.
    fn is_there(&mut self, now: Instant) -> bool {
        let earned = now.saturating_duration_since(self.counted) / DEBUG_TIME_PART;
        self.left = self.left.saturating_add(earned).min(DEBUG_CREDIT_MAX);
        self.counted = now;
        !self.left.is_zero()
    }

    fn spend(&mut self, spent: Duration) {
        self.left = self.left.saturating_sub(spent);
    }
}

impl Default for Files {
    fn default() -> Self {
        Files {
            binaries: Cache::new(BINARIES_BYTES_MAX),
            debug: Cache::new(DEBUG_BYTES_MAX),
            open: HashMap::new(),
            read: 0,
            refused: 0,
            flawed: 0,
            lines_left_out: 0,
            debug_credit: Credit { left: DEBUG_CREDIT_MAX, counted: Instant::now() },
            rests: 0,
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
            let held = self.read(route, id);
            match &held {
                Ok(held) => {
                    self.read += 1;
                    self.flawed += u64::from(held.binary.flaw.is_some());
                }
                Err(Unread::Refused(_)) => self.refused += 1,
                Err(Unread::Flawed(_)) => self.flawed += 1,
            }
            let bytes = held.as_ref().map_or(0, |held| {
                let separate = held.separate.as_ref().map_or(0, |separate| separate.binary.held_bytes());
                held.binary.held_bytes() + separate
            });
            self.binaries.put(id, held, bytes);
        }
        match self.binaries.get(&id) {
            Some(Ok(held)) => Ok(&held.binary),
            Some(Err(unread)) => Err(*unread),
            None => Err(Unread::Flawed(Flaw::Unreadable)),
        }
    }

    /// Reads what lookups in a file need and is not held: its debug information. Not when too much time went into that
    /// lately.
    pub fn prepare(&mut self, route: &Route<'_>, id: FileId) {
        let Some((source_id, _)) = self.open_source(route, id) else { return };
        let Files { binaries, debug, open, flawed, lines_left_out, debug_credit, .. } = self;
        let (Some(Ok(held)), Some(file)) = (binaries.get(&id), open.get(&source_id)) else { return };
        let source = held.source(source_id);
        if source.has_debug() && debug.get(&source_id).is_none() {
            let begun = Instant::now();
            if !debug_credit.is_there(begun) {
                *lines_left_out += 1;
                return;
            }
            let read = source.debug(file);
            *flawed += u64::from(read.is_err());
            let read = read.unwrap_or(None);
            let bytes = read.as_ref().map_or(0, Debug::held_bytes);
            debug.put(source_id, read, bytes);
            debug_credit.spend(begun.elapsed());
        }
    }

    /// The functions at a linked address of a file, an inlined one before the one it was inlined into; empty when
    /// none is known. Of debug information only what was [prepared](Files::prepare) is looked at.
    pub fn functions(&mut self, route: &Route<'_>, id: FileId, vaddr: u64) -> Vec<Function> {
        let Some((source_id, is_go)) = self.open_source(route, id) else { return Vec::new() };
        let Files { binaries, debug, open, .. } = self;
        let (Some(Ok(held)), Some(file)) = (binaries.get(&id), open.get(&id)) else { return Vec::new() };
        if is_go && let Some(functions) = held.binary.go_functions(file, vaddr) {
            return functions;
        }
        let separate = open.get(&source_id).filter(|_| source_id != id);
        let symbol = separate.and_then(|file| held.source(source_id).symbol(file, vaddr));
        let symbol = symbol.or_else(|| held.binary.symbol(file, vaddr));
        let frames = debug.get(&source_id).and_then(|debug| Some(debug.as_ref()?.find(vaddr)));
        debug_functions(&frames.unwrap_or_default(), symbol)
    }

    /// Opens a file and the one that its names were moved to. The latter's id, or its own, and whether it is Go's.
    fn open_source(&mut self, route: &Route<'_>, id: FileId) -> Option<(FileId, bool)> {
        let is_go = self.binary(route, id).ok()?.is_go();
        // Both were opened before, when their tables were read: their file systems are known.
        open(&mut self.open, id, || route.find(), Found::open_local).ok()?;
        let Files { binaries, open: files, .. } = self;
        let Some(Ok(Held { separate: Some(separate), .. })) = binaries.get(&id) else {
            return Some((id, is_go));
        };
        let found = open(files, separate.id, || separate.find(route.process), Found::open_local);
        Some((found.map_or(id, |file| file.id), is_go))
    }

    fn read(&mut self, route: &Route<'_>, id: FileId) -> Result<Held, Unread> {
        let file = open(&mut self.open, id, || route.find(), |found| found.open(directory(route.process)))?;
        let binary = Binary::read(file)?;
        let separate = binary.is_stripped().then(|| Separate::look_for(route, &binary)).flatten();
        Ok(Held { binary, separate })
    }

    /// Lets go of debug information, the one thing that is held whole, when it was not used since the last time. Each
    /// place is looked up once, so that a daemon's need is soon over. Tables stay [longer](BINARIES_REST).
    pub fn rest(&mut self) {
        self.debug.rest();
        self.rests += 1;
        if self.rests.is_multiple_of(BINARIES_REST) {
            self.binaries.rest();
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
        self.binaries.evicted + self.debug.evicted
    }

    /// Memory held.
    pub fn held_bytes(&self) -> usize {
        self.binaries.held_bytes() + self.debug.held_bytes()
    }
}

/// Opens a file, if it is not open and still the one that is meant.
fn open(
    files: &mut HashMap<FileId, OpenFile>,
    id: FileId,
    find: impl FnOnce() -> Result<Found, Refusal>,
    open: impl FnOnce(&Found) -> Result<OpenFile, Refusal>,
) -> Result<&OpenFile, Refusal> {
    match files.entry(id) {
        Entry::Occupied(open) => Ok(open.into_mut()),
        Entry::Vacant(none) => {
            let found = find()?;
            if found.id != id {
                return Err(Refusal::Replaced);
            }
            Ok(none.insert(open(&found)?))
        }
    }
}

impl Separate {
    /// Looks for a binary's debug file: in the process's own root, where its image's packages put it, then on the
    /// host.
    fn look_for(route: &Route<'_>, binary: &Binary) -> Option<Separate> {
        let (build_id, link) = (binary.build_id(), binary.debug_link());
        let paths = candidates(build_id, link, route.path);
        let inside = route.process.map(|_| true).into_iter().chain([false]);
        inside.flat_map(|inside| paths.iter().map(move |path| (inside, path))).find_map(|(inside, path)| {
            let found = find(inside, path, route.process).ok()?;
            let file = found.open(directory(route.process)).ok()?;
            let elf = Elf::read(&file).ok()?;
            belongs(build_id, link, &elf, &file).then(|| Separate {
                id: found.id,
                path: path.clone(),
                inside,
                binary: Binary::of_symbols(elf, &file),
            })
        })
    }

    fn find(&self, process: Option<&Process>) -> Result<Found, Refusal> {
        find(self.inside, &self.path, process)
    }
}

fn directory(process: Option<&Process>) -> Option<&Directory> {
    process.map(|process| &process.directory)
}

fn find(inside: bool, path: &[u8], process: Option<&Process>) -> Result<Found, Refusal> {
    match process {
        Some(process) if inside => Found::in_root(&process.directory, path),
        Some(_) | None => Found::on_host(path),
    }
}

impl Route<'_> {
    /// Finds the file without opening it.
    ///
    /// # Errors
    /// Why not.
    pub fn find(&self) -> Result<Found, Refusal> {
        let Some(process) = self.process else {
            // A process that is gone cannot say which file it had: the inode number must do.
            let found = Found::on_host(self.path)?;
            return if found.id.inode == self.mapping.inode { Ok(found) } else { Err(Refusal::Replaced) };
        };
        Found::mapped(&process.directory, self.mapping, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_goes_on_when_time_has_gone_by() {
        let begun = Instant::now();
        let mut credit = Credit { left: DEBUG_CREDIT_MAX, counted: begun };
        assert!(credit.is_there(begun));
        credit.spend(Duration::from_secs(9));
        assert!(!credit.is_there(begun), "all of it is spent");
        assert!(credit.is_there(begun + Duration::from_millis(10)));
        assert_eq!(credit.left, Duration::from_millis(1));
        assert!(credit.is_there(begun + Duration::from_secs(3_600)));
        assert_eq!(credit.left, DEBUG_CREDIT_MAX);
    }
}
