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
use slowpod_ebpf::abi::{Kind, prefix, sample::Sample, spawn::Spawn, stack};
use std::collections::HashSet;

/// What the open chunk has been told.
#[derive(Debug, Default)]
pub(super) struct Retell {
    stacks: HashSet<u64>,
    names: Told,
}

impl Retell {
    /// The records of a batch that `state` has taken in, and behind them what this chunk lacks to read them.
    pub(super) fn complete(&mut self, state: &State, records: &[u8], now_ns: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(records.len());
        let (mut used, mut named, mut dropped) = (Vec::new(), Vec::new(), 0);
        let mut rest = records;
        while let Ok(header) = decode::header(rest) {
            let (record, after) = rest.split_at(header.len_bytes as usize);
            rest = after;
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
                        out.extend_from_slice(record);
                        continue;
                    }
                    // Its numbers mean something only beside those told before: told anew, below.
                    if let Ok((_, Event::Fact(fact))) = decode::event(record)
                        && let Fact::Symbols(symbols) = *fact
                    {
                        named.extend(symbols.stacks.iter().map(|answer| answer.stack));
                        dropped += symbols.dropped;
                    }
                    continue;
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
            out.extend_from_slice(record);
        }
        out.extend_from_slice(rest);
        for id in used {
            if id != 0 && self.stacks.insert(id) {
                if let Some(stack) = state.stacks.get(id) {
                    stack_record(stack, &mut out);
                }
                named.push(id);
            }
        }
        for symbols in state.symbols.facts_of(&named, dropped, &mut self.names) {
            fact::encode(now_ns, &Fact::Symbols(symbols), &mut out);
        }
        out
    }
}
