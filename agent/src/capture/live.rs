//! The live source. In: the kernel's rings and counters, scans and clocks. Out: records in time order.

use super::away::Away;
use super::coalesce::coalesce;
use super::counted::{Counted, growth, skips, tally};
use super::facts::{self, Scan, clock, clock::ClockWatch, pressure::PressureWatch};
use super::order::{Order, SLACK_NS};
use super::output::Outputs;
use super::queues::QueueReader;
use super::redact::{ArgvMode, redact_exec_record, redact_process};
use super::ring::Rings;
use super::samples::{Samples, is_sample};
use super::symbols::{symboliser, symboliser::Symboliser, unwind::Kernel};
use super::{Capture, CaptureError};
use crate::attach::counters::{Counters, Counts, ProgramRuns};
use crate::attach::early::Early;
use crate::attach::sampler::Sampler;
use crate::attach::threads::Threads;
use crate::decode::{self, fact, fact::Fact};
use slowpod_ebpf::abi::{self, Header, Kind, flood::Flood, flood::FloodCount, flood::FloodKey};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;
use zerocopy::IntoBytes;

/// How often the rings are drained. A storm at full speed fills a twentieth of a ring meanwhile.
pub const TICK: Duration = Duration::from_millis(100);
/// The same in the first turns: what the start-up scan found is asked for as soon as it can be. Longer than a record's way.
const FIRST_TICK: Duration = Duration::from_millis(10);
const FIRST_TURNS: u32 = 10;
/// How often the kernel's counters are read for losses.
const COUNTERS_NS: u64 = 500_000_000;
/// How often the programs' own statistics are read: they are for `/metrics`, and cost more than all else of an idle
/// agent's second.
const PROGRAMS_NS: u64 = 5_000_000_000;
/// How often the sums of samples are closed while nobody listens.
const SAMPLES_NS: u64 = 1_000_000_000;
/// How often waits that go on are told. Idle threads are many, and each has a row.
const GO_ON_NS: u64 = 5_000_000_000;
/// Both while a client listens: the edges of its window are as sharp as that.
const LISTENED_SAMPLES_NS: u64 = 100_000_000;
const LISTENED_GO_ON_NS: u64 = 1_000_000_000;
/// How long the end waits for the names of the last stacks.
const LAST_NAMES: Duration = Duration::from_millis(300);
/// Drains in a row before the records so far are handed on.
const DRAINS_MAX: usize = 8;

/// What the live source is made of.
pub struct Parts {
    /// The records.
    pub rings: Rings,
    /// The numbers beside them.
    pub counters: Counters,
    /// Every thread's slot.
    pub threads: Threads,
    /// Waits in run queues.
    pub queues: QueueReader,
    /// Processes from before, whose ends are wanted.
    pub early: Early,
    /// How closely the kernel's programs look.
    pub sampler: Sampler,
    /// What is kept of arguments.
    pub argv_mode: ArgvMode,
    /// Tables for user stacks.
    pub unwind: Option<Box<dyn Kernel>>,
}

/// Rings, counters, scans and clocks, as one source of records.
pub struct LiveSource {
    parts: Parts,
    order: Order,
    clock: ClockWatch,
    /// Waits left of those that are short.
    first_turns: u32,
    counters_due_ns: u64,
    programs_due_ns: u64,
    pressure: PressureWatch,
    counted: Counted,
    samples: Samples,
    away: Away,
    samples_due_ns: u64,
    go_on_due_ns: u64,
    /// A client listens.
    listened: bool,
    intake: Capture,
    scratch: Vec<u8>,
    outputs: Outputs,
    /// Names stacks; `None` where its thread could not be had.
    symboliser: Option<Symboliser>,
}

