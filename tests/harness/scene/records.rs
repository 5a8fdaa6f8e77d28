//! Happenings to records. In: the words of a line. Out: the bytes that the kernel or the scan would send.

use super::words::Words;
use super::{asides, names, queues};
use slowpod::decode::fact::{self, Fact};
use slowpod_ebpf::abi::{COMM_BYTES, Header, Kind, Task, exec, exit, reap, spawn, split};
use std::collections::HashMap;
use zerocopy::{Immutable, IntoBytes};

/// Pids of processes whose label is no number begin here.
const FIRST_PID: u32 = 10_000;
/// What a clone call takes when a line does not say.
const CLONE_NS: u64 = 100_000;
/// What tearing down a process takes when a line does not say.
const TEARDOWN_NS: u64 = 50_000;
/// Namespaces of a process that no line puts elsewhere: those that Linux 6.18 makes at boot.
const HOST_NAMESPACES: fact::Namespaces =
    fact::Namespaces { mount: 4_026_531_832, pid: 4_026_531_836, net: 4_026_531_833 };
/// A kind number that no version has.
const UNKNOWN_KIND: u32 = 63;

/// Who is in a scene.
#[derive(Default)]
pub(super) struct Cast {
    lives: HashMap<String, Life>,
    pids: u32,
}

/// A process of a scene.
#[derive(Clone, Default)]
pub(super) struct Life {
    pub(super) task: Task,
    spawner: Task,
    spawned_ns: u64,
    exec_ns: u64,
    execs: u32,
    exec_fails: u32,
    inner_pid: u32,
    threads: u32,
    namespaces: fact::Namespaces,
    pub(super) cgroup_id: u64,
    pub(super) comm: [u8; COMM_BYTES],
}

impl Cast {
    /// What one line makes; `text` is the whole line.
    pub(super) fn act(&mut self, words: &mut Words, text: &str, now_ns: u64) -> Result<Vec<u8>, String> {
        let verb = words.must("what happens")?;
        match verb.as_str() {
            "process" => self.process(words, now_ns),
            "cgroup" => {
                let (id, path) = (words.number()?, words.bytes("a path")?);
                Ok(encoded(now_ns, &Fact::Cgroup { id, hierarchy: 0, path: path.as_slice().into() }))
            }
            "mkdir" | "rmdir" => asides::made_or_gone(words, now_ns, verb == "mkdir"),
            "move" => self.moved(words, now_ns),
            "spawn" => self.spawn(words, now_ns),
            "thread" => self.thread(words, now_ns),
            "exec" => self.exec(words, now_ns),
            "cni" => self.cni(words, now_ns),
            "wait" => self.waited(words, now_ns),
            "says" => self.says(words, now_ns),
            "fail" => self.fail(words, now_ns),
            "exit" => self.exit(words, now_ns),
            "reap" => self.reap(words, now_ns),
            "netlink" => self.netlink(words, now_ns),
            "refuse" => self.refuse(words, now_ns),
            "flood" => self.flood(words, now_ns),
            "stack" => self.stack(words, now_ns),
            "waits" => self.waits(words, now_ns),
            "pushed" => queues::pushed(words, now_ns),
            "wakes" => self.wakes(words, now_ns),
            "sample" => self.sample(words, now_ns),
            "fact" => {
                let json = words.bytes("JSON")?;
                let fact = serde_json::from_slice(&json).map_err(|error| format!("{text}: {error}"))?;
                Ok(encoded(now_ns, &fact))
            }
            "garbage" => {
                Ok(Header { ktime_ns: now_ns, kind: UNKNOWN_KIND, len_bytes: 16 }.as_bytes().to_vec())
            }
            other => Err(format!("nobody can {other:?}")),
        }
    }

    pub(super) fn life(&mut self, words: &mut Words) -> Result<&mut Life, String> {
        let label = words.must("who")?;
        self.lives.get_mut(&label).ok_or_else(|| format!("{label:?} is not in the scene yet"))
    }

