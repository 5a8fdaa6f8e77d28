//! CNI records: what a program's environment says of the call it does.

use super::raw_text::RawText;
use super::{Garbled, fixed, part};
use serde::{Deserialize, Serialize};
use slowpod_ebpf::abi;

/// The environment of a CNI call, as far as it is kept. Any bytes but NUL; empty = not there or empty, which the
/// specification does not tell apart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// `CNI_COMMAND`.
    pub command: RawText,
    /// `CNI_CONTAINERID`.
    pub container_id: RawText,
    /// `CNI_NETNS`.
    pub netns: RawText,
    /// `CNI_IFNAME`.
    pub ifname: RawText,
    /// `CNI_ARGS`.
    pub args: RawText,
    /// `TRACEPARENT`.
    pub traceparent: RawText,
}

/// A program was started to do a CNI call.
#[derive(Clone, Debug)]
pub struct Cni {
    /// The fixed part of the record.
    pub fixed: abi::cni::Cni,
    /// Its variables.
    pub environment: Environment,
}

pub(super) fn cni(bytes: &[u8]) -> Result<Cni, Garbled> {
    let (fixed, rest) = fixed::<abi::cni::Cni>(bytes)?;
    let (args, _) = part(bytes, rest, fixed.args_len as usize)?;
    let text = |field: &[u8]| RawText::from(field.split(|byte| *byte == 0).next().unwrap_or(field));
    let environment = Environment {
        command: text(&fixed.command),
        container_id: text(&fixed.container_id),
        netns: text(&fixed.netns),
        ifname: text(&fixed.ifname),
        args: args.into(),
        traceparent: text(&fixed.traceparent),
    };
    Ok(Cni { fixed, environment })
}
