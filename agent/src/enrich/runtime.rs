//! Which container a runtime's own process serves. In: path and arguments of a program. Out: its role, and the id of
//! the container.
//!
//! Shims, `runc`, `crun` and `conmon` run in the runtime's cgroup and in no pod's, and have no environment that tells;
//! their arguments do: containerd and Docker start `containerd-shim-runc-v2 ... -id ID start`, which starts
//! `runc --root ... --log .../ID/log.json create --bundle .../ID ... ID` and then `runc ... start ID`; CRI-O starts
//! `conmon ... -c ID ...`, which starts `runc create --bundle .../ID/userdata ... ID`. Every runtime's ids have 64
//! hexadecimal digits, so the first of that shape is taken, wherever it stands: also when the end of a long command
//! line was cut.

use super::text;
use super::{ProcId, processes::Process, processes::Processes};
use std::sync::Arc;

/// Digits of a container id.
const ID_DIGITS: usize = 64;
/// Forks and stages of `runc init` between a process and the `runc create` above it: there are three.
const STAGES_MAX: usize = 6;
/// Programs that speak runc's command line.
const OCI_RUNTIMES: [&[u8]; 5] = [b"runc", b"crun", b"youki", b"kata-runtime", b"runsc"];

/// What a runtime's process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Brings up the shim, or asks the one that is there to take one more container.
    ShimStart,
    /// Stays beside the container: a shim, conmon.
    Monitor,
    /// Makes the container: cgroup, namespaces, root.
    Create,
    /// Lets the container's program run; `runc run` does both at once.
    Start,
    /// Becomes the container's program: it is in the container's cgroup, and still the runtime's code.
    Init,
    /// What comes later: kill, delete, exec, state.
    Other,
}

impl Role {
    /// Name in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Role::ShimStart => "shim_start",
            Role::Monitor => "monitor",
            Role::Create => "create",
            Role::Start => "start",
            Role::Init => "init",
            Role::Other => "other",
        }
    }
}

/// A runtime's process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeWork {
    /// What it does.
    pub role: Role,
    /// For which container; `None` when its arguments do not tell.
    pub container_id: Option<Arc<str>>,
}

/// What a program is to a container; `None` for one that is no runtime's.
pub fn runtime_work(path: &[u8], argv: &[u8]) -> Option<RuntimeWork> {
    let argv = argv.strip_suffix(b"\0").unwrap_or(argv);
    let first = argv.split(|byte| *byte == 0).next().unwrap_or_default();
    let names = [text::base_name(path), text::base_name(first)];
    let is_oci = names.iter().any(|name| OCI_RUNTIMES.contains(name));
    let is_shim = names.iter().any(|name| name.starts_with(b"containerd-shim"));
    let is_conmon = names.contains(&b"conmon".as_slice());
    if argv.is_empty() || !(is_oci || is_shim || is_conmon) {
        return None;
    }
    let words: Vec<&[u8]> = argv.split(|byte| *byte == 0).collect();
    let rest = &words[1..];
    let has = |verb: &[u8]| rest.contains(&verb);
    let role = match (is_oci, rest) {
        (true, [b"init", ..]) => Role::Init,
        (true, _) if has(b"create") => Role::Create,
        (true, _) if has(b"start") || has(b"run") => Role::Start,
        (true, _) => Role::Other,
        (false, [.., b"start"]) => Role::ShimStart,
        (false, [.., b"delete"]) => Role::Other,
        (false, _) => Role::Monitor,
    };
    let container_id = words.iter().find_map(|word| container_id(word)).map(Arc::from);
    Some(RuntimeWork { role, container_id })
}

/// The first part of a word that is a container id.
fn container_id(word: &[u8]) -> Option<&str> {
    let parts = word.split(|byte| !byte.is_ascii_alphanumeric());
    parts
        .filter(|part| part.len() == ID_DIGITS && part.iter().all(u8::is_ascii_hexdigit))
        .find_map(|part| std::str::from_utf8(part).ok())
}

/// What a known process is to a container. `runc init` does not say for which; the `runc create` above it does.
pub fn work_of(processes: &Processes, id: ProcId) -> Option<RuntimeWork> {
    let mut work = own_work(processes.get(id)?)?;
    let mut next = processes.get(id)?.spawner;
    for _ in 0..STAGES_MAX {
        if work.container_id.is_some() || work.role != Role::Init {
            break;
        }
        let above = processes.get(next?)?;
        work.container_id = own_work(above).and_then(|above| above.container_id);
        next = above.spawner;
    }
    Some(work)
}

fn own_work(process: &Process) -> Option<RuntimeWork> {
    runtime_work(&process.path, &process.argv)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// Recorded and quoted command lines: role, id or `-`, path, then the words, all parted by tabs.
    #[test]
    fn command_lines_of_runtimes() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/runtime_argv.tsv");
        let text = std::fs::read_to_string(file).unwrap();
        let lines: Vec<&str> =
            text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
        assert!(lines.len() >= 20, "{}", lines.len());
        for line in lines {
            let mut fields = line.split('\t');
            let (role, id) = (fields.next().unwrap(), fields.next().unwrap());
            let path = fields.next().unwrap();
            let argv: String = fields.map(|word| format!("{word}\0")).collect();
            let work = runtime_work(path.as_bytes(), argv.as_bytes());
            let said = work.as_ref().map_or("none", |work| work.role.name());
            let said_id = work.as_ref().and_then(|work| work.container_id.as_deref()).unwrap_or("-");
            assert_eq!((said, said_id), (role, id), "{line}");
        }
    }

    #[test]
    fn the_stages_of_runc_init_serve_whom_create_serves() {
        let id = "ab".repeat(32);
        let process = |tgid, spawner: Option<u32>, words: &str| Process {
            id: ProcId { tgid, start_ns: 1 },
            spawner: spawner.map(|tgid| ProcId { tgid, start_ns: 1 }),
            path: b"/usr/sbin/runc".as_slice().into(),
            argv: words.replace(' ', "\0").into_bytes().into(),
            ..Process::default()
        };
        let mut processes = Processes::new(8);
        processes.put(process(1, None, &format!("runc create --bundle /x/{id} {id}")));
        processes.put(process(2, Some(1), "runc init"));
        processes.put(process(3, Some(2), "runc init"));
        processes.put(process(4, None, "runc init"));
        let of = |tgid| work_of(&processes, ProcId { tgid, start_ns: 1 }).and_then(|work| work.container_id);
        assert_eq!(of(3).as_deref(), Some(id.as_str()));
        assert_eq!(of(4), None, "nobody above it is known");
    }

    #[test]
    fn nothing_at_all_is_no_runtime() {
        for (path, argv) in [
            (&b""[..], &b""[..]),
            (b"/usr/sbin/runc", b""),
            (b"/bin/sh", b"sh\0-c\0runc create"),
            (b"", b"\0\0"),
        ] {
            let work = runtime_work(path, argv);
            assert!(work.as_ref().is_none_or(|work| work.container_id.is_none()), "{work:?}");
        }
    }
}
