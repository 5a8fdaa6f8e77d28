use super::*;
use crate::capture::symbols::maps::{MAPS_BYTES_MAX, MappingKind, Maps};
use crate::capture::symbols::samples::UNWIND;
use crate::capture::symbols::vdso;
use gimli::{EvaluationResult, Location, Value};
use slowpod_ebpf::rules::unwind::{Caller, Registers, caller, find, frame_address};
use std::collections::BTreeSet;

const SP: u64 = 0x7ffc_0000_0000;
const BP: u64 = SP + 0x4_0000;
const DI: u64 = 0x5555_0000_1230;

/// A stack in which each word says where it is, and could be an address on it.
fn memory(address: u64) -> u64 {
    SP + 8 + ((address ^ 0x1_5550) & 0x1f_fff8)
}

fn registers(ip: u64) -> Registers {
    Registers { ip, sp: SP, bp: BP, di: DI, ax: 0 }
}

fn register(register: gimli::Register, ip: u64) -> Option<u64> {
    [(X86_64::RSP, SP), (X86_64::RBP, BP), (X86_64::RDI, DI), (X86_64::RA, ip)]
        .iter()
        .find_map(|(known, value)| (*known == register).then_some(*value))
}

/// What gimli makes of an expression.
fn evaluated(expression: gimli::Expression<Bytes<'_>>, cfa: Option<u64>, ip: u64) -> Option<u64> {
    let encoding = gimli::Encoding { address_size: 8, format: gimli::Format::Dwarf32, version: 4 };
    let mut evaluation = expression.evaluation(encoding);
    cfa.into_iter().for_each(|cfa| evaluation.set_initial_value(cfa));
    let mut result = evaluation.evaluate().ok()?;
    loop {
        result = match result {
            EvaluationResult::Complete => break,
            EvaluationResult::RequiresRegister { register: number, .. } => {
                evaluation.resume_with_register(Value::Generic(register(number, ip)?)).ok()?
            }
            EvaluationResult::RequiresMemory { address, .. } => {
                evaluation.resume_with_memory(Value::Generic(memory(address))).ok()?
            }
            _ => return None,
        };
    }
    match evaluation.result().first()?.location {
        Location::Address { address } => Some(address),
        _ => None,
    }
}

/// The caller by gimli's rules for a row, at an address in it.
fn by_gimli(frames: &EhFrame<Bytes<'_>>, row: &UnwindTableRow<usize>, ip: u64) -> Caller {
    let cfa = match row.cfa() {
        CfaRule::RegisterAndOffset { register: base, offset } => {
            register(*base, ip).map(|base| base.wrapping_add_signed(*offset))
        }
        CfaRule::Expression(expression) => evaluated(expression.get(frames).expect("there"), None, ip),
    };
    let Some(cfa) = cfa else { return Caller::Lost };
    let value = |rule: Option<RegisterRule<usize>>, same: u64| match rule {
        None | Some(RegisterRule::SameValue) => Some(same),
        Some(RegisterRule::Offset(offset)) => Some(memory(cfa.wrapping_add_signed(offset))),
        Some(RegisterRule::Register(other)) => register(other, ip),
        Some(RegisterRule::Expression(expression)) => {
            evaluated(expression.get(frames).expect("there"), Some(cfa), ip).map(memory)
        }
        _ => None,
    };
    if row.register(X86_64::RA) == Some(RegisterRule::Undefined) {
        return Caller::Outermost;
    }
    let returns = value(row.register(X86_64::RA), 0);
    // A frame pointer that is lost is 0 with us.
    let bp = value(row.register(X86_64::RBP), BP).unwrap_or(0);
    let found = |ip| Registers { ip, sp: cfa, bp, di: 0, ax: 0 };
    match returns {
        Some(ip) if matches!(row.register(X86_64::RA), Some(RegisterRule::Expression(_))) => {
            Caller::Interrupted(found(ip))
        }
        Some(ip) => Caller::Found(found(ip)),
        None => Caller::Lost,
    }
}

