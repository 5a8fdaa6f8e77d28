//! A child process with many threads, each of known CPU time and sleep.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::Work;
use crate::args::Args;
use crate::shared::Shared;
use crate::spawn::Child;
use crate::sys::{self, gettid, monotonic_ns, sleep_ns, thread_cpu_ns};

pub(crate) const OPTIONS: &str = "[--count N] [--cpu-ms A] [--sleep-ms B]";

const THREADS_MAX: u64 = 4096;
const NS_PER_MS: u64 = 1_000_000;

/// What a thread leaves in shared memory.
const TID: usize = 0;
const START_NS: usize = 1;
const END_NS: usize = 2;
const CPU_NS: usize = 3;
const THREAD_WORDS: usize = 4;

/// A forked child (no exec) whose main thread starts N threads, all alive together, and joins them.
pub(crate) fn prepare(args: &mut Args) -> Result<Work> {
    let count = args.count("--count", 8, THREADS_MAX)? as usize;
    let cpu_ns = args.value("--cpu-ms", 1)? * NS_PER_MS;
    let asleep_ns = args.value("--sleep-ms", 5)? * NS_PER_MS;
    Ok(Box::new(move || {
        let shared = Shared::new(count * THREAD_WORDS)?;
        let child = Child::run(|| {
            sys::fork(|| {
                std::thread::scope(|scope| {
                    for words in shared.chunks(THREAD_WORDS) {
                        let put = move |at: usize, value: u64| {
                            words[at].store(value, std::sync::atomic::Ordering::SeqCst);
                        };
                        let thread = std::thread::Builder::new().stack_size(64 * 1024);
                        let started = thread.spawn_scoped(scope, move || {
                            put(TID, gettid() as u64);
                            put(START_NS, monotonic_ns());
                            sys::burn_cpu_ns(cpu_ns);
                            sleep_ns(asleep_ns);
                            put(CPU_NS, thread_cpu_ns());
                            put(END_NS, monotonic_ns());
                        });
                        if started.is_err() {
                            sys::exit_now(1);
                        }
                    }
                });
                0
            })
        })?
        .expect_exit(0)
        .context("not every thread could be started")?;
        let threads: Vec<_> = (0..count).map(|n| thread_json(&shared, n * THREAD_WORDS)).collect();
        Ok(json!({ "child": child.json(), "thread_count": count + 1, "threads": threads }))
    }))
}

fn thread_json(shared: &Shared, at: usize) -> Value {
    json!({
        "tid": shared.get(at + TID),
        "start_ns": shared.get(at + START_NS),
        "end_ns": shared.get(at + END_NS),
        "cpu_ns": shared.get(at + CPU_NS),
    })
}
