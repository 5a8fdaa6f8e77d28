//! Descriptions put together by hand, whole and damaged.

use super::*;

/// Puts descriptions together by hand.
#[derive(Default)]
struct Writer {
    types: Vec<u8>,
    strings: Vec<u8>,
    count: u32,
}

impl Writer {
    fn new() -> Writer {
        Writer { strings: vec![0], ..Writer::default() }
    }

    fn string(&mut self, text: &str) -> u32 {
        if text.is_empty() {
            return 0;
        }
        let at = self.strings.len() as u32;
        self.strings.extend_from_slice(text.as_bytes());
        self.strings.push(0);
        at
    }

    fn words(&mut self, words: &[u32]) {
        words.iter().for_each(|word| self.types.extend_from_slice(&word.to_le_bytes()));
    }

    /// Adds a type's fixed part and hands back its id.
    fn add(&mut self, name: &str, kind: u32, len: u32, flag: bool, size_or_type: u32) -> u32 {
        let name = self.string(name);
        self.words(&[name, u32::from(flag) << 31 | kind << 24 | len, size_or_type]);
        self.count += 1;
        self.count
    }

    fn int(&mut self, name: &str, bytes: u32) -> u32 {
        let id = self.add(name, kind::INT, 0, false, bytes);
        self.words(&[bytes * 8]);
        id
    }

    /// Members are name, type and place as the format holds it.
    fn structure(&mut self, name: &str, bytes: u32, flag: bool, members: &[(&str, u32, u32)]) -> u32 {
        let members: Vec<_> =
            members.iter().map(|(name, type_id, place)| [self.string(name), *type_id, *place]).collect();
        let id = self.add(name, kind::STRUCT, members.len() as u32, flag, bytes);
        members.iter().for_each(|member| self.words(member));
        id
    }

    fn array(&mut self, element: u32, len: u32) -> u32 {
        let id = self.add("", kind::ARRAY, 0, false, 0);
        self.words(&[element, element, len]);
        id
    }

    fn finish(&self) -> Vec<u8> {
        let mut bytes = vec![0x9f, 0xeb, 1, 0, 24, 0, 0, 0];
        let (types, strings) = (self.types.len() as u32, self.strings.len() as u32);
        for word in [0, types, types, strings] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        bytes.extend_from_slice(&self.types);
        bytes.extend_from_slice(&self.strings);
        bytes
    }
}

/// A kernel in small: nesting, unnamed unions, bitfields, arrays, an enumeration, two tracepoints.
fn kernel() -> Vec<u8> {
    let mut writer = Writer::new();
    let int = writer.int("int", 4);
    let word = writer.int("unsigned long", 8);
    let sched_info =
        writer.structure("sched_info", 16, false, &[("pcount", word, 0), ("last_queued", word, 64)]);
    let alias = writer.add("sched_info_t", kind::TYPEDEF, 0, false, sched_info);
    let constant = writer.add("", kind::CONST, 0, false, alias);
    let unnamed = writer.structure("", 8, false, &[("inner", int, 0), ("other", int, 32)]);
    let numbers = writer.array(sched_info, 0);
    // The flag's places: size of a bitfield in the top byte.
    writer.structure(
        "task_struct",
        64,
        true,
        &[
            ("pid", int, 0),
            ("", unnamed, 64),
            ("sched_info", constant, 128),
            ("first_bit", int, 1 << 24 | 256),
            ("in_iowait", int, 1 << 24 | 267),
            ("numbers", numbers, 320),
        ],
    );
    let pairs = [("BPF_FUNC_unspec", 0), ("BPF_FUNC_task_pt_regs", 175)];
    let pairs: Vec<_> = pairs.iter().map(|(name, value)| [writer.string(name), *value]).collect();
    writer.add("bpf_func_id", kind::ENUM, 2, false, 4);
    pairs.iter().for_each(|pair| writer.words(pair));
    for (name, arguments) in [("sched_switch", 5), ("sched_process_fork", 3)] {
        let function = writer.add("", kind::FUNC_PROTO, arguments, false, 0);
        (0..arguments).for_each(|_| writer.words(&[0, int]));
        let pointer = writer.add("", kind::PTR, 0, false, function);
        writer.add(&format!("btf_trace_{name}"), kind::TYPEDEF, 0, false, pointer);
    }
    writer.finish()
}

