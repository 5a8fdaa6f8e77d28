//! The kernel's description of its own types (BTF). In: the bytes of `/sys/kernel/btf/vmlinux`.
//! Out: offsets of structure members, and whether a type, enumerator or tracepoint argument exists.
//!
//! Only what the offsets need is read, in one pass: a few milliseconds for the six megabytes of a kernel.
//! Every access is checked, so damaged bytes give an error or `None`, never a panic.
//! Format: <https://docs.kernel.org/bpf/btf.html>.

use std::collections::HashMap;

/// Bytes of `struct btf_header`, of `struct btf_type`, and of the entries that follow a type.
const HEADER_BYTES: usize = 24;
const TYPE_BYTES: usize = 12;
const MEMBER_BYTES: usize = 12;
const PARAM_BYTES: usize = 8;
const ENUM_BYTES: usize = 8;
const ENUM64_BYTES: usize = 12;
const VAR_BYTES: usize = 4;
const ARRAY_BYTES: usize = 12;
const DECL_TAG_BYTES: usize = 4;
const VAR_SECTION_BYTES: usize = 12;
const INT_BYTES: usize = 4;

const MAGIC: u16 = 0xeb9f;

/// How many types a name is followed through (typedef of const of typedef …) before the description is taken
/// to be circular; the kernel's own chains are shorter than ten.
const CHAIN_MAX: usize = 32;
/// How deep unnamed structures inside structures are searched; the kernel has four levels.
const NESTING_MAX: usize = 16;

/// Kinds of types (`BTF_KIND_*` of `linux/btf.h`).
mod kind {
    pub(super) const INT: u32 = 1;
    pub(super) const PTR: u32 = 2;
    pub(super) const ARRAY: u32 = 3;
    pub(super) const STRUCT: u32 = 4;
    pub(super) const UNION: u32 = 5;
    pub(super) const ENUM: u32 = 6;
    pub(super) const FWD: u32 = 7;
    pub(super) const TYPEDEF: u32 = 8;
    pub(super) const VOLATILE: u32 = 9;
    pub(super) const CONST: u32 = 10;
    pub(super) const RESTRICT: u32 = 11;
    pub(super) const FUNC: u32 = 12;
    pub(super) const FUNC_PROTO: u32 = 13;
    pub(super) const VAR: u32 = 14;
    pub(super) const DATASEC: u32 = 15;
    pub(super) const FLOAT: u32 = 16;
    pub(super) const DECL_TAG: u32 = 17;
    pub(super) const TYPE_TAG: u32 = 18;
    pub(super) const ENUM64: u32 = 19;
}

/// Why bytes are not a type description.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BtfError {
    /// The header is not BTF's, or of another byte order.
    #[error("these bytes are not BTF: wrong magic number")]
    NotBtf,
    /// A part is said to be where there are no bytes.
    #[error("the BTF is cut off or damaged at byte {at}")]
    Damaged {
        /// Where, in bytes from the start.
        at: usize,
    },
    /// A type of a kind that is newer than this reader; its length is not known.
    #[error("the BTF holds a type of unknown kind {kind}")]
    UnknownKind {
        /// The number.
        kind: u32,
    },
}

/// A description, ready to be asked.
#[derive(Debug)]
pub struct Btf<'a> {
    bytes: &'a [u8],
    strings: &'a [u8],
    /// Where each type starts in `bytes`, by type id; id 0 is `void`.
    starts: Vec<u32>,
    /// Ids of named structures, unions, enumerations and typedefs.
    named: HashMap<&'a [u8], Vec<u32>>,
}

/// A member found: its place, and its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    bits: u64,
    type_id: u32,
}

/// A type's fixed part.
#[derive(Clone, Copy, Debug)]
struct Type {
    /// Where it starts.
    at: usize,
    name: u32,
    kind: u32,
    /// Entries that follow.
    len: usize,
    /// Whether members' offsets hold a bitfield's size too.
    flag: bool,
    /// Size in bytes, or id of the type it refers to.
    size_or_type: u32,
}

