//! Output records: what a CNI plugin said, as `capture` keeps it.

use super::{Garbled, fixed, part};
use serde::{Deserialize, Serialize};
use slowpod_ebpf::abi;

/// A plugin's words: the fields that the specification defines and that are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// Addresses of its result, with their prefix lengths.
    #[serde(default)]
    pub ips: Vec<String>,
    /// Its error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<CniError>,
}

/// An error object ("Section 5: Result Types" of the specification).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CniError {
    /// Its number: below 100 the specification's, from 100 on the plugin's own.
    pub code: u64,
    /// What happened.
    #[serde(default)]
    pub msg: String,
    /// More about it.
    #[serde(default)]
    pub details: String,
}

/// Something was written.
#[derive(Clone, Debug)]
pub struct Output {
    /// The fixed part of the record.
    pub fixed: abi::output::Output,
    /// What it said; `None` when that was neither a result nor an error.
    pub said: Option<Said>,
}

pub(super) fn output(bytes: &[u8]) -> Result<Output, Garbled> {
    let (fixed, rest) = fixed::<abi::output::Output>(bytes)?;
    let (text, _) = part(bytes, rest, fixed.len as usize)?;
    Ok(Output { fixed, said: serde_json::from_slice(text).ok() })
}
