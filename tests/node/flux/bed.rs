//! Where a flux test happens: a private network namespace that stands for the node, and a folder.

use harness::netns::{PrivateNet, die_with_test};
use harness::tools::Tool;
use harness::truth::Truth;
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

/// Debian's plugins.
const REFERENCE_PLUGINS: &str = "/usr/lib/cni";
/// The gateway of [`Bed::bridge`]: the bridge itself.
pub(super) const GATEWAY: &str = "10.98.0.1";
/// Longest wait for something that must happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// A node to be, and what is on it.
pub(super) struct Bed {
    pub(super) net: PrivateNet,
    pub(super) run: String,
    dir: tempfile::TempDir,
}

/// How a run of flux ended.
pub(super) struct Outcome {
    pub(super) code: Option<i32>,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

impl Outcome {
    /// Its report.
    pub(super) fn report(&self) -> Truth {
        let value = serde_json::from_str(&self.stdout);
        Truth::new(value.unwrap_or_else(|error| panic!("{error}:\n{}\n{}", self.stdout, self.stderr)))
    }

    /// Its report, after a run that must have gone well.
    pub(super) fn good(&self) -> Truth {
        assert_eq!(self.code, Some(0), "{}\n{}", self.stderr, self.stdout);
        self.report()
    }
}

impl Bed {
    /// A bed; `name` goes into the pods' names.
    pub(super) fn new(name: &str) -> Bed {
        let run = format!("{name}-{}", std::process::id());
        Bed { net: PrivateNet::new(), run, dir: tempfile::tempdir().unwrap() }
    }

    /// A path in the bed's folder.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a configuration.
    pub(super) fn conflist(&self, list: &Value) -> PathBuf {
        let path = self.path("net.conflist");
        fs::write(&path, list.to_string()).unwrap();
        path
    }

    /// Debian's bridge with host-local, and portmap: what many nodes have.
    pub(super) fn bridge(&self) -> PathBuf {
        let ipam = json!({
            "type": "host-local", "dataDir": self.path("leases"), "routes": [{ "dst": "0.0.0.0/0" }],
            "ranges": [[{ "subnet": "10.98.0.0/20", "gateway": GATEWAY }]],
        });
        let bridge =
            json!({ "type": "bridge", "bridge": "flux0", "isGateway": true, "ipMasq": true, "ipam": ipam });
        let portmap = json!({ "type": "portmap", "capabilities": { "portMappings": true } });
        self.conflist(&json!({ "cniVersion": "1.0.0", "name": "bed", "plugins": [bridge, portmap] }))
    }

    /// The slow plugin with these phases for ADD.
    pub(super) fn slow(&self, phases: Value) -> PathBuf {
        let plugin = json!({ "type": "slow-cni", "log": self.path("log"), "slow": phases });
        self.conflist(&json!({ "cniVersion": "1.0.0", "name": "bed", "plugins": [plugin] }))
    }

    /// `slowpod flux` on this bed.
    pub(super) fn flux(&self, conflist: &Path, options: &[&str]) -> Command {
        let mut command = self.slowpod();
        command.args(["--output", "json", "--run", &self.run, "--plugin-dir", REFERENCE_PLUGINS]);
        let slow = Path::new(env!("CARGO_BIN_EXE_slow-cni")).parent().unwrap();
        command.arg("--plugin-dir").arg(slow).arg("--conflist").arg(conflist).args(options);
        command
    }

    /// `slowpod flux --clean` on this bed.
    pub(super) fn clean(&self, options: &[&str]) -> Outcome {
        run(self.slowpod().arg("--clean").args(options))
    }

    fn slowpod(&self) -> Command {
        let mut command = Command::new(harness::agent::binary(env!("CARGO_BIN_EXE_workload")));
        command.arg("flux").arg("--state-dir").arg(self.path("notes"));
        self.net.holds(&mut command);
        command
    }

    /// Runs flux to its end.
    pub(super) fn run(&self, conflist: &Path, options: &[&str]) -> Outcome {
        run(&mut self.flux(conflist, options))
    }

    /// Starts flux and leaves it running.
    pub(super) fn start(&self, conflist: &Path, options: &[&str]) -> Started {
        Started::of(&mut self.flux(conflist, options))
    }

    /// Runs iproute2's `ip` on the node's side; whether it went well.
    pub(super) fn ip(&self, words: &[&str]) -> bool {
        let mut command = Command::new(Tool::Ip.require());
        self.net.holds(command.args(words)).status().unwrap().success()
    }

    /// What the slow plugin has written down.
    pub(super) fn log(&self) -> Vec<Truth> {
        let text = fs::read_to_string(self.path("log")).unwrap_or_default();
        // A line without its end is being written.
        let lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        lines.map(|line| Truth::new(serde_json::from_str(line).unwrap())).collect()
    }

