//! The processes there are. In: `/proc/PID/{stat,status,cmdline,cgroup}` and the links `exe` and
//! `ns/{mnt,pid,net}`. Out: `Process` facts, and whether one process is still alive.
//!
//! Nothing else of a process is read, and no link is followed. Only a process that began a few minutes ago may be a CNI
//! plugin at work: of its environment the variables of a CNI call are looked for, and nothing else of it is kept. Each process's
//! files are opened relative to its own directory, so a pid that is recycled under the scan gives an error and
//! never a mixture. `cmdline` lies in the process's memory, whose owner can make a reader wait: call this from
//! a thread that may. Format: proc(5).

use super::cgroups::split_line;
use crate::decode::cni::Environment;
use crate::decode::fact::{Exited, Namespaces, Process, tick_ns};
use crate::decode::raw_text::RawText;
use slowpod_ebpf::abi::cni::ARGS_BYTES;
use slowpod_ebpf::abi::exec::ARGV_BYTES;
use slowpod_ebpf::rules::env::Key;
use std::ffi::CStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Processes taken at most: what a kernel allows by default on a machine of up to 32 CPUs (`pid_max`).
pub const PROCESSES_MAX: usize = 32_768;
/// Read at most of `stat`, `status` and `cgroup`: each is one page or less but for the last of many v1 lines.
pub const TEXT_BYTES_MAX: usize = 16 << 10;
/// Oldest process that may be a CNI call: a runtime gives a plugin minutes at most.
const CALL_AGE_NS: u64 = 600_000_000_000;
/// Read at most of an environment, as much as the kernel programs look at.
const ENVIRONMENT_BYTES_MAX: usize = 128 << 10;
/// Asked for at first, which is more than most of these files hold.
const PAGE_BYTES: usize = 4 << 10;
/// `PF_KTHREAD` (linux/sched.h): a thread of the kernel.
const PF_KTHREAD: u64 = 0x0020_0000;
/// What the kernel adds to the link of a file that was removed.
const DELETED: &[u8] = b" (deleted)";
/// Longest comm there can be (`TASK_COMM_LEN` without its NUL).
const COMM_LEN: usize = slowpod_ebpf::abi::COMM_BYTES - 1;

/// How to read processes.
pub struct Reader<'a> {
    /// `/proc` but in tests.
    pub proc: &'a Path,
    /// Ticks per second of the times there.
    pub clk_tck: u32,
    /// Which line of `/proc/PID/cgroup` names the cgroup; `None` for none.
    pub hierarchy: Option<u32>,
    /// Takes out of a process's argv what must not be kept; the last thing done to it.
    pub redact: &'a dyn Fn(&mut Process),
}

impl Reader<'_> {
    /// Hands over every process but the kernel's own threads, by pid; `cgroup_id` finds the id of a cgroup by
    /// its path. True if there were more than [`PROCESSES_MAX`]. Processes that vanish meanwhile are left out.
    pub fn all(
        &self,
        mut cgroup_id: impl FnMut(&[u8]) -> Option<u64>,
        mut each: impl FnMut(Process),
    ) -> io::Result<bool> {
        let entries = fs::read_dir(self.proc)?;
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let mut pids: Vec<u32> = names.filter_map(|name| pid(&name)).collect();
        pids.sort_unstable();
        let cut = pids.len() > PROCESSES_MAX;
        let now_ns = uptime_ns(self.proc);
        for pid in pids.into_iter().take(PROCESSES_MAX) {
            if let Some(process) = self.one(pid, now_ns, &mut cgroup_id) {
                each(process);
            }
        }
        Ok(cut)
    }

    /// `None` for the kernel's threads and for what is gone.
    fn one(&self, tgid: u32, now_ns: u64, cgroup_id: impl FnOnce(&[u8]) -> Option<u64>) -> Option<Process> {
        let directory = Directory::open(&self.proc.join(tgid.to_string())).ok()?;
        let stat = directory.read(c"stat", TEXT_BYTES_MAX).ok()?;
        let stat = Stat::parse(&stat).filter(|stat| stat.flags & PF_KTHREAD == 0)?;
        let status = Status::parse(&directory.read(c"status", TEXT_BYTES_MAX).ok()?);

        let mut argv = directory.read(c"cmdline", ARGV_BYTES + 1).unwrap_or_default();
        let argv_cut = argv.len() > ARGV_BYTES;
        argv.truncate(ARGV_BYTES);
        let mut path = directory.link(c"exe").unwrap_or_default();
        let path_deleted = path.ends_with(DELETED);
        if path_deleted {
            path.truncate(path.len() - DELETED.len());
        }
        let script = script(stat.comm, &path, &argv).map(<[u8]>::to_vec);

        let lines = directory.read(c"cgroup", TEXT_BYTES_MAX).unwrap_or_default();
        let mut lines = lines.split(|byte| *byte == b'\n').filter_map(split_line);
        let cgroup = lines.find(|(hierarchy, ..)| Some(*hierarchy) == self.hierarchy);
        let start_ns = stat.start_ticks.saturating_mul(tick_ns(self.clk_tck));
        let young = now_ns.saturating_sub(start_ns) < CALL_AGE_NS;
        let environ = young.then(|| directory.read_lines(c"environ", ENVIRONMENT_BYTES_MAX).ok()).flatten();
        let mut process = Process {
            tgid,
            start_ns,
            start_exact: false,
            ppid: stat.ppid,
            spawner: None,
            spawned_ns: 0,
            begun_ns: 0,
            exec_ns: 0,
            comm: stat.comm.into(),
            script: script.is_some(),
            // Of a script this is not known: the link is its interpreter's.
            path_deleted: path_deleted && script.is_none(),
            path: script.unwrap_or(path).as_slice().into(),
            argv: argv.as_slice().into(),
            argv_cut,
            class_only: false,
            cgroup_id: cgroup.and_then(|(_, _, path)| cgroup_id(path)).unwrap_or(0),
            inner_pid: status.inner_pid.unwrap_or(tgid),
            threads: stat.threads,
            uid: status.uid,
            namespaces: Namespaces {
                mount: directory.namespace(c"ns/mnt"),
                pid: directory.namespace(c"ns/pid"),
                net: directory.namespace(c"ns/net"),
            },
            cni: None,
            cni_environment: environ.and_then(|environ| cni_environment(&environ)).map(Box::new),
            exited: stat.has_exited().then_some(Exited { exit_ns: 0, status: stat.exit_status }),
        };
        (self.redact)(&mut process);
        Some(process)
    }
}

