//! What addresses in call stacks mean, as the symboliser found out while the process was there.
//!
//! Each file and each place in code is told once and numbered; stacks then name places by number. So a daemon's
//! thousand stacks, which go through the same few hundred places, cost some five bytes of tape per frame.
//! Numbers only grow, and the symboliser refers to none that is older than the last
//! [`PLACES_MAX`](crate::enrich::symbols::PLACES_MAX): a reader may forget those. All text is already safe to show.

use serde::{Deserialize, Serialize};

/// An answer of the symboliser, or a part of one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Symbols {
    /// Files that places below are in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub modules: Vec<Module>,
    /// Places that stacks below, or later ones, go through.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub places: Vec<Place>,
    /// Stacks, by the ids in stack records.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stacks: Vec<StackPlaces>,
    /// Stacks that were not looked at because too many others were waiting, since the previous such fact.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub dropped: u64,
}

/// A file of code, or what stands for one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Module {
    /// Its number.
    pub id: u32,
    /// Path as its process sees it; or `[kernel]`, `[nf_tables]` (a kernel module), `[vdso]`, `[jit]`, `[heap]`,
    /// `[stack]`, `[unmapped]`.
    pub path: String,
    /// Build id in hexadecimal, or as Go writes it; empty when there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub build_id: String,
}

/// A place in code.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Its number.
    pub id: u32,
    /// Number of its module.
    pub module: u32,
    /// Where in the module: the address it is linked at, as `nm` and `addr2line` count. In a module without such
    /// addresses the distance from its first byte; for `[jit]` and `[unmapped]` the address itself.
    pub offset: u64,
    /// The functions there, an inlined one before the one it was inlined into; none when no name is known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub functions: Vec<Function>,
}

/// A function and the line in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Function {
    /// Its name, demangled.
    pub name: String,
    /// Its source file; empty when not known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub file: String,
    /// The line; 0 when not known.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub line: u32,
}

/// A stack's frames.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StackPlaces {
    /// The stack, as in [`slowpod_ebpf::abi::stack::Stack::id`].
    pub stack: u64,
    /// When the process was last seen with the mappings that were used; 0 for kernel stacks, and where the answer
    /// was found valid before. If it executed another program between the stack's record and this instant,
    /// whichever came first, the answer is void.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub mapped_ns: u64,
    /// Numbers of its places, innermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub places: Vec<u32>,
    /// The process ended before its mappings were seen: nothing is known of its frames.
    #[serde(default, skip_serializing_if = "is_false")]
    pub process_gone: bool,
}

