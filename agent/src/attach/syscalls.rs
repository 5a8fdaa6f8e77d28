//! Numbers of system calls on this architecture, for the tables of the kernel object.

use slowpod_ebpf::abi::settings::SYSCALL_SLOTS;
use slowpod_ebpf::rules::{cause::Call, op::Op};
use std::sync::LazyLock;

/// Number of a call this architecture does not have.
pub(super) const ABSENT: u32 = u32::MAX;

/// What each system call may block on, by number.
pub(super) fn classes() -> [u8; SYSCALL_SLOTS] {
    table(CLASSES.iter().chain(LEGACY_CLASSES).map(|(class, numbers)| (*class as u8, *numbers)))
}

/// What one system call may block on, by its number.
pub fn class(number: usize) -> Call {
    static CLASS: LazyLock<[u8; SYSCALL_SLOTS]> = LazyLock::new(classes);
    CLASS.get(number).map_or(Call::Unknown, |class| Call::from_u8(*class))
}

/// What each system call is called, by number.
pub(super) fn ops() -> [u8; SYSCALL_SLOTS] {
    table(OPS.iter().chain(LEGACY_OPS).map(|(op, numbers)| (*op as u8, *numbers)))
}

fn table<'a>(rows: impl Iterator<Item = (u8, &'a [libc::c_long])>) -> [u8; SYSCALL_SLOTS] {
    let mut table = [0; SYSCALL_SLOTS];
    for (value, numbers) in rows {
        for number in numbers {
            if let Some(slot) = usize::try_from(*number).ok().and_then(|number| table.get_mut(number)) {
                *slot = value;
            }
        }
    }
    table
}

/// Numbers of the calls that send on a socket, in the order of [`slowpod_ebpf::rules::netlink::SendCall`].
pub(super) fn sends() -> [u32; 5] {
    [libc::SYS_sendmsg, libc::SYS_sendto, libc::SYS_write, libc::SYS_writev, libc::SYS_sendmmsg].map(number)
}

/// Numbers of recvmsg and recvfrom.
pub(super) fn receives() -> [u32; 2] {
    [libc::SYS_recvmsg, libc::SYS_recvfrom].map(number)
}

fn number(number: libc::c_long) -> u32 {
    u32::try_from(number).unwrap_or(ABSENT)
}

