use super::*;
use crate::abi::unwind::{FRAME_POINTERS, NO_PC, NODE_WORDS};
use std::vec::Vec;

const SP: u64 = 0x7ffc_0000_1000;

/// A stack: the words from `SP` on.
fn read(words: &[u64]) -> impl Fn(u64) -> Option<u64> + '_ {
    move |address| words.get(usize::try_from(address.checked_sub(SP)? / 8).ok()?).copied()
}

fn rule(kind: u8, cfa: i16, bp: i8) -> Rule {
    Rule { kind, cfa, bp }
}

fn step(rule: Rule, at: Registers, words: &[u64]) -> Caller {
    caller(rule, at, frame_address(rule, at, read(words)), read(words))
}

#[test]
fn a_rule_is_a_word() {
    for known in [rule(FROM_SP, 1, 0), rule(FROM_BP, 2, -2), rule(STUB, 11, 0), rule(FROM_SP, -3, BP_LOST)] {
        assert_eq!(Rule::of_word(known.word()), known);
    }
    assert_eq!(rule(FROM_BP, -1, -2).word(), 0xfe02_ffff);
}

#[test]
fn each_kind_of_step() {
    let words = [10, 11, 12, 13, 0x40_1000, SP + 0x38, 0x40_2000, SP + 0x40, 17, 18];
    let at = Registers::new(0x40_0000, SP, SP + 0x28);
    let found = |ip, sp, bp| Caller::Found(Registers::new(ip, sp, bp));
    // The return address is below the CFA; what was saved stands at its offset, what was not is as it was.
    assert_eq!(step(rule(FROM_SP, 5, 0), at, &words), found(0x40_1000, SP + 40, SP + 0x28));
    assert_eq!(step(rule(FROM_SP, 5, -3), at, &words), found(0x40_1000, SP + 40, 12));
    assert_eq!(step(rule(FROM_SP, 5, BP_LOST), at, &words), found(0x40_1000, SP + 40, 0));
    assert_eq!(step(Rule::FRAME_POINTER, at, &words), found(0x40_2000, SP + 0x38, SP + 0x38));
    assert_eq!(step(rule(FROM_BP, 2, -2), at, &words), found(0x40_2000, SP + 0x38, SP + 0x38));
    assert_eq!(step(rule(SAVED_AT_BP, 0, 0), at, &words), found(0x40_2000, SP + 0x38, SP + 0x38));
    // A stub has pushed one word more behind its eleventh byte.
    assert_eq!(step(rule(STUB, 11, 0), Registers { ip: 0x40_000a, ..at }, &words), found(10, SP + 8, at.bp));
    assert_eq!(step(rule(STUB, 11, 0), Registers { ip: 0x40_000b, ..at }, &words), found(11, SP + 16, at.bp));
    assert_eq!(step(rule(OUTERMOST, 1, 0), at, &words), Caller::Outermost);
    assert_eq!(step(rule(UNKNOWN, 1, 0), at, &words), Caller::Lost);
    assert_eq!(step(rule(99, 1, 0), at, &words), Caller::Lost);
}

#[test]
fn in_the_call_that_makes_a_child_the_caller_is_told_from_the_child() {
    let (words, at) = ([0x40_1000], Registers::new(0x40_0000, SP, 7));
    let parent = Registers { ax: -38_i64 as u64, ..at };
    let found = Caller::Found(Registers::new(0x40_1000, SP + 8, 7));
    assert_eq!(step(rule(IN_CALL, 1, 0), parent, &words), found);
    assert_eq!(step(rule(IN_CALL, 1, 0), at, &words), Caller::Lost);
    let vfork = Registers { di: 0x40_3000, ..at };
    assert_eq!(
        step(rule(RETURN_IN_DI, 0, 0), vfork, &words),
        Caller::Found(Registers::new(0x40_3000, SP, 7))
    );
    assert_eq!(step(rule(RETURN_IN_DI, 0, 0), at, &words), Caller::Lost);
}

#[test]
fn a_signals_frame_has_all_registers() {
    let mut words = [0; 22];
    (words[15], words[20], words[21]) = (0xb, SP - 0x100, 0xc);
    let at = Registers::new(0x40_0000, SP, 0);
    let interrupted = Caller::Interrupted(Registers::new(0xc, SP - 0x100, 0xb));
    assert_eq!(step(rule(SIGNAL, 0, 0), at, &words), interrupted);
    assert_eq!(step(rule(SIGNAL, 0, 0), at, &words[..21]), Caller::Lost);
}

