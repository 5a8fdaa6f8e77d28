//! Profiles: on-CPU time by function against `perf`, off-CPU time by cause against the workload's own clock, and what
//! is hard about stacks and threads.

use crate::exact::assert_near;
use harness::agent::monotonic_ns;
use harness::tools::Tool;
use harness::truth::Truth;
use harness::workload;
use slowpod::agent::{self, Agent, Options};
use slowpod::attach::sampler::STEADY_HZ;
use slowpod::fold::{Snapshot, State, Window, profile::Key, profile::Sums};
use slowpod::{demand, pipeline};
use slowpod_ebpf::abi::{sample::SampleKind, split::Cause, stack::FRAMES};
use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const MS: u64 = 1_000_000;
/// What a profile may differ from a witness by, in points.
const POINTS: f64 = 3.0;

/// An agent in this process, which answers with whole states.
struct Watch {
    agent: Agent,
}

impl Watch {
    fn start() -> Watch {
        let agent = agent::start(Options::default()).expect("the agent starts");
        Watch { agent }
    }

    /// The same, once it names stacks as they come. A fresh agent on a busy machine first reads the programs of all
    /// others, and whoever is gone until then has no names.
    fn start_warm() -> Watch {
        let watch = Watch::start();
        let _wish = watch.agent.hub().demand().wish(199);
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(60) {
            let from_ns = monotonic_ns();
            let truth = workload!("shares").option("--spin-ms", 500).run();
            let found = by_function(&watch.since(from_ns).state, truth.number("/pid"));
            if found.keys().any(|name| name.contains("share_of_")) {
                break;
            }
        }
        watch
    }

