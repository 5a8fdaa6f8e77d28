//! The names of a hollow pod: what a runtime would make up for a real one.

use std::io;
use std::path::{Path, PathBuf};

/// The Kubernetes namespace hollow pods say they are in.
pub const NAMESPACE: &str = "slowpod-flux";

/// Who a hollow pod is.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Sandbox {
    /// Name of the pod: `flux-RUN-NUMBER`.
    pub name: String,
    /// UID of the pod.
    pub uid: String,
    /// Id of its sandbox: 64 hexadecimal digits, as runtimes have them.
    pub container_id: String,
    /// Where its network namespace is bound.
    pub netns: PathBuf,
}

impl Sandbox {
    /// A new pod of a run.
    ///
    /// # Errors
    /// When the kernel gives no random bytes.
    pub fn new(run: &str, number: usize, netns_dir: &Path) -> io::Result<Sandbox> {
        let name = format!("flux-{run}-{number}");
        let netns = netns_dir.join(&name);
        Ok(Sandbox { netns, uid: uid(random()?), container_id: hex(&random::<32>()?), name })
    }

    /// The `CNI_ARGS` of its calls, as containerd has them.
    pub fn cni_args(&self) -> String {
        format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE={NAMESPACE};K8S_POD_NAME={};K8S_POD_INFRA_CONTAINER_ID={};K8S_POD_UID={}",
            self.name, self.container_id, self.uid
        )
    }
}

/// A name for a run when the user gives none.
///
/// # Errors
/// When the kernel gives no random bytes.
pub fn new_run() -> io::Result<String> {
    Ok(hex(&random::<3>()?))
}

/// A random UUID (RFC 9562, version 4).
fn uid(mut bytes: [u8; 16]) -> String {
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = hex(&bytes);
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn random<const BYTES: usize>() -> io::Result<[u8; BYTES]> {
    let mut bytes = [0; BYTES];
    // SAFETY: writes at most BYTES bytes into the array, which lives until the call returns.
    let given = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), BYTES, 0) };
    // Up to 256 bytes come whole once the kernel's pool is filled (getrandom(2)).
    if given == BYTES as isize { Ok(bytes) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_are_told_apart_and_look_like_real_ones() {
        let one = Sandbox::new("abc", 7, Path::new("/run/netns")).unwrap();
        let other = Sandbox::new("abc", 8, Path::new("/run/netns")).unwrap();
        assert_eq!((one.name.as_str(), one.netns.to_str().unwrap()), ("flux-abc-7", "/run/netns/flux-abc-7"));
        assert_eq!((one.container_id.len(), one.uid.len()), (64, 36));
        assert!(one.uid != other.uid && one.container_id != other.container_id);
        assert_eq!(uid([0xff; 16]), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert!(one.cni_args().contains(&format!(";K8S_POD_UID={}", one.uid)));
    }
}