    /// The pid of someone in the scene.
    pub(super) fn pid_of(&self, label: &str) -> Result<u32, String> {
        let life = self.lives.get(label).ok_or_else(|| format!("{label:?} is not in the scene yet"))?;
        Ok(life.task.tgid)
    }

    /// A pid for a label: the label itself when it is a number, else a new one.
    fn pid(&mut self, label: &str) -> u32 {
        label.parse().unwrap_or_else(|_| {
            self.pids += 1;
            FIRST_PID + self.pids - 1
        })
    }

    fn process(&mut self, words: &mut Words, now_ns: u64) -> Result<Vec<u8>, String> {
        let label = words.must("a label")?;
        let pid = match words.count("pid", 0)? {
            0 => self.pid(&label),
            pid => pid,
        };
        let exact = words.text("exact")?.is_none_or(|exact| exact == "yes");
        // Long before the scene begins, and not on a tick.
        let start_ns = words.span("start")?.unwrap_or(u64::from(pid) * 1_000_000 + 1_234_567);
        let comm = words.option("comm").map_or_else(|| label.clone().into_bytes(), |word| word.0);
        let path = words.option("path").map_or_else(Vec::new, |word| word.0);
        let argv = words.option("argv").map_or_else(Vec::new, |word| nul_separated(&word.0));
        let cgroup_id = words.count("cgroup", 0)?;
        let task = Task { start_ns, tgid: pid, tid: pid };
        let namespaces = namespaces(words, HOST_NAMESPACES)?;
        let life = Life {
            task,
            cgroup_id,
            comm: padded(&comm),
            inner_pid: pid,
            threads: 1,
            namespaces,
            ..Life::default()
        };
        self.lives.insert(label, life);
        let process = fact::Process {
            tgid: pid,
            start_ns: if exact { start_ns } else { start_ns / 10_000_000 * 10_000_000 },
            start_exact: exact,
            ppid: words.count("ppid", 1)?,
            comm: comm.as_slice().into(),
            path: path.as_slice().into(),
            argv: argv.as_slice().into(),
            cgroup_id,
            inner_pid: pid,
            threads: 1,
            namespaces,
            ..fact::Process::default()
        };
        Ok(encoded(now_ns, &Fact::Process(Box::new(process))))
    }

    fn spawn(&mut self, words: &mut Words, now_ns: u64) -> Result<Vec<u8>, String> {
        let pair = words.must("parent->child")?;
        let (parent, child) = pair.split_once("->").ok_or("write parent->child")?;
        let parent = self.lives.get(parent).ok_or_else(|| format!("{parent:?} is not in the scene"))?.clone();
        let pid = self.pid(child);
        let spawner = Task { tid: words.count("tid", parent.task.tgid)?, ..parent.task };
        let inner_pid = words.count("inner", pid)?;
        let life = Life {
            task: Task { start_ns: now_ns, tgid: pid, tid: pid },
            spawner,
            spawned_ns: now_ns,
            inner_pid,
            threads: 1,
            namespaces: parent.namespaces,
            cgroup_id: parent.cgroup_id,
            comm: parent.comm,
            ..Life::default()
        };
        self.lives.insert(child.to_owned(), life.clone());
        Ok(bytes(spawn::Spawn {
            header: header(Kind::Spawn, now_ns),
            spawner,
            child: life.task,
            begun_ns: now_ns - words.span("begun")?.unwrap_or(CLONE_NS),
            cgroup_id: parent.cgroup_id,
            user_stack: words.count("stack", 0)?,
            kernel_stack: 0,
            flags: if words.flag("vfork") { spawn::FLAG_SHARES_MEMORY } else { 0 },
            inner_pid,
            comm: parent.comm,
        }))
    }