#[test]
fn what_cannot_be_a_frame_is_none() {
    let words = [1; 8];
    let at = Registers::new(0x40_0000, SP, SP + 0x10);
    // At or below the stack pointer, beyond any stack, crooked, or not in memory.
    assert_eq!(step(rule(FROM_SP, 0, 0), at, &words), Caller::Lost);
    assert_eq!(step(rule(FROM_SP, -1, 0), at, &words), Caller::Lost);
    assert_eq!(step(Rule::FRAME_POINTER, Registers { bp: 0, ..at }, &words), Caller::Lost);
    assert_eq!(step(Rule::FRAME_POINTER, Registers { bp: SP - 24, ..at }, &words), Caller::Lost);
    assert_eq!(step(Rule::FRAME_POINTER, Registers { bp: SP + (9 << 20), ..at }, &words), Caller::Lost);
    assert_eq!(step(Rule::FRAME_POINTER, Registers { bp: SP + 4, ..at }, &words), Caller::Lost);
    assert_eq!(step(Rule::FRAME_POINTER, Registers { bp: u64::MAX - 7, ..at }, &words), Caller::Lost);
    assert_eq!(step(rule(FROM_SP, 9, 0), at, &words), Caller::Lost);
    assert_eq!(step(rule(FROM_SP, 2, 100), at, &words), Caller::Lost, "a saved register that is not there");
    assert_eq!(step(rule(FROM_SP, 1, 0), at, &[0]), Caller::Outermost);
}

#[test]
fn the_search_finds_what_a_plain_one_finds() {
    for log in [1, 4, 7] {
        let numbers: Vec<u64> = (0..1_u64 << log).map(|index| 10 + index * index).collect();
        for wanted in 0..numbers[numbers.len() - 1] + 3 {
            let plain = numbers.iter().rposition(|number| *number <= wanted).unwrap_or(0);
            assert_eq!(
                last_not_above(log, wanted, |index| numbers[index as usize]),
                plain as u64,
                "{wanted}"
            );
        }
    }
}

#[test]
fn mappings_by_address() {
    let mut image = Image { starts: [i64::MAX as u64; MAPPINGS], mapped: [Mapped::default(); MAPPINGS] };
    for (at, start) in [0x1000, 0x5000, 0x7f00_0000_0000].into_iter().enumerate() {
        image.starts[at] = start;
        image.mapped[at] = Mapped { bytes: 0x2000, bias: at as u64, table: FRAME_POINTERS, index_nodes: 0 };
    }
    let found = |pc| mapping(&image, pc).map(|mapped| mapped.bias);
    for (pc, expected) in [(0x1000, 0), (0x2fff, 0), (0x6000, 1), (0x7f00_0000_1fff, 2)] {
        assert_eq!(found(pc), Some(expected), "{pc:#x}");
    }
    for pc in [0, 0xfff, 0x3000, 0x7000, 0x7f00_0000_2000, i64::MAX as u64, 1 << 63, u64::MAX] {
        assert_eq!(found(pc), None, "{pc:#x}");
    }
    image.starts = [i64::MAX as u64; MAPPINGS];
    assert_eq!(mapping(&image, 0x1000), None);
}

#[test]
fn rules_by_address() {
    let node = |words: &[u32]| {
        let mut node = Node { words: [NO_PC; NODE_WORDS] };
        node.words[..words.len()].copy_from_slice(words);
        node
    };
    let (one, two) = (rule(FROM_SP, 1, 0), rule(FROM_BP, 2, -2));
    let nodes = [
        node(&[4]),
        node(&[4, 100]),
        node(&[4, one.word(), 50, two.word()]),
        node(&[100, two.word(), 200, one.word()]),
    ];
    let found = |pc| find(1, pc, |number| nodes.get(number as usize));
    for (pc, expected) in [(4, one), (49, one), (50, two), (99, two), (100, two), (200, one), (1 << 31, one)]
    {
        assert_eq!(found(pc), Some(expected), "{pc}");
    }
    assert_eq!((found(3), found(1 << 32), found(u64::MAX)), (None, None, None));
}