/// Whether a fact's record is one of symbols, told without reading it.
pub fn is_symbols(record: &[u8]) -> bool {
    let text = record.get(size_of::<slowpod_ebpf::abi::Header>()..).unwrap_or_default();
    text.starts_with(br#"{"fact":"symbols""#)
}

/// A fact is ended once its text is this long, bytes. One more place of the longest kind, with every character
/// escaped, still leaves it below [`RECORD_BYTES_MAX`](super::RECORD_BYTES_MAX).
const FACT_BYTES: usize = 16 << 10;
/// What an entry takes in JSON beside its text, bytes; on average, and roughly.
const ENTRY_BYTES: usize = 48;

/// Puts together facts none of which is too long.
#[derive(Debug, Default)]
pub struct Pieces {
    done: Vec<Symbols>,
    open: Symbols,
    open_bytes: usize,
}

impl Pieces {
    /// Tells of a module.
    pub fn module(&mut self, module: Module) {
        self.grow(module.path.len() + module.build_id.len());
        self.open.modules.push(module);
    }

    /// Tells of a place. Its module has been told of.
    pub fn place(&mut self, place: Place) {
        let text = |function: &Function| function.name.len() + function.file.len() + ENTRY_BYTES;
        self.grow(place.functions.iter().map(text).sum());
        self.open.places.push(place);
    }

    /// Tells of a stack. Its places have been told of.
    pub fn stack(&mut self, stack: StackPlaces) {
        /// A number and a comma.
        const NUMBER_BYTES: usize = 8;
        self.grow(stack.places.len() * NUMBER_BYTES);
        self.open.stacks.push(stack);
    }

    /// Tells that stacks were not looked at.
    pub fn dropped(&mut self, stacks: u64) {
        self.open.dropped += stacks;
    }

    /// The facts so far, in the order in which they must be read; nothing is left.
    pub fn take(&mut self) -> Vec<Symbols> {
        if self.open != Symbols::default() {
            self.done.push(std::mem::take(&mut self.open));
        }
        self.open_bytes = 0;
        std::mem::take(&mut self.done)
    }

    fn grow(&mut self, bytes: usize) {
        if self.open_bytes >= FACT_BYTES {
            self.done.push(std::mem::take(&mut self.open));
            self.open_bytes = 0;
        }
        self.open_bytes += bytes + ENTRY_BYTES;
    }
}

fn is_zero<T: Default + PartialEq>(number: &T) -> bool {
    *number == T::default()
}

fn is_false(flag: &bool) -> bool {
    !flag
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::fact::{Fact, decode, encode};

    #[test]
    fn json_on_tapes_is_fixed_and_reads_back() {
        let symbols = Symbols {
            modules: vec![Module { id: 1, path: "/usr/bin/kube-router".into(), build_id: "0afe".into() }],
            places: vec![
                Place {
                    id: 7,
                    module: 1,
                    offset: 4_198_400,
                    functions: vec![Function { name: "main.sync".into(), file: "sync.go".into(), line: 12 }],
                },
                Place { id: 8, module: 1, offset: 5, functions: Vec::new() },
            ],
            stacks: vec![
                StackPlaces { stack: u64::MAX, mapped_ns: 9, places: vec![8, 7], process_gone: false },
                StackPlaces { stack: 2, process_gone: true, ..StackPlaces::default() },
            ],
            dropped: 3,
        };
        let fact = Fact::Symbols(symbols);
        let mut record = Vec::new();
        encode(5, &fact, &mut record);
        let json = r#"{"fact":"symbols","modules":[{"id":1,"path":"/usr/bin/kube-router","build_id":"0afe"}],"places":[{"id":7,"module":1,"offset":4198400,"functions":[{"name":"main.sync","file":"sync.go","line":12}]},{"id":8,"module":1,"offset":5}],"stacks":[{"stack":18446744073709551615,"mapped_ns":9,"places":[8,7]},{"stack":2,"process_gone":true}],"dropped":3}"#;
        assert_eq!(std::str::from_utf8(&record[16..]).unwrap(), json);
        assert_eq!(decode(&record).unwrap(), fact);
        assert!(super::is_symbols(&record) && !super::is_symbols(&record[1..]) && !super::is_symbols(&[]));
    }

    #[test]
    fn no_piece_is_longer_than_a_record_may_be() {
        let mut pieces = Pieces::default();
        // As long as the symboliser makes them, and each character escaped.
        let function = Function { name: "\\".repeat(512), file: "\"".repeat(256), line: u32::MAX };
        let functions = vec![function; 16];
        for id in 0..100 {
            pieces.module(Module { id, path: "\\".repeat(512), build_id: "f".repeat(128) });
            pieces.place(Place { id, module: id, offset: u64::MAX, functions: functions.clone() });
            pieces.stack(StackPlaces { stack: u64::MAX, places: vec![u32::MAX; 127], ..Default::default() });
        }
        let facts = pieces.take();
        assert_eq!(facts.iter().map(|fact| fact.stacks.len()).sum::<usize>(), 100);
        assert_eq!(pieces.take(), []);
        for fact in facts {
            let mut record = Vec::new();
            encode(0, &Fact::Symbols(fact), &mut record);
            assert!(decode(&record).is_ok(), "{} bytes", record.len());
        }
    }

    #[test]
    fn nothing_takes_next_to_nothing() {
        let mut record = Vec::new();
        encode(5, &Fact::Symbols(Symbols::default()), &mut record);
        assert_eq!(&record[16..], br#"{"fact":"symbols"}"#);
    }
}
