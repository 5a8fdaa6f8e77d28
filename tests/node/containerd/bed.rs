//! A node with a real container runtime: Debian's containerd, runc and CNI plugins, in namespaces and folders of their
//! own. Nothing of it is seen on the machine but processes and cgroups, and both go with it.

use super::cri::{Cri, SandboxConfig};
use super::image;
use harness::netns::{PrivateNet, die_with_test};
use harness::tools::Tool;
use slowpod::capture::facts::cgroups::{Layout, Wanted};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Longest wait for something that must happen.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a wait looks again.
const LOOK: Duration = Duration::from_millis(20);

/// Run in a mount namespace of its own: `sh -c UP sh CGROUP CONFIG`. All that a runtime writes outside its own folders
/// lies under these two, and they go with the namespace. The plugins' own state is there too.
const UP: &str = "set -e
    mount --make-rshared /
    mount -t tmpfs none /run
    mount -t tmpfs none /var/lib
    mkdir -p /run/netns /var/lib/cni
    ip link set lo up
    echo $$ > $1/cgroup.procs
    exec containerd --config $2";

/// The node. Dropping it ends all that runs on it.
pub(super) struct Node {
    net: PrivateNet,
    dir: tempfile::TempDir,
    containerd: Child,
    /// Its own folder in each cgroup hierarchy: `/slowpod-node-PID-N`.
    root: String,
    unified: PathBuf,
    pids: Option<PathBuf>,
}

impl Node {
    /// Brings a node up.
    ///
    /// # Panics
    /// When it does not come up; with what containerd said.
    pub(super) fn up() -> Node {
        static NODES: AtomicU32 = AtomicU32::new(0);
        let number = NODES.fetch_add(1, Ordering::Relaxed);
        let root = format!("slowpod-node-{}-{number}", std::process::id());
        let unified = Layout::find(Path::new("/"), &Wanted::V2).expect("a cgroup v2 hierarchy").mount;
        let pids = Layout::find(Path::new("/"), &Wanted::V1("pids".into())).ok().map(|layout| layout.mount);
        let cgroup = unified.join(&root).join("containerd.service");
        fs::create_dir_all(&cgroup).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let config = write_config(dir.path());
        let net = PrivateNet::new();
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", UP, "sh"]).arg(cgroup).arg(config);
        let log = fs::File::create(dir.path().join("log")).unwrap();
        die_with_test(net.holds(&mut command)).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let containerd = command.spawn().expect("unshare(1), of util-linux");
        let node = Node { net, dir, containerd, root, unified, pids };
        node.wait_for("the runtime", || node.cri().is_ok_and(|cri| cri.sandboxes().is_ok()));
        node.import();
        node
    }

    fn import(&self) {
        let archive = self.dir.path().join("image.tar");
        image::write(self.dir.path(), &archive);
        let mut command = Command::new("ctr");
        command.arg("--address").arg(self.socket()).args(["--namespace", "k8s.io", "images", "import"]);
        let output = command.arg(archive).output().expect("ctr, which comes with containerd");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("containerd.sock")
    }

    /// A connection to its runtime.
    pub(super) fn cri(&self) -> Result<Cri, tonic::Status> {
        Cri::connect(&self.socket())
    }

