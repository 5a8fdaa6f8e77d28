//! What a run has made, on disk, so that it can be taken away after the run was killed.
//!
//! One file per run, JSON lines: first how the network was made, then each pod as it is made, gets its result, and is
//! gone. A line is one write, so a killed run leaves whole lines (a torn last one is ignored). A running run
//! holds a lock on its file. The kernel drops it with the process, or, when the run is killed while it starts plugins, with the
//! last of those that have not executed their program yet: they are copies of the run until then.

use super::error::FluxError;
use super::network::Means;
use super::sandbox::Sandbox;
use super::stop::Stop;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Where journals are.
pub const DIR: &str = "/run/slowpod-flux";
/// Ending of a journal's name.
const ENDING: &str = "jsonl";
/// Largest journal that is read: 100,000 pods with results of 2 KiB each.
const BYTES_MAX: u64 = 256 << 20;
/// Longest wait for the lock of a run that is dead, or of another cleaning.
const HANDOVER: Duration = Duration::from_secs(30);
/// How often it is tried.
const LOOK: Duration = Duration::from_millis(20);

/// A line of a journal.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Run(Header),
    Made(Sandbox),
    Ready { container_id: String, result: Value },
    Gone { container_id: String },
}

/// How the network of a run is made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// The chain, as [`super::conflist::Conflist::to_value`] has it.
    pub conflist: Value,
    /// How its programs are run.
    pub means: Means,
    /// Whether the loopback chain was run too.
    pub loopback: bool,
    /// The run's process.
    pub pid: u32,
}

/// A journal that was asked for.
#[derive(Debug)]
pub enum Claim {
    /// Nobody else works with it as long as the file is open.
    Ours(File),
    /// Its run goes on.
    GoesOn,
    /// Its run, or another cleaning, has ended and removed it.
    Gone,
}

/// The journal of a run that is going on.
#[derive(Debug)]
pub struct Journal {
    file: File,
    path: PathBuf,
}

/// A pod that a run has left behind.
#[derive(Clone, Debug, PartialEq)]
pub struct Left {
    /// Who it is.
    pub pod: Sandbox,
    /// The result of its ADD, when it came so far.
    pub result: Option<Value>,
}

impl Journal {
    /// Begins the journal of a run.
    ///
    /// # Errors
    /// When there is one of this run already, or the folder cannot be written.
    pub fn begin(dir: &Path, run: &str, header: &Header) -> Result<Journal, FluxError> {
        let during =
            |error: &io::Error| FluxError::during(&format!("keeping notes in {}", dir.display()), error);
        let path = dir.join(run).with_added_extension(ENDING);
        let file = match create(dir, &path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(FluxError::Config(format!(
                    "there is a run {run} already ({}): wait for its end, take another name, or, when it was killed, \
                     clean up after it with `slowpod flux --clean`",
                    path.display()
                )));
            }
            Err(error) => return Err(during(&error)),
        };
        let journal = Journal { file, path };
        journal.note(&Line::Run(header.clone())).map_err(|error| {
            let _ = std::fs::remove_file(&journal.path);
            during(&error)
        })?;
        Ok(journal)
    }

    /// Notes that a pod is about to be made.
    ///
    /// # Errors
    /// When it cannot be written; then the pod must not be made.
    pub fn made(&self, pod: &Sandbox) -> io::Result<()> {
        self.note(&Line::Made(pod.clone()))
    }

    /// Notes a pod's result.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn ready(&self, pod: &Sandbox, result: &Value) -> io::Result<()> {
        self.note(&Line::Ready { container_id: pod.container_id.clone(), result: result.clone() })
    }

    /// Notes that nothing of a pod is left.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn gone(&self, pod: &Sandbox) -> io::Result<()> {
        self.note(&Line::Gone { container_id: pod.container_id.clone() })
    }

    /// Removes the journal: nothing of the run is left. Its folder goes with the last one.
    ///
    /// # Errors
    /// When the file cannot be removed.
    pub fn end(self) -> io::Result<()> {
        remove(&self.path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn note(&self, line: &Line) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        // One write in append mode: threads do not mix their lines.
        (&self.file).write_all(&text)
    }
}

