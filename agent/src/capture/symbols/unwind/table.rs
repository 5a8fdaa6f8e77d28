//! Rules by address in the form that the kernel searches (`abi::unwind`). In: rules in order. Out: nodes.

use crate::capture::symbols::bytes::Flaw;
use slowpod_ebpf::abi::unwind::{NO_PC, NODE_FIRSTS, NODE_ROWS, NODE_WORDS, Node, TABLE_ROWS_MAX};
use slowpod_ebpf::rules::unwind::Rule;

/// A binary's table.
#[derive(Debug)]
pub struct Table {
    /// The linked address that the table's addresses begin at.
    pub base: u64,
    /// What the kernel is given.
    pub nodes: Vec<Node>,
    /// How many of them are index nodes.
    pub index_nodes: u32,
    /// Rules in it.
    pub rows: usize,
    /// Descriptions of functions that are damaged, or contradict others.
    pub left_out: u64,
    /// Rows of descriptions that say what is not understood here.
    pub not_understood: u64,
}

/// Takes rules in ascending order of their addresses.
#[derive(Debug)]
pub(super) struct Builder {
    base: u64,
    rows: Vec<(u32, u32)>,
    rows_max: usize,
    pub(super) left_out: u64,
    pub(super) not_understood: u64,
}

impl Builder {
    pub(super) fn new(base: u64, rows_max: usize) -> Builder {
        Builder {
            base,
            rows: Vec::new(),
            rows_max: rows_max.min(TABLE_ROWS_MAX),
            left_out: 0,
            not_understood: 0,
        }
    }

    /// A rule from an address on, which is not below the last. One for the same address takes the last one's place.
    pub(super) fn push(&mut self, pc: u32, rule: Rule) -> Result<(), Flaw> {
        let word = rule.word();
        if self.rows.last().is_some_and(|last| last.0 == pc) {
            self.rows.pop();
        }
        if self.rows.last().is_some_and(|last| last.1 == word) {
            return Ok(());
        }
        if self.rows.len() >= self.rows_max {
            return Err(Flaw::TooMany("rows of frame descriptions"));
        }
        self.rows.push((pc, word));
        Ok(())
    }

    /// The rule pushed last.
    pub(super) fn last(&self) -> Option<Rule> {
        self.rows.last().map(|row| Rule::of_word(row.1))
    }

    /// The table; `None` when there is nothing in it.
    pub(super) fn finish(self) -> Option<Table> {
        let Builder { base, rows, left_out, not_understood, .. } = self;
        let row_nodes: Vec<Node> =
            rows.chunks(NODE_ROWS).map(|rows| node(rows.iter().flat_map(|row| [row.0, row.1]))).collect();
        let firsts = |nodes: &[Node]| -> Vec<Node> {
            nodes.chunks(NODE_FIRSTS).map(|nodes| node(nodes.iter().map(|node| node.words[0]))).collect()
        };
        let index = firsts(&row_nodes);
        let root = firsts(&index);
        let (index_nodes, count) = (u32::try_from(index.len()).ok()?, rows.len());
        if root.len() != 1 {
            return None;
        }
        let nodes = [root, index, row_nodes].concat();
        Some(Table { base, nodes, index_nodes, rows: count, left_out, not_understood })
    }
}

fn node(words: impl Iterator<Item = u32>) -> Node {
    let mut node = Node { words: [NO_PC; NODE_WORDS] };
    node.words.iter_mut().zip(words).for_each(|(place, word)| *place = word);
    node
}

impl Table {
    /// Bytes of the kernel's that it takes.
    pub fn kernel_bytes(&self) -> usize {
        self.nodes.len() * size_of::<Node>()
    }
}
