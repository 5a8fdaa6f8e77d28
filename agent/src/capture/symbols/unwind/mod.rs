//! Stacks of programs that keep no frame pointers. In: processes whose stacks break off. Out: tables in the kernel, by which its
//! programs walk the next ones.
//!
//! ```text
//!  a stack breaks off -> Unwinder (queue, a thread of its own) -> keeper: /proc/PID/maps -> cfi: .eh_frame -> table -> kernel
//! ```
//!
//! Nothing of this is done for processes whose stacks are whole, so it costs nothing where frame pointers are kept. The
//! thread is not the one that names stacks: the kernel takes a moment for each table it is given, and names do not wait.

pub mod cfi;
mod keeper;
pub mod table;

use super::resolver::World;
use crate::memory;
use keeper::Keeper;
use slowpod_ebpf::abi::Task;
use slowpod_ebpf::abi::unwind::{Image, Node, Registered};
use std::panic::AssertUnwindSafe;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Processes waiting at most. One that finds no place asks again with its next stack.
const QUEUE_PROCESSES: usize = 256;
/// How often the processes are looked at: whether they are there, and whether they have mapped other code.
const SWEEP_EVERY: Duration = Duration::from_secs(20);

/// The kernel's side: where tables are put.
pub trait Kernel: Send {
    /// Puts a table in the place of the one with this number, or of none.
    ///
    /// # Errors
    /// What the kernel says; so for all that follows.
    fn set_table(&mut self, number: u32, nodes: &[Node]) -> Result<(), String>;

    /// Takes a table away.
    ///
    /// # Errors
    /// As above.
    fn clear_table(&mut self, number: u32) -> Result<(), String>;

    /// Puts an image in the place of the one with this number, or of none.
    ///
    /// # Errors
    /// As above.
    fn set_image(&mut self, number: u32, image: &Image) -> Result<(), String>;

    /// Takes an image away.
    ///
    /// # Errors
    /// As above.
    fn clear_image(&mut self, number: u32) -> Result<(), String>;

    /// Registers a process, whoever had its pid before.
    ///
    /// # Errors
    /// As above.
    fn register(&mut self, tgid: u32, what: Registered) -> Result<(), String>;

    /// Changes what is registered of a process. False when the kernel has forgotten it, because it has executed another program.
    ///
    /// # Errors
    /// As above.
    fn update(&mut self, tgid: u32, what: Registered) -> Result<bool, String>;

    /// What is registered by a pid.
    fn registered(&self, tgid: u32) -> Option<Registered>;

    /// Forgets whoever is registered by a pid.
    fn forget(&mut self, tgid: u32);
}

/// What was done since the start, and what there is, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Processes that have tables.
    pub processes: u64,
    /// Tables in the kernel.
    pub tables: u64,
    /// Memory of the kernel's for them, bytes.
    pub kernel_bytes: u64,
    /// Tables made.
    pub made: u64,
    /// Binaries with descriptions that cannot be used, or are damaged in places.
    pub flawed: u64,
    /// Tables and processes for which there was no room, and mappings beyond those that are kept of a process.
    pub refused: u64,
    /// Faults, of ours or of the kernel's calls.
    pub faults: u64,
    /// Time spent, nanoseconds.
    pub busy_ns: u64,
}

/// The handle of the thread. Dropping it ends the thread.
#[derive(Debug)]
pub struct Unwinder {
    wanted: SyncSender<Task>,
    counts: Arc<Mutex<Counts>>,
}

impl Unwinder {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system has no thread for us.
    pub fn start(world: World, kernel: Box<dyn Kernel>) -> std::io::Result<Self> {
        let (wanted, queue) = sync_channel(QUEUE_PROCESSES);
        let counts = Arc::new(Mutex::new(Counts::default()));
        let shared = Arc::clone(&counts);
        let thread = std::thread::Builder::new().name("slowpod-unwind".into());
        thread.spawn(move || run(Keeper::new(world, kernel), &queue, &shared))?;
        Ok(Unwinder { wanted, counts })
    }

    /// Asks for tables for a process. Never waits.
    pub fn want(&self, task: &Task) {
        // A full queue: see there.
        let _ = self.wanted.try_send(*task);
    }

    /// What was done so far.
    pub fn counts(&self) -> Counts {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread: until nobody asks any more.
fn run(mut keeper: Keeper, queue: &Receiver<Task>, counts: &Mutex<Counts>) {
    let mut sweep_at = Instant::now() + SWEEP_EVERY;
    loop {
        let next = queue.recv_timeout(sweep_at.saturating_duration_since(Instant::now()));
        let begun = Instant::now();
        let made = keeper.counts.made;
        // A fault in a reader of hostile files must not end this for all others.
        let done = std::panic::catch_unwind(AssertUnwindSafe(|| match next {
            Ok(task) => keeper.want(&task),
            Err(_) => keeper.sweep(),
        }));
        if done.is_err() {
            keeper.counts.faults += 1;
            tracing::error!("making tables of frame descriptions failed; please report this");
        }
        match next {
            Ok(_) => {}
            Err(RecvTimeoutError::Timeout) => sweep_at = Instant::now() + SWEEP_EVERY,
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if keeper.counts.made > made {
            memory::give_back();
        }
        keeper.counts.busy_ns += u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        *counts.lock().unwrap_or_else(PoisonError::into_inner) = keeper.counts;
    }
}