impl<'a> Btf<'a> {
    /// Reads a description.
    ///
    /// # Errors
    /// When the bytes are no BTF, or end too early.
    pub fn parse(bytes: &'a [u8]) -> Result<Btf<'a>, BtfError> {
        let damaged = |at| BtfError::Damaged { at };
        if bytes.len() < HEADER_BYTES {
            return Err(damaged(bytes.len()));
        }
        if bytes[..2] != MAGIC.to_le_bytes() {
            return Err(BtfError::NotBtf);
        }
        let word = |at| read_u32(bytes, at).ok_or(damaged(at));
        let header = word(4)? as usize;
        let part = |offset: u32, len: u32| {
            let start = header.checked_add(offset as usize).ok_or(damaged(header))?;
            let end = start.checked_add(len as usize).ok_or(damaged(start))?;
            if end > bytes.len() { Err(damaged(bytes.len())) } else { Ok((start, end)) }
        };
        let (types_start, types_end) = part(word(8)?, word(12)?)?;
        let (strings_start, strings_end) = part(word(16)?, word(20)?)?;
        let mut btf = Btf {
            bytes,
            strings: &bytes[strings_start..strings_end],
            starts: vec![0],
            named: HashMap::new(),
        };
        let mut at = types_start;
        while at < types_end {
            let found = read_type(bytes, at).ok_or(damaged(at))?;
            if matches!(found.kind, kind::STRUCT | kind::UNION | kind::ENUM | kind::ENUM64 | kind::TYPEDEF)
                && let Some(name) = btf.string(found.name)
                && !name.is_empty()
            {
                btf.named.entry(name).or_default().push(btf.starts.len() as u32);
            }
            btf.starts.push(at as u32);
            at += TYPE_BYTES + rest_bytes(found.kind, found.len)?;
        }
        if at > types_end { Err(damaged(types_end)) } else { Ok(btf) }
    }

    /// Byte offset of `struct.member.member` from the start of the structure, or with `|bit` at the end the
    /// number of a bitfield's lowest bit in its byte. `None` when there is no such member.
    pub fn offset(&self, spelling: &str) -> Option<u32> {
        let (path, wants_bit) = match spelling.strip_suffix("|bit") {
            Some(path) => (path, true),
            None => (spelling, false),
        };
        let (structure, members) = path.split_once('.')?;
        let bits = self.composites(structure).find_map(|id| self.walk(id, members))?;
        if wants_bit { Some((bits % 8) as u32) } else { u32::try_from(bits / 8).ok() }
    }

    /// The value of an enumerator; of a 64-bit one the lower half. `None` when the enumeration has none of
    /// that name.
    pub fn enumerator(&self, enumeration: &str, enumerator: &str) -> Option<u32> {
        self.ids(enumeration).filter_map(|id| self.get(id)).find_map(|found| {
            let entry_bytes = match found.kind {
                kind::ENUM => ENUM_BYTES,
                kind::ENUM64 => ENUM64_BYTES,
                _ => return None,
            };
            (0..found.len).map(|index| found.at + TYPE_BYTES + index * entry_bytes).find_map(|at| {
                let name = read_u32(self.bytes, at).and_then(|name| self.string(name))?;
                if name == enumerator.as_bytes() { read_u32(self.bytes, at + 4) } else { None }
            })
        })
    }

    /// How many arguments a tracepoint hands to its programs; `None` when the kernel has no such tracepoint.
    pub fn tracepoint_arguments(&self, tracepoint: &str) -> Option<usize> {
        // `typedef void (*btf_trace_NAME)(void *, arguments…)`
        let typedef = self.ids(&format!("btf_trace_{tracepoint}")).find_map(|id| self.get(id))?;
        let pointer = self.get(typedef.size_or_type).filter(|found| found.kind == kind::PTR)?;
        let function = self.get(pointer.size_or_type).filter(|found| found.kind == kind::FUNC_PROTO)?;
        function.len.checked_sub(1)
    }

    fn ids(&self, name: &str) -> impl Iterator<Item = u32> + '_ {
        self.named.get(name.as_bytes()).into_iter().flatten().copied()
    }