/// Whether the process that had this pid and start (in ticks since boot) has neither ended nor given its pid to
/// another. A process whose main thread has ended while others go on is alive. What cannot be read is not
/// thereby gone: true. An exit record may still be in a ring when this says false.
pub fn alive(proc: &Path, tgid: u32, start_ticks: u64) -> bool {
    match fs::read(proc.join(tgid.to_string()).join("stat")) {
        Ok(stat) => {
            Stat::parse(&stat).is_none_or(|stat| stat.start_ticks == start_ticks && !stat.has_exited())
        }
        Err(error) => !matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)),
    }
}

/// Time since boot; 0, by which every process seems young, when it cannot be read.
fn uptime_ns(proc: &Path) -> u64 {
    let text = fs::read_to_string(proc.join("uptime")).unwrap_or_default();
    let seconds: f64 = text.split(' ').next().and_then(|seconds| seconds.parse().ok()).unwrap_or(0.0);
    (seconds * 1e9) as u64
}

/// The variables of a CNI call, if there is one: the same that the kernel programs look for.
fn cni_environment(environ: &[u8]) -> Option<Environment> {
    let value = |key: Key, max_bytes: usize| {
        let mut found =
            environ.split(|byte| *byte == 0).filter_map(|word| word.strip_prefix(key.text().as_bytes()));
        found.next().map(|value| RawText::from(&value[..value.len().min(max_bytes)]))
    };
    Some(Environment {
        command: value(Key::Command, 16)?,
        container_id: value(Key::ContainerId, 128).unwrap_or_default(),
        netns: value(Key::NetNs, 256).unwrap_or_default(),
        ifname: value(Key::IfName, 16).unwrap_or_default(),
        args: value(Key::Args, ARGS_BYTES).unwrap_or_default(),
        traceparent: value(Key::TraceParent, 64).unwrap_or_default(),
    })
}

/// A name in `/proc` that is a pid.
fn pid(name: &str) -> Option<u32> {
    name.bytes().all(|byte| byte.is_ascii_digit()).then(|| name.parse().ok())?
}

/// The fields used of `/proc/PID/stat`.
#[derive(Debug, PartialEq, Eq)]
pub struct Stat<'a> {
    /// Its name.
    pub comm: &'a [u8],
    state: u8,
    ppid: u32,
    flags: u64,
    threads: u32,
    /// Its start, in ticks since boot.
    pub start_ticks: u64,
    /// Where its stack began, which each exec chooses anew; 0 when we may not know.
    pub stack_start: u64,
    exit_status: u32,
}

