//! User stacks of programs that keep no frame pointers, walked by the tables that the agent has made of their binaries
//! (`abi::unwind`).
//!
//! Tables and images are maps in maps: the agent puts a new one in the place of an old one, and the kernel frees that when no
//! program can be reading it any more. So what is read here is whole, and of one binary.

use aya_ebpf::{
    bindings::BPF_F_INNER_MAP,
    btf_maps::{Array, ArrayOfMaps},
    macros::{btf_map, map},
    maps::HashMap,
};
use slowpod_ebpf::{
    abi::{
        stack::FRAMES,
        unwind::{FRAME_POINTERS, Image, Node, PROCESSES_MAX, Registered, TABLES_MAX},
    },
    rules::{
        unwind::{Caller, LINKED, Rule, caller, find, frame_address, mapping},
        verifier::opaque,
    },
};

use super::{frames::ENDED, stack, text::user_value};

/// Steps done in one go, likewise to the links of `frames`.
const STEPS_AT_ONCE: u64 = 16;
/// In what [`rule_of`] returns: there is one.
const FOUND: u64 = 1 << 32;

/// Processes that have tables.
#[map]
static REGISTERED: HashMap<u32, Registered> = HashMap::with_max_entries(PROCESSES_MAX, 0);
/// What they have mapped: each an array of one.
#[btf_map]
static IMAGES: ArrayOfMaps<Array<Image, 1, { BPF_F_INNER_MAP as usize }>, { PROCESSES_MAX as usize }> =
    ArrayOfMaps::new();
/// The tables.
#[btf_map]
static TABLES: ArrayOfMaps<Array<Node, 1, { BPF_F_INNER_MAP as usize }>, { TABLES_MAX as usize }> =
    ArrayOfMaps::new();

/// Number of the image of a process that has tables, plus 1; 0 = it has none.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn image_of(tgid: u32, start_ns: u64) -> u64 {
    // SAFETY: a row is plain numbers; one that is given to another process meanwhile has another start.
    match unsafe { REGISTERED.get(&tgid) } {
        Some(known) if known.start_ns == start_ns && known.ready != 0 => u64::from(known.image) + 1,
        _ => 0,
    }
}

/// A process executes another program: its tables are not those of what it runs now.
#[inline(always)]
pub fn forget(tgid: u32) {
    // That there is none is the rule, and a look takes no lock.
    // SAFETY: nothing is read.
    if unsafe { REGISTERED.get(&tgid) }.is_some() {
        let _ = REGISTERED.remove(&tgid);
    }
}

// Functions of their own, and known to the kernel as such: each is verified once, and what they hand back is a plain number
// to their callers, whichever way it came about.

/// Walks the stack whose first frame and registers are in a scratch. Its depth.
#[inline(always)]
pub fn walk(scratch: u32) -> u64 {
    let mut depth = 1;
    for _ in 0..(FRAMES as u64).div_ceil(STEPS_AT_ONCE) {
        let went = steps_by_tables(scratch, depth);
        depth = went & (ENDED - 1);
        if went & ENDED != 0 {
            break;
        }
    }
    depth
}

/// Goes on with a walk that has `depth` frames.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn steps_by_tables(scratch: u32, depth: u64) -> u64 {
    for step in 0..STEPS_AT_ONCE {
        let at = depth.wrapping_add(step);
        if step_by_table(scratch, at) == 0 {
            return at | ENDED;
        }
    }
    depth.wrapping_add(STEPS_AT_ONCE)
}

/// Finds the caller of the frame that a walk has come to, which becomes frame `depth`. 0 = there is none, or it cannot be told.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn step_by_table(scratch: u32, depth: u64) -> u64 {
    let found = rule_of(scratch);
    if found & FOUND == 0 {
        return 0;
    }
    let cfa = cfa_of(scratch, found);
    let Some((frames, chain)) = stack::scratch(scratch) else { return 0 };
    let depth = opaque(depth);
    if depth >= FRAMES as u64 {
        return 0;
    }
    let rule = Rule::of_word(found as u32);
    let (found, returns) = match caller(rule, chain.at, cfa, |address| user_value::<u64>(address)) {
        Caller::Found(found) => (found, 1),
        Caller::Interrupted(found) => (found, 0),
        Caller::Outermost | Caller::Lost => return 0,
    };
    (chain.at, chain.returns) = (found, returns);
    // A frame pointer that is none leads anywhere, but hardly to where a process has code.
    if rule.kind == LINKED && rule_of(scratch) & FOUND == 0 {
        return 0;
    }
    // All but the innermost frame are taken for return addresses, and looked up just before.
    frames[depth as usize] = found.ip.wrapping_add(u64::from(returns == 0));
    1
}

/// The rule for where a walk has come to, with [`FOUND`]; without it there is none.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn rule_of(scratch: u32) -> u64 {
    let Some((_, chain)) = stack::scratch(scratch) else { return 0 };
    // A constant of 0 the linker may put in one place with a global that the agent changes: so it is none.
    let Some(image) = IMAGES.get_value(chain.image, &(opaque(0) as u32)) else { return 0 };
    // A call may be its function's last instruction: where it returns to is then another function's.
    let pc = chain.at.ip.wrapping_sub(u64::from(chain.returns));
    let Some(mapped) = mapping(image, pc) else { return 0 };
    let rule = match mapped.table {
        FRAME_POINTERS => Some(Rule::FRAME_POINTER),
        table => {
            find(mapped.index_nodes, pc.wrapping_sub(mapped.bias), |node| TABLES.get_value(table, &node))
        }
    };
    rule.map_or(0, |rule| u64::from(rule.word()) | FOUND)
}

/// The canonical frame address by a rule; 0 = none.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn cfa_of(scratch: u32, rule: u64) -> u64 {
    let Some((_, chain)) = stack::scratch(scratch) else { return 0 };
    frame_address(Rule::of_word(rule as u32), chain.at, |address| user_value::<u64>(address))
}
