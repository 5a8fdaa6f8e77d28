//! Where processes came from. In: spawn and exec records, as they are seen. Out: what is known of a process that may
//! be gone before it can be looked at.
//!
//! A CNI plugin lives for some hundred milliseconds, and records are read every hundred: often enough its stacks
//! come when it is no more. A program that runs at fixed addresses can then still be read from its file, and one
//! that was forked and never executed anything is its parent over again.

use crate::decode::Event;
use rustc_hash::FxHashMap;
use slowpod_ebpf::abi::{Task, exec::FLAG_PATH_CUT, spawn::FLAG_THREAD};
use std::collections::VecDeque;
use std::sync::Arc;

/// Processes remembered, the latest ones; in a storm that is a second or two. 2 MiB.
const PROCESSES_MAX: usize = 8_192;

/// What is known of where a process came from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// What it executes; `None` when its exec was not seen.
    pub program: Option<Arc<Program>>,
    /// Whom it was forked from, if it has executed nothing since.
    pub parent: Option<Task>,
    /// When it executed that, or was forked (monotonic ns); 0 when neither was seen.
    pub since_ns: u64,
}

/// A program as it was executed.
#[derive(Debug, PartialEq, Eq)]
pub struct Program {
    /// Its absolute path, in
    pub path: Vec<u8>,
    /// this mount namespace (its inode number).
    pub mount_ns: u32,
    /// When that was (monotonic ns): another file may have come to that path since.
    pub executed_ns: u64,
}

/// Pid and start.
type Key = (u32, u64);

/// The latest processes.
#[derive(Debug, Default)]
pub struct Lately {
    origins: FxHashMap<Key, Origin>,
    order: VecDeque<Key>,
}

impl Lately {
    /// Takes in what an event tells, if it is a spawn or an exec.
    pub fn see(&mut self, event: &Event<'_>) {
        if let Event::Spawn(spawn) = event
            && spawn.flags & FLAG_THREAD == 0
        {
            let program = self.of(&spawn.spawner).program;
            let since_ns = spawn.header.ktime_ns;
            self.put(&spawn.child, Origin { program, parent: Some(spawn.spawner), since_ns });
        }
        if let Event::Exec(exec) = event {
            let whole = exec.path.starts_with(b"/") && exec.fixed.flags & FLAG_PATH_CUT == 0;
            let (mount_ns, executed_ns) = (exec.fixed.mount_ns, exec.fixed.header.ktime_ns);
            let program = || Arc::new(Program { path: exec.path.to_vec(), mount_ns, executed_ns });
            self.put(
                &exec.fixed.task,
                Origin { program: whole.then(program), parent: None, since_ns: executed_ns },
            );
        }
    }

    /// Where a process came from, as far as that was seen.
    pub fn of(&self, task: &Task) -> Origin {
        self.origins.get(&(task.tgid, task.start_ns)).cloned().unwrap_or_default()
    }

    fn put(&mut self, task: &Task, origin: Origin) {
        let key = (task.tgid, task.start_ns);
        if self.origins.insert(key, origin).is_none() {
            self.order.push_back(key);
            if self.order.len() > PROCESSES_MAX
                && let Some(oldest) = self.order.pop_front()
            {
                self.origins.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode;
    use slowpod_ebpf::abi::{Header, Kind, exec, spawn};
    use zerocopy::{FromZeros, IntoBytes};

    fn task(tgid: u32) -> Task {
        Task { tgid, tid: tgid, start_ns: 5 }
    }

    fn spawn(parent: u32, child: u32, flags: u32) -> Vec<u8> {
        let mut record = spawn::Spawn::new_zeroed();
        let len_bytes = size_of::<spawn::Spawn>() as u32;
        record.header = Header { ktime_ns: 1, kind: Kind::Spawn as u32, len_bytes };
        (record.spawner, record.child, record.flags) = (task(parent), task(child), flags);
        record.as_bytes().to_vec()
    }

    fn exec(tgid: u32, path: &[u8], flags: u32) -> Vec<u8> {
        let mut record = exec::Exec::new_zeroed();
        let len_bytes = (size_of::<exec::Exec>() + path.len()) as u32;
        record.header = Header { ktime_ns: 1, kind: Kind::Exec as u32, len_bytes };
        (record.task, record.path_len, record.flags) = (task(tgid), path.len() as u16, flags);
        record.mount_ns = 7;
        [record.as_bytes(), path].concat()
    }

    fn see(lately: &mut Lately, record: &[u8]) {
        lately.see(&decode::event(record).unwrap().1);
    }

    fn path(lately: &Lately, tgid: u32) -> Option<Vec<u8>> {
        lately.of(&task(tgid)).program.map(|program| program.path.clone())
    }

    #[test]
    fn children_are_their_parents_until_they_execute_something() {
        let mut lately = Lately::default();
        see(&mut lately, &exec(1, b"/bin/bash", 0));
        see(&mut lately, &spawn(1, 2, 0));
        assert_eq!(lately.of(&task(2)).parent, Some(task(1)));
        assert_eq!(path(&lately, 2).as_deref(), Some(&b"/bin/bash"[..]));
        see(&mut lately, &exec(2, b"/opt/cni/bin/bridge", 0));
        assert_eq!(
            (lately.of(&task(2)).parent, path(&lately, 2)),
            (None, Some(b"/opt/cni/bin/bridge".to_vec()))
        );
        see(&mut lately, &spawn(9, 3, 0));
        assert_eq!(
            lately.of(&task(3)),
            Origin { program: None, parent: Some(task(9)), since_ns: 1 },
            "an old parent"
        );
        assert_eq!(lately.of(&task(4)), Origin::default());
    }

    #[test]
    fn paths_that_are_not_whole_are_none_and_threads_are_no_processes() {
        let mut lately = Lately::default();
        see(&mut lately, &exec(1, b"./relative", 0));
        see(&mut lately, &exec(2, b"/cut", FLAG_PATH_CUT));
        assert_eq!((path(&lately, 1), path(&lately, 2)), (None, None));
        see(&mut lately, &spawn(1, 3, FLAG_THREAD));
        assert_eq!(lately.origins.len(), 2);
    }

    #[test]
    fn the_oldest_make_room() {
        let mut lately = Lately::default();
        (0..=PROCESSES_MAX as u32).for_each(|tgid| see(&mut lately, &exec(tgid, b"/a", 0)));
        assert_eq!((path(&lately, 0), path(&lately, 1)), (None, Some(b"/a".to_vec())));
        assert_eq!((lately.origins.len(), lately.order.len()), (PROCESSES_MAX, PROCESSES_MAX));
    }
}
