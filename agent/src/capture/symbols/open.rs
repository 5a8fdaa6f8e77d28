//! Opens files that a process chose, without letting it choose what that does to us. In: a mapping, or a path in
//! a process's root. Out: an open regular file, or the [`Refusal`].
//!
//! A process can map a FIFO's or a device's file, point links out of its container, or serve files itself (FUSE)
//! and never answer. So a file is first found without opening it (`O_PATH`), a link never leads out of the
//! process's root, and only a regular file on a file system that the kernel itself answers for is opened. Nothing
//! stays open between requests: an open file would keep its container's file system from being unmounted.

use super::bytes::{Flaw, ReadAt};
use super::maps::Mapping;
use crate::capture::facts::clock::Reading;
use crate::capture::facts::proc::Directory;
use std::cell::RefCell;
use std::collections::HashSet;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

/// Read at most of `/proc/PID/mountinfo`; a node with 500 pods has some thousand mounts of 300 bytes.
const MOUNTINFO_BYTES_MAX: usize = 8 << 20;
/// File systems whose answers come from another process or machine, which need not give any.
const REMOTE: [&str; 10] = ["fuse", "fuseblk", "nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "afs", "autofs"];

/// Roots remembered at most: one per container.
const LOCAL_ROOTS_MAX: usize = 4_096;

thread_local! {
    /// Mounts that are roots of processes and not remote, by [`unique_mount`]: each is looked up in a mount table once, not
    /// for each of the short-lived processes that have it. Of the one thread that opens files.
    static LOCAL_ROOTS: RefCell<HashSet<u64>> = RefCell::default();
}

fn remember_local(mount: u64) {
    LOCAL_ROOTS.with_borrow_mut(|local| {
        if local.len() >= LOCAL_ROOTS_MAX {
            local.clear();
        }
        local.insert(mount);
    });
}

/// Which file, and which state of it: another size or time is another file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileId {
    /// Its file system.
    pub device: (u32, u32),
    /// Its inode number.
    pub inode: u64,
    /// Its length.
    pub size_bytes: u64,
    /// When its bytes changed: seconds and nanoseconds since 1970.
    pub changed: (i64, u32),
}

/// Why a file was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is not there, or we may not.
    #[error("{0}")]
    Io(io::ErrorKind),
    /// A directory, device, FIFO or socket.
    #[error("it is not a regular file")]
    NotAFile,
    /// A file system that may never answer.
    #[error("its file system answers from elsewhere")]
    Remote,
    /// Another file than the one that was mapped.
    #[error("it is not the file that was mapped")]
    Replaced,
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Refusal::Io(error.kind())
    }
}

/// A file that was found and not opened yet.
#[derive(Debug)]
pub struct Found {
    path: OwnedFd,
    mount: u64,
    /// Which file.
    pub id: FileId,
    /// Its owner.
    pub uid: u32,
    /// When its inode changed, by the wall clock: its bytes, or that it was put at a path. Nanoseconds since 1970.
    inode_changed_ns: i64,
}

impl Found {
    fn new(path: OwnedFd) -> Result<Found, Refusal> {
        let status = status(path.as_fd())?;
        if u32::from(status.stx_mode) & libc::S_IFMT != libc::S_IFREG {
            return Err(Refusal::NotAFile);
        }
        let id = FileId {
            device: (status.stx_dev_major, status.stx_dev_minor),
            inode: status.stx_ino,
            size_bytes: status.stx_size,
            changed: (status.stx_mtime.tv_sec, status.stx_mtime.tv_nsec),
        };
        let inode_changed = status.stx_ctime;
        let inode_changed_ns = inode_changed.tv_sec.saturating_mul(1_000_000_000);
        let inode_changed_ns = inode_changed_ns.saturating_add(i64::from(inode_changed.tv_nsec));
        Ok(Found { path, mount: status.stx_mnt_id, id, uid: status.stx_uid, inode_changed_ns })
    }

    /// Whether it may not have been what its path led to at an instant (monotonic ns): since then it was written, or put
    /// there.
    pub fn is_younger_than(&self, ktime_ns: u64) -> bool {
        let now = Reading::now();
        let ago_ns = i64::try_from(now.ktime_ns.saturating_sub(ktime_ns)).unwrap_or(i64::MAX);
        self.inode_changed_ns > now.wall_unix_ns.saturating_sub(ago_ns)
    }

    /// The file behind a mapping: the mapped one itself where the kernel lets us (`CAP_CHECKPOINT_RESTORE` or
    /// `CAP_SYS_ADMIN`), removed or not; else what is now at its path, if it has the mapped inode number. (The
    /// device is no help: overlayfs and btrfs show one number in `maps` and another in `stat`.)
    ///
    /// # Errors
    /// Why not.
    pub fn mapped(process: &Directory, mapping: &Mapping, path: &[u8]) -> Result<Found, Refusal> {
        let name = format!("map_files/{:x}-{:x}", mapping.range.start, mapping.range.end);
        if let Ok(fd) = open_at(process.as_fd(), &c_string(name.into_bytes())?, libc::O_PATH) {
            return Found::new(fd);
        }
        let found = Found::in_root(process, path)?;
        if found.id.inode == mapping.inode { Ok(found) } else { Err(Refusal::Replaced) }
    }

