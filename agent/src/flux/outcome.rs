//! What a plugin's end means. In: how the process ended and what it wrote. Out: a result, or a [`CallFailure`] in the
//! plugin's own words (specification, "Section 5: Result Types", and libcni's reading of it).

use super::process::{Ended, Ran};
use serde_json::Value;

/// Longest text kept of what a plugin says about its failure.
const WORDS_BYTES_MAX: usize = 512;

/// How something went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The plugin said so: a CNI error object with a code.
    CniError,
    /// It ended with an exit code other than 0 and without a CNI error object.
    ExitCode,
    /// It ended well, but wrote no result.
    NoResult,
    /// It ended well, but what it wrote is no result.
    Garbage,
    /// It took longer than a call may take, and was killed.
    TimedOut,
    /// Someone else killed it.
    Killed,
    /// The user did not want to wait for it.
    GivenUp,
    /// Its program could not be run.
    NotStarted,
    /// The network namespace could not be made or removed.
    Netns,
    /// The network was not usable in time.
    NotReachable,
}

/// A failure, as it is counted: the same stage, kind and code are one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallFailure {
    /// How it went wrong.
    pub kind: FailureKind,
    /// The plugin's error code, its exit code, or the signal that killed it.
    pub code: Option<u64>,
    /// The plugin's own words, or ours. Cut at a bound; not yet safe for a terminal.
    pub words: String,
}

impl CallFailure {
    /// A failure in these words.
    pub fn new(kind: FailureKind, code: Option<u64>, words: impl Into<String>) -> CallFailure {
        let mut words = words.into();
        let mut end = words.len().min(WORDS_BYTES_MAX);
        while !words.is_char_boundary(end) {
            end -= 1;
        }
        words.truncate(end);
        CallFailure { kind, code, words }
    }
}

/// The standard output of a plugin that ended well.
///
/// # Errors
/// The plugin's failure.
pub fn output(ran: &Ran) -> Result<&[u8], CallFailure> {
    let seconds = ran.wall_ns as f64 / 1e9;
    match ran.ended {
        Ended::Code(0) => Ok(&ran.stdout),
        Ended::Code(code) => Err(own_words(ran, code)),
        Ended::Signal(signal) => {
            let words = format!("killed by signal {signal}{}", after(&ran.stderr));
            Err(CallFailure::new(FailureKind::Killed, u64::try_from(signal).ok(), words))
        }
        Ended::TimedOut => {
            Err(CallFailure::new(FailureKind::TimedOut, None, format!("killed after {seconds:.1} s")))
        }
        Ended::GivenUp => {
            Err(CallFailure::new(FailureKind::GivenUp, None, format!("given up after {seconds:.1} s")))
        }
    }
}

/// The result of an ADD.
///
/// # Errors
/// The plugin's failure; no result; or a text that is none.
pub fn result(ran: &Ran) -> Result<Value, CallFailure> {
    let text = output(ran)?;
    if text.trim_ascii().is_empty() {
        let words = format!("it ended well, but wrote no result{}", after(&ran.stderr));
        return Err(CallFailure::new(FailureKind::NoResult, None, words));
    }
    serde_json::from_slice(text).map_err(|error| {
        let words = format!("what it wrote is no JSON ({error}): {}", String::from_utf8_lossy(text));
        CallFailure::new(FailureKind::Garbage, None, words)
    })
}

/// What a plugin that failed says: a CNI error on standard output, else whatever it wrote.
fn own_words(ran: &Ran, exit_code: i32) -> CallFailure {
    let error: Option<Value> = serde_json::from_slice(&ran.stdout).ok();
    let code = error.as_ref().and_then(|error| error["code"].as_u64());
    if let (Some(error), Some(code)) = (&error, code) {
        let part = |name: &str| error[name].as_str().unwrap_or_default();
        let parts: Vec<&str> =
            [part("msg"), part("details")].into_iter().filter(|part| !part.is_empty()).collect();
        return CallFailure::new(FailureKind::CniError, Some(code), parts.join(": "));
    }
    let said = if ran.stdout.trim_ascii().is_empty() { after(&ran.stderr) } else { after(&ran.stdout) };
    let words = format!("exit code {exit_code} without a CNI error{said}");
    CallFailure::new(FailureKind::ExitCode, u64::try_from(exit_code).ok(), words)
}

fn after(text: &[u8]) -> String {
    let text = text.trim_ascii();
    if text.is_empty() { String::new() } else { format!(": {}", String::from_utf8_lossy(text)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ran(ended: Ended, stdout: &str, stderr: &str) -> Ran {
        Ran { ended, stdout: stdout.into(), stderr: stderr.into(), wall_ns: 1_500_000_000 }
    }

    fn failed(ended: Ended, stdout: &str, stderr: &str) -> (FailureKind, Option<u64>, String) {
        let failure = result(&ran(ended, stdout, stderr)).unwrap_err();
        (failure.kind, failure.code, failure.words)
    }

    #[test]
    fn each_end_has_its_meaning() {
        let error = r#"{"cniVersion":"1.0.0","code":11,"msg":"try again","details":"modified"}"#;
        let told = (FailureKind::CniError, Some(11), "try again: modified".to_owned());
        assert_eq!(failed(Ended::Code(1), error, "noise"), told);
        let (kind, code, words) = failed(Ended::Code(2), "", "panic: x");
        assert_eq!((kind, code), (FailureKind::ExitCode, Some(2)));
        assert!(words.ends_with("panic: x"), "{words}");
        assert_eq!(failed(Ended::Code(1), "not json", "").0, FailureKind::ExitCode);
        assert_eq!(failed(Ended::Code(1), r#"{"msg":"no code"}"#, "").0, FailureKind::ExitCode);
        assert_eq!(failed(Ended::Code(0), " \n", "").0, FailureKind::NoResult);
        assert_eq!(failed(Ended::Code(0), "IP: 10.0.0.1", "").0, FailureKind::Garbage);
        assert_eq!(failed(Ended::Signal(9), "{}", "").1, Some(9));
        assert_eq!(failed(Ended::TimedOut, "{}", "").2, "killed after 1.5 s");
        assert_eq!(failed(Ended::GivenUp, "{}", "").0, FailureKind::GivenUp);
    }

    #[test]
    fn a_result_is_its_json_and_a_quiet_end_is_fine_where_none_is_due() {
        let value = result(&ran(Ended::Code(0), "{\"ips\":[]}\n", "log")).unwrap();
        assert_eq!(value, serde_json::json!({ "ips": [] }));
        assert_eq!(output(&ran(Ended::Code(0), "", "")), Ok(&b""[..]));
    }

    #[test]
    fn words_are_cut_between_letters() {
        let words = CallFailure::new(FailureKind::Garbage, None, "é".repeat(WORDS_BYTES_MAX)).words;
        assert_eq!(words, "é".repeat(WORDS_BYTES_MAX / 2));
    }
}
