//! CPU time by function in known shares, a very deep stack, and many threads that wait: what profiles are made of.

use std::arch::asm;
use std::sync::{Barrier, Condvar, Mutex};
use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::{Value, json};

use crate::Work;
use crate::args::Args;
use crate::sys::{monotonic_ns, thread_cpu_ns};

pub(crate) const SHARES_OPTIONS: &str = "[--spin-ms N] [--threads N]";
pub(crate) const DEEP_OPTIONS: &str = "[--spin-ms N] [--frames N]";
pub(crate) const CROWD_OPTIONS: &str = "[--threads N] [--wait-ms N]";

const NS_PER_MS: u64 = 1_000_000;
const THREADS_MAX: u64 = 20_000;
const SPINNERS_MAX: u64 = 64;
const FRAMES_MAX: u64 = 1_000;

/// Turns of the innermost loop between two looks at the clock: some 50 us.
const TURNS: u64 = 100_000;

/// Spends CPU time in the function this is inlined into, and hardly any in those it calls.
#[inline(always)]
fn spin_until(cpu_ns: u64) {
    while thread_cpu_ns() < cpu_ns {
        let mut turns = TURNS;
        // SAFETY: counts a register down.
        unsafe { asm!("2: sub {0}, 1", "jnz 2b", inout(reg) turns, options(nomem, nostack)) };
        std::hint::black_box(turns);
    }
}

/// Functions under names that no compiler changes, with their share in percent.
macro_rules! shares {
    ($($name:ident: $percent:expr,)*) => {
        $(#[unsafe(no_mangle)] #[inline(never)] extern "C" fn $name(cpu_ns: u64) { spin_until(cpu_ns) })*
        const SHARES: &[(&str, extern "C" fn(u64), u64)] = &[$((stringify!($name), $name, $percent)),*];
    };
}
shares! {
    share_of_twelve: 12,
    share_of_ten: 10,
    share_of_nine: 9,
    share_of_eight: 8,
    share_of_seven: 7,
    share_of_six: 6,
    another_share_of_six: 6,
    share_of_five: 5,
    another_share_of_five: 5,
    share_of_four: 4,
    second_share_of_four: 4,
    third_share_of_four: 4,
    share_of_three: 3,
    second_share_of_three: 3,
    third_share_of_three: 3,
    fourth_share_of_three: 3,
    share_of_two: 2,
    second_share_of_two: 2,
    third_share_of_two: 2,
    fourth_share_of_two: 2,
}

/// So many threads, each of which gives each function its share of every 100 ms of its own.
pub(crate) fn prepare_shares(args: &mut Args) -> Result<Work> {
    let rounds = args.value("--spin-ms", 2_000_u64)?.div_ceil(100);
    let threads = args.count("--threads", 1, SPINNERS_MAX)?;
    Ok(Box::new(move || {
        let (spent, on_cpu_ns) = std::thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(|| spend(rounds))).collect();
            let (mut spent, mut on_cpu_ns) = spend(rounds);
            for other in others {
                let (others, ns) = other.join().expect("nobody panics");
                spent.iter_mut().zip(others).for_each(|(spent, more)| *spent += more);
                on_cpu_ns += ns;
            }
            (spent, on_cpu_ns)
        });
        let by_function: serde_json::Map<String, Value> =
            SHARES.iter().zip(spent).map(|((name, ..), ns)| ((*name).to_owned(), json!(ns))).collect();
        Ok(json!({ "on_cpu_ns": on_cpu_ns, "by_function": by_function }))
    }))
}

/// CPU time of each function, and of this thread in all.
fn spend(rounds: u64) -> (Vec<u64>, u64) {
    let mut spent = vec![0; SHARES.len()];
    for _ in 0..rounds {
        for ((_, spin, percent), spent) in SHARES.iter().zip(&mut spent) {
            let begun = thread_cpu_ns();
            spin(begun + percent * NS_PER_MS);
            *spent += thread_cpu_ns() - begun;
        }
    }
    (spent, thread_cpu_ns())
}

