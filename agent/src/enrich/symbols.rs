//! Names for call stacks. In: facts of the symboliser. Out: the frames of a stack by its id.
//!
//! Places are shared between the stacks that go through them, so a place that is forgotten here lives on in its
//! stacks.

use super::{roots, text};
use crate::decode::fact::symbols as fact;
use slowpod_ebpf::abi::stack::FRAMES;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// Places that can be referred to. The symboliser begins anew, with new numbers, after so many; a busy node has
/// some thousands. With names of usual length this is 4 MiB.
pub const PLACES_MAX: usize = 16_384;
/// Modules that can be referred to, likewise.
pub const MODULES_MAX: usize = 4_096;
/// Rows kept beyond those: as many as one fact may bring, since it is read as a whole.
const SLACK: usize = 512;
/// Stacks kept; the oldest make room. As many as the fold keeps the addresses of, which tells those that it forgets.
pub const STACKS_MAX: usize = 32_768;
/// Longest text taken from a fact, bytes. The symboliser cuts shorter; a tape may come from anywhere.
const TEXT_BYTES_MAX: usize = 1 << 10;
/// Most functions taken of one place, for the same reason.
const FUNCTIONS_MAX: usize = 64;

/// A file of code, or what stands for one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Module {
    /// See [`fact::Module::path`].
    pub path: Arc<str>,
    /// See [`fact::Module::build_id`].
    pub build_id: Arc<str>,
}

/// One function in a stack. Several with the same module and offset were inlined into each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Name of the function; `kube-router+0x1a2b` when it has none.
    pub name: Arc<str>,
    /// Whether the name is one, and not a module and an offset.
    pub known: bool,
    /// Its source file; empty when not known.
    pub file: Arc<str>,
    /// Line in it; 0 when not known.
    pub line: u32,
    /// Where its code is.
    pub module: Arc<Module>,
    /// See [`fact::Place::offset`].
    pub module_offset: u64,
    /// True when its code is inside that of the next frame.
    pub inlined: bool,
}

/// A place in code, and the number it was told by.
#[derive(Debug)]
struct Place {
    id: u32,
    module_id: u32,
    module: Arc<Module>,
    offset: u64,
    /// At least one.
    frames: Box<[Frame]>,
}

/// What is known of a stack.
#[derive(Clone, Debug)]
enum Known {
    Places(Box<[Arc<Place>]>),
    ProcessGone,
}

/// What became of the stacks asked about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SymbolLoss {
    /// Not asked: the symboliser was behind.
    pub dropped: u64,
    /// The process had ended before its mappings could be seen.
    pub processes_gone: u64,
    /// The process had become another program before its mappings were seen.
    pub processes_changed: u64,
    /// Answers that referred to what was not told: a damaged tape.
    pub dangling: u64,
    /// Stacks that made room for younger ones.
    pub evicted: u64,
    /// Stacks that were deeper than what the kernel programs keep. Counted when they are named, as the next.
    pub cut: u64,
    /// User stacks that end where code keeps no frame pointers.
    pub no_frame_pointers: u64,
}

/// Frames by stack.
#[derive(Clone, Debug, Default)]
pub struct Symbols {
    modules: BTreeMap<u32, Arc<Module>>,
    places: BTreeMap<u32, Arc<Place>>,
    stacks: BTreeMap<u64, Known>,
    order: VecDeque<u64>,
    /// What was not named, and why.
    pub loss: SymbolLoss,
}

