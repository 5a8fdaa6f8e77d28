//! Where call stacks begin. In: the outermost frame of a user stack. Out: whether it can be the beginning, or the walk
//! came to an end at code that keeps no frame pointers, and of which the kernel had no table.

use super::symbols::Frame;

/// Functions that nobody calls, by name: the C library's beginnings of programs and threads, and those of Go's runtime, which
/// also begins stacks of its own for what goroutines may not do on theirs.
const ROOTS: [&str; 20] = [
    "_start",
    "_start_c",
    "_dl_start_user",
    "__libc_start_main",
    "__libc_start_main_impl",
    "__libc_start_call_main",
    "libc_start_main_stage2",
    "start_thread",
    "thread_start",
    "runtime.goexit",
    "runtime.goexit.abi0",
    "runtime.mcall",
    "runtime.mstart",
    "runtime.mstart.abi0",
    "runtime.mstart0",
    "runtime.mstart1",
    "runtime.systemstack",
    "runtime.systemstack.abi0",
    "runtime.rt0_go",
    "runtime.rt0_go.abi0",
];
/// Functions in which a new thread begins, and the one that makes it goes on: as a stack's only frame it is the latter's.
const FORKS: [&str; 4] = ["clone", "clone3", "__clone", "__clone3"];
/// No program's stack is that short: the C library calls `main` by three functions of its own. Of stacks whose outermost frame
/// has no name, nothing else is known.
const SHORT: usize = 2;

/// Whether a stack of so many frames whose outermost is this one goes back to its beginning, as far as one can tell.
pub fn is_whole(outermost: &Frame, depth: usize) -> bool {
    Outermost::of(outermost.known.then_some(&*outermost.name)).goes_back(depth)
}

/// What the name of an outermost frame tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outermost {
    /// It has none.
    Nameless,
    /// Somebody calls that.
    Called,
    /// Nobody does.
    Root,
    /// Nobody calls it in a new thread; in the one that makes it somebody does.
    Fork,
}

impl Outermost {
    /// Of a function's name, if it has one.
    pub fn of(name: Option<&str>) -> Outermost {
        match name {
            None => Outermost::Nameless,
            Some(name) if FORKS.contains(&name) => Outermost::Fork,
            Some(name) if ROOTS.contains(&name) || name.starts_with("_rt0_") => Outermost::Root,
            Some(_) => Outermost::Called,
        }
    }

    /// Whether a stack of so many frames goes back to its beginning, as far as one can tell.
    pub fn goes_back(self, depth: usize) -> bool {
        match self {
            Outermost::Nameless => depth > SHORT,
            Outermost::Called => false,
            Outermost::Root => true,
            Outermost::Fork => depth > 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::enrich::symbols::Module;

    #[test]
    fn beginnings_are_told_from_where_a_walk_came_to_its_end() {
        let whole = |name: &str, known, depth| {
            let (file, module) = (Default::default(), Module::default().into());
            let frame =
                Frame { name: name.into(), known, file, line: 0, module, module_offset: 0, inlined: false };
            is_whole(&frame, depth)
        };
        for root in ["_start", "__libc_start_main", "runtime.goexit.abi0", "_rt0_amd64_linux"] {
            assert!(whole(root, true, 1), "{root}");
        }
        for other in ["main", "evalstring", "runtime.main", "_startle"] {
            assert!(!whole(other, true, 30), "{other}");
        }
        assert!(
            whole("__clone3", true, 3) && !whole("__clone3", true, 1),
            "by itself it is whoever makes a child"
        );
        assert!(!whole("dash+0x12ab", false, 2), "too short for any program");
        assert!(whole("libc.so.6+0x2724a", false, 6), "the C library's own beginning has lost its name");
    }
}