impl Stat<'_> {
    /// The comm may hold anything, `)` and newlines too; what follows the last `)` are numbers and a letter.
    pub fn parse(text: &[u8]) -> Option<Stat<'_>> {
        let open = text.iter().position(|byte| *byte == b'(')?;
        let close = text.iter().rposition(|byte| *byte == b')')?;
        let fields = std::str::from_utf8(&text[close + 1..]).ok()?;
        let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
        // By the numbers of proc(5), where comm is field 2.
        let field = |number: usize| fields.get(number - 3).copied();
        Some(Stat {
            comm: text.get(open + 1..close)?,
            state: *field(3)?.as_bytes().first()?,
            ppid: field(4)?.parse().ok()?,
            flags: field(9)?.parse().ok()?,
            threads: field(20)?.parse().ok()?,
            start_ticks: field(22)?.parse().ok()?,
            stack_start: field(28).and_then(|address| address.parse().ok()).unwrap_or(0),
            exit_status: field(52).and_then(|status| status.parse().ok()).unwrap_or(0),
        })
    }

    /// Whether it is blocked or stopped, and no thread of the kernel.
    pub fn waits(&self) -> bool {
        matches!(self.state, b'S' | b'D' | b'T' | b't') && self.flags & PF_KTHREAD == 0
    }

    /// A main thread that ended before the others is a zombie too, but counts them.
    fn has_exited(&self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x') && self.threads <= 1
    }
}

/// The fields used of `/proc/PID/status`. Names in it are escaped by the kernel, so lines are safe.
pub struct Status {
    uid: u32,
    /// Its pid in its innermost pid namespace; Linux 4.1 and later.
    pub inner_pid: Option<u32>,
}

impl Status {
    /// Reads the text.
    pub fn parse(text: &[u8]) -> Status {
        let field = |key: &[u8]| {
            let mut lines = text.split(|byte| *byte == b'\n');
            let values = lines.find_map(|line| line.strip_prefix(key))?;
            std::str::from_utf8(values).ok()
        };
        let real = field(b"Uid:").and_then(|ids| ids.split_ascii_whitespace().next()?.parse().ok());
        let inner = field(b"NSpid:").and_then(|pids| pids.split_ascii_whitespace().next_back()?.parse().ok());
        Status { uid: real.unwrap_or(0), inner_pid: inner }
    }
}

/// The script's path if a `#!` script is what was executed. The kernel then names the process after the script
/// while `exe` is the interpreter, and puts the script behind the interpreter and its one optional argument.
fn script<'a>(comm: &[u8], exe: &[u8], argv: &'a [u8]) -> Option<&'a [u8]> {
    let gives_name = |path: &[u8]| {
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        !name.is_empty() && name[..name.len().min(COMM_LEN)] == *comm
    };
    if exe.is_empty() || gives_name(exe) {
        return None;
    }
    argv.split(|byte| *byte == 0).skip(1).take(2).find(|word| gives_name(word))
}

/// A process's directory, held so that all its files are of one process.
#[derive(Debug)]
pub struct Directory(File);

impl Directory {
    /// Opens `/proc/PID`.
    pub fn open(path: &Path) -> io::Result<Directory> {
        let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW;
        OpenOptions::new().read(true).custom_flags(flags).open(path).map(Directory)
    }

    /// At most `max` bytes of a file. procfs gives what there is, so a read that gives less than asked for was
    /// the last, and none is spent on finding the end.
    pub fn read(&self, name: &CStr, max: usize) -> io::Result<Vec<u8>> {
        let mut file = self.file(name)?;
        let mut bytes = vec![0; max.min(PAGE_BYTES)];
        let mut len = 0;
        loop {
            len += file.read(&mut bytes[len..])?;
            if len < bytes.len() || len == max {
                bytes.truncate(len);
                return Ok(bytes);
            }
            bytes.resize(max.min(len * 2), 0);
        }
    }

    /// At most `max` bytes of a file of many lines (`maps`, `mountinfo`), of which each read gives a page.
    pub fn read_lines(&self, name: &CStr, max: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.file(name)?.take(max as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn file(&self, name: &CStr) -> io::Result<File> {
        let flags = libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NOFOLLOW;
        // SAFETY: the descriptor is open and the name ends in NUL.
        let fd = unsafe { libc::openat(self.0.as_raw_fd(), name.as_ptr(), flags) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new and nobody else's.
        Ok(unsafe { File::from_raw_fd(fd) })
    }

    /// Where a link points, without going there.
    fn link(&self, name: &CStr) -> io::Result<Vec<u8>> {
        let mut target = vec![0; libc::PATH_MAX as usize];
        // SAFETY: the descriptor is open, the name ends in NUL, the buffer is as long as said.
        let len = unsafe {
            libc::readlinkat(self.0.as_raw_fd(), name.as_ptr(), target.as_mut_ptr().cast(), target.len())
        };
        target.truncate(usize::try_from(len).map_err(|_| io::Error::last_os_error())?);
        Ok(target)
    }

    /// The inode number in a link like `mnt:[4026531841]`; 0 when there is none, as of a process that has ended.
    fn namespace(&self, name: &CStr) -> u32 {
        let target = self.link(name).unwrap_or_default();
        let number = target.rsplit(|byte| *byte == b'[').next().and_then(|tail| tail.strip_suffix(b"]"));
        number.and_then(|digits| str::from_utf8(digits).ok()?.parse().ok()).unwrap_or(0)
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests;