    fn composites(&self, name: &str) -> impl Iterator<Item = u32> + '_ {
        self.ids(name)
            .filter(|id| self.get(*id).is_some_and(|found| matches!(found.kind, kind::STRUCT | kind::UNION)))
    }

    /// Bit offset of `member.member[2]` from the start of a structure.
    fn walk(&self, structure: u32, members: &str) -> Option<u64> {
        let mut place = Place { bits: 0, type_id: structure };
        for step in members.split('.') {
            let (name, index) = match step.split_once('[') {
                Some((name, index)) => (name, Some(index.strip_suffix(']')?.parse::<u64>().ok()?)),
                None => (step, None),
            };
            let inner = self.member(self.bare(place.type_id)?, name.as_bytes(), 0)?;
            place = Place { bits: place.bits.checked_add(inner.bits)?, type_id: inner.type_id };
            if let Some(index) = index {
                let element = self.element(place.type_id)?;
                let skip = index.checked_mul(self.size_bytes(element)?)?.checked_mul(8)?;
                place = Place { bits: place.bits.checked_add(skip)?, type_id: element };
            }
        }
        Some(place.bits)
    }

    /// A member by name, also inside unnamed structures and unions.
    fn member(&self, structure: Type, name: &[u8], depth: usize) -> Option<Place> {
        if depth > NESTING_MAX || !matches!(structure.kind, kind::STRUCT | kind::UNION) {
            return None;
        }
        for index in 0..structure.len {
            let at = structure.at + TYPE_BYTES + index * MEMBER_BYTES;
            let member_name = self.string(read_u32(self.bytes, at)?)?;
            let type_id = read_u32(self.bytes, at + 4)?;
            let raw = read_u32(self.bytes, at + 8)?;
            // With the flag, the top byte is a bitfield's size.
            let bits = u64::from(if structure.flag { raw & 0x00ff_ffff } else { raw });
            if member_name == name {
                return Some(Place { bits, type_id });
            }
            if member_name.is_empty()
                && let Some(inner) =
                    self.bare(type_id).and_then(|unnamed| self.member(unnamed, name, depth + 1))
            {
                return Some(Place { bits: bits.checked_add(inner.bits)?, type_id: inner.type_id });
            }
        }
        None
    }

    /// A type without typedefs, qualifiers and tags around it.
    fn bare(&self, id: u32) -> Option<Type> {
        let mut found = self.get(id)?;
        for _ in 0..CHAIN_MAX {
            match found.kind {
                kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG => {
                    found = self.get(found.size_or_type)?;
                }
                _ => return Some(found),
            }
        }
        None
    }

    /// Id of an array's element type.
    fn element(&self, array: u32) -> Option<u32> {
        let found = self.bare(array).filter(|found| found.kind == kind::ARRAY)?;
        read_u32(self.bytes, found.at + TYPE_BYTES)
    }

    fn size_bytes(&self, id: u32) -> Option<u64> {
        let found = self.bare(id)?;
        match found.kind {
            kind::PTR => Some(8),
            kind::INT | kind::STRUCT | kind::UNION | kind::ENUM | kind::ENUM64 | kind::FLOAT => {
                Some(u64::from(found.size_or_type))
            }
            _ => None,
        }
    }

    fn get(&self, id: u32) -> Option<Type> {
        match id {
            0 => None,
            id => read_type(self.bytes, *self.starts.get(id as usize)? as usize),
        }
    }

    fn string(&self, offset: u32) -> Option<&'a [u8]> {
        let rest = self.strings.get(offset as usize..)?;
        rest.iter().position(|byte| *byte == 0).map(|len| &rest[..len])
    }
}

fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(word.try_into().ok()?))
}

fn read_type(bytes: &[u8], at: usize) -> Option<Type> {
    let info = read_u32(bytes, at.checked_add(4)?)?;
    Some(Type {
        at,
        name: read_u32(bytes, at)?,
        kind: info >> 24 & 0x1f,
        len: (info & 0xffff) as usize,
        flag: info >> 31 != 0,
        size_or_type: read_u32(bytes, at + 8)?,
    })
}

/// Bytes that follow the fixed part of a type.
fn rest_bytes(of: u32, len: usize) -> Result<usize, BtfError> {
    Ok(match of {
        kind::INT => INT_BYTES,
        kind::ARRAY => ARRAY_BYTES,
        kind::STRUCT | kind::UNION => len * MEMBER_BYTES,
        kind::ENUM => len * ENUM_BYTES,
        kind::ENUM64 => len * ENUM64_BYTES,
        kind::FUNC_PROTO => len * PARAM_BYTES,
        kind::VAR => VAR_BYTES,
        kind::DATASEC => len * VAR_SECTION_BYTES,
        kind::DECL_TAG => DECL_TAG_BYTES,
        kind::PTR
        | kind::FWD
        | kind::TYPEDEF
        | kind::VOLATILE
        | kind::CONST
        | kind::RESTRICT
        | kind::FUNC
        | kind::FLOAT
        | kind::TYPE_TAG => 0,
        kind => return Err(BtfError::UnknownKind { kind }),
    })
}

#[cfg(test)]
#[path = "btf_tests.rs"]
mod tests;