impl LiveSource {
    /// A source over what is attached.
    pub fn new(mut parts: Parts) -> Self {
        LiveSource {
            symboliser: Symboliser::of_this_node(parts.unwind.take()),
            parts,
            order: Order::default(),
            clock: ClockWatch::default(),
            first_turns: FIRST_TURNS,
            counters_due_ns: 0,
            programs_due_ns: 0,
            pressure: PressureWatch::default(),
            counted: Counted::default(),
            samples: Samples::default(),
            away: Away::new("/proc".into(), facts::node::clk_tck(), clock::ktime_ns()),
            samples_due_ns: 0,
            go_on_due_ns: 0,
            listened: false,
            intake: Capture::default(),
            scratch: Vec::new(),
            outputs: Outputs::default(),
        }
    }

    /// Enters facts that are known from the start: the node, verdicts.
    pub fn tell(&mut self, facts: impl IntoIterator<Item = Fact>) {
        let now_ns = clock::ktime_ns();
        facts.into_iter().for_each(|fact| self.enter(now_ns, &fact));
    }

    /// Enters a record that was made outside.
    pub fn enter_record(&mut self, record: &[u8]) {
        self.intake.garbled += u64::from(!self.order.push(record));
    }

    /// Scans `/proc` and the cgroups into records. To be called once, when everything is attached.
    ///
    /// # Errors
    /// When `/proc` or the cgroup mount cannot be read at all.
    pub fn scan(&mut self, root: &Path, layout: Option<&facts::cgroups::Layout>) -> Result<(), CaptureError> {
        let mode = self.parts.argv_mode;
        let redact = |process: &mut fact::Process| redact_process(process, mode);
        let clk_tck = facts::node::clk_tck();
        let mut found = Vec::new();
        let LiveSource { parts, away, .. } = self;
        Scan { root, layout, clk_tck, redact: &redact }.run(|fact| {
            parts.early.see(&fact);
            away.scanned(&fact);
            found.push(fact);
        })?;
        found.extend(facts::genl::families().unwrap_or_default());
        self.tell(found);
        Ok(())
    }

    /// Looks as closely as clients want, or as is right all the time.
    pub fn listen(&mut self, hz: Option<u32>) {
        let LiveSource { parts, listened, samples_due_ns, go_on_due_ns, .. } = self;
        if *listened != hz.is_some() {
            *listened = hz.is_some();
            // What was summed so far belongs to the time before.
            (*samples_due_ns, *go_on_due_ns) = (0, 0);
        }
        if let Err(error) = parts.sampler.want(hz) {
            tracing::warn!(%error, "the sampling rate cannot be changed");
        }
    }

    /// Waits for a tick or a full ring, then appends to `batch` what is ripe. Returns the instant up to which
    /// everything that happened is in.
    ///
    /// # Errors
    /// When the rings cannot be waited for.
    pub fn read(&mut self, batch: &mut Vec<u8>) -> Result<u64, CaptureError> {
        let tick = if self.first_turns > 0 { FIRST_TICK } else { TICK };
        self.first_turns = self.first_turns.saturating_sub(1);
        self.parts.rings.wait(tick)?;
        self.drain(batch)
    }

    /// The same without waiting, and up to this instant: the last records before the end.
    pub fn finish(&mut self, batch: &mut Vec<u8>) -> u64 {
        let now_ns = clock::ktime_ns();
        let _ = self.drain(batch);
        self.close_samples();
        self.read_programs();
        self.read_pressure();
        if let Some(symboliser) = &mut self.symboliser {
            let names = symboliser.last_answers(LAST_NAMES);
            self.tell(names);
        }
        self.read_queues(true);
        self.release(u64::MAX, batch);
        now_ns
    }

    /// Cgroups of threads that waited long for a CPU since this was last asked.
    pub fn take_waiters(&mut self) -> BTreeSet<u64> {
        self.parts.queues.take_waiters()
    }

