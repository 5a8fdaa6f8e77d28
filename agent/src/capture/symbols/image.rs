//! One program in one process: what it has mapped. In: `/proc/PID`. Out: an [`Image`], and whether it is still
//! the one that runs.
//!
//! A process keeps its pid and start time when it executes another program, but the kernel chooses where the new
//! one's stack begins: pid, start and stack together name an image.

use super::bytes::Flaw;
use super::elf::Elf;
use super::maps::{MAPS_BYTES_MAX, Maps};
use super::open::{FileId, Found, OpenFile, Refusal};
use super::perf_map::PerfMap;
use crate::capture::facts::clock;
use crate::capture::facts::proc::{Directory, Stat, Status, TEXT_BYTES_MAX};
use crate::decode::fact::same_start;
use slowpod_ebpf::abi::Task;
use std::path::Path;

/// A perf map that was read is read again, for addresses it did not name, after this long.
const PERF_MAP_AGAIN_NS: u64 = 5_000_000_000;

/// A program in a process.
#[derive(Debug)]
pub struct Image {
    /// A number of its own.
    pub number: u64,
    /// What it has mapped.
    pub maps: Maps,
    /// The file behind each mapping, as far as that was looked for.
    pub files: Vec<Option<Result<FileId, Refusal>>>,
    /// When it was last seen to run (monotonic ns).
    pub seen_ns: u64,
    stack_start: u64,
    perf_map: Option<ReadPerfMap>,
}

#[derive(Debug)]
struct ReadPerfMap {
    read_ns: u64,
    file: Option<FileId>,
    map: PerfMap,
}

/// A process that is there.
#[derive(Debug)]
pub struct Process {
    /// Its directory in `/proc`.
    pub directory: Directory,
    stack_start: u64,
}

impl Process {
    /// Finds a process; `None` when it is gone, or its pid is another's now.
    pub fn find(proc: &Path, task: &Task, clk_tck: u32) -> Option<Process> {
        let directory = Directory::open(&proc.join(task.tgid.to_string())).ok()?;
        let mut process = Process { directory, stack_start: 0 };
        let (start_ticks, stack_start) = process.stat()?;
        let start_ns = start_ticks.saturating_mul(crate::decode::fact::tick_ns(clk_tck));
        process.stack_start = stack_start;
        (task.start_ns == 0 || same_start(task.start_ns, start_ns, clk_tck)).then_some(process)
    }

    /// Its start in ticks and the beginning of its stack.
    fn stat(&self) -> Option<(u64, u64)> {
        let stat = self.directory.read(c"stat", TEXT_BYTES_MAX).ok()?;
        Stat::parse(&stat).map(|stat| (stat.start_ticks, stat.stack_start))
    }

    /// Whether an image is what it runs now.
    pub fn runs(&self, image: &Image) -> bool {
        self.stack_start == image.stack_start
    }

    /// Reads its image; `None` when it has none any more, or executes another program at this moment.
    pub fn image(&self, number: u64) -> Option<Image> {
        let maps = Maps::parse(&self.directory.read_lines(c"maps", MAPS_BYTES_MAX).ok()?);
        let seen_ns = clock::ktime_ns();
        let same = self.stat()?.1 == self.stack_start && !maps.is_empty();
        let files = vec![None; maps.len()];
        let stack_start = self.stack_start;
        same.then_some(Image { number, maps, files, seen_ns, stack_start, perf_map: None })
    }

    fn read_perf_map(&self, known: Option<FileId>) -> Result<Option<(FileId, PerfMap)>, Flaw> {
        let status = self.directory.read(c"status", TEXT_BYTES_MAX).map_err(|_| Flaw::Unreadable)?;
        let pid = Status::parse(&status).inner_pid.ok_or(Flaw::Unreadable)?;
        let path = format!("/tmp/perf-{pid}.map");
        let unreadable = |_: Refusal| Flaw::Unreadable;
        let found = Found::in_root(&self.directory, path.as_bytes()).map_err(unreadable)?;
        let owner = super::open::owner(&self.directory).map_err(unreadable)?;
        // Another user of the same container has no say in what this process's code is called.
        if found.uid != owner && found.uid != 0 {
            return Err(Flaw::Unreadable);
        }
        if known == Some(found.id) {
            return Ok(None);
        }
        let file = found.open(Some(&self.directory)).map_err(unreadable)?;
        Ok(Some((found.id, PerfMap::read(&file)?)))
    }
}

impl Image {
    /// What a fixed-address program maps, when there is no process of it to look at.
    pub fn of_program(number: u64, file: &OpenFile, path: &[u8], seen_ns: u64) -> Option<Image> {
        let maps = Maps::of_fixed_program(&Elf::read(file).ok()?, path, file.id.inode)?;
        let files = vec![Some(Ok(file.id)); maps.len()];
        Some(Image { number, maps, files, seen_ns, stack_start: 0, perf_map: None })
    }

    /// The same code in a process that was forked from this one's.
    pub fn inherited(&self, number: u64, seen_ns: u64) -> Image {
        let (maps, files) = (self.maps.clone(), self.files.clone());
        Image { number, maps, files, seen_ns, stack_start: 0, perf_map: None }
    }

    /// The name that the process's perf map gives to an address. The map is read when it is first needed, and
    /// again when it has grown; `process` is the process if it is still there.
    pub fn jit_name(&mut self, address: u64, process: Option<&Process>) -> Option<&[u8]> {
        let now_ns = clock::ktime_ns();
        let named = self.perf_map.as_ref().is_some_and(|read| read.map.find(address).is_some());
        let due = self.perf_map.as_ref().is_none_or(|read| now_ns - read.read_ns >= PERF_MAP_AGAIN_NS);
        if !named
            && due
            && let Some(process) = process
        {
            let before = self.perf_map.take();
            let file = before.as_ref().and_then(|read| read.file);
            let fresh = match process.read_perf_map(file) {
                Ok(Some((file, map))) => Some(ReadPerfMap { read_ns: now_ns, file: Some(file), map }),
                Ok(None) | Err(_) => before.map(|read| ReadPerfMap { read_ns: now_ns, ..read }),
            };
            // Without a map too: it is not looked for at each address.
            let none = || ReadPerfMap { read_ns: now_ns, file: None, map: PerfMap::default() };
            self.perf_map = Some(fresh.unwrap_or_else(none));
        }
        self.perf_map.as_ref()?.map.find(address)
    }

    /// Memory it takes.
    pub fn held_bytes(&self) -> usize {
        let perf_map = self.perf_map.as_ref().map_or(0, |read| read.map.held_bytes());
        self.maps.held_bytes()
            + self.files.capacity() * size_of::<Option<Result<FileId, Refusal>>>()
            + perf_map
    }
}