    /// The file at a path as the process sees it. Links are followed, but stay in the process's root.
    ///
    /// # Errors
    /// Why not.
    pub fn in_root(process: &Directory, path: &[u8]) -> Result<Found, Refusal> {
        let root = open_at(process.as_fd(), c"root", libc::O_PATH | libc::O_DIRECTORY)?;
        let unique = unique_mount(root.as_fd());
        let known = unique.is_some_and(|mount| LOCAL_ROOTS.with_borrow(|local| local.contains(&mount)));
        if !known {
            if is_remote(process, status(root.as_fd())?.stx_mnt_id, None) {
                return Err(Refusal::Remote);
            }
            unique.inspect(|mount| remember_local(*mount));
        }
        Found::below(root.as_fd(), path)
    }

    /// The file at a path as the node's first process sees it; where we may not look through that one's eyes, as
    /// we see it.
    ///
    /// # Errors
    /// Why not.
    pub fn on_host(path: &[u8]) -> Result<Found, Refusal> {
        let first =
            of_pid(1).and_then(|first| open_at(first.as_fd(), c"root", libc::O_PATH | libc::O_DIRECTORY));
        let root = first.or_else(|_| File::open("/").map(OwnedFd::from))?;
        Found::below(root.as_fd(), path)
    }

    fn below(root: BorrowedFd<'_>, path: &[u8]) -> Result<Found, Refusal> {
        let path = c_string(path.to_vec())?;
        // What the kernel has at hand needs no file system's answer. What it has not is looked up on the root's own
        // file system only, which is known not to be remote.
        let (inside, cached, one) = (
            libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS,
            libc::RESOLVE_CACHED,
            libc::RESOLVE_NO_XDEV,
        );
        let mut fd = open_at2(root, &path, inside | cached).or_else(|_| open_at2(root, &path, inside | one));
        // On another file system, by way of a link: the kernel does not follow one from what it has at hand when its
        // access time is to be written, which by now it is.
        if fd.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::CrossesDevices) {
            fd = open_at2(root, &path, inside | cached).or(fd);
        }
        Found::new(fd?)
    }

    /// Opens it. `process` is the one through which it was found; its mounts tell whether the file system is ours.
    ///
    /// # Errors
    /// Why not.
    pub fn open(&self, process: Option<&Directory>) -> Result<OpenFile, Refusal> {
        let remote = match process {
            Some(process) => is_remote(process, self.mount, Some(self.id.device)),
            None => of_pid(std::process::id()).is_ok_and(|own| is_remote(&own, self.mount, None)),
        };
        if remote { Err(Refusal::Remote) } else { self.open_local() }
    }

    /// The same when its file system is known not to be remote, which costs the reading of a mount table to tell.
    ///
    /// # Errors
    /// Why not.
    pub fn open_local(&self) -> Result<OpenFile, Refusal> {
        let path = c_string(format!("/proc/self/fd/{}", self.path.as_raw_fd()).into_bytes())?;
        // Not blocking: another process may hold a lease on the file.
        let file = File::from(open_at(self.path.as_fd(), &path, libc::O_RDONLY | libc::O_NONBLOCK)?);
        Ok(OpenFile { file, id: self.id })
    }
}

/// An open regular file.
#[derive(Debug)]
pub struct OpenFile {
    file: File,
    /// Which file.
    pub id: FileId,
}

impl ReadAt for OpenFile {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), Flaw> {
        self.file.read_exact_at(buf, offset).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => Flaw::Short,
            _ => Flaw::Unreadable,
        })
    }

    fn size_bytes(&self) -> u64 {
        self.id.size_bytes
    }
}

/// Whether a mount's file system may never answer. Of a mount that no table of mounts shows the device decides:
/// one of a disk is a disk's, and memory files are on a mount of the kernel's own.
fn is_remote(process: &Directory, mount: u64, device: Option<(u32, u32)>) -> bool {
    let kind_in = |process: &Directory| {
        let table = process.read_lines(c"mountinfo", MOUNTINFO_BYTES_MAX).ok()?;
        file_system(&table, mount).map(<[u8]>::to_vec)
    };
    // It may have moved to a mount namespace of its own after it mapped the file.
    let others = || [1, std::process::id()].into_iter().find_map(|pid| kind_in(&of_pid(pid).ok()?));
    let kind = kind_in(process).or_else(others);
    match kind {
        Some(kind) => REMOTE.iter().any(|remote| {
            kind == remote.as_bytes()
                || kind.strip_prefix(remote.as_bytes()).is_some_and(|rest| rest.first() == Some(&b'.'))
        }),
        None => device.is_none_or(|device| device.0 == 0 && Some(device) != memory_device()),
    }
}

