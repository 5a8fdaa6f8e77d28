//! The numbers the kernel programs keep beside their rings, read on a tick.

use super::programs::chain;
use aya::{
    Ebpf,
    maps::{HashMap, Map, MapData, PerCpuArray},
    programs::ProgramFd,
};
use slowpod_ebpf::abi::{
    Kind, Miss, Tally,
    flood::{FloodCount, FloodKey},
    probes::PROBES,
};
use std::{
    fs,
    os::fd::{AsFd, AsRawFd},
};
use zerocopy::{FromBytes, Immutable, KnownLayout};

const TALLY_BYTES: usize = size_of::<Tally>();
const FLOOD_KEY_BYTES: usize = size_of::<FloodKey>();
const FLOOD_COUNT_BYTES: usize = size_of::<FloodCount>();

/// Why the numbers could not be read.
#[derive(Debug, thiserror::Error)]
#[error("the kernel's counters cannot be read: {0}")]
pub struct CountersError(pub(super) String);

/// Everything counted so far, over all CPUs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Per kind of record that the kernel sends.
    pub tallies: Vec<(Kind, Tally)>,
    /// Per reason why something could not be held or read.
    pub misses: Vec<(Miss, u64)>,
    /// Exact counts of spawns that were not sent in full. Numbers only grow.
    pub flood: Vec<(FloodKey, FloodCount)>,
}

/// How often a program ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramRuns {
    /// Its name.
    pub name: &'static str,
    /// Times it ran; 0 unless `kernel.bpf_stats_enabled` is 1.
    pub runs: u64,
    /// Time in it, nanoseconds; likewise.
    pub run_ns: u64,
    /// Times the kernel skipped it because it was already running on that CPU: what it would have seen is
    /// lost.
    pub skipped: u64,
}

/// Handles on the counters of programs that are attached.
pub struct Counters {
    tally: PerCpuArray<MapData, [u8; TALLY_BYTES]>,
    misses: PerCpuArray<MapData, u64>,
    flood: HashMap<MapData, [u8; FLOOD_KEY_BYTES], [u8; FLOOD_COUNT_BYTES]>,
    programs: Vec<(&'static str, ProgramFd)>,
}

impl Counters {
    /// Takes the counters' maps out of a loaded object.
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Counters, CountersError> {
        let mut map = |name: &str| ebpf.take_map(name).ok_or_else(|| CountersError(format!("no map {name}")));
        let tally: Map = map("TALLY")?;
        let misses = map("MISSES")?;
        let flood = map("FLOOD")?;
        Ok(Counters {
            tally: PerCpuArray::try_from(tally).map_err(failed)?,
            misses: PerCpuArray::try_from(misses).map_err(failed)?,
            flood: HashMap::try_from(flood).map_err(failed)?,
            programs: Vec::new(),
        })
    }

    /// Remembers the programs that are hooked, to report how often they ran.
    pub(super) fn watch(&mut self, ebpf: &Ebpf) {
        self.programs = PROBES
            .iter()
            .flat_map(|probe| probe.rungs)
            .flat_map(|rung| rung.programs)
            .filter_map(|program| {
                let fd = ebpf.program(program.name)?.fd().ok()?.try_clone().ok()?;
                Some((program.name, fd))
            })
            .collect();
        // A program may be in more than one rung.
        self.programs.sort_unstable_by_key(|(name, _)| *name);
        self.programs.dedup_by_key(|(name, _)| *name);
    }

    /// Reads all counters but those of [`Counters::programs`].
    ///
    /// # Errors
    /// When the kernel refuses a look-up, which it does not in practice.
    pub fn read(&self) -> Result<Counts, CountersError> {
        let mut counts = Counts::default();
        for kind in Kind::ALL {
            // Facts and rows of counts are made by the agent.
            if matches!(kind, Kind::Flood | Kind::RunQueue | Kind::Pushed | Kind::Wakes | Kind::Fact) {
                continue;
            }
            let mut sum = Tally::default();
            for bytes in self.tally.get(&(kind as u32), 0).map_err(failed)?.iter() {
                let one: Tally = from_bytes(bytes)?;
                sum.seen += one.seen;
                sum.submitted += one.submitted;
                sum.dropped += one.dropped;
                sum.counted += one.counted;
            }
            counts.tallies.push((kind, sum));
        }
        for miss in Miss::ALL {
            let sum = self.misses.get(&(miss as u32), 0).map_err(failed)?.iter().sum();
            counts.misses.push((miss, sum));
        }
        for row in self.flood.iter() {
            let (key, count) = row.map_err(failed)?;
            counts.flood.push((from_bytes(&key)?, from_bytes(&count)?));
        }
        Ok(counts)
    }

    /// Reads how often each program ran. A file is opened for each of them, so less often than the rest.
    pub fn programs(&self) -> Vec<ProgramRuns> {
        self.programs.iter().map(|(name, fd)| program_runs(name, fd)).collect()
    }
}

pub(super) fn failed(error: aya::maps::MapError) -> CountersError {
    CountersError(chain(&error))
}

pub(super) fn from_bytes<T: FromBytes + KnownLayout + Immutable>(bytes: &[u8]) -> Result<T, CountersError> {
    T::read_from_bytes(bytes).map_err(|error| CountersError(error.to_string()))
}

/// Statistics of a program, from what the kernel says of its descriptor.
fn program_runs(name: &'static str, fd: &ProgramFd) -> ProgramRuns {
    let info =
        fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd())).unwrap_or_default();
    let field = |key: &str| {
        info.lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))
            .and_then(|value| value.trim().parse().ok())
            .unwrap_or(0)
    };
    ProgramRuns {
        name,
        runs: field("run_cnt"),
        run_ns: field("run_time_ns"),
        skipped: field("recursion_misses"),
    }
}