impl Symbols {
    /// Takes in a fact. `changed` tells whether the process of a stack executed another program between the
    /// stack's record and the instant at which its mappings were seen; such an answer is void.
    pub fn take(&mut self, fact: &fact::Symbols, changed: impl Fn(u64, u64) -> bool) {
        self.loss.dropped += fact.dropped;
        for module in &fact.modules {
            let shared = Module { path: safe(&module.path), build_id: safe(&module.build_id) };
            put_newest(&mut self.modules, MODULES_MAX + SLACK, module.id, Arc::new(shared));
        }
        for place in &fact.places {
            match self.modules.get(&place.module) {
                Some(module) => {
                    let shared = Place::new(place, module);
                    put_newest(&mut self.places, PLACES_MAX + SLACK, place.id, Arc::new(shared));
                }
                None => self.loss.dangling += 1,
            }
        }
        for answer in &fact.stacks {
            self.take_stack(answer, &changed);
        }
    }

    fn take_stack(&mut self, answer: &fact::StackPlaces, changed: impl Fn(u64, u64) -> bool) {
        let known = if answer.process_gone {
            self.loss.processes_gone += 1;
            Known::ProcessGone
        } else if answer.mapped_ns > 0 && changed(answer.stack, answer.mapped_ns) {
            self.loss.processes_changed += 1;
            Known::ProcessGone
        } else {
            let places = answer.places.iter().map(|id| self.places.get(id).cloned());
            match places.collect::<Option<Vec<_>>>() {
                Some(mut places) => {
                    places.truncate(believed(&places));
                    Known::Places(places.into())
                }
                None => {
                    self.loss.dangling += 1;
                    return;
                }
            }
        };
        if self.stacks.insert(answer.stack, known).is_none() {
            if answer.places.len() >= FRAMES {
                self.loss.cut += 1;
            } else if answer.mapped_ns > 0 && !self.is_whole(answer.stack) {
                // Mappings were looked at, so it is no stack of the kernel.
                self.loss.no_frame_pointers += 1;
            }
            self.order.push_back(answer.stack);
            if self.order.len() > STACKS_MAX
                && let Some(oldest) = self.order.pop_front()
            {
                self.stacks.remove(&oldest);
                self.loss.evicted += 1;
            }
        }
    }

    /// The frames of a stack, innermost first, inlined functions before those they were inlined into; `None` while
    /// the symboliser has not answered, and when it could not.
    pub fn frames_of(&self, stack: u64) -> Option<impl DoubleEndedIterator<Item = &Frame>> {
        match self.stacks.get(&stack)? {
            Known::Places(places) => Some(places.iter().flat_map(|place| &place.frames)),
            Known::ProcessGone => None,
        }
    }

    /// Whether a stack has no names, since its process was gone or another program before it could be looked at.
    pub fn is_gone(&self, stack: u64) -> bool {
        matches!(self.stacks.get(&stack), Some(Known::ProcessGone))
    }

    /// Whether a user stack goes back to where its thread began, as far as one can tell; true also while it has no names.
    pub fn is_whole(&self, stack: u64) -> bool {
        let Some(Known::Places(places)) = self.stacks.get(&stack) else { return true };
        let outermost = places.last().and_then(|place| place.frames.last());
        outermost.is_none_or(|frame| roots::is_whole(frame, places.len()))
    }

    /// Frames of a stack that have no name, and all its frames.
    pub fn unknown_of(&self, stack: u64) -> (usize, usize) {
        let Some(frames) = self.frames_of(stack) else { return (0, 0) };
        frames.fold((0, 0), |(unknown, all), frame| (unknown + usize::from(!frame.known), all + 1))
    }

