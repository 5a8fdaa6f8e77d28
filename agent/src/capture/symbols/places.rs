//! Numbers for modules and places, so that each is told once. In: what an address turned out to be. Out: facts.

use super::open::FileId;
use crate::decode::fact::symbols::{Function, Module, Pieces, Place, StackPlaces, Symbols};
use crate::enrich::roots::Outermost;
use crate::enrich::symbols::{MODULES_MAX, PLACES_MAX};
use slowpod_ebpf::abi::stack::FRAMES;
use std::collections::HashMap;

/// What a place is in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ModuleKey {
    /// A file.
    File(FileId),
    /// A file that could not be opened, by its path.
    Unopened(Vec<u8>),
    /// The kernel, or one of its modules, by name.
    Kernel(String),
    /// The kernel's code for user space.
    Vdso,
    /// Code compiled just in time by the process with this image number.
    Jit(u64),
    /// Memory that should not have been executed: `[heap]`, `[stack]`, `[unmapped]`.
    Odd(&'static str),
}

/// A place that has been told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownPlace {
    /// Its number.
    pub id: u32,
    /// It has a function.
    pub named: bool,
    /// What it tells as the outermost one of a stack.
    pub outermost: Outermost,
}

/// What has been told.
#[derive(Debug, Default)]
pub struct Places {
    modules: HashMap<ModuleKey, u32>,
    places: HashMap<(u32, u64), KnownPlace>,
    last_module: u32,
    last_place: u32,
    pieces: Pieces,
}

impl Places {
    /// To be called before each stack. Begins anew when the next one might not find room: readers forget the
    /// oldest numbers, and must not meet them again.
    pub fn make_room(&mut self) {
        if self.places.len() + FRAMES > PLACES_MAX || self.modules.len() + FRAMES > MODULES_MAX {
            self.forget();
        }
    }

    /// Begins anew: what was told is told again, by new numbers.
    pub fn forget(&mut self) {
        self.modules.clear();
        self.places.clear();
    }

    /// The number of a module; `about` tells its path and build id when it is new.
    pub fn module(&mut self, key: &ModuleKey, about: impl FnOnce() -> (String, String)) -> u32 {
        if let Some(id) = self.modules.get(key) {
            return *id;
        }
        let (path, build_id) = about();
        self.last_module += 1;
        self.pieces.module(Module { id: self.last_module, path, build_id });
        self.modules.insert(key.clone(), self.last_module);
        self.last_module
    }

    /// A place, which is told with its functions if it is new.
    pub fn place(
        &mut self,
        module: u32,
        offset: u64,
        functions: impl FnOnce() -> Vec<Function>,
    ) -> KnownPlace {
        if let Some(place) = self.places.get(&(module, offset)) {
            return *place;
        }
        let functions = functions();
        self.last_place += 1;
        let outermost = Outermost::of(functions.last().map(|outermost| &*outermost.name));
        let place = KnownPlace { id: self.last_place, named: !functions.is_empty(), outermost };
        self.pieces.place(Place { id: place.id, module, offset, functions });
        self.places.insert((module, offset), place);
        place
    }

    /// Tells a stack.
    pub fn stack(&mut self, stack: StackPlaces) {
        self.pieces.stack(stack);
    }

    /// What there is to tell since the last time.
    pub fn take(&mut self) -> Vec<Symbols> {
        self.pieces.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::enrich::symbols;

    #[test]
    fn each_is_told_once_until_there_is_no_room() {
        let mut places = Places::default();
        let mut reader = symbols::Symbols::default();
        let mut stacks = 0;
        // Three times as many places as a reader keeps, sixty to a stack, each stack sharing half with the last.
        for first in (0..3 * PLACES_MAX as u64).step_by(30) {
            places.make_room();
            let key = ModuleKey::Kernel(format!("m{}", first / 1_000));
            let module = places.module(&key, || (format!("[m{}]", first / 1_000), String::new()));
            let ids = (first..first + 60).map(|offset| places.place(module, offset, Vec::new).id);
            let ids = ids.collect();
            places.stack(StackPlaces { stack: first + 1, mapped_ns: 0, places: ids, process_gone: false });
            for fact in places.take() {
                reader.take(&fact, |_, _| false);
            }
            let frames: Vec<u64> =
                reader.frames_of(first + 1).unwrap().map(|frame| frame.module_offset).collect();
            assert_eq!(frames, (first..first + 60).collect::<Vec<_>>());
            stacks += 1;
        }
        assert_eq!(reader.loss.dangling, 0);
        assert!(places.last_place < 40 * stacks, "most were told once: {}", places.last_place);
    }
}
