//! Who has which table. In: processes whose stacks break off. Out: calls to the kernel.
//!
//! A process is announced before its mappings are read, and its image is used only if it is still announced when they have been:
//! the kernel takes the announcement back when the process executes another program.

use super::cfi;
use super::table::Table;
use super::{Counts, Kernel};
use crate::capture::facts::clock;
use crate::capture::symbols::bytes::{Flaw, ReadAt};
use crate::capture::symbols::elf::Elf;
use crate::capture::symbols::files::Route;
use crate::capture::symbols::image::Process;
use crate::capture::symbols::maps::{Mapping, MappingKind, Maps};
use crate::capture::symbols::open::FileId;
use crate::capture::symbols::resolver::World;
use crate::capture::symbols::vdso;
use slowpod_ebpf::abi::Task;
use slowpod_ebpf::abi::unwind::{
    FRAME_POINTERS, Image, MAPPINGS, Mapped, PROCESSES_MAX, Registered, TABLES_MAX,
};
use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

/// Memory of the kernel's for tables in all: those of thirty large programs.
const TABLES_BYTES_MAX: usize = 16 << 20;
/// Binaries remembered of which there is no table.
const WITHOUT_MAX: usize = 1_024;
/// A process whose stacks go on breaking off is looked at again after this long: it may have mapped more code.
const AGAIN_NS: u64 = 1_000_000_000;
/// Then twice as long, and so on up to this.
const AGAIN_NS_MAX: u64 = 16_000_000_000;

/// Pid and start.
type Key = (u32, u64);

/// Which binary: a file, or the kernel's code for user space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Source {
    File(FileId),
    Vdso,
}

/// A table in the kernel.
#[derive(Debug)]
struct Held {
    number: u32,
    base: u64,
    index_nodes: u32,
    kernel_bytes: usize,
    /// Segments of the binary: linked address, offset and length in the file.
    code: Vec<(u64, u64, u64)>,
    /// Processes that use it.
    users: u32,
    /// When it was last wanted, by a count.
    used: u64,
}

/// A process with tables.
#[derive(Debug)]
struct Known {
    image: u32,
    /// See [`code_of`].
    code: u64,
    tables: Vec<Source>,
    /// Not looked at before that instant, however its stacks are.
    again_ns: u64,
    /// How long it was left alone the last time.
    wait_ns: u64,
}

/// All that is in the kernel.
pub(super) struct Keeper {
    world: World,
    kernel: Box<dyn Kernel>,
    processes: HashMap<Key, Known>,
    tables: HashMap<Source, Held>,
    /// Binaries that have no table.
    without: HashSet<Source>,
    free_tables: Vec<u32>,
    free_images: Vec<u32>,
    clock: u64,
    pub(super) counts: Counts,
}

impl Keeper {
    pub(super) fn new(world: World, kernel: Box<dyn Kernel>) -> Keeper {
        Keeper {
            world,
            kernel,
            processes: HashMap::new(),
            tables: HashMap::new(),
            without: HashSet::new(),
            free_tables: (0..TABLES_MAX).rev().collect(),
            free_images: (0..PROCESSES_MAX).rev().collect(),
            clock: 0,
            counts: Counts::default(),
        }
    }

    /// Gives a process tables, or newer ones.
    pub(super) fn want(&mut self, task: &Task) {
        let now_ns = clock::ktime_ns();
        let known = self.processes.get_mut(&key(task));
        if known.as_ref().is_none_or(|known| known.again_ns <= now_ns) {
            let wait_ns = known.map_or(AGAIN_NS, |known| (2 * known.wait_ns).min(AGAIN_NS_MAX));
            self.look_at(task, false);
            if let Some(known) = self.processes.get_mut(&key(task)) {
                (known.wait_ns, known.again_ns) = (wait_ns, now_ns + wait_ns);
            }
        }
        self.count();
    }

    /// Looks at all processes: which are gone or execute something else, and which have mapped other code.
    pub(super) fn sweep(&mut self) {
        let all: Vec<Key> = self.processes.keys().copied().collect();
        for (tgid, start_ns) in all {
            self.look_at(&Task { tgid, tid: tgid, start_ns }, true);
        }
        self.count();
    }

