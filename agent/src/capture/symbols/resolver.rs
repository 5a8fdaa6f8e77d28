//! Stacks to named places. In: a stack record's addresses, `/proc`, files. Out: facts.

use super::bytes::Flaw;
use super::cache::Cache;
use super::demangle::function_name;
use super::files::{Files, Route, Unread};
use super::image::{Image, Process};
use super::kernel::Kernel;
use super::lately::Origin;
use super::maps::{Mapping, MappingKind};
use super::open::{self, FileId, Found};
use super::places::{KnownPlace, ModuleKey, Places};
use super::symboliser::Counts;
use super::unwind::Unwinder;
use super::vdso::Vdso;
use crate::capture::facts::clock;
use crate::decode::Stack;
use crate::decode::fact::symbols::{Function, StackPlaces, Symbols};
use crate::enrich::text;
use slowpod_ebpf::abi::stack::FRAMES;
use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;

/// Memory for what processes have mapped; some KiB each, more with just-in-time compiled code.
pub const IMAGES_BYTES_MAX: usize = 8 << 20;
/// Memory for what programs map that are at fixed addresses; a hundred bytes each.
const PROGRAMS_BYTES_MAX: usize = 256 << 10;
/// The kernel's table is read again, for addresses it did not name, after this long: modules come and go.
const KERNEL_AGAIN_NS: u64 = 30_000_000_000;
/// Time spent on one stack's lookups before the rest of its frames stays without names, and on reading the tables
/// for them. Only files made for it take longer, even on a busy node.
const LOOKUPS_NS_MAX: u64 = 500_000_000;
const READING_NS_MAX: u64 = 5_000_000_000;
/// Longest path shown of a module.
const PATH_BYTES_MAX: usize = 512;

/// Where the world is.
#[derive(Clone, Debug)]
pub struct World {
    /// `/proc` but in tests.
    pub proc: PathBuf,
    /// Ticks per second of the times there.
    pub clk_tck: u32,
}

/// Time spent on a stack.
#[derive(Clone, Copy, Debug, Default)]
struct Spent {
    lookups_ns: u64,
    reading_ns: u64,
}

/// All that is remembered between stacks.
#[derive(Debug)]
pub struct Resolver {
    world: World,
    places: Places,
    /// By pid and start.
    images: Cache<(u32, u64), Image>,
    images_made: u64,
    /// What programs map of which no process was there to look at; none for those that may be anywhere.
    programs: Cache<FileId, Option<Image>>,
    /// Of the node's own processes.
    host_mount_ns: Option<u32>,
    files: Files,
    kernel: Option<(u64, Result<Kernel, Flaw>)>,
    vdso: Option<Vdso>,
    counts: Counts,
    /// Of the stack at hand.
    spent: Spent,
    /// Asked when stacks break off.
    unwinder: Option<Unwinder>,
}

impl Resolver {
    /// Remembers nothing yet.
    pub fn new(world: World) -> Self {
        Resolver::going_on(world, Places::default(), Counts::default())
    }

    /// Begins anew after a fault, without giving any number twice.
    pub fn restart(&mut self) {
        self.places.forget();
        let (places, counts) = (std::mem::take(&mut self.places), self.counts());
        let unwinder = self.unwinder.take();
        *self = Resolver::going_on(self.world.clone(), places, counts).with_unwinder(unwinder);
    }

    fn going_on(world: World, places: Places, counts: Counts) -> Self {
        Resolver {
            world,
            places,
            images: Cache::new(IMAGES_BYTES_MAX),
            images_made: 0,
            programs: Cache::new(PROGRAMS_BYTES_MAX),
            host_mount_ns: open::host_mount_ns(),
            files: Files::default(),
            kernel: None,
            vdso: None,
            counts,
            spent: Spent::default(),
            unwinder: None,
        }
    }

    /// Lets stacks that break off be walked by tables from then on.
    #[must_use]
    pub fn with_unwinder(self, unwinder: Option<Unwinder>) -> Self {
        Resolver { unwinder, ..self }
    }

    /// Names a stack's frames; the answer is among the next [`Resolver::take`].
    pub fn resolve(&mut self, stack: &Stack, origin: &Origin) {
        let begun_ns = clock::ktime_ns();
        self.spent = Spent::default();
        self.places.make_room();
        // All but the innermost address are where a call returns to: the call itself is before that.
        let calls = stack.frames.iter().skip(1).map(|address| address.wrapping_sub(1));
        let frames: Vec<u64> = stack.frames.iter().copied().take(1).chain(calls).collect();
        let (mapped_ns, places) = if stack.fixed.user == 0 {
            (0, Some(frames.iter().map(|address| self.kernel_place(*address).id).collect()))
        } else {
            self.user_places(stack, origin, &frames)
        };
        self.files.close();
        self.counts.stacks += 1;
        self.counts.processes_gone += u64::from(places.is_none());
        self.places.stack(StackPlaces {
            stack: stack.fixed.id,
            mapped_ns,
            process_gone: places.is_none(),
            places: places.unwrap_or_default(),
        });
        self.counts.busy_ns += clock::ktime_ns() - begun_ns;
    }

