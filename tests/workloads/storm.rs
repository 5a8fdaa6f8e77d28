//! Children at full speed, from one or several spawners, each child told apart by its argv.

use std::io;
use std::sync::Barrier;

use anyhow::{Result, bail};
use serde_json::{Value, json};

use crate::Work;
use crate::args::Args;
use crate::shared::{Shared, Stage};
use crate::spawn::{CHILD_WORDS, Child, How, Program, children_json, start};
use crate::sys::{self, Pid, gettid, monotonic_ns};

pub(crate) const OPTIONS: &str = "[--count N] [--spawners S] [--how spawn|fork|vfork|threads] [--argv-tag X] \
     [--fail-every K] [--program PATH] [--brief]";

/// Most children of one run: more would not fit a pid space of the usual size twice over.
const COUNT_MAX: u64 = 1_000_000;
const SPAWNERS_MAX: u64 = 64;

#[derive(Clone)]
struct Storm {
    count: usize,
    spawners: usize,
    how: How,
    /// Spawners are threads of one process, not processes.
    threads: bool,
    tag: String,
    /// Every so many children one is /bin/false; 0 = none.
    fail_every: usize,
    /// What the others run.
    program: String,
    brief: bool,
}

/// `--count` children in all, shared out over the spawners. Child I of spawner S has the argv
/// `["true", TAG, "S.I"]` (`"false"` for those that `--fail-every` picks) and exit code 0 (1). With `--program` that is run
/// in the place of `/bin/true`.
pub(crate) fn prepare(args: &mut Args) -> Result<Work> {
    let how = args.text("--how", "spawn")?;
    let threads = how == "threads";
    let storm = Storm {
        count: args.count("--count", 1000, COUNT_MAX)? as usize,
        spawners: args.count("--spawners", 1, SPAWNERS_MAX)? as usize,
        how: if threads { How::Spawn } else { how.parse()? },
        threads,
        tag: args.text("--argv-tag", "storm")?,
        fail_every: args.value("--fail-every", 0)?,
        program: args.text("--program", "/bin/true")?,
        brief: args.flag("--brief"),
    };
    if storm.tag.contains('\0') || storm.program.contains('\0') {
        bail!("--argv-tag and --program must not hold a NUL");
    }
    Ok(Box::new(move || storm.run()))
}

/// Words before the children in a spawner's part of the shared memory.
const TID: usize = 0;
const START_NS: usize = 1;
const END_NS: usize = 2;
const SPAWNER_WORDS: usize = 3;

impl Storm {
    fn run(&self) -> Result<Value> {
        let rows = (0..self.spawners)
            .map(|spawner| Shared::new(SPAWNER_WORDS + self.share(spawner) * CHILD_WORDS))
            .collect::<io::Result<Vec<_>>>()?;
        let spawner_pids = if self.threads { self.run_threads(&rows)? } else { self.run_processes(&rows)? };
        let spawners: Vec<_> =
            rows.iter().zip(spawner_pids).map(|(row, pid)| self.spawner_json(row, pid)).collect();
        let start = rows.iter().map(|row| row.get(START_NS)).min().unwrap_or_default();
        let end = rows.iter().map(|row| row.get(END_NS)).max().unwrap_or_default();
        Ok(json!({
            "spawns": self.count,
            "failed": (0..self.spawners).map(|s| self.failing(s)).sum::<usize>(),
            "argv_tag": self.tag,
            "storm_start_ns": start,
            "storm_end_ns": end,
            "spawns_per_s": self.count as f64 * 1e9 / (end - start) as f64,
            "spawners": spawners,
        }))
    }

    /// How many children a spawner makes.
    fn share(&self, spawner: usize) -> usize {
        self.count / self.spawners + usize::from(spawner < self.count % self.spawners)
    }

    fn fails(&self, index: usize) -> bool {
        self.fail_every != 0 && index % self.fail_every == self.fail_every - 1
    }

    fn failing(&self, spawner: usize) -> usize {
        (0..self.share(spawner)).filter(|&index| self.fails(index)).count()
    }

    fn run_threads(&self, rows: &[Shared]) -> Result<Vec<Pid>> {
        let barrier = Barrier::new(self.spawners);
        std::thread::scope(|scope| {
            let spawners: Vec<_> = rows
                .iter()
                .enumerate()
                .map(|(spawner, row)| {
                    let barrier = &barrier;
                    scope.spawn(move || {
                        barrier.wait();
                        self.spawn_all(spawner, row)
                    })
                })
                .collect();
            for spawner in spawners {
                spawner.join().map_err(|_| io::Error::other("a spawner thread panicked"))??;
            }
            Ok(vec![std::process::id() as Pid; self.spawners])
        })
    }

    fn run_processes(&self, rows: &[Shared]) -> Result<Vec<Pid>> {
        let go = Stage::new()?;
        let mut pids = Vec::new();
        for (spawner, row) in rows.iter().enumerate() {
            pids.push(sys::fork(|| {
                let ready = sys::die_with_parent().map(|()| go.wait_for(1));
                match ready.and_then(|()| self.spawn_all(spawner, row)) {
                    Ok(()) => 0,
                    Err(error) => {
                        eprintln!("spawner {spawner}: {error}");
                        1
                    }
                }
            })?);
        }
        go.raise(1);
        for &pid in &pids {
            Child::reap(pid, 0)?.expect_exit(0)?;
        }
        Ok(pids)
    }

    fn spawn_all(&self, spawner: usize, row: &Shared) -> io::Result<()> {
        row.put(TID, gettid() as u64);
        row.put(START_NS, monotonic_ns());
        for (index, slot) in row[SPAWNER_WORDS..].chunks(CHILD_WORDS).enumerate() {
            let (path, name, code) =
                if self.fails(index) { ("/bin/false", "false", 1) } else { (&*self.program, "true", 0) };
            let program = Program::new(path, &[name, &self.tag, &format!("{spawner}.{index}")]);
            Child::run(|| start(self.how, &program))?.expect_exit(code)?.store(slot);
        }
        row.put(END_NS, monotonic_ns());
        Ok(())
    }

    fn spawner_json(&self, row: &Shared, pid: Pid) -> Value {
        let children: Vec<_> = row[SPAWNER_WORDS..].chunks(CHILD_WORDS).map(Child::load).collect();
        let mut truth = json!({
            "pid": pid,
            "tid": row.get(TID),
            "start_ns": row.get(START_NS),
            "end_ns": row.get(END_NS),
            "spawns": children.len(),
            "exec_ns": crate::spawn::sum_ns(&children),
        });
        if !self.brief {
            truth["children"] = children_json(&children);
        }
        truth
    }
}