#[test]
fn members_are_found_through_names_unions_and_arrays() {
    let bytes = kernel();
    let btf = Btf::parse(&bytes).expect("well formed");
    for (spelling, offset) in [
        ("task_struct.pid", Some(0)),
        ("task_struct.inner", Some(8)),
        ("task_struct.other", Some(12)),
        ("task_struct.sched_info", Some(16)),
        ("task_struct.sched_info.last_queued", Some(24)),
        ("task_struct.in_iowait", Some(33)),
        ("task_struct.in_iowait|bit", Some(3)),
        ("task_struct.first_bit|bit", Some(0)),
        ("task_struct.numbers", Some(40)),
        ("task_struct.numbers[1]", Some(56)),
        ("task_struct.numbers[1].last_queued", Some(64)),
        ("sched_info_t.pcount", None),
        ("task_struct.absent", None),
        ("task_struct.pid.deeper", None),
        ("task_struct.pid[1]", None),
        ("task_struct.numbers[x]", None),
        ("task_struct.numbers[18446744073709551615]", None),
        ("task_struct", None),
        ("absent.pid", None),
        (".", None),
        ("", None),
    ] {
        assert_eq!(btf.offset(spelling), offset, "{spelling}");
    }
}

#[test]
fn enumerators_and_tracepoints_are_found() {
    let bytes = kernel();
    let btf = Btf::parse(&bytes).expect("well formed");
    assert!(btf.enumerator("bpf_func_id", "BPF_FUNC_task_pt_regs").is_some());
    assert!(btf.enumerator("bpf_func_id", "BPF_FUNC_new").is_none());
    assert!(btf.enumerator("task_struct", "pid").is_none());
    assert_eq!(btf.tracepoint_arguments("sched_switch"), Some(4));
    assert_eq!(btf.tracepoint_arguments("sched_process_fork"), Some(2));
    assert_eq!(btf.tracepoint_arguments("absent"), None);
}

#[test]
fn what_is_no_btf_is_told() {
    assert_eq!(Btf::parse(b"").unwrap_err(), BtfError::Damaged { at: 0 });
    assert_eq!(Btf::parse(&[0; 24]).unwrap_err(), BtfError::NotBtf);
    let mut writer = Writer::new();
    writer.add("x", 31, 0, false, 0);
    assert_eq!(Btf::parse(&writer.finish()).unwrap_err(), BtfError::UnknownKind { kind: 31 });
}

#[test]
fn circles_end() {
    let mut writer = Writer::new();
    let own = writer.count + 1;
    writer.add("loop_t", kind::TYPEDEF, 0, false, own);
    // A structure that holds itself without a name.
    writer.structure("task_struct", 8, false, &[("", own + 1, 0), ("x", own, 0)]);
    let bytes = writer.finish();
    let btf = Btf::parse(&bytes).expect("well formed, if senseless");
    assert_eq!(btf.offset("task_struct.absent"), None);
    assert_eq!(btf.offset("task_struct.x.y"), None);
}

#[test]
fn damage_anywhere_gives_an_error_or_an_answer_but_no_panic() {
    let ask = |bytes: &[u8]| {
        if let Ok(btf) = Btf::parse(bytes) {
            let _ = btf.offset("task_struct.sched_info.last_queued");
            let _ = btf.offset("task_struct.numbers[1].last_queued");
            let _ = btf.enumerator("bpf_func_id", "BPF_FUNC_new");
            let _ = btf.tracepoint_arguments("sched_switch");
        }
    };
    let whole = kernel();
    for len in 0..whole.len() {
        assert!(Btf::parse(&whole[..len]).is_err(), "cut at {len}");
    }
    for at in 0..whole.len() {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut damaged = whole.clone();
            damaged[at] = value;
            ask(&damaged);
        }
    }
}
