//! Network namespaces with a name, made as runtimes make them: a thread leaves for a new one, which is then bound to
//! a file and so outlives the thread.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Where namespaces with a name are: `/run/netns`, to which `/var/run/netns` leads.
pub const DIR: &str = "/run/netns";

/// The namespace of the calling thread.
const OWN: &str = "/proc/thread-self/ns/net";

/// Makes a namespace and binds it to a new file.
///
/// # Errors
/// When the file exists, or the kernel refuses. Nothing is left then.
pub fn make(path: &Path) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    OpenOptions::new().write(true).create_new(true).mode(0o444).open(path)?;
    let bound = in_thread(|| {
        unshare()?;
        mount(OWN, path)
    });
    bound.inspect_err(|_| drop(std::fs::remove_file(path)))
}

/// Whether a namespace is bound there. A run that is killed between the making of the file and the binding leaves a file
/// that is none.
pub fn is_bound(path: &Path) -> bool {
    let Ok(text) = c_path(path) else { return false };
    // SAFETY: all zeroes is a valid statfs, and the path is a C string that lives until the call returns.
    unsafe {
        let mut about: libc::statfs = std::mem::zeroed();
        libc::statfs(text.as_ptr(), &raw mut about) == 0 && about.f_type == libc::NSFS_MAGIC
    }
}

/// Removes a namespace's name. The kernel ends the namespace when nobody is in it any more. One that is not there is
/// fine.
///
/// # Errors
/// When the kernel refuses.
pub fn remove(path: &Path) -> io::Result<()> {
    let text = c_path(path)?;
    // SAFETY: the path is a C string that lives until the call returns.
    if unsafe { libc::umount2(text.as_ptr(), libc::MNT_DETACH | libc::UMOUNT_NOFOLLOW) } != 0 {
        let error = io::Error::last_os_error();
        // EINVAL: it is no mount point, for example because its making was cut short.
        if ![Some(libc::EINVAL), Some(libc::ENOENT)].contains(&error.raw_os_error()) {
            return Err(error);
        }
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Whether this process may make namespaces: makes one and lets it go.
///
/// # Errors
/// What the kernel says against it.
pub fn try_make() -> io::Result<()> {
    in_thread(unshare)
}

/// Does something inside a namespace, on a thread of its own. Sockets made there stay there.
///
/// # Errors
/// When the namespace cannot be entered, or what `work` gives.
pub fn inside<T: Send>(path: &Path, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    let namespace = File::open(path)?;
    in_thread(move || {
        // SAFETY: plain numbers; the file is open until the end of the closure.
        match unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) } {
            0 => work(),
            _ => Err(io::Error::last_os_error()),
        }
    })
}

/// A thread whose namespace changed is not used for anything else.
fn in_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("flux-netns".into()).spawn_scoped(scope, work)?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("a thread panicked; please report this")))
    })
}

fn unshare() -> io::Result<()> {
    // SAFETY: a plain number; only the calling thread changes.
    match unsafe { libc::unshare(libc::CLONE_NEWNET) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn mount(what: &str, at: &Path) -> io::Result<()> {
    let (what, at) = (CString::new(what)?, c_path(at)?);
    // SAFETY: both paths are C strings that live until the call returns; a bind mount takes no other arguments.
    let done =
        unsafe { libc::mount(what.as_ptr(), at.as_ptr(), std::ptr::null(), libc::MS_BIND, std::ptr::null()) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn c_path(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}