/// The caller by our table.
fn by_table(table: &Table, vaddr: u64) -> Option<Caller> {
    let rule = find(table.index_nodes, vaddr - table.base, |number| table.nodes.get(number as usize))?;
    let at = registers(vaddr);
    let read = |address| Some(memory(address));
    (rule != NONE).then(|| caller(rule, at, frame_address(rule, at, read), read))
}

/// Rows compared, and rows that are not understood.
fn compared(name: &str, file: &dyn ReadAt) -> (u64, u64) {
    let elf = Elf::read(file).unwrap();
    let table = table(&elf, file).unwrap().unwrap_or_else(|| panic!("{name} has descriptions"));
    let section = elf.section(".eh_frame").unwrap();
    let content = bytes(&section.part(file), 0, section.part(file).size_bytes(), SECTION_BYTES_MAX).unwrap();
    let frames = EhFrame::new(&content, LittleEndian);
    let bases = BaseAddresses::default().set_eh_frame(section.vaddr);
    let mut context = UnwindContext::new();
    let (mut rows, mut unknown) = (0, 0);
    let (mut starts, mut ends) = (BTreeSet::new(), BTreeSet::new());
    let mut entries = frames.entries(&bases);
    while let Some(entry) = entries.next().unwrap() {
        let CieOrFde::Fde(partial) = entry else { continue };
        let entry = partial.parse(EhFrame::cie_from_offset).unwrap();
        starts.insert(entry.initial_address());
        ends.insert(entry.end_address());
        let mut row_by_row = entry.rows(&frames, &bases, &mut context).unwrap();
        while let Some(row) = row_by_row.next_row().unwrap() {
            // The first and the last byte of each.
            for vaddr in [row.start_address(), row.end_address() - 1] {
                if row.start_address() >= row.end_address() {
                    continue;
                }
                rows += 1;
                match by_table(&table, vaddr) {
                    Some(ours) => {
                        assert_eq!(ours, by_gimli(&frames, row, vaddr), "{name} {vaddr:#x}: {row:?}")
                    }
                    None => unknown += 1,
                }
            }
        }
    }
    for end in ends.difference(&starts) {
        assert_eq!(by_table(&table, *end), None, "{name}: between functions nothing is known of {end:#x}");
    }
    assert_eq!(table.left_out, 0, "{name}");
    (rows, unknown)
}

/// The libraries that this test runs with, the C library among them, and the machine's shell: none keeps frame pointers on Debian.
#[cfg(target_arch = "x86_64")]
#[test]
fn each_row_says_what_gimli_says() {
    let maps = Maps::parse(&std::fs::read("/proc/self/maps").unwrap());
    assert!(maps.iter().count() < MAPS_BYTES_MAX);
    let own = std::env::current_exe().unwrap();
    let libraries = maps.iter().filter_map(|mapping| match &mapping.kind {
        MappingKind::File { path, .. } if path != own.as_os_str().as_encoded_bytes() => {
            Some(String::from_utf8(path.clone()).unwrap())
        }
        _ => None,
    });
    let binaries: BTreeSet<String> = libraries.chain(["/bin/sh".to_owned()]).collect();
    assert!(binaries.iter().any(|path| path.contains("libc.so")), "{binaries:?}");
    for path in binaries {
        let (rows, unknown) = compared(&path, &std::fs::read(&path).unwrap());
        assert!(rows > 1_000 && unknown * 100 <= rows, "{path}: {unknown} of {rows} are not understood");
    }
    let (rows, _) = compared("vdso", &vdso::own_bytes().unwrap());
    assert!(rows > 10);
}

