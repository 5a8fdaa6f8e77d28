//! From a function to its caller: what a row of an unwind table says, and what follows from it for three registers. In: a rule,
//! registers, memory to read. Out: the caller's registers.
//!
//! Only what x86-64's compilers write is known here: the caller's stack pointer (the *canonical frame address*, CFA) lies so far
//! above the stack or frame pointer, the return address just below it, and the caller's frame pointer is untouched or saved
//! nearby. Source: System V ABI for AMD64, 3.7; DWARF 5, 6.4.

use super::verifier::opaque;
use crate::abi::unwind::{Image, MAPPINGS, Mapped, NODE_FIRSTS, NODE_ROWS, Node};

/// How far above the next a frame may lie: Linux gives a thread so much stack by default.
pub const FRAME_BYTES_MAX: u64 = 8 << 20;

/// Nothing is known of this code, or nothing that is understood here.
pub const UNKNOWN: u8 = 0;
/// CFA = stack pointer + offset.
pub const FROM_SP: u8 = 1;
/// CFA = frame pointer + offset.
pub const FROM_BP: u8 = 2;
/// CFA is saved at frame pointer + offset, and the caller's frame pointer is found from the present one: functions that
/// align their stack anew.
pub const SAVED_AT_BP: u8 = 3;
/// A stub that jumps into a library: 8 or, behind so many bytes of each 16, 16 above the stack pointer.
pub const STUB: u8 = 4;
/// Where a signal handler returns to: all registers are on the stack.
pub const SIGNAL: u8 = 5;
/// Nobody called this: the walk is at its end.
pub const OUTERMOST: u8 = 6;
/// The code keeps frame pointers, as far as one knows.
pub const LINKED: u8 = 7;

/// Just behind the instruction that calls the kernel, in a function that ends its description there, since a new thread begins at
/// that place as well (the C library's `clone` and `clone3`): [`FROM_SP`] for the caller, which a result of 0 tells from the new thread.
pub const IN_CALL: u8 = 8;
/// The return address was taken off the stack and is in the register of the first argument (the C library's `vfork`).
pub const RETURN_IN_DI: u8 = 9;

/// For [`Rule::bp`]: the caller's frame pointer cannot be had.
pub const BP_LOST: i8 = i8::MIN;

/// Where the kernel puts registers of an interrupted program on its stack, from the stack pointer of the handler's
/// return on: `struct rt_sigframe` behind its first word, `uc_mcontext` (asm/sigcontext.h).
pub const SIGNAL_BP: u64 = 120;
/// Likewise.
pub const SIGNAL_SP: u64 = 160;
/// Likewise.
pub const SIGNAL_IP: u64 = 168;

/// What a row says. Offsets are in units of 8 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// [`UNKNOWN`] and the others.
    pub kind: u8,
    /// Offset of the CFA; of a [`STUB`] the bytes.
    pub cfa: i16,
    /// Where the caller's frame pointer is saved, from the CFA ([`SAVED_AT_BP`]: from the frame pointer); 0 = nowhere, it is untouched
    /// (but there: at it).
    pub bp: i8,
}

impl Rule {
    /// A rule of [`LINKED`] code: the frame pointer is pushed, then set.
    pub const FRAME_POINTER: Rule = Rule { kind: LINKED, cfa: 2, bp: -2 };

    /// As a word of a table.
    #[inline(always)]
    pub const fn word(self) -> u32 {
        self.cfa as u16 as u32 | (self.kind as u32) << 16 | (self.bp as u8 as u32) << 24
    }

    /// From a word of a table.
    #[inline(always)]
    pub const fn of_word(word: u32) -> Rule {
        Rule { kind: (word >> 16) as u8, cfa: word as i16, bp: (word >> 24) as i8 }
    }
}

/// The registers that a walk needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registers {
    /// Instruction pointer.
    pub ip: u64,
    /// Stack pointer.
    pub sp: u64,
    /// Frame pointer, or what is in its place.
    pub bp: u64,
    /// Register of the first argument; 0 where it is not known: in all but the innermost frame.
    pub di: u64,
    /// Register of results, likewise. In a call of the kernel it holds an error until that is done.
    pub ax: u64,
}

impl Registers {
    /// Those of a caller, of which no others are known.
    #[inline(always)]
    pub const fn new(ip: u64, sp: u64, bp: u64) -> Registers {
        Registers { ip, sp, bp, di: 0, ax: 0 }
    }
}

/// Where a step leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// To the caller.
    Found(Registers),
    /// To a program that was interrupted by a signal: its instruction pointer is no return address.
    Interrupted(Registers),
    /// Nobody called.
    Outermost,
    /// It cannot be told.
    Lost,
}

