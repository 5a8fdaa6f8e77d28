//! Scenes: what happens on a node, as a few lines of text. In: a `.scene` file. Out: the records that the
//! kernel and the scan would have made of it.
//!
//! One line is one happening. `#` begins a comment, quotes hold words together, and in them `\n`, `\t`, `\"`,
//! `\\` and `\xHH` stand for bytes. Times have a unit: `10ms`, `1.5s`, `200us`.
//!
//! ```text
//! at 100ms VERB ...     the clock is set first: to 100 ms after the scene (or the block) begins
//! +5ms VERB ...         the clock is moved first
//! unseen VERB ...       it happens, but no record tells of it
//! repeat 2000 every 1600us {   a block, again and again; %i in it is the turn, from 0
//! }
//!
//! process kube pid=100 comm=kube-router path=/usr/bin/kube-router argv="kube-router --run" cgroup=5 ppid=1
//!                       the start-up scan finds a process (exact=no: with its start cut to a tick); mount_ns=, pid_ns=
//!                       and net_ns= put it in other namespaces than the host's (0: not known), and its children with it
//! cgroup 5 /kubepods/…  the scan finds a cgroup        mkdir 5 /path   rmdir 5   move kube 5
//! spawn kube->a         kube forks; `a` is a new process each time. Also: begun=300us (the clone call was
//!                       entered so long before), tid=7 (which thread of kube forks), inner=3, stack=9, vfork
//! thread kube           kube makes a thread
//! exec a /usr/sbin/ipset argv="ipset add X"      also: comm=, tid=7, script, argv_cut, path_cut, mount_ns=,
//!                       pid_ns=, net_ns=
//! cni a ADD sandbox=5b1f if=eth0 netns=/run/netns/x args="K8S_POD_NAME=web;..."   the exec had such an
//!                       environment; also trace=, cut
//! wait a file_lock lock for=60ms path=/run/xtables.lock dev=1 ino=7 holder=b queue=3   a wait that ends now, its cause
//!                       and its call; also waits=, to=10.0.0.1:443 retransmits=, message=RTM_NEWLINK
//!                       protocol=NETFILTER mutex, unix
//! says a "{\"ips\":[\"10.0.0.2/24\"]}"         what is kept of what a plugin writes; also fd=, written=
//! fail a /bin/ipset ENOENT                       an exec fails
//! exit a code=1         also: signal=9, cpu= runnable= blocked.disk=…: what they leave of the life is
//!                       time on a CPU, or with cpu= given blocked by other; threads=3 partial teardown=1ms
//! reap kube a           kube collects a; waited=2ms, else it waited since the spawn; own=1ms of the time before it
//!                       waited was its own, else all of it
//! netlink a ROUTE RTM_NEWROUTE x3       also: inside=20us bytes=100 sends=1 failed=1 errno=17 cut unread
//! refuse a ROUTE RTM_NEWROUTE EEXIST    the kernel refuses a request
//! flood kube ipset spawns=900 from=1s until=2s   also: lost_ends= nameless= failed= wall= cpu= runnable= blocked=
//! waits kube 200 5ms cpu=1s preempted=20     kube's threads waited 200 times for 5 ms each; also: blocked=
//!                       from=0s (since when it is counted; else one second). Also of cpu:0, short:5 (a cgroup), kernel
//! pushed 5 9 300ms      threads of cgroup 5 waited that long while 9 ran; also: nobody, untold; stretches=
//! wakes kube web 10 5ms    kube woke web's threads ten times, each after a block of 5 ms; also: timer, device, softirq,
//!                       idle, network kube
//! stack 9 kube 0x1 0x2  a user stack, innermost frame first; also kernel
//! sample kube on_cpu 40ms count=4 stack=9 kstack=10     what a thread did in the last second
//! sample kube off_cpu 1.5s cause=file_lock thread=worker tid=7   also: goes_on preempted
//! fact {"fact":"loss","kind":"exec","dropped":3,"counted":0}
//! garbage               bytes that are no record of any kind
//!
//! window 2s 5s          what is asked for (else: all there is)
//! show storms loops=1   an answer to compare with `data/golden/SCENE.storms.json`
//! show exec.folded value=spawns     a profile: `folded` or `text`, with `data/golden/SCENE.exec.folded`
//! print storms 100 limit=5    the same as a table of that width, with `data/golden/SCENE.storms.txt`
//! ```
//!
//! A process is called by its label; a label that is a number is also its pid.

mod asides;
mod names;
mod queues;
mod records;
mod waits;
mod words;

use slowpod::fold::Window;
use std::path::PathBuf;
use words::Line;

/// Where scenes begin on the monotonic clock: 1,000 s after boot.
pub const BEGIN_NS: u64 = 1_000_000_000_000;
/// Most records of one scene: a slip in a repeat must not eat the machine.
const RECORDS_MAX: usize = 1_000_000;

