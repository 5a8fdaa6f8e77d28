//! Where in a daemon its spawns come from. In: the spawner stacks of a class. Out: the functions of the
//! daemon's own that lead there, in words.

use crate::enrich::symbols::Frame;
use crate::fold::State;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Functions named: enough to find the loop, few enough for a sentence.
const SHOWN_MAX: usize = 4;
/// How the ways into the kernel and the run-time's own functions begin, in Go, C and Rust: what they are called
/// by is the daemon's own.
const PLUMBING: &[&str] = &[
    "syscall.",
    "os.",
    "os/",
    "internal/",
    "runtime.",
    "golang.org/x/sys",
    "__",
    "_Fork",
    "_fork",
    "fork",
    "vfork",
    "clone",
    "posix_spawn",
    "std::",
    "core::",
    "<std::",
    "<alloc::",
];

/// The daemon's functions that the most spawns of a class came through, the innermost first; `None` when no
/// stack has names.
pub(super) fn callers(state: &State, stacks: &BTreeMap<u64, u64>) -> Option<String> {
    let mut stacks: Vec<(&u64, &u64)> = stacks.iter().collect();
    stacks.sort_by_key(|(id, spawns)| (Reverse(**spawns), **id));
    stacks.into_iter().find_map(|(id, _)| words(state.symbols.frames_of(*id)?))
}

fn words<'a>(frames: impl Iterator<Item = &'a Frame>) -> Option<String> {
    let own = frames.filter(|frame| frame.known && !is_plumbing(&frame.name));
    let names: Vec<Arc<str>> = own.map(|frame| frame.name.clone()).take(SHOWN_MAX).collect();
    (!names.is_empty()).then(|| names.join(", called by "))
}

fn is_plumbing(name: &str) -> bool {
    PLUMBING.iter().any(|start| name.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(name: &str, known: bool) -> Frame {
        let (file, module) = (Arc::default(), Arc::default());
        Frame { name: name.into(), known, file, line: 0, module, module_offset: 0, inlined: false }
    }

    #[test]
    fn the_way_into_the_kernel_is_left_out() {
        let stack = [
            frame("syscall.forkExec", true),
            frame("os/exec.(*Cmd).Start", true),
            frame("main.runIPSetAdd", true),
            frame("main.(*proxy).syncIPSets", true),
            frame("main.main", true),
            frame("runtime.main", true),
        ];
        let said = words(stack.iter()).unwrap();
        assert_eq!(said, "main.runIPSetAdd, called by main.(*proxy).syncIPSets, called by main.main");
    }

    #[test]
    fn frames_without_names_say_nothing() {
        assert_eq!(words([frame("kube-router+0x12", false), frame("fork", true)].iter()), None);
    }
}