    fn look_at(&mut self, task: &Task, only_if_registered: bool) {
        let process = Process::find(&self.world.proc, task, self.world.clk_tck);
        let seen = process.as_ref().and_then(|process| process.image(0)).map(|image| code_of(&image.maps));
        let known = self.processes.get(&key(task));
        let is_registered = known.is_some_and(|known| {
            let expected = Registered { start_ns: task.start_ns, image: known.image, ready: 1 };
            self.kernel.registered(task.tgid) == Some(expected)
        });
        if is_registered && known.map(|known| known.code) == seen {
            return;
        }
        let (wait_ns, again_ns) = known.map_or((AGAIN_NS, 0), |known| (known.wait_ns, known.again_ns));
        self.forget(task);
        let Some(process) = process.filter(|_| seen.is_some() && (is_registered || !only_if_registered))
        else {
            return;
        };
        let Some(image) = self.free_images.pop() else {
            self.counts.refused += 1;
            return;
        };
        // From here on it is known, so that all it has is given back when something fails.
        self.processes.insert(key(task), Known { image, code: 0, tables: Vec::new(), again_ns, wait_ns });
        match self.give(task, &process, image) {
            Ok(true) => {}
            Ok(false) => self.forget(task),
            Err(error) => {
                self.counts.faults += 1;
                tracing::warn!(pid = task.tgid, %error, "a process has no tables of frame descriptions");
                self.forget(task);
            }
        }
    }

    /// Reads what a process has mapped, and hands it to the kernel. False when it has executed another program meanwhile.
    fn give(&mut self, task: &Task, process: &Process, number: u32) -> Result<bool, String> {
        let announced = Registered { start_ns: task.start_ns, image: number, ready: 0 };
        self.kernel.register(task.tgid, announced)?;
        let Some(seen) = process.image(0) else { return Ok(false) };
        let mut image = Image { starts: [i64::MAX as u64; MAPPINGS], mapped: [Mapped::default(); MAPPINGS] };
        let mut count = 0;
        for mapping in seen.maps.iter() {
            // The kernel's own half has a page that programs may call (vsyscall); no stack goes on from there.
            if mapping.range.end > i64::MAX as u64 {
                continue;
            }
            let Some((source, mapped)) = self.place(process, mapping) else { continue };
            if let (Some(known), Some(source)) = (self.processes.get_mut(&key(task)), source) {
                known.tables.push(source);
            }
            if count < MAPPINGS {
                (image.starts[count], image.mapped[count]) = (mapping.range.start, mapped);
                count += 1;
            } else {
                self.counts.refused += 1;
            }
        }
        if let Some(known) = self.processes.get_mut(&key(task)) {
            known.code = code_of(&seen.maps);
        }
        self.kernel.set_image(number, &image)?;
        self.kernel.update(task.tgid, Registered { ready: 1, ..announced })
    }

    /// A mapping as the kernel is told of it, and the binary whose table it uses. `None` for one in which walks are to end.
    fn place(&mut self, process: &Process, mapping: &Mapping) -> Option<(Option<Source>, Mapped)> {
        let bytes = mapping.range.end - mapping.range.start;
        let plain = Mapped { bytes, bias: 0, table: FRAME_POINTERS, index_nodes: 0 };
        let source = match &mapping.kind {
            MappingKind::File { path, .. } => {
                let route = Route { process: Some(process), mapping, path };
                // What cannot be opened may keep frame pointers or not.
                let found = route.find().ok()?;
                let source = Source::File(found.id);
                if !self.has(source) {
                    let file = found.open(Some(&process.directory)).ok()?;
                    self.make(source, &file)?;
                }
                source
            }
            MappingKind::Vdso => {
                // Ours is everyone's, but for 32-bit processes.
                let ours = vdso::own_bytes().filter(|ours| ours.len() as u64 == bytes)?;
                if !self.has(Source::Vdso) {
                    self.make(Source::Vdso, &ours)?;
                }
                Source::Vdso
            }
            MappingKind::Anonymous => return Some((None, plain)),
            MappingKind::Heap | MappingKind::Stack => return None,
        };
        let Some(held) = self.tables.get_mut(&source) else { return Some((None, plain)) };
        let end = mapping.offset.checked_add(bytes)?;
        let inside = |code: &&(u64, u64, u64)| code.1 < end && mapping.offset < code.1 + code.2;
        let (vaddr, offset, _) = held.code.iter().find(inside)?;
        held.users += 1;
        // From an address to the offset in the file, the linked address, the table's.
        let bias = mapping.range.start.wrapping_sub(mapping.offset).wrapping_add(*offset);
        let bias = bias.wrapping_sub(*vaddr).wrapping_add(held.base);
        let mapped = Mapped { bytes, bias, table: held.number, index_nodes: held.index_nodes };
        Some((Some(source), mapped))
    }

