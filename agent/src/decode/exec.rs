//! Exec records: path and argv follow the fixed part.

use super::{Garbled, fact::Namespaces, fixed, part};
use slowpod_ebpf::abi;

/// A successful exec, with its strings. The strings are whatever the process passed: any bytes but NUL.
#[derive(Clone, Copy, Debug)]
pub struct Exec<'a> {
    /// The fixed part of the record.
    pub fixed: abi::exec::Exec,
    /// Path as given to exec.
    pub path: &'a [u8],
    /// Arguments, NUL-separated; perhaps cut or redacted (see the flags).
    pub argv: &'a [u8],
}

impl Exec<'_> {
    /// The namespaces the new program runs in.
    pub fn namespaces(&self) -> Namespaces {
        Namespaces { mount: self.fixed.mount_ns, pid: self.fixed.pid_ns, net: self.fixed.net_ns }
    }
}

/// A failed exec, with its path.
#[derive(Clone, Copy, Debug)]
pub struct ExecFail<'a> {
    /// The fixed part of the record.
    pub fixed: abi::exec::ExecFail,
    /// Path as given to exec.
    pub path: &'a [u8],
}

pub(super) fn exec(bytes: &[u8]) -> Result<Exec<'_>, Garbled> {
    let (fixed, rest) = fixed::<abi::exec::Exec>(bytes)?;
    let (path, rest) = part(bytes, rest, usize::from(fixed.path_len))?;
    let (argv, _) = part(bytes, rest, usize::from(fixed.argv_len))?;
    Ok(Exec { fixed, path, argv })
}

pub(super) fn exec_fail(bytes: &[u8]) -> Result<ExecFail<'_>, Garbled> {
    let (fixed, rest) = fixed::<abi::exec::ExecFail>(bytes)?;
    let (path, _) = part(bytes, rest, fixed.path_len as usize)?;
    Ok(ExecFail { fixed, path })
}