/// Calls that every 64-bit architecture has.
const CLASSES: &[(Call, &[libc::c_long])] = &[
    (
        Call::Descriptor,
        &[
            libc::SYS_read,
            libc::SYS_write,
            libc::SYS_readv,
            libc::SYS_writev,
            libc::SYS_pread64,
            libc::SYS_pwrite64,
            libc::SYS_preadv,
            libc::SYS_pwritev,
            libc::SYS_preadv2,
            libc::SYS_pwritev2,
            libc::SYS_recvfrom,
            libc::SYS_recvmsg,
            libc::SYS_recvmmsg,
            libc::SYS_sendto,
            libc::SYS_sendmsg,
            libc::SYS_sendmmsg,
            libc::SYS_accept,
            libc::SYS_accept4,
            libc::SYS_connect,
            libc::SYS_bind,
            libc::SYS_setsockopt,
            libc::SYS_getsockopt,
            libc::SYS_shutdown,
            libc::SYS_close,
            libc::SYS_ioctl,
            libc::SYS_fstat,
            libc::SYS_ftruncate,
            libc::SYS_fallocate,
            libc::SYS_getdents64,
            libc::SYS_lseek,
            libc::SYS_splice,
            libc::SYS_tee,
            libc::SYS_vmsplice,
            libc::SYS_copy_file_range,
            libc::SYS_readahead,
        ],
    ),
    (Call::Flock, &[libc::SYS_flock]),
    (Call::Fcntl, &[libc::SYS_fcntl]),
    (Call::Futex, &[libc::SYS_futex, libc::SYS_futex_waitv]),
    (Call::Wait, &[libc::SYS_wait4, libc::SYS_waitid]),
    (
        Call::Sync,
        &[
            libc::SYS_fsync,
            libc::SYS_fdatasync,
            libc::SYS_sync,
            libc::SYS_syncfs,
            libc::SYS_msync,
            libc::SYS_sync_file_range,
        ],
    ),
    (Call::Sleep, &[libc::SYS_nanosleep, libc::SYS_clock_nanosleep]),
    (Call::Poll, &[libc::SYS_ppoll]),
    (Call::Select, &[libc::SYS_pselect6]),
    (Call::Epoll, &[libc::SYS_epoll_pwait, libc::SYS_epoll_pwait2]),
    (Call::Clone, &[libc::SYS_clone, libc::SYS_clone3]),
    (
        Call::Path,
        &[
            libc::SYS_openat,
            libc::SYS_openat2,
            libc::SYS_newfstatat,
            libc::SYS_statx,
            libc::SYS_statfs,
            libc::SYS_readlinkat,
            libc::SYS_faccessat,
            libc::SYS_faccessat2,
            libc::SYS_mkdirat,
            libc::SYS_mknodat,
            libc::SYS_unlinkat,
            libc::SYS_renameat2,
            libc::SYS_linkat,
            libc::SYS_symlinkat,
            libc::SYS_fchmodat,
            libc::SYS_fchownat,
            libc::SYS_utimensat,
            libc::SYS_truncate,
            libc::SYS_chdir,
            libc::SYS_execve,
            libc::SYS_execveat,
            libc::SYS_mount,
            libc::SYS_umount2,
            libc::SYS_pivot_root,
        ],
    ),
    (
        Call::Memory,
        &[
            libc::SYS_mmap,
            libc::SYS_munmap,
            libc::SYS_mprotect,
            libc::SYS_mremap,
            libc::SYS_brk,
            libc::SYS_madvise,
        ],
    ),
    (Call::Signal, &[libc::SYS_rt_sigsuspend, libc::SYS_rt_sigtimedwait]),
];

/// Calls that only older architectures still have; newer ones have the `…at` forms alone.
#[cfg(target_arch = "x86_64")]
const LEGACY_CLASSES: &[(Call, &[libc::c_long])] = &[
    (Call::Poll, &[libc::SYS_poll]),
    (Call::Select, &[libc::SYS_select]),
    (Call::Epoll, &[libc::SYS_epoll_wait]),
    (Call::Clone, &[libc::SYS_fork, libc::SYS_vfork]),
    (Call::Signal, &[libc::SYS_pause]),
    (Call::Descriptor, &[libc::SYS_getdents, libc::SYS_sendfile]),
    (
        Call::Path,
        &[
            libc::SYS_open,
            libc::SYS_creat,
            libc::SYS_stat,
            libc::SYS_lstat,
            libc::SYS_access,
            libc::SYS_readlink,
            libc::SYS_mkdir,
            libc::SYS_rmdir,
            libc::SYS_unlink,
            libc::SYS_rename,
            libc::SYS_renameat,
            libc::SYS_link,
            libc::SYS_symlink,
            libc::SYS_chmod,
            libc::SYS_chown,
        ],
    ),
];
#[cfg(not(target_arch = "x86_64"))]
const LEGACY_CLASSES: &[(Call, &[libc::c_long])] = &[(Call::Descriptor, &[libc::SYS_sendfile])];

