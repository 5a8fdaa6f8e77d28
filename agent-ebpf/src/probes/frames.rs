//! User stacks, walked by frame pointers.
//!
//! The kernel's own walk takes 2 us and more, however short the stack, which is half of all that a spawn costs here; this one
//! takes 30 ns a frame. It also goes on only while each frame lies above the one it was called by, and not far: code without
//! frame pointers keeps anything in that register, and a walk from there names functions that never called anything.

use slowpod_ebpf::{abi::stack::FRAMES, rules::verifier::opaque};

use super::{
    kernel::{OFF_REGS_FRAME, OFF_REGS_IP, OFF_REGS_SP, TaskStruct, entry_regs},
    stack,
    text::user_value,
};

/// Links followed in one go, a function that the kernel verifies by itself; a loop over all of them takes it 0.2 s.
const LINKS_AT_ONCE: u64 = 16;
/// How far above the next a frame may lie: Linux gives a thread so much stack by default.
const FRAME_BYTES_MAX: u64 = 8 << 20;
/// In what [`follow_frames`] returns: the chain is at its end.
const ENDED: u64 = 1 << 32;

/// Where a walk stands: the frame to look at, and the one it was called by.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Chain {
    frame: u64,
    below: u64,
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
pub fn walk(thread: *const TaskStruct, scratch: u32) -> Option<u64> {
    let regs = entry_regs(thread)?;
    let (ip, below) = (OFF_REGS_IP.of(regs)?, OFF_REGS_SP.of(regs)?);
    let chain = Chain { frame: OFF_REGS_FRAME.of(regs)?, below };
    let (frames, place) = stack::scratch(scratch)?;
    frames[0] = ip;
    *place = chain;
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
            || chain.frame.wrapping_sub(chain.below) >= FRAME_BYTES_MAX
            || chain.frame % 8 != 0
        {
            return at | ENDED;
        }
        let Some(link) = user_value::<Link>(chain.frame) else { return at | ENDED };
        frames[at as usize] = link.ip;
        *chain = Chain { frame: link.frame, below: chain.frame + 1 };
    }
    depth.wrapping_add(LINKS_AT_ONCE)
}