fn of_pid(pid: u32) -> io::Result<Directory> {
    Directory::open(Path::new(&format!("/proc/{pid}")))
}

/// The type of a mount's file system in a mount table. Format: proc_pid_mountinfo(5).
fn file_system(table: &[u8], mount: u64) -> Option<&[u8]> {
    let mount = mount.to_string();
    let line = table
        .split(|byte| *byte == b'\n')
        .find(|line| line.strip_prefix(mount.as_bytes()).is_some_and(|rest| rest.first() == Some(&b' ')))?;
    let mut fields = line.split(|byte| *byte == b' ');
    fields.find(|field| *field == b"-")?;
    fields.next()
}

/// The device that files made by `memfd_create` are on.
fn memory_device() -> Option<(u32, u32)> {
    // SAFETY: the name ends in NUL.
    let fd = unsafe { libc::memfd_create(c"slowpod".as_ptr(), libc::MFD_CLOEXEC) };
    // SAFETY: the descriptor is new and nobody else's.
    let fd = (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd) })?;
    let status = status(fd.as_fd()).ok()?;
    Some((status.stx_dev_major, status.stx_dev_minor))
}

/// The user that a process runs as: the owner of its directory.
///
/// # Errors
/// When the process is gone.
pub fn owner(process: &Directory) -> Result<u32, Refusal> {
    Ok(status(process.as_fd())?.stx_uid)
}

/// The mount namespace that [`Found::on_host`] looks into, by its inode number: the first process's, or ours.
pub fn host_mount_ns() -> Option<u32> {
    let namespace = |path| std::fs::metadata(path).ok().and_then(|file| u32::try_from(file.ino()).ok());
    namespace("/proc/1/ns/mnt").or_else(|| namespace("/proc/self/ns/mnt"))
}

/// A number of the mount that a file is on, which no other mount ever gets; `None` before Linux 6.8.
fn unique_mount(fd: BorrowedFd<'_>) -> Option<u64> {
    /// `linux/stat.h`.
    const STATX_MNT_ID_UNIQUE: libc::c_uint = 0x4000;
    let status = status_of(fd, STATX_MNT_ID_UNIQUE).ok()?;
    (status.stx_mask & STATX_MNT_ID_UNIQUE != 0).then_some(status.stx_mnt_id)
}

/// What the kernel knows of a file without asking its file system.
fn status(fd: BorrowedFd<'_>) -> io::Result<libc::statx> {
    status_of(fd, libc::STATX_BASIC_STATS | libc::STATX_MNT_ID)
}

fn status_of(fd: BorrowedFd<'_>, mask: libc::c_uint) -> io::Result<libc::statx> {
    let mut status = std::mem::MaybeUninit::<libc::statx>::zeroed();
    let flags = libc::AT_EMPTY_PATH | libc::AT_STATX_DONT_SYNC;
    // SAFETY: the descriptor is open, the path is empty and ends in NUL, and the buffer is one `statx`.
    let result = unsafe { libc::statx(fd.as_raw_fd(), c"".as_ptr(), flags, mask, status.as_mut_ptr()) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it was zeroed, which is a value of its, and then written by the kernel.
    Ok(unsafe { status.assume_init() })
}

fn open_at(at: BorrowedFd<'_>, path: &CStr, flags: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: the descriptor is open and the path ends in NUL.
    let fd = unsafe { libc::openat(at.as_raw_fd(), path.as_ptr(), flags | libc::O_CLOEXEC) };
    // SAFETY: the descriptor is new and nobody else's.
    if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(unsafe { OwnedFd::from_raw_fd(fd) }) }
}

/// Finds a file (`O_PATH`) by openat2(2), which Linux has since 5.6.
fn open_at2(root: BorrowedFd<'_>, path: &CStr, resolve: u64) -> io::Result<OwnedFd> {
    // SAFETY: all fields are numbers, and all zeroes is what the kernel asks for in those it does not know.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = (libc::O_PATH | libc::O_CLOEXEC) as u64;
    how.resolve = resolve;
    // SAFETY: the descriptor is open, the path ends in NUL, and `how` is as long as said.
    let fd = unsafe {
        libc::syscall(libc::SYS_openat2, root.as_raw_fd(), path.as_ptr(), &raw const how, size_of_val(&how))
    };
    match i32::try_from(fd) {
        // SAFETY: the descriptor is new and nobody else's.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

fn c_string(bytes: Vec<u8>) -> Result<CString, Refusal> {
    CString::new(bytes).map_err(|_| Refusal::Io(io::ErrorKind::InvalidInput))
}

#[cfg(test)]
mod tests;
