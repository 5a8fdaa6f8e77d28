//! What compilers say about their functions' frames, as rules that fit into a word. In: a binary's `.eh_frame`. Out: its rules
//! by address, in order.
//!
//! Format: DWARF 5, 6.4, with the changes of the Linux Standard Base (10.6, "Exception Frames").

use super::table::{Builder, Table};
use crate::capture::symbols::bytes::{Flaw, ReadAt, bytes};
use crate::capture::symbols::elf::Elf;
use gimli::{
    BaseAddresses, CfaRule, CieOrFde, EhFrame, EndianSlice, LittleEndian, RegisterRule, UnwindContext,
    UnwindSection as _, UnwindTableRow, X86_64,
};
use slowpod_ebpf::rules::unwind::{
    BP_LOST, FROM_BP, FROM_SP, IN_CALL, OUTERMOST, RETURN_IN_DI, Rule, SAVED_AT_BP, SIGNAL, SIGNAL_BP,
    SIGNAL_IP, SIGNAL_SP, STUB, UNKNOWN,
};

/// Largest section read: Python's has 0.4 MiB, PostgreSQL's 0.7. It is held while its table is made.
pub const SECTION_BYTES_MAX: usize = 4 << 20;
/// Functions believed in: of the shortest description there is, so many fill a section.
const FUNCTIONS_MAX: usize = SECTION_BYTES_MAX / 16;
/// Bytes of descriptions gone through in all. A description may refer to a long beginning that others share; true ones have
/// twenty bytes in common.
const WORK_BYTES_MAX: usize = 4 * SECTION_BYTES_MAX;
/// Rules of one binary. With its section this is what making a table takes.
const ROWS_MAX: usize = 512 << 10;

type Bytes<'a> = EndianSlice<'a, LittleEndian>;

/// A function's description: its addresses from the table's base on, and where it stands in the section.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Described {
    start: u32,
    end: u32,
    at: u32,
}

/// What is not described, or not understood.
const NONE: Rule = Rule { kind: UNKNOWN, cfa: 0, bp: 0 };

/// The table of a binary; `None` when it has no `.eh_frame`, or one of another machine.
///
/// # Errors
/// When it has more than is believed in, or cannot be read. What is damaged in it is left out, and counted in
/// [`Table::left_out`].
pub fn table(elf: &Elf, file: &dyn ReadAt) -> Result<Option<Table>, Flaw> {
    let Some(section) = elf.section(".eh_frame").filter(|_| elf.pointer_bytes == 8) else { return Ok(None) };
    let base = elf.segments.iter().filter(|segment| segment.executable).map(|segment| segment.vaddr).min();
    let Some(base) = base else { return Ok(None) };
    let part = section.part(file);
    let too_many = |_| Flaw::TooMany("bytes of frame descriptions");
    let content = bytes(&part, 0, part.size_bytes(), SECTION_BYTES_MAX).map_err(too_many)?;
    let mut frames = EhFrame::new(&content, LittleEndian);
    frames.set_address_size(8);
    let address = |name: &str| elf.section(name).map_or(0, |section| section.vaddr);
    let bases = BaseAddresses::default().set_eh_frame(section.vaddr);
    let bases = bases.set_text(address(".text")).set_got(address(".got"));
    // Go's own code is not described, and keeps frame pointers.
    let is_go = elf.sections.iter().any(|section| section.name.ends_with("gopclntab"));
    let between = if is_go { Rule::FRAME_POINTER } else { NONE };
    let memory = elf.memory(file);
    let reader = Reader { frames, bases, base, code: &memory };
    let mut builder = Builder::new(base, ROWS_MAX);
    let described = reader.described(&mut builder)?;
    reader.rows(&described, between, &mut builder)?;
    Ok(builder.finish())
}

struct Reader<'a> {
    frames: EhFrame<Bytes<'a>>,
    bases: BaseAddresses,
    base: u64,
    /// The binary's bytes by address.
    code: &'a dyn ReadAt,
}

