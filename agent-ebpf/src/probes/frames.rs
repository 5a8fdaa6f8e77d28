//! User stacks, walked by frame pointers; those of processes that have tables by these (`unwind`).
//!
//! The kernel's own walk takes 2 us and more, however short the stack, which is half of all that a spawn costs here; this one
//! takes 30 ns a frame. It also goes on only while each frame lies above the one it was called by, and not far: code without
//! frame pointers keeps anything in that register, and a walk from there names functions that never called anything.

use slowpod_ebpf::{
    abi::{Task, stack::FRAMES},
    rules::{
        unwind::{FRAME_BYTES_MAX, Registers},
        verifier::opaque,
    },
};

use super::{
    kernel::{
        OFF_REGS_ARG0, OFF_REGS_CALL_RESULT, OFF_REGS_FRAME, OFF_REGS_IP, OFF_REGS_SP, TaskStruct, entry_regs,
    },
    stack,
    text::user_value,
    unwind,
};

/// Links followed in one go, a function that the kernel verifies by itself; a loop over all of them takes it 0.2 s.
const LINKS_AT_ONCE: u64 = 16;
/// In what [`follow_frames`] returns: the chain is at its end.
pub const ENDED: u64 = 1 << 32;

/// Where a walk stands.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Chain {
    /// Registers of the frame that it has come to.
    pub at: Registers,
    /// 1 = the instruction pointer is where a call returns to; 0 = it was at that instruction.
    pub returns: u32,
    /// Number of the process's image, of one that has tables.
    pub image: u32,
}

/// What lies at a frame: the caller's frame, and where in the caller it goes on.
#[derive(Clone, Copy)]
#[repr(C)]
struct Link {
    frame: u64,
    ip: u64,
}

/// Writes the running thread's user stack to a scratch of [`stack`], innermost frame first. Returns its depth; `None` where
/// the thread's registers cannot be had.
#[inline(always)]
pub fn walk(thread: *const TaskStruct, task: Task, scratch: u32) -> Option<u64> {
    let regs = entry_regs(thread)?;
    let at = Registers {
        ip: OFF_REGS_IP.of(regs)?,
        sp: OFF_REGS_SP.of(regs)?,
        bp: OFF_REGS_FRAME.of(regs)?,
        di: OFF_REGS_ARG0.of(regs)?,
        ax: OFF_REGS_CALL_RESULT.of(regs)?,
    };
    let image = unwind::image_of(task.tgid, task.start_ns);
    let (frames, chain) = stack::scratch(scratch)?;
    frames[0] = at.ip;
    *chain = Chain { at, returns: 0, image: image.wrapping_sub(1) as u32 };
    if image != 0 {
        return Some(unwind::walk(scratch));
    }
    let mut depth = 1;
    for _ in 0..(FRAMES as u64).div_ceil(LINKS_AT_ONCE) {
        let followed = follow_frames(scratch, depth);
        depth = followed & (ENDED - 1);
        if followed & ENDED != 0 {
            break;
        }
    }
    Some(depth)
}

/// Goes on with a walk that has `depth` frames.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn follow_frames(scratch: u32, depth: u64) -> u64 {
    let Some((frames, chain)) = stack::scratch(scratch) else { return ENDED };
    for index in 0..LINKS_AT_ONCE {
        let at = opaque(depth.wrapping_add(index));
        // The outermost function's frame has no caller: 0 lies below every frame.
        if at >= FRAMES as u64
            || chain.at.bp.wrapping_sub(chain.at.sp) >= FRAME_BYTES_MAX
            || chain.at.bp % 8 != 0
        {
            return at | ENDED;
        }
        let Some(link) = user_value::<Link>(chain.at.bp) else { return at | ENDED };
        frames[at as usize] = link.ip;
        (chain.at.sp, chain.at.bp) = (chain.at.bp + 1, link.frame);
    }
    depth.wrapping_add(LINKS_AT_ONCE)
}