    /// Per ring: most bytes that one drain found waiting, and the ring's size.
    pub fn ring_sizes(&self) -> BTreeMap<&'static str, (u64, u64)> {
        self.parts.rings.sizes()
    }

    /// What the kernel's counters said when last read.
    pub fn counts(&self) -> &Counts {
        &self.counted.counts
    }

    /// What naming stacks has done so far.
    pub fn symbols(&self) -> symboliser::Counts {
        self.symboliser.as_ref().map(Symboliser::counts).unwrap_or_default()
    }

    /// How often each kernel program ran, when last read.
    pub fn programs(&self) -> &[ProgramRuns] {
        &self.counted.programs
    }

    fn drain(&mut self, batch: &mut Vec<u8>) -> Result<u64, CaptureError> {
        let mut until_ns = clock::ktime_ns();
        for _ in 0..DRAINS_MAX {
            let LiveSource { parts, order, intake, scratch, outputs, symboliser, samples, pressure, .. } =
                self;
            let argv_mode = parts.argv_mode;
            let drained = parts.rings.drain(&mut |record| {
                if let Some(symboliser) = symboliser {
                    symboliser.see(record);
                }
                let Ok(header) = decode::header(record) else {
                    intake.garbled += 1;
                    return;
                };
                let kind = Kind::from_u32(header.kind);
                if kind == Some(Kind::Cni) {
                    pressure.cni_seen(until_ns);
                }
                // What became of a plugin's output comes before its exit.
                let mut taken = outputs.take(record, |told| {
                    order.push(told);
                });
                if is_sample(&header) {
                    taken &= samples.take(record);
                } else if kind != Some(Kind::Output) {
                    taken &= enter_record(order, record, argv_mode, scratch);
                }
                intake.garbled += u64::from(!taken);
            });
            if self.samples.is_full() {
                self.close_samples();
            }
            if !drained.more {
                break;
            }
            until_ns = clock::ktime_ns();
        }
        let until_ns = until_ns.saturating_sub(SLACK_NS);
        if let Some(fact) = self.clock.tick(clock::Reading::now()) {
            self.enter(clock::ktime_ns(), &fact);
        }
        if let Some(symboliser) = &mut self.symboliser {
            let names = symboliser.answers();
            self.tell(names);
        }
        if until_ns >= self.samples_due_ns {
            let every_ns = |calm_ns, listened_ns| if self.listened { listened_ns } else { calm_ns };
            self.samples_due_ns = until_ns + every_ns(SAMPLES_NS, LISTENED_SAMPLES_NS);
            if until_ns >= self.go_on_due_ns {
                self.go_on_due_ns = until_ns + every_ns(GO_ON_NS, LISTENED_GO_ON_NS);
                self.go_on();
            }
            self.close_samples();
        }
        if until_ns >= self.counters_due_ns {
            self.counters_due_ns = until_ns + COUNTERS_NS;
            self.read_counters();
        }
        if until_ns >= self.programs_due_ns {
            self.programs_due_ns = until_ns + PROGRAMS_NS;
            self.read_programs();
        }
        self.read_queues(false);
        if self.pressure.is_due(until_ns) {
            self.read_pressure();
        }
        self.release(until_ns, batch);
        Ok(until_ns)
    }

    /// Enters what the counts of waits grew by, if that is due.
    fn read_queues(&mut self, last: bool) {
        let LiveSource { parts, order, intake, .. } = self;
        let ticked = parts.queues.tick(clock::ktime_ns(), last, |record| {
            if !order.push(record) {
                intake.garbled += 1;
            }
        });
        if let Err(error) = ticked {
            tracing::warn!(%error, "waits in run queues are not known for now");
        }
    }

    /// Appends to `batch` what happened up to an instant, like netlink sends as one.
    fn release(&mut self, until_ns: u64, batch: &mut Vec<u8>) {
        self.order.release(until_ns, batch);
        self.intake.coalesced += coalesce(batch);
    }

    fn read_pressure(&mut self) {
        let reading = facts::pressure::read(Path::new("/proc"));
        self.enter(clock::ktime_ns(), &Fact::Pressure(reading));
    }

    /// Enters what the kernel's counters say was lost, missed or only counted since they were last read.
    fn read_counters(&mut self) {
        let counts = match self.parts.counters.read() {
            Ok(counts) => counts,
            Err(error) => {
                tracing::warn!(%error, "losses are not known for now");
                return;
            }
        };
        // The clock is read after the counters: what they counted happened before it.
        let now_ns = clock::ktime_ns();
        for (kind, now) in &counts.tallies {
            let before = tally(&self.counted.counts, *kind);
            let (dropped, counted) = (now.dropped - before.dropped, now.counted - before.counted);
            if dropped + counted > 0 {
                self.enter(now_ns, &Fact::Loss { kind: *kind, dropped, counted });
            }
        }
        for (reason, now) in &counts.misses {
            let before = self.counted.counts.misses.iter().find(|(r, _)| r == reason).map_or(0, |(_, n)| *n);
            if *now > before {
                self.enter(now_ns, &Fact::Miss { reason: *reason, count: now - before });
            }
        }
        for (key, now) in &counts.flood {
            self.enter_flood(now_ns, key, now);
        }
        self.intake.late += self.order.take_late();
        let intake = std::mem::take(&mut self.intake);
        if intake != Capture::default() {
            self.enter(now_ns, &Fact::Capture(intake));
        }
        self.counted.counts = counts;
    }

    /// Reads the programs' own statistics, and enters how often the kernel skipped one since it was last read.
    fn read_programs(&mut self) {
        let programs = self.parts.counters.programs();
        let now_ns = clock::ktime_ns();
        let before = std::mem::replace(&mut self.counted.programs, programs.clone());
        for (program, count) in skips(&before, &programs) {
            self.enter(now_ns, &Fact::Skipped { program: program.to_owned(), count });
        }
    }

    /// Enters a row of exact counts, if it grew.
    fn enter_flood(&mut self, now_ns: u64, key: &FloodKey, now: &FloodCount) {
        let before = self.counted.flood.insert(*key, *now).unwrap_or_default();
        let count = growth(&before, now);
        if count.spawns + count.lost_ends == 0 {
            return;
        }
        let header =
            Header { ktime_ns: now_ns, kind: Kind::Flood as u32, len_bytes: size_of::<Flood>() as u32 };
        let record = Flood { header, key: *key, count, cgroup_id: 0, comm: [0; abi::COMM_BYTES] };
        self.order.push(record.as_bytes());
    }

    /// Sums the waits that go on.
    fn go_on(&mut self) {
        let (threads, now_ns) = (&self.parts.threads, clock::ktime_ns());
        let owned = |(number, slot)| Some((slot, threads.owner(number, &slot)?));
        let waits = self.away.waits(now_ns, threads.slots().filter_map(owned), |tid| threads.of(tid));
        self.samples.go_on(now_ns, waits.into_iter());
    }

    /// Enters the sums of samples.
    fn close_samples(&mut self) {
        let LiveSource { samples, order, .. } = self;
        samples.close(clock::ktime_ns()).for_each(|row| {
            order.push(row.as_bytes());
        });
    }

    fn enter(&mut self, ktime_ns: u64, fact: &Fact) {
        self.scratch.clear();
        fact::encode(ktime_ns, fact, &mut self.scratch);
        self.order.push(&self.scratch);
    }
}

/// Puts one record of the kernel's into the window, without what must not be kept. False when it is no record.
fn enter_record(order: &mut Order, record: &[u8], mode: ArgvMode, scratch: &mut Vec<u8>) -> bool {
    if !decode::header(record).is_ok_and(|header| header.kind == Kind::Exec as u32) {
        return order.push(record);
    }
    scratch.clear();
    scratch.extend_from_slice(record);
    // Padding of the ring is not part of the record.
    if let Ok(header) = decode::header(scratch) {
        scratch.truncate(header.len_bytes as usize);
    }
    redact_exec_record(scratch, mode).is_ok() && order.push(scratch)
}