/// Removes a journal, and its folder when it is the last.
///
/// # Errors
/// When the file cannot be removed.
pub fn remove(path: &Path) -> io::Result<()> {
    std::fs::remove_file(path)?;
    if let Some(dir) = path.parent() {
        // It stays while other runs have journals there.
        let _ = std::fs::remove_dir(dir);
    }
    Ok(())
}

/// The journals in a folder, by name of the run. A folder that is not there has none.
///
/// # Errors
/// When the folder cannot be read.
pub fn list(dir: &Path) -> Result<Vec<(String, PathBuf)>, FluxError> {
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => {
            entries.map_err(|error| FluxError::during(&format!("reading {}", dir.display()), &error))?
        }
    };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let journals = paths.filter(|path| path.extension().is_some_and(|ending| ending == ENDING));
    let mut named: Vec<(String, PathBuf)> =
        journals.filter_map(|path| Some((path.file_stem()?.to_str()?.to_owned(), path))).collect();
    named.sort();
    Ok(named)
}

/// A new file that is locked and has its name.
fn create(dir: &Path, path: &Path) -> io::Result<File> {
    loop {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(path)?;
        file.lock()?;
        // A cleaning that came before the lock has taken it for the file of a killed run, and removed it with its folder.
        if file.metadata()?.nlink() > 0 {
            return Ok(file);
        }
    }
}

/// Opens a journal to clean up after it, and keeps others from doing the same. The lock of a run that is dead is waited
/// for.
///
/// # Errors
/// When it cannot be opened.
pub fn claim(path: &Path, stop: &Stop) -> io::Result<Claim> {
    let deadline = Instant::now() + HANDOVER;
    loop {
        let file = match OpenOptions::new().read(true).open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Claim::Gone),
            opened => opened?,
        };
        match file.try_lock() {
            Ok(()) if file.metadata()?.nlink() == 0 => return Ok(Claim::Gone),
            Ok(()) => return Ok(Claim::Ours(file)),
            Err(TryLockError::WouldBlock) => {
                if run_lives(&file) || Instant::now() >= deadline || !stop.sleep(LOOK) {
                    return Ok(Claim::GoesOn);
                }
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}

/// Whether the process that writes a journal is there. One that has not said yet who it is has just begun.
fn run_lives(file: &File) -> bool {
    let mut line = Vec::new();
    let read = BufReader::new(file.take(BYTES_MAX)).read_until(b'\n', &mut line);
    let Ok(Line::Run(header)) = read.and_then(|_| Ok(serde_json::from_slice(&line)?)) else { return true };
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", header.pid)).unwrap_or_default();
    // The state follows the name, which is in parentheses and may hold some (proc_pid_stat(5)).
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.bytes().next());
    state.is_some_and(|state| !b"ZX".contains(&state))
}

