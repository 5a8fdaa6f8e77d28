//! Options that mean the same in every verb.

use super::Failure;
use crate::views::query;
use std::io::{IsTerminal, Write};
use std::time::Duration;

/// Longest run of a verb that watches for a while.
const DURATION_MAX_NS: u64 = 24 * 3_600_000_000_000;

/// A duration as users write it: `30`, `1.5`, `500ms`, `5m`, `1h`.
///
/// # Errors
/// Says what a duration looks like.
pub fn duration(text: &str) -> Result<Duration, String> {
    query::seconds(text, 1_000_000, DURATION_MAX_NS).map(Duration::from_nanos)
}

/// How an answer is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
}

/// Prints an answer to standard output. A reader that went away early (`| head`) is no failure.
///
/// # Errors
/// What writing gives, a closed pipe aside.
pub fn print(text: &[u8]) -> Result<(), Failure> {
    print_on(text).map(|_| ())
}

/// The same for what comes again and again; false when nobody reads any more.
///
/// # Errors
/// As [`print`].
pub fn print_on(text: &[u8]) -> Result<bool, Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Width to lay tables out for: the terminal's, or 120 columns where there is none.
pub fn width() -> usize {
    let columns = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    columns.or_else(terminal_width).unwrap_or(120).clamp(60, 240)
}

/// Lines of the terminal; `None` where there is none.
pub fn height() -> Option<u32> {
    terminal().map(|size| u32::from(size.ws_row)).filter(|lines| *lines > 0)
}

fn terminal_width() -> Option<usize> {
    terminal().map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

fn terminal() -> Option<libc::winsize> {
    if !std::io::stdout().is_terminal() {
        return None;
    }
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ fills the winsize behind the pointer, which lives until the call returns.
    let done = unsafe { libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &mut size) };
    (done == 0).then_some(size)
}