    /// Whether a binary has a table, or is known to have none.
    fn has(&mut self, source: Source) -> bool {
        self.clock += 1;
        let held = self.tables.get_mut(&source);
        held.map(|held| held.used = self.clock).is_some() || self.without.contains(&source)
    }

    /// Makes a binary's table and hands it to the kernel. `None` when there is no room for it now, or it has descriptions that
    /// cannot be used.
    fn make(&mut self, source: Source, file: &dyn ReadAt) -> Option<()> {
        let elf = Elf::read(file);
        let made = elf.and_then(|elf| Ok((cfi::table(&elf, file)?, elf)));
        let (table, elf) = match made {
            Ok((Some(table), elf)) => (table, elf),
            // No descriptions: nothing but frame pointers can help.
            Ok((None, _)) | Err(Flaw::Not(_)) => {
                if self.without.len() >= WITHOUT_MAX {
                    self.without.clear();
                }
                self.without.insert(source);
                return Some(());
            }
            Err(error) => {
                self.counts.flawed += 1;
                tracing::debug!(%error, "frame descriptions of a binary cannot be used");
                return None;
            }
        };
        self.counts.flawed += u64::from(table.left_out > 0);
        if !self.make_room(table.kernel_bytes()) {
            self.counts.refused += 1;
            return None;
        }
        let number = self.free_tables.pop()?;
        if let Err(error) = self.kernel.set_table(number, &table.nodes) {
            self.free_tables.push(number);
            self.counts.faults += 1;
            tracing::warn!(%error, "a table of frame descriptions cannot be kept");
            return None;
        }
        self.counts.made += 1;
        self.tables.insert(source, Held::new(number, &table, &elf, self.clock));
        Some(())
    }

    /// Makes room for a table of so many bytes, of those that no process uses; the least lately used go first. False when there is none.
    fn make_room(&mut self, bytes: usize) -> bool {
        loop {
            let held: usize = self.tables.values().map(|held| held.kernel_bytes).sum();
            if held + bytes <= TABLES_BYTES_MAX && !self.free_tables.is_empty() {
                return true;
            }
            let unused = self.tables.iter().filter(|(_, held)| held.users == 0);
            let Some(oldest) = unused.min_by_key(|(_, held)| held.used).map(|(source, _)| *source) else {
                return false;
            };
            if let Some(held) = self.tables.remove(&oldest) {
                self.faults(|kernel| kernel.clear_table(held.number));
                self.free_tables.push(held.number);
            }
        }
    }

    /// Takes back what a process has.
    fn forget(&mut self, task: &Task) {
        let Some(known) = self.processes.remove(&key(task)) else { return };
        if self.kernel.registered(task.tgid).is_some_and(|registered| registered.image == known.image) {
            self.kernel.forget(task.tgid);
        }
        self.faults(|kernel| kernel.clear_image(known.image));
        self.free_images.push(known.image);
        for source in known.tables {
            if let Some(held) = self.tables.get_mut(&source) {
                held.users -= 1;
            }
        }
    }

    fn faults(&mut self, call: impl FnOnce(&mut dyn Kernel) -> Result<(), String>) {
        if let Err(error) = call(&mut *self.kernel) {
            self.counts.faults += 1;
            tracing::warn!(%error, "a table of frame descriptions cannot be taken back");
        }
    }

    fn count(&mut self) {
        self.counts.processes = self.processes.len() as u64;
        self.counts.tables = self.tables.len() as u64;
        self.counts.kernel_bytes = self.tables.values().map(|held| held.kernel_bytes as u64).sum();
    }
}

impl Held {
    fn new(number: u32, table: &Table, elf: &Elf, used: u64) -> Held {
        let code = elf.segments.iter().filter(|segment| segment.executable);
        let code = code.map(|segment| (segment.vaddr, segment.offset, segment.file_bytes)).collect();
        let (base, index_nodes, kernel_bytes) = (table.base, table.index_nodes, table.kernel_bytes());
        Held { number, base, index_nodes, kernel_bytes, code, users: 0, used }
    }
}

fn key(task: &Task) -> Key {
    (task.tgid, task.start_ns)
}

/// A number that another set of mappings of code hardly has.
fn code_of(maps: &Maps) -> u64 {
    let mut hasher = DefaultHasher::new();
    let is_code = |mapping: &&Mapping| !matches!(mapping.kind, MappingKind::Heap | MappingKind::Stack);
    maps.iter().filter(is_code).for_each(|mapping| mapping.hash(&mut hasher));
    hasher.finish()
}

#[cfg(test)]
mod tests;