/// CPU time under a stack of so many frames, as its frame pointers and its descriptions tell.
pub(crate) fn prepare_deep(args: &mut Args) -> Result<Work> {
    let frames = args.count("--frames", 300, FRAMES_MAX)? as usize;
    let cpu_ns = args.value("--spin-ms", 1_000_u64)? * NS_PER_MS;
    if !cfg!(target_arch = "x86_64") {
        bail!("frames are made up for x86-64 only");
    }
    Ok(Box::new(move || {
        // Each frame is the address of the next one's, and a return address.
        let inside = inside();
        // On this thread's own stack, as they would lie: an unwinder may insist on that.
        let mut room = [[0_u64; 2]; FRAMES_MAX as usize];
        let chain = &mut room[..frames];
        for at in 0..frames {
            let next = chain.get(at + 1).map_or(0, |frame| frame.as_ptr() as u64);
            chain[at] = [next, inside + 1 + (at % 16) as u64];
        }
        let until = thread_cpu_ns() + cpu_ns;
        while thread_cpu_ns() < until {
            under(chain);
        }
        Ok(json!({ "frames": frames, "on_cpu_ns": thread_cpu_ns() }))
    }))
}

// Spins with a frame pointer that it is given, and says so, for those who walk by descriptions. Behind the loop, where the
// made-up frames return to, the same holds.
#[cfg(target_arch = "x86_64")]
std::arch::global_asm!(
    ".pushsection .text.spin_under,\"ax\",@progbits",
    ".globl spin_under",
    ".type spin_under,@function",
    "spin_under:",
    ".cfi_startproc",
    "push rbp",
    ".cfi_def_cfa_offset 16",
    ".cfi_offset rbp, -16",
    "mov rbp, rdi",
    ".cfi_def_cfa rbp, 16",
    "2: sub rsi, 1",
    "jnz 2b",
    ".globl spin_under_returns",
    "spin_under_returns:",
    ".skip 32, 0x90",
    "pop rbp",
    ".cfi_def_cfa rsp, 8",
    "ret",
    ".cfi_endproc",
    ".size spin_under, . - spin_under",
    ".popsection",
);

#[cfg(target_arch = "x86_64")]
unsafe extern "C" {
    fn spin_under(chain: *const [u64; 2], turns: u64);
    static spin_under_returns: u8;
}

#[cfg(target_arch = "x86_64")]
fn under(chain: &[[u64; 2]]) {
    // SAFETY: it reads and writes registers only, and puts the frame pointer back.
    unsafe { spin_under(chain.as_ptr(), 20 * TURNS) };
}

/// Where the made-up frames return to.
#[cfg(target_arch = "x86_64")]
fn inside() -> u64 {
    &raw const spin_under_returns as u64
}

#[cfg(not(target_arch = "x86_64"))]
fn under(_: &[[u64; 2]]) {}

#[cfg(not(target_arch = "x86_64"))]
fn inside() -> u64 {
    0
}

/// So many threads that all wait for the same thing, for so long. Each tells how long it waited.
pub(crate) fn prepare_crowd(args: &mut Args) -> Result<Work> {
    let threads = args.count("--threads", 100, THREADS_MAX)? as usize;
    let wait = Duration::from_millis(args.value("--wait-ms", 500)?);
    Ok(Box::new(move || {
        let (gate, gone) = (Mutex::new(false), Condvar::new());
        let arrived = Barrier::new(threads + 1);
        let waited_ns = std::thread::scope(|scope| -> Result<u64> {
            let started: std::io::Result<Vec<_>> = (0..threads)
                .map(|_| {
                    let thread = std::thread::Builder::new().stack_size(32 * 1024).name("crowd".into());
                    thread.spawn_scoped(scope, || {
                        arrived.wait();
                        let begun_ns = monotonic_ns();
                        let mut open = gate.lock().expect("nobody panics");
                        while !*open {
                            open = gone.wait(open).expect("nobody panics");
                        }
                        drop(open);
                        monotonic_ns() - begun_ns
                    })
                })
                .collect();
            let Ok(started) = started else {
                // Those that wait cannot be told: the process ends with them.
                crate::sys::exit_now(1);
            };
            arrived.wait();
            std::thread::sleep(wait);
            *gate.lock().expect("nobody panics") = true;
            gone.notify_all();
            Ok(started.into_iter().map(|thread| thread.join().expect("nobody panics")).sum())
        })?;
        Ok(json!({ "threads": threads, "waited_ns": waited_ns }))
    }))
}