    /// Lets go of what is only held while stacks come.
    pub fn rest(&mut self) {
        self.files.rest();
    }

    /// What there is to tell since the last time.
    pub fn take(&mut self) -> Vec<Symbols> {
        self.places.take()
    }

    /// What was done.
    pub fn counts(&self) -> Counts {
        let kernel = self.kernel.as_ref().and_then(|(_, kernel)| kernel.as_ref().ok());
        let held_bytes = self.images.held_bytes()
            + self.programs.held_bytes()
            + self.files.held_bytes()
            + kernel.map_or(0, Kernel::held_bytes);
        Counts {
            files_read: self.files.read,
            files_refused: self.files.refused,
            files_flawed: self.files.flawed,
            lines_left_out: self.files.lines_left_out,
            evicted: self.images.evicted + self.programs.evicted + self.files.evicted(),
            held_bytes: held_bytes as u64,
            unwind: self.unwinder.as_ref().map(Unwinder::counts).unwrap_or_default(),
            ..self.counts
        }
    }

    fn kernel_place(&mut self, address: u64) -> KnownPlace {
        let now_ns = clock::ktime_ns();
        let stale = self.kernel.as_ref().is_none_or(|(read_ns, kernel)| {
            let named = kernel.as_ref().is_ok_and(|kernel| kernel.find(address).function.is_some());
            !named && now_ns - read_ns >= KERNEL_AGAIN_NS
        });
        if stale {
            let text = File::open(self.world.proc.join("kallsyms")).map_err(|_| Flaw::Unreadable);
            self.kernel = Some((now_ns, text.and_then(|text| Kernel::read(BufReader::new(text)))));
        }
        let Resolver { kernel, places, counts, .. } = self;
        let Some((_, Ok(kernel))) = kernel else {
            return self.odd_place("[kernel]", address);
        };
        let found = kernel.find(address);
        let module = places.module(&ModuleKey::Kernel(found.module.to_owned()), || plain(found.module));
        let functions = || found.function.map(named).into_iter().collect();
        counts.place(places, module, found.offset, functions)
    }

    /// When the mappings were seen, and the places; none when the process is gone and nothing tells of it.
    fn user_places(&mut self, stack: &Stack, origin: &Origin, frames: &[u64]) -> (u64, Option<Vec<u32>>) {
        let task = &stack.fixed.task;
        let key = (task.tgid, task.start_ns);
        let process = Process::find(&self.world.proc, task, self.world.clk_tck);
        let image = self.image(key, process.as_ref(), frames, origin.since_ns);
        let image = image.or_else(|| self.image_of(origin, stack.fixed.header.ktime_ns));
        let Some(mut image) = image else { return (0, None) };
        let places = frames.iter().map(|address| self.user_place(&mut image, process.as_ref(), *address));
        let places: Vec<KnownPlace> = places.collect();
        if let (Some(unwinder), Some(outermost)) = (&self.unwinder, places.last())
            && process.is_some()
            && places.len() < FRAMES
            && !outermost.outermost.goes_back(places.len())
        {
            unwinder.want(task);
        }
        let places = places.iter().map(|place| place.id).collect();
        let (seen_ns, bytes) = (image.seen_ns, image.held_bytes());
        self.images.put(key, image, bytes);
        (seen_ns, Some(places))
    }

    /// What a process ran at an instant, told by where it came from.
    fn image_of(&mut self, origin: &Origin, then_ns: u64) -> Option<Image> {
        self.images_made += 1;
        let number = self.images_made;
        if let Some(parent) = &origin.parent {
            let known = self.images.get(&(parent.tgid, parent.start_ns));
            if let Some(image) = known.map(|image| image.inherited(number, then_ns)) {
                return Some(image);
            }
            let process = Process::find(&self.world.proc, parent, self.world.clk_tck);
            if let Some(image) = process.and_then(|process| process.image(number)) {
                return Some(image.inherited(number, then_ns));
            }
        }
        // A path means the same file only where the node's own processes are.
        let program = origin.program.as_ref();
        let program = program.filter(|program| Some(program.mount_ns) == self.host_mount_ns)?;
        let found = Found::on_host(&program.path).ok();
        let found = found.filter(|found| !found.is_younger_than(program.executed_ns))?;
        if self.programs.get(&found.id).is_none() {
            // One that cannot be opened now is tried again.
            let file = found.open(None).ok()?;
            let image = Image::of_program(number, &file, &program.path, then_ns);
            let bytes = image.as_ref().map_or(0, Image::held_bytes);
            self.programs.put(found.id, image, bytes);
        }
        let known = self.programs.get(&found.id)?;
        known.as_ref().map(|image| image.inherited(number, then_ns))
    }

    /// What a process runs, as far as it is known or can be seen.
    fn image(
        &mut self,
        key: (u32, u64),
        process: Option<&Process>,
        frames: &[u64],
        since_ns: u64,
    ) -> Option<Image> {
        let known = self.images.remove(&key);
        // What is gone ran what it was last seen with, unless it is known to have executed something after that.
        let Some(process) = process else { return known.filter(|image| image.seen_ns >= since_ns) };
        if let Some(mut image) = known.filter(|image| process.runs(image)) {
            image.seen_ns = clock::ktime_ns();
            if frames.iter().all(|address| image.maps.find(*address).is_some()) {
                return Some(image);
            }
        }
        // Another program, or it has mapped more since.
        self.images_made += 1;
        process.image(self.images_made)
    }