    fn thread(&mut self, words: &mut Words, now_ns: u64) -> Result<Vec<u8>, String> {
        let life = self.life(words)?;
        life.threads += 1;
        let tid = life.task.tgid + life.threads;
        Ok(bytes(spawn::Spawn {
            header: header(Kind::Spawn, now_ns),
            spawner: life.task,
            child: Task { tid, ..life.task },
            begun_ns: now_ns - CLONE_NS,
            cgroup_id: life.cgroup_id,
            user_stack: 0,
            kernel_stack: 0,
            flags: spawn::FLAG_THREAD | spawn::FLAG_SHARES_MEMORY,
            inner_pid: tid,
            comm: life.comm,
        }))
    }

    fn exec(&mut self, words: &mut Words, now_ns: u64) -> Result<Vec<u8>, String> {
        let life = self.life(words)?;
        let path = words.bytes("a path")?;
        let base = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        life.comm = padded(&words.option("comm").map_or_else(|| base.to_vec(), |word| word.0));
        let argv = words.option("argv").map_or_else(|| nul_separated(&path), |word| nul_separated(&word.0));
        let mut flags = 0;
        for (name, flag) in [
            ("script", exec::FLAG_SCRIPT),
            ("path_cut", exec::FLAG_PATH_CUT),
            ("argv_cut", exec::FLAG_ARGV_CUT),
        ] {
            flags |= if words.flag(name) { flag } else { 0 };
        }
        life.exec_ns = now_ns;
        life.execs += 1;
        life.namespaces = namespaces(words, life.namespaces)?;
        let fixed = exec::Exec {
            header: header(Kind::Exec, now_ns),
            task: life.task,
            cgroup_id: life.cgroup_id,
            old_tid: words.count("tid", life.task.tgid)?,
            uid: 0,
            mount_ns: life.namespaces.mount,
            pid_ns: life.namespaces.pid,
            net_ns: life.namespaces.net,
            flags,
            argv_total_bytes: argv.len() as u32,
            path_len: path.len() as u16,
            argv_len: argv.len() as u16,
            comm: life.comm,
        };
        Ok(with_tail(bytes(fixed), &[&path, &argv]))
    }

    fn fail(&mut self, words: &mut Words, now_ns: u64) -> Result<Vec<u8>, String> {
        let life = self.life(words)?;
        let path = words.bytes("a path")?;
        life.exec_fails += 1;
        let fixed = exec::ExecFail {
            header: header(Kind::ExecFail, now_ns),
            task: life.task,
            cgroup_id: life.cgroup_id,
            errno: names::errno(&words.must("an errno")?)?,
            flags: 0,
            path_len: path.len() as u32,
            reserved: 0,
            comm: life.comm,
        };
        Ok(with_tail(bytes(fixed), &[&path]))
    }

    fn exit(&mut self, words: &mut Words, now_ns: u64) -> Result<Vec<u8>, String> {
        let life = self.life(words)?;
        let wall_ns = now_ns - life.spawned_ns;
        let main = split_of(words, wall_ns)?;
        let thread_count = words.count("threads", life.threads)?;
        let others_ns = u64::from(thread_count - 1) * wall_ns;
        // Threads beside the main one are taken to wait all the time.
        let mut threads = main;
        threads.blocked_ns[split::Cause::Futex as usize] += others_ns;
        let status = match words.count("signal", 0)? {
            0 => words.count::<u32>("code", 0)? << 8,
            signal => signal,
        };
        Ok(bytes(exit::Exit {
            header: header(Kind::Exit, now_ns),
            task: life.task,
            spawner: life.spawner,
            cgroup_id: life.cgroup_id,
            spawned_ns: life.spawned_ns,
            exec_ns: life.exec_ns,
            exiting_ns: now_ns - words.span("teardown")?.unwrap_or(TEARDOWN_NS).min(wall_ns),
            main,
            threads,
            thread_ns: wall_ns + others_ns,
            thread_count,
            status,
            execs: life.execs,
            exec_fails: life.exec_fails,
            flags: if words.flag("partial") { exit::FLAG_SPLIT_PARTIAL } else { 0 },
            reserved: 0,
            comm: life.comm,
        }))
    }