/// What a journal says is left; `None` when the run was killed before it wrote a line, and so before it made anything.
///
/// # Errors
/// Says what is wrong with the file.
pub fn read(file: &mut File) -> Result<Option<(Header, Vec<Left>)>, String> {
    let mut text = Vec::new();
    file.take(BYTES_MAX).read_to_end(&mut text).map_err(|error| error.to_string())?;
    // What follows the last line's end was being written when the run was killed.
    let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let mut lines = text[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let parse = |line: &[u8]| serde_json::from_slice::<Line>(line).map_err(|error| error.to_string());
    let header = match lines.next().map(parse).transpose()? {
        None => return Ok(None),
        Some(Line::Run(header)) => header,
        Some(Line::Made(_) | Line::Ready { .. } | Line::Gone { .. }) => {
            return Err("it does not begin with a run".into());
        }
    };
    let mut left = BTreeMap::new();
    for line in lines {
        match parse(line)? {
            Line::Run(_) => return Err("it holds two runs".into()),
            Line::Made(pod) => drop(left.insert(pod.container_id.clone(), Left { pod, result: None })),
            Line::Ready { container_id, result } => {
                if let Some(pod) = left.get_mut(&container_id) {
                    pod.result = Some(result);
                }
            }
            Line::Gone { container_id } => drop(left.remove(&container_id)),
        }
    }
    Ok(Some((header, left.into_values().collect())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    fn header() -> Header {
        let means = Means {
            plugin_dirs: vec!["/p".into()],
            ifname: "eth0".into(),
            capability_args: serde_json::Map::new(),
            timeout: Duration::from_secs(1),
        };
        Header { conflist: json!({ "name": "n" }), means, loopback: true, pid: std::process::id() }
    }

    fn claimed(path: &Path) -> File {
        match claim(path, &Stop::default()).unwrap() {
            Claim::Ours(file) => file,
            other => panic!("{other:?}"),
        }
    }

    fn pod(number: usize) -> Sandbox {
        Sandbox::new("r", number, Path::new("/run/netns")).unwrap()
    }

    #[test]
    fn what_is_not_gone_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("notes");
        let journal = Journal::begin(&dir, "r", &header()).unwrap();
        let pods = [pod(0), pod(1), pod(2)];
        pods.iter().for_each(|pod| journal.made(pod).unwrap());
        journal.ready(&pods[1], &json!({ "a": 1 })).unwrap();
        journal.gone(&pods[0]).unwrap();
        (&journal.file).write_all(b"{\"made\":{\"na").unwrap();
        let mode = std::fs::metadata(journal.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let path = journal.path().to_owned();
        assert!(matches!(claim(&path, &Stop::default()).unwrap(), Claim::GoesOn));
        drop(journal);
        assert_eq!(list(&dir).unwrap(), [("r".to_owned(), path.clone())]);
        let mut file = claimed(&path);
        let (read_header, mut left) = read(&mut file).unwrap().unwrap();
        left.sort_by(|one, other| one.pod.name.cmp(&other.pod.name));
        assert_eq!(read_header, header());
        assert_eq!(left[0], Left { pod: pods[1].clone(), result: Some(json!({ "a": 1 })) });
        assert_eq!(left[1..], [Left { pod: pods[2].clone(), result: None }]);
        remove(&path).unwrap();
        assert!(!dir.exists());
        assert!(list(&dir).unwrap().is_empty());
    }

    /// A process that has ended, and a journal of its.
    fn of_dead_run(dir: &Path) -> Journal {
        let mut process = std::process::Command::new("true").spawn().unwrap();
        process.wait().unwrap();
        Journal::begin(dir, "r", &Header { pid: process.id(), ..header() }).unwrap()
    }

    #[test]
    fn who_is_about_to_execute_a_plugin_holds_the_lock_of_a_killed_run() {
        let dir = tempfile::tempdir().unwrap();
        let journal = of_dead_run(dir.path());
        let path = journal.path().to_owned();
        std::thread::scope(|scope| {
            let claiming = scope.spawn(|| claimed(&path));
            std::thread::sleep(4 * LOOK);
            assert!(!claiming.is_finished());
            drop(journal);
            claiming.join().unwrap();
        });
    }

    #[test]
    fn what_somebody_else_has_cleaned_meanwhile_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let journal = of_dead_run(dir.path());
        let path = journal.path().to_owned();
        std::thread::scope(|scope| {
            let claiming = scope.spawn(|| claim(&path, &Stop::default()).unwrap());
            std::thread::sleep(4 * LOOK);
            journal.end().unwrap();
            assert!(matches!(claiming.join().unwrap(), Claim::Gone));
        });
        assert!(matches!(claim(&path, &Stop::default()).unwrap(), Claim::Gone));
    }

    #[test]
    fn the_same_run_twice_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let first = Journal::begin(dir.path(), "r", &header()).unwrap();
        let error = Journal::begin(dir.path(), "r", &header()).unwrap_err();
        assert!(error.to_string().contains("there is a run r already"), "{error}");
        first.end().unwrap();
    }

    #[test]
    fn what_is_no_journal_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for text in ["garbage\n", "{\"gone\":{\"container_id\":\"a\"}}\n"] {
            let path = dir.path().join("a.jsonl");
            std::fs::write(&path, text).unwrap();
            assert!(read(&mut claimed(&path)).is_err(), "{text:?}");
        }
        for text in ["", "{\"run\":{\"confl"] {
            let path = dir.path().join("b.jsonl");
            std::fs::write(&path, text).unwrap();
            assert_eq!(read(&mut claimed(&path)), Ok(None), "{text:?}");
        }
    }
}
