//! Environments of all shapes, through the helpers as the kernel has them.

extern crate std;
use super::*;
use std::{format, string::String, vec, vec::Vec};

const BASE: u64 = 0x7ffd_0000;

/// The helper as the kernel has it: at most [`PIECE_BYTES`], NUL included; and the first bytes it wrote.
fn helper(memory: &[u8], at: u64, stale: u64) -> Option<(u64, Head)> {
    let rest = memory.get((at - BASE) as usize..).filter(|rest| !rest.is_empty())?;
    let text: Vec<u8> = rest.iter().copied().take(PIECE_BYTES - 1).take_while(|byte| *byte != 0).collect();
    let mut head = stale.to_ne_bytes().repeat(2);
    for (place, byte) in head.iter_mut().zip(text.iter().chain([&0])) {
        *place = *byte;
    }
    let word = |half: &[u8]| u64::from_ne_bytes(half.try_into().unwrap());
    Some((text.len() as u64 + 1, [word(&head[..8]), word(&head[8..])]))
}

fn memory(variables: &[String]) -> Vec<u8> {
    variables.iter().flat_map(|text| text.bytes().chain([0])).collect()
}

fn scan(variables: &[String]) -> (Vec<(Key, String)>, Walked) {
    let memory = memory(variables);
    let mut kept = vec![];
    let end = BASE + memory.len() as u64;
    let look = |place: Place| {
        let (len, head) = helper(&memory, place.address(), u64::from_ne_bytes(*b"NETNS=xx")).unwrap();
        if let Some(key) = key(&head).filter(|_| place.begins()) {
            let from = (place.address() - BASE) as usize + key.text().len();
            let value = &memory[from..from + len as usize - 1 - key.text().len()];
            kept.push((key, String::from_utf8(value.to_vec()).unwrap()));
        }
        len
    };
    let mut look = look;
    let walked = walk(BASE, end, |place| go(place, end, &mut look));
    let called = kept.iter().any(|(key, _)| *key == Key::Command);
    assert!(!called || hinted(&memory), "the first step lets no call pass");
    (kept, walked)
}

/// The first step over a whole environment, with rubbish wherever it does not write.
fn hinted(memory: &[u8]) -> bool {
    let mut block: Block = [u64::from_ne_bytes([b'x'; 8]); _];
    (0..memory.len()).step_by(BLOCK_BYTES).any(|at| {
        let rest = &memory[at..];
        let taken = rest.len().min(size_of::<Block>());
        let mut bytes: Vec<u8> = block.iter().flat_map(|word| word.to_ne_bytes()).collect();
        bytes[..taken].copy_from_slice(&rest[..taken]);
        for (word, bytes) in block.iter_mut().zip(bytes.chunks(8)) {
            *word = u64::from_ne_bytes(bytes.try_into().unwrap());
        }
        at == 0 && hints_at_start(&block) || (0..STRETCHES).any(|stretch| hints(&block, stretch))
    })
}

fn call() -> Vec<String> {
    Key::ALL.iter().map(|key| format!("{}value of {key:?}", key.text())).collect()
}

#[test]
fn every_key_is_found_in_any_order_among_others() {
    let mut random = 7_u64;
    let mut next = |below: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (random >> 33) as usize % below
    };
    for _ in 0..200 {
        let mut variables = call();
        variables.extend((0..40).map(|at| format!("VAR_{at}={}", "x".repeat(next(90)))));
        for at in (1..variables.len()).rev() {
            variables.swap(at, next(at + 1));
        }
        let (mut kept, walked) = scan(&variables);
        kept.sort_by_key(|(key, _)| *key as u32);
        let expected: Vec<_> = Key::ALL.iter().map(|key| (*key, format!("value of {key:?}"))).collect();
        assert_eq!((kept, walked), (expected, Walked::Whole));
    }
}

#[test]
fn what_only_looks_like_a_key_is_none() {
    for text in [
        "CNI_COMMAND",
        "CNI_COMMANDS=ADD",
        "XCNI_COMMAND=ADD",
        "CNI_PATH=/opt",
        "CNI_",
        "",
        "TRACE=1",
        "cni_command=ADD",
        "CNI_CONTAINERID",
        "A=CNI_COMMAND=ADD",
        "CNI_",
    ] {
        let (kept, walked) = scan(&[text.into()]);
        assert_eq!((kept, walked), (vec![], Walked::Whole), "{text:?}");
    }
}

#[test]
fn a_key_behind_a_long_variable_is_found_wherever_the_border_falls() {
    // The long variable ends before, at and behind each border, and looks like keys all along.
    for length in PIECE_BYTES - 20..PIECE_BYTES + 20 {
        for pieces in 0..3 {
            let long = "CNI_COMMAND=".repeat(pieces * PIECE_BYTES / 12) + &"y".repeat(length);
            let (kept, walked) = scan(&[format!("LONG={long}"), "CNI_COMMAND=DEL".into()]);
            assert_eq!((kept, walked), (vec![(Key::Command, "DEL".into())], Walked::Whole), "{length}");
        }
    }
}

#[test]
fn a_value_longer_than_a_piece_tells_so_by_its_length() {
    let (kept, _) = scan(&[format!("CNI_ARGS={}", "z".repeat(3 * PIECE_BYTES))]);
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0].1.len(), PIECE_BYTES - 1 - "CNI_ARGS=".len());
}

#[test]
fn an_environment_without_end_is_cut_and_one_that_cannot_be_read_says_so() {
    let many: Vec<String> = (0..PIECES_AT_ONCE * GOES_MAX + 1).map(|at| format!("V{at}=")).collect();
    assert_eq!(scan(&many).1, Walked::Cut);
    assert_eq!(scan(&many[1..]).1, Walked::Whole);
    assert_eq!(walk(BASE, BASE + 9, |place| go(place, BASE + 9, |_| 0)), Walked::Unread);
}

#[test]
fn a_command_is_hinted_at_wherever_it_stands() {
    for before in (0..600).chain(BLOCK_BYTES - 40..BLOCK_BYTES + 40) {
        // Variables of all lengths, so that NULs stand everywhere, also several in one word.
        let mut variables = vec![];
        let mut left = before;
        while left > 0 {
            let taken = (left * 7 % 23 + 1).min(left);
            variables.push("v".repeat(taken - 1));
            left -= taken;
        }
        assert!(!hinted(&memory(&variables)), "{before}");
        variables.push("CNI_COMMAND=ADD".into());
        assert!(hinted(&memory(&variables)), "{before}");
        variables.push("LAST=1".into());
        assert!(hinted(&memory(&variables)), "{before}");
    }
}

#[test]
fn what_does_not_begin_a_variable_is_no_hint() {
    for text in ["XCNI_COMMAND=ADD", "CNI_PATH=/opt", "A=CNI_COMMAND=ADD", ""] {
        let padded: Vec<String> = vec!["PATH=/bin".into(), text.into(), "HOME=/".into()];
        assert!(!hinted(&memory(&padded)), "{text:?}");
    }
    // A byte of value 1 behind a NUL looks like another: a second look, which finds nothing.
    let (kept, _) = scan(&["A".into(), "\u{1}CNI_COMMAND=ADD".into()]);
    assert_eq!(kept, vec![]);
}

#[test]
fn no_key_is_longer_than_a_head() {
    assert!(Key::ALL.iter().all(|key| key.text().len() <= size_of::<Head>()));
}