impl Reader<'_> {
    /// The functions, by address. They may stand in the section in any order.
    fn described(&self, builder: &mut Builder) -> Result<Vec<Described>, Flaw> {
        let mut found = Vec::new();
        let mut work = 0_usize;
        let mut entries = self.frames.entries(&self.bases);
        loop {
            let partial = match entries.next() {
                Ok(Some(CieOrFde::Fde(partial))) => partial,
                Ok(Some(CieOrFde::Cie(_))) => continue,
                Ok(None) => break,
                Err(_) => {
                    builder.left_out += 1;
                    break;
                }
            };
            let Ok(entry) = partial.parse(EhFrame::cie_from_offset) else {
                builder.left_out += 1;
                continue;
            };
            work += entry.entry_len() + entry.cie().entry_len();
            if found.len() >= FUNCTIONS_MAX || work > WORK_BYTES_MAX {
                return Err(Flaw::TooMany("frame descriptions"));
            }
            let start = entry.initial_address().checked_sub(self.base);
            let end = start.and_then(|start| start.checked_add(entry.len()));
            let (start, end) = (start.map(u32::try_from), end.map(u32::try_from));
            // What is below all code was left over by the linker.
            if let (Some(Ok(start)), Some(Ok(end))) = (start, end)
                && start < end
                && let Ok(at) = u32::try_from(entry.offset())
            {
                found.push(Described { start, end, at });
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    /// Their rules.
    fn rows(&self, described: &[Described], between: Rule, builder: &mut Builder) -> Result<(), Flaw> {
        let mut context = UnwindContext::new();
        let mut end = 0;
        for function in described {
            // Two descriptions of one place: who knows which is right.
            if function.start < end {
                builder.left_out += 1;
                continue;
            }
            if function.start > end {
                self.gap(end, function.start, between, builder)?;
            }
            end = function.end;
            let offset = gimli::EhFrameOffset::from(function.at as usize);
            let entry = self.frames.fde_from_offset(&self.bases, offset, EhFrame::cie_from_offset);
            let mut at = function.start;
            let whole = entry.is_ok_and(|entry| {
                entry.cie().return_address_register() == X86_64::RA
                    && entry.rows(&self.frames, &self.bases, &mut context).is_ok_and(|mut rows| {
                        loop {
                            let row = match rows.next_row() {
                                Ok(Some(row)) => row,
                                Ok(None) => return true,
                                Err(_) => return false,
                            };
                            let start = row.start_address().checked_sub(self.base).map(u32::try_from);
                            let Some(Ok(start)) = start else { return false };
                            if start >= function.end {
                                return true;
                            }
                            at = start.max(at);
                            let rule = self.rule(row);
                            builder.not_understood += u64::from(rule == NONE);
                            if start < at || builder.push(at, rule).is_err() {
                                return false;
                            }
                        }
                    })
            });
            if !whole {
                builder.left_out += 1;
                builder.push(at, NONE)?;
            }
        }
        self.gap(end, u32::MAX, between, builder)
    }

    /// What lies between two functions, or behind the last.
    fn gap(&self, start: u32, end: u32, between: Rule, builder: &mut Builder) -> Result<(), Flaw> {
        const SYSCALL: [u8; 2] = [0x0f, 0x05];
        let before = builder.last().filter(|rule| rule.kind == FROM_SP && rule.bp == 0);
        builder.push(start, between)?;
        let mut code = [0; 2];
        let at = self.base + u64::from(start);
        if let Some(before) = before
            && end - start > 3
            && self.code.read_at(at, &mut code).is_ok()
            && code == SYSCALL
        {
            builder.push(start + 2, Rule { kind: IN_CALL, ..before })?;
            builder.push(start + 3, between)?;
        }
        Ok(())
    }

    /// A row as a rule.
    fn rule(&self, row: &UnwindTableRow<usize>) -> Rule {
        self.understood(row).unwrap_or(NONE)
    }

    fn understood(&self, row: &UnwindTableRow<usize>) -> Option<Rule> {
        let returns = row.register(X86_64::RA)?;
        if matches!(returns, RegisterRule::Undefined) {
            return Some(Rule { kind: OUTERMOST, cfa: 0, bp: 0 });
        }
        let saved_bp = row.register(X86_64::RBP);
        if let (
            RegisterRule::Register(X86_64::RDI),
            CfaRule::RegisterAndOffset { register: X86_64::RSP, offset: 0 },
        ) = (&returns, row.cfa())
        {
            return saved_bp.is_none().then_some(Rule { kind: RETURN_IN_DI, cfa: 0, bp: 0 });
        }
        let (kind, cfa) = match row.cfa() {
            CfaRule::RegisterAndOffset { register: X86_64::RSP, offset } => (FROM_SP, words(*offset)?),
            CfaRule::RegisterAndOffset { register: X86_64::RBP, offset } => (FROM_BP, words(*offset)?),
            CfaRule::RegisterAndOffset { .. } => return None,
            CfaRule::Expression(expression) => {
                let expression = Expression::read(expression.get(&self.frames).ok()?.0.slice())?;
                match expression {
                    Expression::Stub { from } => (STUB, from),
                    Expression::Saved { register: X86_64::RSP, offset } if offset == SIGNAL_SP as i64 => {
                        return self.signal(&returns, saved_bp.as_ref());
                    }
                    Expression::Saved { register: X86_64::RBP, offset } => (SAVED_AT_BP, words(offset)?),
                    Expression::Saved { .. } | Expression::At { .. } => return None,
                }
            }
        };
        if !matches!(returns, RegisterRule::Offset(-8)) {
            return None;
        }
        let bp = match (kind, saved_bp) {
            (SAVED_AT_BP, saved) => match self.saved_at(saved.as_ref())? {
                (X86_64::RBP, offset) => near(offset)?,
                _ => return None,
            },
            (_, None | Some(RegisterRule::SameValue)) => 0,
            (_, Some(RegisterRule::Offset(offset))) => near(offset).filter(|offset| *offset != 0)?,
            (_, Some(_)) => BP_LOST,
        };
        Some(Rule { kind, cfa, bp })
    }

    /// The rule of a signal handler's return, if all is where the kernel puts it.
    fn signal(&self, returns: &RegisterRule<usize>, saved_bp: Option<&RegisterRule<usize>>) -> Option<Rule> {
        let expected = self.saved_at(Some(returns))? == (X86_64::RSP, SIGNAL_IP as i64)
            && self.saved_at(saved_bp)? == (X86_64::RSP, SIGNAL_BP as i64);
        expected.then_some(Rule { kind: SIGNAL, cfa: 0, bp: 0 })
    }

    /// From which register, and how far, a saved one is.
    fn saved_at(&self, rule: Option<&RegisterRule<usize>>) -> Option<(gimli::Register, i64)> {
        let Some(RegisterRule::Expression(expression)) = rule else { return None };
        match Expression::read(expression.get(&self.frames).ok()?.0.slice())? {
            Expression::At { register, offset } => Some((register, offset)),
            Expression::Saved { .. } | Expression::Stub { .. } => None,
        }
    }
}

/// The expressions that compilers and linkers write.
#[derive(Debug, PartialEq, Eq)]
enum Expression {
    /// A register and an offset.
    At { register: gimli::Register, offset: i64 },
    /// What is in memory there.
    Saved { register: gimli::Register, offset: i64 },
    /// 8 above the stack pointer, and 8 more behind so many bytes of each 16.
    Stub { from: i16 },
}

impl Expression {
    fn read(operations: &[u8]) -> Option<Expression> {
        use gimli::constants::{
            DW_OP_and, DW_OP_breg0, DW_OP_breg7, DW_OP_breg16, DW_OP_breg31, DW_OP_deref, DW_OP_ge,
            DW_OP_lit0, DW_OP_lit3, DW_OP_lit15, DW_OP_plus, DW_OP_shl,
        };
        // The linker's own, of its stubs (binutils, elf64-x86-64.c): rsp + 8 + ((rip & 15 >= n) << 3).
        let before = [DW_OP_breg7.0, 8, DW_OP_breg16.0, 0, DW_OP_lit15.0, DW_OP_and.0];
        let behind = [DW_OP_ge.0, DW_OP_lit3.0, DW_OP_shl.0, DW_OP_plus.0];
        if let Some([literal, rest @ ..]) = operations.strip_prefix(&before)
            && rest == behind
            && (DW_OP_lit0.0..=DW_OP_lit15.0).contains(literal)
        {
            return Some(Expression::Stub { from: i16::from(literal - DW_OP_lit0.0) });
        }
        let (first, rest) = operations.split_first()?;
        if !(DW_OP_breg0.0..=DW_OP_breg31.0).contains(first) {
            return None;
        }
        let register = gimli::Register(u16::from(first - DW_OP_breg0.0));
        let mut rest = EndianSlice::new(rest, LittleEndian);
        let offset = gimli::Reader::read_sleb128(&mut rest).ok()?;
        match rest.slice() {
            [] => Some(Expression::At { register, offset }),
            [operation] if *operation == DW_OP_deref.0 => Some(Expression::Saved { register, offset }),
            _ => None,
        }
    }
}

/// An offset in units of 8 bytes.
fn words(offset: i64) -> Option<i16> {
    (offset % 8 == 0).then(|| i16::try_from(offset / 8).ok()).flatten()
}

/// A short one.
fn near(offset: i64) -> Option<i8> {
    let words = i8::try_from(words(offset)?).ok()?;
    (words != BP_LOST).then_some(words)
}

#[cfg(test)]
mod tests;
