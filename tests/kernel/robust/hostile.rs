//! Names that whoever runs a process may choose, through every way out of the agent.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use harness::tools::Tool;
use harness::{agent, agent::Agent};
use slowpod::client;

use super::{Started, flood::metrics, run, slowpod};

/// What trips terminals, JSON, Prometheus and HTML, and what is no text at all. Without `/` and NUL.
const HOSTILE: &[&[u8]] = &[
    b"\x1b[2J\x1b]0;title\x07",
    b"two\nlines\r",
    b"\"quoted\"'",
    b"back\\slash\\",
    b"{brace} 1\n# HELP x",
    b"<script>alert(1)<!--",
    b"\xff\xfe\xe2\x82",
    b"\xc2\x9b31m\xe2\x80\xae",
    b"",
];

/// Programs, failed programs and arguments of these names, all run by one shell of such a name.
fn run_hostile(directory: &Path) -> u32 {
    let mut last = 0;
    for name in HOSTILE.iter().filter(|name| !name.is_empty()) {
        let path = directory.join(OsStr::from_bytes(name));
        fs::copy("/bin/true", &path).unwrap();
        for words in HOSTILE {
            let mut command = Command::new(&path);
            command.arg0(OsStr::from_bytes(name)).args(["add", "--name"]).arg(OsStr::from_bytes(words));
            let mut child = command.spawn().unwrap();
            last = child.id();
            assert!(child.wait().unwrap().success());
        }
        let missing = Command::new(directory.join("none").join(OsStr::from_bytes(name))).spawn();
        assert!(missing.is_err());
    }
    last
}

/// A cgroup with a name of this kind; removed when dropped.
struct Cgroup(PathBuf);

impl Cgroup {
    fn make() -> Cgroup {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mount = mounts.lines().find(|line| line.contains(" - cgroup2 ")).expect("cgroup v2");
        let at = mount.split(' ').nth(4).expect("a mount point");
        let mut name = format!("slowpod-{}-", std::process::id()).into_bytes();
        name.extend(b"\x1b[31m\"}<script>\\\xff");
        let path = Path::new(at).join(OsStr::from_bytes(&name));
        fs::create_dir(&path).unwrap();
        Cgroup(path)
    }

    fn run_in(&self) {
        let mut command = Command::new("sh");
        let script = "echo $$ > \"$0/cgroup.procs\" && for i in 1 2 3; do /bin/true $i; done";
        assert!(command.args(["-c", script]).arg(&self.0).status().unwrap().success());
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        fs::remove_dir(&self.0).unwrap();
    }
}

fn no_control(what: &str, text: &str) {
    let bad = text.chars().find(|c| (c.is_control() && *c != '\n') || ('\u{202a}'..='\u{202e}').contains(c));
    assert_eq!(bad, None, "{what} passes control characters on: {text:?}");
}

fn in_json(agent: &Agent, path: &str) -> String {
    let body = client::get(agent.address(), path).unwrap();
    let text = String::from_utf8(body).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_str::<serde_json::Value>(&text).unwrap_or_else(|error| panic!("{path}: {error}"));
    text
}

#[test]
fn hostile_names_reach_no_sink_unescaped() {
    let agent = agent!();
    let directory = tempfile::tempdir().unwrap();
    let tape = directory.path().join("x.tape");
    let recording = Started::attached(&mut slowpod(&["record", "-d", "60s", "-o", tape.to_str().unwrap()]));
    let last = run_hostile(directory.path());
    let cgroup = Cgroup::make();
    cgroup.run_in();
    let now_ns = slowpod::capture::facts::clock::ktime_ns();
    agent.view_at("/api/v1/processes?limit=20000", now_ns);
    recording.signal(libc::SIGTERM);
    recording.finish().ok();

    let processes = in_json(&agent, "/api/v1/processes?limit=20000&seconds=120");
    assert!(processes.contains(&format!("\"pid\": {last}")), "{processes}");
    for mark in ["script>alert(1)", "back", "quoted", "brace", "lines"] {
        assert!(processes.contains(mark), "{mark} is not told at all");
    }
    for view in ["storms", "findings", "processes", "netlink", "probes"] {
        in_json(&agent, &format!("/api/v1/{view}?seconds=120"));
    }
    for view in ["storms", "findings", "processes", "netlink"] {
        let words = [view, "--listen", agent.address(), "-d", "120s", "--limit", "2000"];
        no_control(view, &run(&mut slowpod(&words)).ok().out);
        no_control(view, &run(&mut slowpod(&["replay", tape.to_str().unwrap(), view])).ok().out);
    }
    no_control("stderr", &agent.said());
    promtool_takes(&super::until("the metrics of it all", || {
        let page = metrics(&agent);
        page.contains("script>alert(1)").then_some(page)
    }));
    no_control("the page", std::str::from_utf8(&client::get(agent.address(), "/").unwrap()).unwrap());
}

fn promtool_takes(page: &str) {
    use std::io::Write;
    let mut command = Command::new(Tool::Promtool.require());
    command.args(["check", "metrics"]).stdin(std::process::Stdio::piped());
    let mut child =
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}\n{page}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_page_writes_text_and_never_markup() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../agent/src/web/page");
    let mut scripts = 0;
    for file in fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|suffix| suffix == "js" || suffix == "html") {
            scripts += 1;
            let text = fs::read_to_string(&path).unwrap();
            for way in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
                "Function(",
                "srcdoc",
            ] {
                assert!(!text.contains(way), "{} uses {way}", path.display());
            }
        }
    }
    assert!(scripts > 1);
}
