//! Where the API server is, as far as this node says. In: the agent's environment and the kubelet's configuration. Out:
//! addresses, with a port where one is told. Names are not looked up: that could take longer than an attach may.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

/// Where kubelets keep the address of their API server: kubeadm, kops and GKE, EKS, k3s, MicroK8s.
const KUBECONFIGS: [&str; 5] = [
    "etc/kubernetes/kubelet.conf",
    "var/lib/kubelet/kubeconfig",
    "etc/kubernetes/kubelet/kubeconfig",
    "var/lib/rancher/k3s/agent/kubelet.kubeconfig",
    "var/snap/microk8s/current/credentials/kubelet.config",
];
/// Read at most of a kubeconfig; with certificates inside they take some ten thousand bytes.
const CONFIG_BYTES_MAX: u64 = 64 << 10;
/// Addresses kept at most.
pub const ADDRESSES_MAX: usize = 16;

/// Addresses as `10.96.0.1:443`. `variable` gives a variable of the agent's environment; inside a pod the two of the
/// `kubernetes` service are there.
pub fn find(root: &Path, variable: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(host) = variable("KUBERNETES_SERVICE_HOST") {
        let port = variable("KUBERNETES_SERVICE_PORT").unwrap_or_else(|| "443".into());
        found.extend(
            host.parse()
                .ok()
                .zip(port.parse().ok())
                .map(|(ip, port): (IpAddr, u16)| SocketAddr::new(ip, port)),
        );
    }
    for path in KUBECONFIGS {
        found.extend(read(&root.join(path)).iter().flat_map(|text| servers(text)));
    }
    found.sort_unstable();
    found.dedup();
    found.into_iter().take(ADDRESSES_MAX).map(|address| address.to_string()).collect()
}

fn read(path: &Path) -> Option<String> {
    use std::io::Read;
    let mut text = String::new();
    fs::File::open(path).ok()?.take(CONFIG_BYTES_MAX).read_to_string(&mut text).ok()?;
    Some(text)
}

/// Values of `server:` in a kubeconfig, which is YAML or JSON: `server: https://10.0.0.1:6443`.
fn servers(text: &str) -> Vec<SocketAddr> {
    let after = text.split("server").skip(1).map(|rest| rest.trim_start_matches(['"', ':', ' ']));
    let hosts = after.filter_map(|rest| rest.strip_prefix("https://"));
    let ends = |letter: char| letter.is_whitespace() || matches!(letter, '"' | '\'' | '/' | ',' | '}');
    hosts.filter_map(|host| address(host.split(ends).next()?)).collect()
}

fn address(text: &str) -> Option<SocketAddr> {
    /// What `https` means without a port.
    const HTTPS: u16 = 443;
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    text.parse().ok().or_else(|| Some(SocketAddr::new(bare.parse().ok()?, HTTPS)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_and_the_kubelet_s_server_are_found() {
        let root = tempfile::tempdir().expect("a folder");
        let folder = root.path().join("etc/kubernetes");
        fs::create_dir_all(&folder).expect("a folder");
        let config = "clusters:\n- cluster:\n    server: https://192.168.7.2:6443\n  name: x\n- cluster: {\"server\":\"https://[fd00::1]\"}\n- cluster:\n    server: https://api.example.org:6443\n";
        fs::write(folder.join("kubelet.conf"), config).expect("a file");
        let variable = |name: &str| match name {
            "KUBERNETES_SERVICE_HOST" => Some("10.96.0.1".to_owned()),
            "KUBERNETES_SERVICE_PORT" => Some("443".to_owned()),
            _ => None,
        };
        assert_eq!(find(root.path(), variable), ["10.96.0.1:443", "192.168.7.2:6443", "[fd00::1]:443"]);
        assert!(find(Path::new("/nowhere"), |_| None).is_empty());
        assert!(find(Path::new("/nowhere"), |_| Some("rubbish".into())).is_empty());
    }
}