    fn user_place(&mut self, image: &mut Image, process: Option<&Process>, address: u64) -> KnownPlace {
        let Some((index, mapping)) = image.maps.find(address) else {
            return self.odd_place("[unmapped]", address);
        };
        let mapping = mapping.clone();
        let into = address - mapping.range.start;
        match &mapping.kind {
            MappingKind::File { path, .. } => {
                let route = Route { process, mapping: &mapping, path };
                let file = self.file_place(image, &route, index, into.saturating_add(mapping.offset));
                file.unwrap_or_else(|| self.jit_place(image, process, address))
            }
            MappingKind::Vdso => self.vdso_place(&mapping, into),
            MappingKind::Anonymous => self.jit_place(image, process, address),
            MappingKind::Heap => self.odd_place("[heap]", into),
            MappingKind::Stack => self.odd_place("[stack]", into),
        }
    }

    /// A place in a mapped file; `None` when that is no ELF file, but what a compiler keeps its code in.
    fn file_place(
        &mut self,
        image: &mut Image,
        route: &Route<'_>,
        index: usize,
        offset: u64,
    ) -> Option<KnownPlace> {
        let shown = || text::safe(route.path, PATH_BYTES_MAX).into_owned();
        let Resolver { files, places, counts, spent, .. } = self;
        let id = match image.files.get_mut(index)? {
            Some(known) => *known,
            unknown => *unknown.insert(files.identify(route)),
        };
        let Ok(id) = id else {
            let module = places.module(&ModuleKey::Unopened(route.path.into()), || (shown(), String::new()));
            return Some(counts.place(places, module, offset, Vec::new));
        };
        let begun_ns = clock::ktime_ns();
        let binary = files.binary(route, id);
        spent.reading_ns += clock::ktime_ns() - begun_ns;
        let (build_id, vaddr) = match binary {
            Ok(binary) => (binary.build_id(), binary.vaddr_of(offset)),
            Err(Unread::Flawed(Flaw::Not(_))) => return None,
            Err(Unread::Flawed(_) | Unread::Refused(_)) => ("", None),
        };
        let module = places.module(&ModuleKey::File(id), || (shown(), build_id.to_owned()));
        let Some(vaddr) = vaddr else {
            return Some(counts.place(places, module, offset, Vec::new));
        };
        Some(counts.place(places, module, vaddr, || spent.functions(files, route, id, vaddr)))
    }

    fn jit_place(&mut self, image: &mut Image, process: Option<&Process>, address: u64) -> KnownPlace {
        let Resolver { places, counts, .. } = self;
        let module = places.module(&ModuleKey::Jit(image.number), || plain("[jit]"));
        counts.place(places, module, address, || {
            image.jit_name(address, process).map(named).into_iter().collect()
        })
    }

    fn vdso_place(&mut self, mapping: &Mapping, offset: u64) -> KnownPlace {
        let Resolver { places, counts, vdso, .. } = self;
        let vdso = vdso.get_or_insert_with(Vdso::read);
        let module = places.module(&ModuleKey::Vdso, || ("[vdso]".to_owned(), vdso.build_id().to_owned()));
        counts.place(places, module, offset, || vdso.functions(mapping, offset))
    }

    fn odd_place(&mut self, name: &'static str, offset: u64) -> KnownPlace {
        let Resolver { places, counts, .. } = self;
        let module = places.module(&ModuleKey::Odd(name), || plain(name));
        counts.place(places, module, offset, Vec::new)
    }
}

impl Spent {
    /// The functions at an address, while there is time.
    fn functions(&mut self, files: &mut Files, route: &Route<'_>, id: FileId, vaddr: u64) -> Vec<Function> {
        if self.lookups_ns > LOOKUPS_NS_MAX || self.reading_ns > READING_NS_MAX {
            return Vec::new();
        }
        let begun_ns = clock::ktime_ns();
        files.prepare(route, id);
        let read_ns = clock::ktime_ns();
        let functions = files.functions(route, id, vaddr);
        self.reading_ns += read_ns - begun_ns;
        self.lookups_ns += clock::ktime_ns() - read_ns;
        functions
    }
}

impl Counts {
    /// A place, which is told with its functions if it is new; counts it as a frame.
    fn place(
        &mut self,
        places: &mut Places,
        module: u32,
        offset: u64,
        functions: impl FnOnce() -> Vec<Function>,
    ) -> KnownPlace {
        self.frames += 1;
        let place = places.place(module, offset, functions);
        self.unknown_frames += u64::from(!place.named);
        place
    }
}

fn plain(name: &str) -> (String, String) {
    (name.to_owned(), String::new())
}

fn named(symbol: &[u8]) -> Function {
    Function { name: function_name(symbol), ..Function::default() }
}

#[cfg(test)]
mod tests;