    /// Names of the cgroup hierarchies that it makes pods' cgroups in, as `--cgroup-hierarchy` takes them.
    pub(super) fn hierarchies(&self) -> Vec<&'static str> {
        ["v2"].into_iter().chain(self.pids.as_ref().map(|_| "pids")).collect()
    }

    /// Makes a pod's cgroup, as a kubelet does before it asks the runtime for anything; its path in the hierarchy.
    pub(super) fn pod_cgroup(&self, uid: &str) -> String {
        let path = format!("/{}/kubepods/besteffort/pod{uid}", self.root);
        for hierarchy in [Some(&self.unified), self.pids.as_ref()].into_iter().flatten() {
            fs::create_dir_all(hierarchy.join(&path[1..])).unwrap();
        }
        path
    }

    /// Runs iproute2's `ip` in its network namespace.
    pub(super) fn ip(&self, words: &[&str]) {
        let mut command = Command::new(Tool::Ip.require());
        assert!(self.net.holds(command.args(words)).status().unwrap().success(), "ip {words:?}");
    }

    /// Ends it, and fails when anything of it is left.
    pub(super) fn down(self) {
        let (root, dir) = (self.root.clone(), self.dir.path().to_owned());
        drop(self);
        let hierarchies = fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|entry| entry.path());
        let left: Vec<_> = hierarchies.map(|mount| mount.join(&root)).filter(|path| path.exists()).collect();
        assert!(left.is_empty(), "{left:?}");
        assert!(!dir.exists(), "{}", dir.display());
        // A shim holds the folder's path on its command line.
        let said = |pid: &Path| fs::read(pid.join("cmdline")).unwrap_or_default();
        let told = dir.display().to_string();
        let processes = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
        let left = processes.filter(|pid| String::from_utf8_lossy(&said(pid)).contains(&told)).count();
        assert_eq!(left, 0, "processes");
    }

    /// What to ask the runtime for, for a pod with this cgroup.
    pub(super) fn sandbox(&self, name: &str, uid: &str, cgroup: &str, attempt: u32) -> SandboxConfig {
        let logs = self.dir.path().join("logs").join(uid);
        fs::create_dir_all(&logs).unwrap();
        SandboxConfig::new(name, uid, cgroup, &logs, attempt)
    }

    /// What a container of a pod has said, once it is so many lines: times by the kernel's clock.
    pub(super) fn times_ns(&self, uid: &str, container: &str, lines: usize) -> Vec<u64> {
        let log = self.dir.path().join("logs").join(uid).join(format!("{container}.log"));
        let mut times = Vec::new();
        self.wait_for("a container's words", || {
            // Lines as the kubelet's: time, stream, whether the line is whole, and what was said.
            let text = fs::read_to_string(&log).unwrap_or_default();
            let said = text.lines().filter_map(|line| line.split(' ').nth(3)?.parse().ok());
            times = said.collect();
            times.len() >= lines
        });
        times
    }

    fn wait_for(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds() {
            assert!(Instant::now() < deadline, "{what} did not come: {}", self.said());
            std::thread::sleep(LOOK);
        }
    }

    /// What containerd has said.
    pub(super) fn said(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

fn write_config(dir: &Path) -> PathBuf {
    let at = |name: &str| dir.join(name).display().to_string();
    let text = include_str!("containerd.toml")
        .replace("@DIR@", &dir.display().to_string())
        .replace("@IMAGE@", image::NAME);
    fs::write(at("containerd.toml"), text).unwrap();
    fs::create_dir(at("net.d")).unwrap();
    let conflist = include_str!("10-bed.conflist");
    fs::write(dir.join("net.d/10-bed.conflist"), conflist).unwrap();
    dir.join("containerd.toml")
}

impl Drop for Node {
    /// In order first, so that the runtime's own end is tested too; then whatever is left, by its cgroup.
    fn drop(&mut self) {
        if let Ok(cri) = self.cri() {
            for sandbox in cri.sandboxes().unwrap_or_default() {
                let ended = cri.stop_sandbox(&sandbox).and_then(|()| cri.remove_sandbox(&sandbox));
                ended.unwrap_or_else(|error| eprintln!("sandbox {sandbox} does not end: {error}"));
            }
        }
        let _ = fs::write(self.unified.join(&self.root).join("cgroup.kill"), "1");
        let _ = self.containerd.wait();
        for hierarchy in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            remove(&hierarchy.path().join(&self.root));
        }
        remove(&self.unified.join(&self.root));
    }
}

/// Removes a cgroup and all below it, as soon as the kernel has buried who was in there.
fn remove(cgroup: &Path) {
    let Ok(entries) = fs::read_dir(cgroup) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        remove(&entry.path());
    }
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = fs::remove_dir(cgroup) {
        if Instant::now() > deadline {
            eprintln!("left behind {}: {error}", cgroup.display());
            return;
        }
        std::thread::sleep(LOOK);
    }
}