/// The CFA, by the rule for the place where the callee is; 0 = there is none. `read` gives a word of the thread's memory.
#[inline(always)]
pub fn frame_address(rule: Rule, at: Registers, read: impl Fn(u64) -> Option<u64>) -> u64 {
    let offset = i64::from(rule.cfa) as u64;
    let cfa = match rule.kind {
        IN_CALL if at.ax == 0 => 0,
        FROM_SP | IN_CALL => at.sp.wrapping_add(offset << 3),
        FROM_BP | LINKED => at.bp.wrapping_add(offset << 3),
        SAVED_AT_BP => read(at.bp.wrapping_add(offset << 3)).unwrap_or(0),
        STUB => at.sp.wrapping_add(if at.ip & 15 >= offset { 16 } else { 8 }),
        _ => 0,
    };
    // Between the two lie the return address at least, and no more than a stack. What is not so is no frame.
    if cfa.wrapping_sub(8).wrapping_sub(at.sp) >= FRAME_BYTES_MAX || cfa & 7 != 0 { 0 } else { cfa }
}

/// The caller, by the same rule and what [`frame_address`] said.
#[inline(always)]
pub fn caller(rule: Rule, at: Registers, cfa: u64, read: impl Fn(u64) -> Option<u64>) -> Caller {
    if rule.kind == OUTERMOST {
        return Caller::Outermost;
    }
    if rule.kind == SIGNAL {
        let saved = |offset: u64| read(at.sp.wrapping_add(offset));
        return match (saved(SIGNAL_IP), saved(SIGNAL_SP), saved(SIGNAL_BP)) {
            (Some(ip), Some(sp), Some(bp)) => Caller::Interrupted(Registers::new(ip, sp, bp)),
            _ => Caller::Lost,
        };
    }
    if rule.kind == RETURN_IN_DI {
        let caller = Registers::new(at.di, at.sp, at.bp);
        return if at.di != 0 { Caller::Found(caller) } else { Caller::Lost };
    }
    if cfa == 0 {
        return Caller::Lost;
    }
    let base = if rule.kind == SAVED_AT_BP { at.bp } else { cfa };
    let saved = base.wrapping_add((i64::from(rule.bp) as u64) << 3);
    let untouched = rule.bp == 0 && rule.kind != SAVED_AT_BP;
    let bp = if rule.bp == BP_LOST {
        Some(0)
    } else if untouched {
        Some(at.bp)
    } else {
        read(saved)
    };
    match (read(cfa.wrapping_sub(8)), bp) {
        // Where a thread begins there is nothing to return to.
        (Some(0), _) => Caller::Outermost,
        (Some(ip), Some(bp)) => Caller::Found(Registers::new(ip, cfa, bp)),
        _ => Caller::Lost,
    }
}

/// Index of the last of `2^log` numbers in ascending order that is not above `wanted`; 0 when all are. Numbers and `wanted` are
/// below 2^63. There is no branch in it, which would make the kernel's verifier follow each of its ways.
#[inline(always)]
pub fn last_not_above(log: u32, wanted: u64, number: impl Fn(u64) -> u64) -> u64 {
    // What an index can be, where older verifiers can see it.
    let index = |index: u64| opaque(index) & ((1 << log) - 1);
    let mut found = 0;
    let mut bit = log;
    while bit > 0 {
        bit -= 1;
        // The optimiser would make a comparison of it, from what it knows of the number's range or of what follows.
        let difference = opaque(wanted.wrapping_sub(opaque(number(index(found + (1 << bit))))));
        found += (1 - (opaque(difference >> 63) & 1)) << bit;
    }
    index(found)
}

/// The mapping that holds an address.
#[inline(always)]
pub fn mapping(image: &Image, pc: u64) -> Option<&Mapped> {
    if pc >> 63 != 0 {
        return None;
    }
    // SAFETY: the search hands over less than there are. (The verifier does not see that a checked access never fails.)
    let start = |index: u64| unsafe { *image.starts.get_unchecked(index as usize) };
    let index = last_not_above(MAPPINGS.ilog2(), pc, start);
    // SAFETY: as above.
    let mapped = unsafe { image.mapped.get_unchecked(index as usize) };
    (pc.wrapping_sub(start(index)) < mapped.bytes).then_some(mapped)
}

/// The rule that a table has for one of its addresses; `node` gives the table's nodes by number.
#[inline(always)]
pub fn find<'a>(index_nodes: u32, pc: u64, node: impl Fn(u32) -> Option<&'a Node>) -> Option<Rule> {
    if pc >> 32 != 0 {
        return None;
    }
    // SAFETY: as above.
    let word = |node: &Node, at: u64| u64::from(unsafe { *node.words.get_unchecked(at as usize) });
    let first = |node: &Node| last_not_above(NODE_FIRSTS.ilog2(), pc, |at| word(node, at));
    let index = first(node(opaque(0) as u32)?);
    let rows = index * NODE_FIRSTS as u64 + first(node(1 + index as u32)?);
    let node = node(1 + index_nodes + rows as u32)?;
    let row = last_not_above(NODE_ROWS.ilog2(), pc, |at| word(node, 2 * at));
    (word(node, 2 * row) <= pc).then(|| Rule::of_word(word(node, 2 * row + 1) as u32))
}

#[cfg(test)]
mod tests;