    /// Everything between two instants, once all of it is in.
    fn between(&self, from_ns: u64, until_ns: u64) -> Snapshot {
        let window = Window { from_ns, until_ns };
        let hub = self.agent.hub();
        let begun = Instant::now();
        loop {
            let excerpt = hub.excerpt(&window);
            if excerpt.until_ns > until_ns {
                return pipeline::answer(&excerpt, window);
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "the agent falls behind");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The same for a process, once its stacks have their names: on a busy machine they come a while later.
    fn named_since(&self, from_ns: u64, pid: u64) -> State {
        std::thread::sleep(Duration::from_millis(1_300));
        let until_ns = monotonic_ns();
        let begun = Instant::now();
        loop {
            let state = self.between(from_ns, until_ns).state;
            let stacks = |key: &Key| [key.user_stack, key.kernel_stack].into_iter().filter(|id| *id != 0);
            let mine = state.profile.rows().filter(|(key, _)| u64::from(key.process.tgid) == pid);
            let unnamed =
                mine.flat_map(|(key, _)| stacks(key)).filter(|id| state.symbols.frames_of(*id).is_none());
            if unnamed.count() == 0 || begun.elapsed() > Duration::from_secs(60) {
                return state;
            }
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    /// Everything since an instant, waits that ended a moment ago included: they are summed by the second.
    fn since(&self, from_ns: u64) -> Snapshot {
        std::thread::sleep(Duration::from_millis(1_300));
        self.between(from_ns, monotonic_ns())
    }
}

/// What a number of samples may be off by chance alone, as time: four standard deviations.
fn chance_ns(on_cpu_ns: u64, hz: u32) -> u64 {
    let samples = on_cpu_ns as f64 * f64::from(hz) / 1e9;
    (4.0 * samples.sqrt() / f64::from(hz) * 1e9) as u64
}

/// Rows of a process and of one kind.
fn rows(state: &State, pid: u64, kind: SampleKind) -> impl Iterator<Item = (&Key, &Sums)> {
    state.profile.rows().filter(move |(key, _)| u64::from(key.process.tgid) == pid && key.kind == kind)
}

/// Time by cause of the waits that are in the profile.
fn by_cause(state: &State, pid: u64) -> BTreeMap<&'static str, u64> {
    let mut sums = BTreeMap::new();
    for (key, row) in rows(state, pid, SampleKind::OffCpu) {
        *sums.entry(key.cause.name()).or_default() += row.ns;
    }
    sums
}

/// Time by innermost user function, of samples outside the kernel.
fn by_function(state: &State, pid: u64) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    for (key, row) in rows(state, pid, SampleKind::OnCpu) {
        let frames = state.symbols.frames_of(key.user_stack);
        // A function into which another was inlined is what `perf` and the symbol table know.
        let frame = frames.and_then(|mut frames| frames.find(|frame| !frame.inlined));
        let name = frame.map_or("?", |frame| &frame.name).to_owned();
        *sums.entry(name).or_default() += row.ns;
    }
    sums
}

fn percent(part: u64, whole: u64) -> f64 {
    part as f64 * 100.0 / whole as f64
}

#[test]
fn waits_by_cause_are_those_of_the_workloads_clock() {
    let watch = Watch::start();
    let begun_ns = monotonic_ns();
    let truth = workload!("split").option("--all-ms", 300).run();
    let state = watch.named_since(begun_ns, truth.number("/child/pid"));
    let found = by_cause(&state, truth.number("/child/pid"));
    let witnessed = truth.at("/blocked_by").as_object().expect("an object");
    for (cause, witness) in witnessed {
        let figure = found.get(cause.as_str()).copied().unwrap_or(0);
        assert_near(cause, figure, witness.as_u64().expect("a number"), 5, 2 * MS);
    }
    assert_eq!(state.loss.dropped.get("sample"), None);
    let lock = rows(&state, truth.number("/child/pid"), SampleKind::OffCpu)
        .find(|(key, _)| key.cause == Cause::FileLock)
        .expect("a wait for a lock");
    let kernel: Vec<&str> =
        state.symbols.frames_of(lock.0.kernel_stack).expect("named").map(|frame| &*frame.name).collect();
    assert!(kernel.iter().any(|name| name.contains("lock") || name.contains("setlk")), "{kernel:?}");
    assert!(state.stacks.get(lock.0.user_stack).is_some(), "a lock is waited for with a user stack");
}

/// Functions whose shares are compared: all the work of the workload is in as many.
const TOP: usize = 20;

#[test]
fn on_cpu_shares_are_those_of_perf_and_of_the_workloads_clock() {
    let watch = Watch::start_warm();
    let wish = watch.agent.hub().demand().wish(demand::DEFAULT_HZ);
    std::thread::sleep(Duration::from_millis(300));
    let data = tempfile::NamedTempFile::new().expect("a place for perf's data");
    let begun_ns = monotonic_ns();
    let started = workload!("shares").option("--spin-ms", 10_000).option("--threads", 2).start_gated();
    let (pid, hz) = (started.pid().to_string(), demand::DEFAULT_HZ.to_string());
    let mut perf = Command::new(Tool::Perf.require());
    perf.args(["record", "-q", "-e", "cpu-clock", "-F", &hz, "-p", &pid, "-o"]).arg(data.path());
    let mut perf = perf.stdout(Stdio::null()).spawn().expect("perf starts");
    std::thread::sleep(Duration::from_millis(700));
    let truth = started.go().finish();
    assert!(perf.wait().expect("perf ends").success());
    let state = watch.named_since(begun_ns, truth.number("/pid"));
    drop(wish);

    let ours = by_function(&state, truth.number("/pid"));
    let (all, witness_all) = (ours.values().sum::<u64>(), truth.number("/on_cpu_ns"));
    // A busy machine skips a tick now and then, of every sampler alike.
    assert_near("CPU time in all", all, witness_all, 8, 20 * MS);
    let by_clock = truth.at("/by_function").as_object().expect("an object");
    assert_eq!(by_clock.len(), TOP);
    let perfs = shares_by_perf(data.path());
    for (name, by_perf) in perfs.iter().take(TOP) {
        let share = percent(ours.get(name).copied().unwrap_or(0), all);
        assert!((share - by_perf).abs() <= POINTS, "{name}: {share:.1} %, by perf {by_perf:.1} %");
    }
    for (name, witness_ns) in by_clock {
        let share = percent(ours.get(name).copied().unwrap_or(0), all);
        let by_clock = percent(witness_ns.as_u64().expect("a number"), witness_all);
        assert!((share - by_clock).abs() <= POINTS, "{name}: {share:.1} %, by its clock {by_clock:.1} %");
        assert!(
            perfs.iter().take(TOP).any(|(top, _)| top == name),
            "perf's top {TOP} lacks {name}: {perfs:?}"
        );
    }
}

/// Percent by function, as `perf report` says: the largest first.
fn shares_by_perf(data: &std::path::Path) -> Vec<(String, f64)> {
    let mut report = Command::new(Tool::Perf.require());
    report.args(["report", "--stdio", "--no-children", "-F", "overhead,sym", "-t", "\t", "-i"]).arg(data);
    let output = report.stderr(Stdio::null()).output().expect("perf report runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = |line: &str| {
        let (share, name) = line.split_once('\t')?;
        let name = name.trim().trim_start_matches("[.]").trim_start_matches("[k]").trim();
        Some((name.to_owned(), share.trim().trim_end_matches('%').parse().ok()?))
    };
    text.lines().filter(|line| !line.starts_with('#')).filter_map(line).collect()
}

#[test]
fn a_rate_is_raised_while_it_is_wished_for_and_time_stays_time() {
    let watch = Watch::start();
    let period_ns = |wish: Option<u32>| {
        let hz = wish.unwrap_or(STEADY_HZ);
        let wish = wish.map(|hz| watch.agent.hub().demand().wish(hz));
        // Until the agent's next turn, which a busy machine may put off.
        std::thread::sleep(Duration::from_secs(1));
        let begun_ns = monotonic_ns();
        let truth = workload!("shares").option("--spin-ms", 2_000).run();
        let state = watch.since(begun_ns).state;
        drop(wish);
        let pid = truth.number("/pid");
        let count: u64 = rows(&state, pid, SampleKind::OnCpu).map(|(_, row)| row.count).sum();
        let ns: u64 = rows(&state, pid, SampleKind::OnCpu).map(|(_, row)| row.ns).sum();
        let on_cpu_ns = truth.number("/on_cpu_ns");
        // A busy machine skips a tick now and then.
        assert_near("CPU time", ns, on_cpu_ns, 8, chance_ns(on_cpu_ns, hz));
        ns as f64 / count as f64
    };
    let (steady, raised) = (1e9 / f64::from(STEADY_HZ), 1e9 / 199.0);
    for (wish, expected) in [(None, steady), (Some(199), raised), (None, steady)] {
        let found = period_ns(wish);
        assert!((found / expected - 1.0).abs() < 0.01, "{found} ns between ticks with {wish:?}");
    }
}

#[test]
fn a_stack_of_300_frames_is_kept_up_to_the_bound_and_is_told_to_be_cut() {
    let watch = Watch::start();
    let _wish = watch.agent.hub().demand().wish(demand::DEFAULT_HZ);
    let begun_ns = monotonic_ns();
    let truth = workload!("deep").option("--frames", 300).option("--spin-ms", 1_500).run();
    let state = watch.since(begun_ns).state;
    let mut cut_ns = 0;
    for (key, row) in rows(&state, truth.number("/pid"), SampleKind::OnCpu) {
        let depth = state.stacks.get(key.user_stack).map_or(0, |stack| stack.frames.len());
        assert!(depth <= FRAMES);
        cut_ns += if depth == FRAMES { row.ns } else { 0 };
    }
    let on_cpu_ns = truth.number("/on_cpu_ns");
    assert_near("time under the deep stack", cut_ns, on_cpu_ns, 10, chance_ns(on_cpu_ns, demand::DEFAULT_HZ));
}

#[test]
fn ten_thousand_threads_wait_and_none_is_forgotten() {
    let watch = Watch::start();
    let begun_ns = monotonic_ns();
    let truth = workload!("crowd").option("--threads", 10_000).option("--wait-ms", 2_000).run();
    let state = watch.since(begun_ns).state;
    let all = state.profile.rows().filter(|(key, _)| u64::from(key.process.tgid) == truth.number("/pid"));
    let crowd = all.filter(|(key, _)| key.thread() == "crowd" && key.kind != SampleKind::OnCpu);
    // Blocked, then in a long queue. They also wait for each other to arrive, which is before their clock starts.
    let figure: u64 = crowd.map(|(_, row)| row.ns).sum();
    let witness = truth.number("/waited_ns");
    assert!(figure >= witness / 100 * 95, "{figure} of {witness} ns");
    assert_eq!(state.loss.dropped.get("sample"), None, "none found the ring full");
}

#[test]
fn a_process_that_is_gone_before_the_question_has_its_names_or_the_answer_says_so() {
    let watch = Watch::start_warm();
    let _wish = watch.agent.hub().demand().wish(199);
    let begun_ns = monotonic_ns();
    let truths: Vec<Truth> = (0..3).map(|_| workload!("shares").option("--spin-ms", 1_500).run()).collect();
    for truth in truths {
        let state = watch.named_since(begun_ns, truth.number("/pid"));
        let found = by_function(&state, truth.number("/pid"));
        let named: u64 = found.iter().filter(|(name, _)| name.contains("share_of_")).map(|(_, ns)| ns).sum();
        let said = state.symbols.loss;
        assert!(
            named + chance_ns(1_500 * MS, 199) >= 1_400 * MS || said.processes_gone + said.dropped > 0,
            "{found:?}"
        );
        assert_near(
            "CPU time",
            found.values().sum(),
            truth.number("/on_cpu_ns"),
            8,
            chance_ns(1_500 * MS, 199),
        );
    }
}