/// Functions of the sample, by what is asked of a table: see `tests/data/symbols/unwind.s`.
#[test]
fn each_kind_of_description() {
    let elf = Elf::read(&UNWIND).unwrap();
    let (rows, unknown) = compared("unwind.elf", &UNWIND);
    let table = table(&elf, &UNWIND).unwrap().unwrap();
    let text = elf.section(".text").unwrap().vaddr;
    let found =
        |at: u64| find(table.index_nodes, text + at - table.base, |number| table.nodes.get(number as usize));
    let rule = |kind, cfa, bp| Some(Rule { kind, cfa, bp });
    for (at, expected) in [
        (0x00, rule(OUTERMOST, 0, 0)),
        (0x01, Some(NONE)),
        (0x10, rule(FROM_SP, 1, 0)),
        (0x11, rule(FROM_SP, 2, -2)),
        (0x15, rule(FROM_SP, 6, -2)),
        (0x24, rule(FROM_BP, 2, -2)),
        (0x30, rule(SAVED_AT_BP, -1, 0)),
        (0x40, rule(STUB, 11, 0)),
        (0x50, rule(SIGNAL, 0, 0)),
        (0x60, rule(FROM_SP, 1, 0)),
        (0x61, Some(NONE)),
        (0x63, rule(IN_CALL, 1, 0)),
        (0x64, Some(NONE)),
        (0x71, rule(RETURN_IN_DI, 0, 0)),
        (0x80, Some(NONE)),
        (0x90, rule(FROM_SP, 1, BP_LOST)),
        (0xa0, Some(NONE)),
        (0xffff, Some(NONE)),
    ] {
        assert_eq!(found(at), expected, "{at:#x}");
    }
    assert_eq!((rows, unknown, table.not_understood), (30, 2, 1), "a row's first and last byte");
}

/// Descriptions of one place that contradict each other, and one that was cut: what is not sure is not known.
#[test]
fn damaged_descriptions_are_left_out() {
    let elf = Elf::read(&UNWIND).unwrap();
    let section = elf.section(".eh_frame").unwrap().clone();
    let text = elf.section(".text").unwrap().vaddr;
    let rule_at = |file: &Vec<u8>, at: u64| {
        let table = table(&elf, file).unwrap().unwrap();
        (
            find(table.index_nodes, text + at - table.base, |n| table.nodes.get(n as usize)).unwrap(),
            table.left_out,
        )
    };
    // The third function begins where the second does (its address is relative to the place where it stands), and so lies in it.
    let place = section.file.start as usize + 0x60 + 8;
    let mut overlapping = UNWIND.to_vec();
    overlapping[place] -= 0x10;
    let (rule, left_out) = rule_at(&overlapping, 0x20);
    assert_eq!((rule, left_out), (NONE, 1));
    // An instruction that is none.
    let mut odd = UNWIND.to_vec();
    odd[section.file.start as usize + 0x60 + 17] = 0x3f;
    let (rule, left_out) = rule_at(&odd, 0x24);
    assert_eq!((rule, left_out), (NONE, 1));
    assert_eq!(rule_at(&odd, 0x30).0.kind, SAVED_AT_BP, "the others are as they were");
}

#[test]
fn expressions_of_compilers_and_linkers() {
    let stub = [0x77, 8, 0x80, 0, 0x3f, 0x1a, 0x3b, 0x2a, 0x33, 0x24, 0x22];
    assert_eq!(Expression::read(&stub), Some(Expression::Stub { from: 11 }));
    let (register, offset) = (X86_64::RBP, -8);
    assert_eq!(Expression::read(&[0x76, 0x78]), Some(Expression::At { register, offset }));
    assert_eq!(Expression::read(&[0x76, 0x78, 6]), Some(Expression::Saved { register, offset }));
    for other in [&[][..], &[0x76], &[0x76, 0x78, 6, 6], &[0x30], &stub[..10], &[0x76, 0x80]] {
        assert_eq!(Expression::read(other), None, "{other:x?}");
    }
    assert_eq!((words(16), words(12), words(8 * 40_000), near(-1024)), (Some(2), None, None, None));
}
