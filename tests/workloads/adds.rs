//! ADDs of Debian's bridge plugin with host-local, one after the other, as many as its standard input says: whoever drives
//! it changes what runs beside them between two lines.

use std::fs::File;
use std::io::{BufRead, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::Work;
use crate::args::Args;
use crate::print_line;
use crate::sys::{self, monotonic_ns};

pub(crate) const OPTIONS: &str = "--dir FOR_LEASES [--plugins DIR]";

/// Most ADDs of one line.
const ADDS_MAX: u64 = 10_000;

/// For each line of standard input, which is a number: so many pods come and go, and a line of JSON tells each ADD's wall
/// time and the CPU time of its process tree. All in one network namespace and with one pod's, so that what making and
/// ending namespaces costs is not measured.
pub(crate) fn prepare(args: &mut Args) -> Result<Work> {
    let plugins = PathBuf::from(args.text("--plugins", "/usr/lib/cni")?);
    let dir = args.text("--dir", "")?;
    if dir.is_empty() {
        bail!("--dir must be given: a folder for host-local's leases");
    }
    Ok(Box::new(move || {
        let pod = netns()?;
        sys::enter_own_netns()?;
        let bridge = Bridge { plugins, config: config(&dir), pod };
        let mut adds = 0;
        for line in std::io::stdin().lock().lines() {
            let count = line?.trim().parse().context("a number of ADDs")?;
            if count > ADDS_MAX {
                bail!("{count} ADDs are more than {ADDS_MAX}");
            }
            let (mut wall_ns, mut cpu_ns) = (Vec::new(), Vec::new());
            for number in 0..count {
                let container = format!("adds-{}-{}", std::process::id(), adds + number);
                let add = bridge.call("ADD", &container)?;
                bridge.call("DEL", &container)?;
                wall_ns.push(add.wall_ns);
                cpu_ns.push(add.cpu_ns);
            }
            adds += count;
            print_line(&json!({ "wall_ns": wall_ns, "cpu_ns": cpu_ns }))?;
        }
        Ok(json!({ "adds": adds }))
    }))
}

/// A new network namespace, kept by its file only.
fn netns() -> Result<File> {
    let made = std::thread::spawn(|| {
        sys::enter_own_netns()?;
        File::open("/proc/thread-self/ns/net")
    });
    Ok(made.join().expect("the thread does not panic")?)
}

fn config(dir: &str) -> Value {
    let leases = Path::new(dir).join("leases");
    let ipam = json!({ "type": "host-local", "dataDir": leases, "ranges": [[{ "subnet": "10.96.0.0/16" }]] });
    json!({ "cniVersion": "1.0.0", "name": "bench", "type": "bridge", "bridge": "bench0", "isGateway": true,
        "ipMasq": true, "ipam": ipam })
}

/// The plugin and what it is given.
struct Bridge {
    plugins: PathBuf,
    config: Value,
    pod: File,
}

/// What a call took.
struct Took {
    wall_ns: u64,
    cpu_ns: u64,
}

impl Bridge {
    fn call(&self, command: &str, container: &str) -> Result<Took> {
        let mut plugin = Command::new(self.plugins.join("bridge"));
        let netns = format!("/proc/{}/fd/{}", std::process::id(), self.pod.as_raw_fd());
        plugin.env("CNI_COMMAND", command).env("CNI_CONTAINERID", container).env("CNI_NETNS", netns);
        plugin.env("CNI_IFNAME", "eth0").env("CNI_PATH", &self.plugins);
        plugin.env("CNI_ARGS", format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=bench;K8S_POD_NAME={container}"));
        plugin.stdin(Stdio::piped()).stdout(Stdio::piped());
        let (begun_ns, cpu_before_ns) = (monotonic_ns(), sys::children_cpu_ns());
        let mut child =
            plugin.spawn().context("the bridge plugin: apt-get install containernetworking-plugins")?;
        // Dropped at once: the plugin reads to the end.
        child.stdin.take().expect("piped").write_all(self.config.to_string().as_bytes())?;
        let output = child.wait_with_output()?;
        let (wall_ns, cpu_ns) = (monotonic_ns() - begun_ns, sys::children_cpu_ns() - cpu_before_ns);
        if !output.status.success() {
            bail!("{command}: {}", String::from_utf8_lossy(&output.stdout));
        }
        Ok(Took { wall_ns, cpu_ns })
    }
}
