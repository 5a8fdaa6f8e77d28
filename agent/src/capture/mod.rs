//! Everything that enters, as timestamped records. The only stage that talks to the world: rings, `/proc`,
//! cgroupfs, clocks, tapes. Nothing to its right does I/O.

pub mod away;
pub mod coalesce;
mod counted;
pub mod facts;
pub mod live;
pub mod order;
pub mod output;
pub mod queues;
pub mod recent;
pub mod redact;
pub mod ring;
pub mod samples;
pub mod symbols;
pub mod tape;
pub mod wakes;

use crate::decode::Stack;
pub use crate::decode::fact::Capture;
use zerocopy::IntoBytes;

/// Where records come from: the kernel, a tape, or the flight recorder.
pub trait Source {
    /// Appends whole records to `batch`, in time order. May wait; may append none.
    ///
    /// # Errors
    /// [`CaptureError`] when nothing more can come.
    fn read(&mut self, batch: &mut Vec<u8>) -> Result<Progress, CaptureError>;
}

/// Whether there is more to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Call again.
    More,
    /// That was all.
    End,
}

/// Why records stopped coming.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// Reading or writing failed.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The tape took no more: its disk is full, say.
    #[error("the tape cannot be written on ({0}); what is on it so far can be replayed")]
    TapeWrite(#[source] std::io::Error),
    /// A file that is not a tape, or one of another version.
    #[error("{0}")]
    ForeignTape(String),
}

/// Appends a stack as the record it came in.
pub fn stack_record(stack: &Stack, out: &mut Vec<u8>) {
    out.extend_from_slice(stack.fixed.as_bytes());
    stack.frames.iter().for_each(|frame| out.extend_from_slice(&frame.to_le_bytes()));
}