/// A scene, played.
pub struct Scene {
    /// Its name: the file's, without the suffix.
    pub name: String,
    /// Its records, in time order.
    pub records: Vec<u8>,
    /// What it asks for.
    pub window: Window,
    /// Answers to compare: view and query.
    pub shows: Vec<(String, String)>,
    /// Tables to compare: view, width and query.
    pub prints: Vec<(String, usize, String)>,
}

/// The folder of the test data.
pub fn data_folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("data")
}

/// Names of all scenes there are, sorted.
pub fn all() -> Vec<String> {
    let folder = data_folder().join("scenes");
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let files =
        entries.map(|entry| entry.expect("a readable folder").file_name().into_string().expect("UTF-8"));
    let mut names: Vec<String> =
        files.filter_map(|file| file.strip_suffix(".scene").map(str::to_owned)).collect();
    names.sort();
    names
}

impl Scene {
    /// Plays the scene of this name.
    ///
    /// # Panics
    /// With file and line, when it does not parse.
    pub fn load(name: &str) -> Scene {
        let path = data_folder().join("scenes").join(format!("{name}.scene"));
        let text =
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Scene::parse(name, &text)
    }

    /// Plays a text.
    ///
    /// # Panics
    /// With the line, when it does not parse.
    pub fn parse(name: &str, text: &str) -> Scene {
        let lines = words::lines(text).unwrap_or_else(|error| panic!("{name}.scene: {error}"));
        let mut stage = Stage::default();
        if let Err((line, error)) = stage.play(&lines, 0, 0) {
            panic!("{name}.scene:{line}: {error}");
        }
        stage.records.sort_by_key(|(ktime_ns, _)| *ktime_ns);
        Scene {
            name: name.to_owned(),
            records: stage.records.into_iter().flat_map(|(_, record)| record).collect(),
            window: stage.window.unwrap_or(Window::ALL),
            shows: stage.shows,
            prints: stage.prints,
        }
    }
}

/// Where a scene is played.
#[derive(Default)]
struct Stage {
    cast: records::Cast,
    records: Vec<(u64, Vec<u8>)>,
    window: Option<Window>,
    shows: Vec<(String, String)>,
    prints: Vec<(String, usize, String)>,
}

/// A line that makes no sense, and why.
type Slip = (usize, String);

impl Stage {
    /// Plays lines from `begin_ns` (after the scene's begin) on; gives where the clock stands then.
    fn play(&mut self, lines: &[Line], begin_ns: u64, turn: u64) -> Result<u64, Slip> {
        let mut now_ns = begin_ns;
        let mut at = 0;
        while let Some(line) = lines.get(at) {
            let slip = |error: String| (line.number, error);
            let mut words = line.words(turn).map_err(slip)?;
            match words.first() {
                Some("at") => {
                    words.next();
                    now_ns = begin_ns + words.time().map_err(slip)?;
                }
                Some(moved) if moved.starts_with('+') => {
                    now_ns += words::time(&moved[1..]).map_err(slip)?;
                    words.next();
                }
                Some(_) | None => {}
            }
            if words.first() == Some("repeat") {
                let length = words::block(&lines[at..]).ok_or_else(|| slip("the block has no end".into()))?;
                now_ns = self.repeat(&mut words, line, &lines[at + 1..at + length], now_ns)?;
                at += length;
            } else if words.first().is_some() {
                self.line(words, line, now_ns).map_err(slip)?;
            }
            at += 1;
        }
        Ok(now_ns)
    }

    fn repeat(
        &mut self,
        words: &mut words::Words,
        line: &Line,
        block: &[Line],
        now_ns: u64,
    ) -> Result<u64, Slip> {
        let slip = |error: String| (line.number, error);
        words.next();
        let turns: u64 = words.number().map_err(slip)?;
        words.expect("every").map_err(slip)?;
        let every_ns = words.time().map_err(slip)?;
        words.expect("{").map_err(slip)?;
        for turn in 0..turns {
            self.play(block, now_ns + turn * every_ns, turn)?;
        }
        Ok(now_ns + turns * every_ns)
    }

    fn line(&mut self, mut words: words::Words, line: &Line, now_ns: u64) -> Result<(), String> {
        let ktime_ns = BEGIN_NS + now_ns;
        match words.first() {
            Some("window") => {
                words.next();
                let (from_ns, until_ns) = (BEGIN_NS + words.time()?, BEGIN_NS + words.time()?);
                self.window = Some(Window { from_ns, until_ns });
                words.end()
            }
            Some("show") => {
                words.next();
                let view = words.must("a view")?;
                self.shows.push((view, words.query()?));
                words.end()
            }
            Some("print") => {
                words.next();
                self.prints.push((words.must("a view")?, words.number()?, words.query()?));
                words.end()
            }
            Some(_) | None => {
                let unseen = words.first() == Some("unseen");
                if unseen {
                    words.next();
                }
                let record = self.cast.act(&mut words, &line.text, ktime_ns)?;
                words.end()?;
                if !unseen {
                    self.records.push((ktime_ns, record));
                }
                if self.records.len() > RECORDS_MAX {
                    return Err(format!("more than {RECORDS_MAX} records"));
                }
                Ok(())
            }
        }
    }
}
