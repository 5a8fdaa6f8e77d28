//! How processes ended, in words. In: wait statuses. Out: blocks of answers.

use crate::fold::class::Outcomes;
use serde::Serialize;
use std::collections::BTreeMap;

/// How one process ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitBlock {
    /// It exited by itself with this code.
    Code(u8),
    /// A signal ended it.
    Signal(String),
}

impl ExitBlock {
    /// From a wait status as the kernel keeps it.
    pub fn of(status: u32) -> Self {
        match (status & 0x7f) as u8 {
            0 => ExitBlock::Code((status >> 8 & 0xff) as u8),
            signal => ExitBlock::Signal(signal_name(signal)),
        }
    }
}

/// How several processes ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OutcomesBlock {
    /// With exit code 0.
    pub ok: u64,
    /// With other codes, by code.
    pub codes: BTreeMap<u8, u64>,
    /// By signals, by name.
    pub signals: BTreeMap<String, u64>,
}

impl From<&Outcomes> for OutcomesBlock {
    fn from(outcomes: &Outcomes) -> Self {
        let signals = outcomes.signals.iter().map(|(signal, count)| (signal_name(*signal), *count));
        OutcomesBlock { ok: outcomes.ok, codes: outcomes.codes.clone(), signals: signals.collect() }
    }
}

/// Signals 1 to 31, as x86 and arm64 number them (`signal(7)`).
const SIGNALS: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
    "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
    "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// `SIGKILL`; `SIG34` for a real-time signal, which has no name of its own.
fn signal_name(signal: u8) -> String {
    let name = usize::from(signal).checked_sub(1).and_then(|index| SIGNALS.get(index));
    name.map_or_else(|| format!("SIG{signal}"), |name| format!("SIG{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_statuses() {
        assert_eq!(ExitBlock::of(3 << 8), ExitBlock::Code(3));
        assert_eq!(ExitBlock::of(9), ExitBlock::Signal("SIGKILL".into()));
        assert_eq!(ExitBlock::of(11 | 0x80), ExitBlock::Signal("SIGSEGV".into()));
        assert_eq!(ExitBlock::of(34), ExitBlock::Signal("SIG34".into()));
    }
}
