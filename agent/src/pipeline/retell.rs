//! Stacks and their names, told in each chunk of the flight recorder that uses them. In: a batch of records and the
//! live state. Out: the records as the chunk takes them.
//!
//! The kernel sends a stack once, and the symboliser a name once. A chunk must be readable alone; but a keyframe with
//! all stacks there are would be most of the recorder, and of those few are used in the next twenty seconds.

use crate::capture::stack_record;
use crate::decode::fact::{self, Fact};
use crate::decode::{self, Event};
use crate::enrich::symbols::Told;
use crate::fold::State;
use rustc_hash::FxHashSet;
use slowpod_ebpf::abi::{Kind, prefix, sample::Sample, spawn::Spawn, stack};

/// What the open chunk has been told.
#[derive(Debug, Default)]
pub(super) struct Retell {
    stacks: FxHashSet<u64>,
    names: Told,
}

/// A batch as a chunk takes it.
pub(super) struct Whole<'a> {
    /// The records, less what is told anew.
    pub(super) pieces: Vec<&'a [u8]>,
    /// What is told anew, or for the first time in this chunk.
    pub(super) behind: Vec<u8>,
    /// Records of the batch.
    pub(super) count: u64,
}

impl<'a> Whole<'a> {
    fn push(&mut self, piece: &'a [u8]) {
        if !piece.is_empty() {
            self.pieces.push(piece);
        }
    }
}

impl Retell {
    /// The records of a batch that `state` has taken in, and behind them what this chunk lacks to read them.
    pub(super) fn complete<'a>(&mut self, state: &State, records: &'a [u8], now_ns: u64) -> Whole<'a> {
        let mut whole = Whole { pieces: Vec::new(), behind: Vec::new(), count: 0 };
        let (mut used, mut named, mut dropped) = (Vec::new(), Vec::new(), 0);
        let (mut piece, mut at) = (0, 0);
        while let Ok(header) = decode::header(&records[at..]) {
            let begun = at;
            at += header.len_bytes as usize;
            whole.count += 1;
            let record = &records[begun..at];
            match Kind::from_u32(header.kind) {
                Some(Kind::Stack) => {
                    let id = prefix::<stack::Stack>(record).map(|(stack, _)| stack.id);
                    self.stacks.extend(id);
                }
                Some(Kind::Sample) => {
                    let ids = prefix::<Sample>(record).map(|(row, _)| [row.user_stack, row.kernel_stack]);
                    used.extend(ids.into_iter().flatten());
                }
                Some(Kind::Spawn) => {
                    let ids = prefix::<Spawn>(record).map(|(row, _)| [row.user_stack, row.kernel_stack]);
                    used.extend(ids.into_iter().flatten());
                }
                Some(Kind::Fact) => {
                    if !fact::symbols::is_symbols(record) {
                        continue;
                    }
                    whole.push(&records[piece..begun]);
                    piece = at;
                    // Its numbers mean something only beside those told before: told anew, below.
                    if let Ok((_, Event::Fact(fact))) = decode::event(record)
                        && let Fact::Symbols(symbols) = *fact
                    {
                        named.extend(symbols.stacks.iter().map(|answer| answer.stack));
                        dropped += symbols.dropped;
                    }
                }
                Some(
                    Kind::Exec
                    | Kind::ExecFail
                    | Kind::Exit
                    | Kind::Reap
                    | Kind::NetlinkSend
                    | Kind::NetlinkError
                    | Kind::Cgroup
                    | Kind::CgroupMove
                    | Kind::Flood
                    | Kind::Cni
                    | Kind::RunQueue
                    | Kind::Pushed
                    | Kind::Wait
                    | Kind::Output
                    | Kind::Wakes,
                )
                | None => {}
            }
        }
        whole.push(&records[piece..]);
        for id in used {
            if id != 0 && self.stacks.insert(id) {
                if let Some(stack) = state.stacks.get(id) {
                    stack_record(stack, &mut whole.behind);
                }
                named.push(id);
            }
        }
        for symbols in state.symbols.facts_of(&named, dropped, &mut self.names) {
            fact::encode(now_ns, &Fact::Symbols(symbols), &mut whole.behind);
        }
        whole
    }
}