    /// Places, modules and stacks held.
    pub fn sizes(&self) -> [(&'static str, usize, usize); 3] {
        [
            ("symbol_places", self.places.len(), PLACES_MAX + SLACK),
            ("symbol_modules", self.modules.len(), MODULES_MAX + SLACK),
            ("symbol_stacks", self.stacks.len(), STACKS_MAX),
        ]
    }

    /// Forgets a stack.
    pub fn forget(&mut self, stack: u64) {
        self.stacks.remove(&stack);
    }

    /// Facts that tell what is known of these stacks to a reader that has been told `told`, and that so many were not
    /// looked at. Other losses are not among them.
    pub fn facts_of(&self, stacks: &[u64], dropped: u64, told: &mut Told) -> Vec<fact::Symbols> {
        let mut pieces = fact::Pieces::default();
        for (id, known) in stacks.iter().filter_map(|id| Some((*id, self.stacks.get(id)?))) {
            for place in known.places() {
                if !told.places.insert(place.id) {
                    continue;
                }
                if told.modules.insert(place.module_id) {
                    pieces.module(place.module.told(place.module_id));
                }
                pieces.place(place.told());
            }
            pieces.stack(known.told(id));
        }
        pieces.dropped(dropped);
        pieces.take()
    }
}

/// What a reader has been told, by number.
#[derive(Debug, Default)]
pub struct Told {
    places: BTreeSet<u32>,
    modules: BTreeSet<u32>,
}

impl Known {
    fn places(&self) -> &[Arc<Place>] {
        match self {
            Known::Places(places) => places,
            Known::ProcessGone => &[],
        }
    }

    fn told(&self, stack: u64) -> fact::StackPlaces {
        fact::StackPlaces {
            stack,
            mapped_ns: 0,
            places: self.places().iter().map(|place| place.id).collect(),
            process_gone: matches!(self, Known::ProcessGone),
        }
    }
}

/// How many of a stack's places to believe. Through code that keeps no frame pointers a walk goes astray, and what it then takes
/// for a caller lies in data, or nowhere.
fn believed(places: &[Arc<Place>]) -> usize {
    let is = |place: &Arc<Place>, names: &[&str]| names.contains(&&*place.module.path);
    let astray = places.iter().skip(1).position(|place| is(place, &["[heap]", "[stack]"]));
    let mut end = astray.map_or(places.len(), |at| at + 1);
    // In the middle it may be code that was unloaded since.
    while end > 1 && is(&places[end - 1], &["[unmapped]"]) {
        end -= 1;
    }
    end
}

impl Module {
    fn told(&self, id: u32) -> fact::Module {
        fact::Module { id, path: self.path.to_string(), build_id: self.build_id.to_string() }
    }
}

impl Place {
    fn new(told: &fact::Place, module: &Arc<Module>) -> Place {
        let frame = |name, known, file, line, inlined| Frame {
            name,
            known,
            file,
            line,
            module: Arc::clone(module),
            module_offset: told.offset,
            inlined,
        };
        let last = told.functions.len().saturating_sub(1);
        let functions = told.functions.iter().enumerate().take(FUNCTIONS_MAX);
        let mut frames: Box<[Frame]> = functions
            .map(|(at, function)| {
                frame(safe(&function.name), true, safe(&function.file), function.line, at < last)
            })
            .collect();
        if frames.is_empty() {
            let base = text::base_name(module.path.as_bytes());
            let name = format!("{}+{:#x}", text::safe(base, TEXT_BYTES_MAX), told.offset);
            frames = Box::new([frame(name.into(), false, "".into(), 0, false)]);
        }
        Place { id: told.id, module_id: told.module, module: Arc::clone(module), offset: told.offset, frames }
    }

    fn told(&self) -> fact::Place {
        let functions = self.frames.iter().filter(|frame| frame.known).map(|frame| fact::Function {
            name: frame.name.to_string(),
            file: frame.file.to_string(),
            line: frame.line,
        });
        fact::Place {
            id: self.id,
            module: self.module_id,
            offset: self.offset,
            functions: functions.collect(),
        }
    }
}

/// Adds a row; of too many the one with the lowest number goes, which is no longer referred to.
fn put_newest<T>(rows: &mut BTreeMap<u32, T>, max: usize, id: u32, row: T) {
    rows.insert(id, row);
    if rows.len() > max {
        rows.pop_first();
    }
}

fn safe(told: &str) -> Arc<str> {
    text::safe(told.as_bytes(), TEXT_BYTES_MAX).into()
}

#[cfg(test)]
mod tests;