/// What people call them; the kernel programs take 0, [`Op::Other`], for the rest.
const OPS: &[(Op, &[libc::c_long])] = &[
    (
        Op::Read,
        &[
            libc::SYS_read,
            libc::SYS_readv,
            libc::SYS_pread64,
            libc::SYS_preadv,
            libc::SYS_preadv2,
            libc::SYS_getdents64,
            libc::SYS_readahead,
        ],
    ),
    (
        Op::Write,
        &[
            libc::SYS_write,
            libc::SYS_writev,
            libc::SYS_pwrite64,
            libc::SYS_pwritev,
            libc::SYS_pwritev2,
            libc::SYS_ftruncate,
            libc::SYS_fallocate,
        ],
    ),
    (
        Op::Sync,
        &[
            libc::SYS_fsync,
            libc::SYS_fdatasync,
            libc::SYS_sync,
            libc::SYS_syncfs,
            libc::SYS_msync,
            libc::SYS_sync_file_range,
        ],
    ),
    (Op::Open, &[libc::SYS_openat, libc::SYS_openat2]),
    (Op::Unlink, &[libc::SYS_unlinkat]),
    (
        Op::Rename,
        &[libc::SYS_renameat2, libc::SYS_linkat, libc::SYS_symlinkat, libc::SYS_mkdirat, libc::SYS_mknodat],
    ),
    (
        Op::Stat,
        &[
            libc::SYS_newfstatat,
            libc::SYS_fstat,
            libc::SYS_statx,
            libc::SYS_statfs,
            libc::SYS_readlinkat,
            libc::SYS_faccessat,
            libc::SYS_faccessat2,
        ],
    ),
    (Op::Exec, &[libc::SYS_execve, libc::SYS_execveat]),
    (Op::Connect, &[libc::SYS_connect]),
    (Op::Accept, &[libc::SYS_accept, libc::SYS_accept4]),
    (Op::Send, &[libc::SYS_sendto, libc::SYS_sendmsg, libc::SYS_sendmmsg]),
    (Op::Receive, &[libc::SYS_recvfrom, libc::SYS_recvmsg, libc::SYS_recvmmsg]),
    (Op::Poll, &[libc::SYS_ppoll, libc::SYS_pselect6, libc::SYS_epoll_pwait, libc::SYS_epoll_pwait2]),
    (Op::Lock, &[libc::SYS_flock, libc::SYS_fcntl]),
    (Op::Close, &[libc::SYS_close]),
    (Op::Ioctl, &[libc::SYS_ioctl]),
    (Op::Mount, &[libc::SYS_mount, libc::SYS_umount2, libc::SYS_pivot_root]),
];

/// Likewise, on older architectures only.
#[cfg(target_arch = "x86_64")]
const LEGACY_OPS: &[(Op, &[libc::c_long])] = &[
    (Op::Read, &[libc::SYS_getdents]),
    (Op::Open, &[libc::SYS_open, libc::SYS_creat]),
    (Op::Unlink, &[libc::SYS_unlink, libc::SYS_rmdir]),
    (Op::Rename, &[libc::SYS_rename, libc::SYS_renameat, libc::SYS_link, libc::SYS_symlink, libc::SYS_mkdir]),
    (Op::Stat, &[libc::SYS_stat, libc::SYS_lstat, libc::SYS_access, libc::SYS_readlink]),
    (Op::Poll, &[libc::SYS_poll, libc::SYS_select, libc::SYS_epoll_wait]),
];
#[cfg(not(target_arch = "x86_64"))]
const LEGACY_OPS: &[(Op, &[libc::c_long])] = &[];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_have_the_names_people_use() {
        let table = ops();
        let op = |number: libc::c_long| Op::from_u8(table[number as usize]);
        assert_eq!(op(libc::SYS_fdatasync), Op::Sync);
        assert_eq!(op(libc::SYS_connect), Op::Connect);
        assert_eq!(op(libc::SYS_getpid), Op::Other);
        // What has a name can block.
        let classes = classes();
        assert!((0..SYSCALL_SLOTS).all(|slot| table[slot] == 0 || classes[slot] != 0));
    }

    #[test]
    fn every_call_has_one_class_and_a_slot() {
        let mut seen = std::collections::HashMap::new();
        for (class, numbers) in CLASSES.iter().chain(LEGACY_CLASSES) {
            for number in *numbers {
                assert!((0..SYSCALL_SLOTS as libc::c_long).contains(number), "{number}");
                assert_eq!(seen.insert(*number, *class), None, "{number} is listed twice");
            }
        }
        let table = classes();
        assert_eq!(Call::from_u8(table[libc::SYS_wait4 as usize]), Call::Wait);
        assert_eq!(Call::from_u8(table[libc::SYS_flock as usize]), Call::Flock);
        assert_eq!(Call::from_u8(table[libc::SYS_getpid as usize]), Call::Unknown);
        assert_eq!(table.iter().filter(|class| **class != 0).count(), seen.len());
    }
}