    fn reap(&mut self, words: &mut Words, now_ns: u64) -> Result<Vec<u8>, String> {
        let parent = self.life(words)?.task;
        let child = self.life(words)?;
        let waited_ns = words.span("waited")?.unwrap_or(now_ns - child.spawned_ns);
        let wait_begun_ns = now_ns - waited_ns;
        let own_ns = words.span("own")?.unwrap_or(wait_begun_ns - child.spawned_ns);
        Ok(bytes(reap::Reap {
            header: header(Kind::Reap, now_ns),
            parent,
            wait_begun_ns,
            cloned_ns: child.spawned_ns,
            own_ns,
            on_cpu_ns: 0,
            runnable_ns: 0,
            blocked_ns: waited_ns,
            child_inner_pid: child.inner_pid,
            reserved: 0,
        }))
    }
}

/// The parts of a life of `wall_ns` that a line names; the rest is on a CPU, or blocked by other if `cpu=` is
/// given.
fn split_of(words: &mut Words, wall_ns: u64) -> Result<split::Split, String> {
    let cpu_ns = words.span("cpu")?;
    let mut split = split::Split {
        on_cpu_ns: cpu_ns.unwrap_or_default(),
        runnable_ns: words.span("runnable")?.unwrap_or_default(),
        ..split::Split::default()
    };
    for (name, ns) in words.spans("blocked.")? {
        let cause = split::Cause::ALL.into_iter().find(|cause| cause.name() == name);
        split.blocked_ns[cause.ok_or_else(|| format!("no cause is called {name:?}"))? as usize] = ns;
    }
    let rest_ns = wall_ns.checked_sub(split.total_ns());
    let rest_ns = rest_ns.ok_or_else(|| format!("the parts are more than the life of {wall_ns} ns"))?;
    match cpu_ns {
        None => split.on_cpu_ns += rest_ns,
        Some(_) => split.blocked_ns[split::Cause::Other as usize] += rest_ns,
    }
    Ok(split)
}

/// The namespaces that a line names, the others as they were.
fn namespaces(words: &mut Words, before: fact::Namespaces) -> Result<fact::Namespaces, String> {
    Ok(fact::Namespaces {
        mount: words.count("mount_ns", before.mount)?,
        pid: words.count("pid_ns", before.pid)?,
        net: words.count("net_ns", before.net)?,
    })
}

/// A header whose length is filled in by [`with_tail`] or [`bytes`].
pub(super) fn header(kind: Kind, ktime_ns: u64) -> Header {
    Header { ktime_ns, kind: kind as u32, len_bytes: 0 }
}

pub(super) fn bytes(fixed: impl IntoBytes + Immutable) -> Vec<u8> {
    with_tail(fixed.as_bytes().to_vec(), &[])
}

pub(super) fn with_tail(mut record: Vec<u8>, tail: &[&[u8]]) -> Vec<u8> {
    record.extend(tail.concat());
    let len_bytes = record.len() as u32;
    record[12..16].copy_from_slice(&len_bytes.to_le_bytes());
    record
}

fn encoded(now_ns: u64, fact: &Fact) -> Vec<u8> {
    let mut record = Vec::new();
    fact::encode(now_ns, fact, &mut record);
    record
}

/// Words parted by blanks to NUL-terminated ones.
fn nul_separated(line: &[u8]) -> Vec<u8> {
    let mut argv: Vec<u8> = line.iter().map(|byte| if *byte == b' ' { 0 } else { *byte }).collect();
    argv.push(0);
    argv
}

pub(super) fn padded(comm: &[u8]) -> [u8; COMM_BYTES] {
    let mut field = [0; COMM_BYTES];
    let kept = comm.len().min(COMM_BYTES - 1);
    field[..kept].copy_from_slice(&comm[..kept]);
    field
}