    /// Addresses that host-local has given away.
    pub(super) fn leases(&self) -> Vec<String> {
        names(&self.path("leases/bed")).into_iter().filter(|name| name.starts_with("10.")).collect()
    }

    /// Mount points of this run's namespaces.
    pub(super) fn mounts(&self) -> Vec<String> {
        let text = fs::read_to_string("/proc/self/mounts").unwrap();
        let points = text.lines().filter_map(|line| line.split(' ').nth(1));
        points.filter(|point| point.contains(&format!("/flux-{}-", self.run))).map(str::to_owned).collect()
    }

    /// Interfaces on the node's side, besides the loopback and the bridge.
    fn interfaces(&self) -> Vec<String> {
        let text = self.net.inside(|| fs::read_to_string("/proc/thread-self/net/dev").unwrap());
        let named = text.lines().skip(2).filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned()));
        named.filter(|name| name != "lo" && name != "flux0").collect()
    }

    /// Fails when anything of the run is left.
    pub(super) fn assert_nothing_left(&self) {
        assert_eq!(self.mounts(), [""; 0], "mounts");
        let files = names(Path::new("/run/netns"));
        let ours: Vec<_> =
            files.iter().filter(|name| name.starts_with(&format!("flux-{}-", self.run))).collect();
        assert!(ours.is_empty(), "{ours:?} in /run/netns");
        assert_eq!(self.leases(), [""; 0], "leases");
        assert_eq!(names(&self.path("notes")), [""; 0], "notes");
        // The kernel takes a namespace's interfaces down a moment after the namespace has gone.
        wait_until("no interface", || self.interfaces().is_empty());
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        // Only after a test that failed: what is bound in the root mount namespace would stay for ever.
        for point in self.mounts() {
            let _ = Command::new("umount").arg("-l").arg(&point).status();
            let _ = fs::remove_file(point);
        }
    }
}

/// A run of flux that goes on. Dropping it kills it.
pub(super) struct Started {
    child: Option<std::process::Child>,
    /// Its standard error, once it was listened to: kept open, as it may say more.
    stderr: Option<BufReader<ChildStderr>>,
}

impl Started {
    /// Starts a run.
    pub(super) fn of(flux: &mut Command) -> Started {
        die_with_test(flux).stdout(Stdio::piped()).stderr(Stdio::piped());
        Started { child: Some(flux.spawn().unwrap()), stderr: None }
    }

    /// Sends it a signal.
    pub(super) fn signal(&self, signal: i32) {
        let pid = self.child.as_ref().unwrap().id();
        // SAFETY: plain numbers; the child is not yet waited for.
        assert_eq!(unsafe { libc::kill(pid as libc::pid_t, signal) }, 0);
    }

    /// Waits for the first line it says on standard error.
    pub(super) fn first_words(&mut self) -> String {
        let stderr = BufReader::new(self.child.as_mut().unwrap().stderr.take().unwrap());
        let mut line = String::new();
        self.stderr.insert(stderr).read_line(&mut line).unwrap();
        line
    }

    /// Waits for its end.
    pub(super) fn finish(mut self) -> Outcome {
        outcome(self.child.take().unwrap().wait_with_output().unwrap())
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Has the command run without the right to make namespaces.
pub(super) fn without_privilege(command: &mut Command) -> &mut Command {
    /// Number of CAP_SYS_ADMIN (capabilities(7)).
    const CAP_SYS_ADMIN: libc::c_ulong = 21;
    // SAFETY: one system call with plain numbers, sound between fork and exec. Root's rights are cut to the bounding set
    // at exec.
    unsafe {
        command.pre_exec(|| match libc::prctl(libc::PR_CAPBSET_DROP, CAP_SYS_ADMIN, 0, 0, 0) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        })
    }
}

/// Has the command run with so little claim to a CPU: 19 is the least.
pub(super) fn with_niceness(command: &mut Command, niceness: i32) -> &mut Command {
    // SAFETY: one system call with plain numbers, sound between fork and exec.
    unsafe {
        command.pre_exec(move || match libc::setpriority(libc::PRIO_PROCESS, 0, niceness) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        })
    }
}

/// Runs a command to its end.
pub(super) fn run(command: &mut Command) -> Outcome {
    outcome(die_with_test(command).output().unwrap())
}

fn outcome(output: std::process::Output) -> Outcome {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Outcome { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// Waits until something holds.
pub(super) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what} did not come");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().map(Result::unwrap);
    entries.map(|entry| entry.file_name().into_string().unwrap()).collect()
}
