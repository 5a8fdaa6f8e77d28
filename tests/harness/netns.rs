//! Commands in a network namespace of their own. The namespace ends with its last process: nothing has a name,
//! so nothing is left behind however a test ends.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// Gives the command, once it is started, a network namespace of its own (needs CAP_SYS_ADMIN).
pub fn own_netns(command: &mut Command) -> &mut Command {
    before_exec(command, || {
        // SAFETY: a plain number.
        match unsafe { libc::unshare(libc::CLONE_NEWNET) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    })
}

/// A network namespace for several commands, one after the other or at once. It lasts as long as this value or any
/// command in it.
pub struct PrivateNet {
    namespace: File,
}

impl PrivateNet {
    /// A new, empty one (needs CAP_SYS_ADMIN).
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn new() -> PrivateNet {
        // On a thread of its own, so that the test itself stays where it is.
        let made = std::thread::spawn(|| {
            // SAFETY: a plain number.
            match unsafe { libc::unshare(libc::CLONE_NEWNET) } {
                0 => File::open("/proc/thread-self/ns/net"),
                _ => Err(io::Error::last_os_error()),
            }
        });
        let namespace = made.join().expect("the thread does not panic");
        PrivateNet { namespace: namespace.expect("a network namespace; the test needs root") }
    }

    /// One that has a name.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn open(path: &Path) -> io::Result<PrivateNet> {
        Ok(PrivateNet { namespace: File::open(path)? })
    }

    /// Has the command start in it.
    pub fn holds<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        let namespace = self.namespace.try_clone().expect("a second descriptor");
        before_exec(command, move || enter(&namespace))
    }

    /// Does something in it on a thread of its own. Sockets made there stay there.
    ///
    /// # Panics
    /// When `work` does.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                enter(&self.namespace).expect("the namespace can be entered");
                work()
            });
            thread.join().expect("the work does not panic")
        })
    }
}

impl Default for PrivateNet {
    fn default() -> Self {
        PrivateNet::new()
    }
}

fn enter(namespace: &File) -> io::Result<()> {
    // SAFETY: plain numbers; the file is open.
    match unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Has the kernel kill the command when the test thread that started it ends, so that a test that panics or is
/// killed leaves no process either.
pub fn die_with_test(command: &mut Command) -> &mut Command {
    before_exec(command, || {
        // SAFETY: plain numbers.
        match unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    })
}

fn before_exec(
    command: &mut Command,
    step: impl FnMut() -> io::Result<()> + Send + Sync + 'static,
) -> &mut Command {
    // SAFETY: the steps above are one system call each and touch no memory, so they are sound between fork and exec.
    unsafe { command.pre_exec(step) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs without root too: then the command must not start at all, rather than in the wrong namespace.
    #[test]
    fn the_command_sees_another_namespace_than_the_test() {
        let own = std::fs::read_link("/proc/self/ns/net").unwrap();
        let mut command = Command::new("readlink");
        match own_netns(command.arg("/proc/self/ns/net")).output() {
            Ok(output) => assert_ne!(String::from_utf8_lossy(&output.stdout).trim(), own.to_str().unwrap()),
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::EPERM)),
        }
        assert_eq!(std::fs::read_link("/proc/self/ns/net").unwrap(), own);
    }
}
