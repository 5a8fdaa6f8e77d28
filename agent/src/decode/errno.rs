//! Names of error numbers. In: a positive errno. Out: `ENOENT`, `EACCES`.
//!
//! Source: `asm-generic/errno-base.h` and `asm-generic/errno.h`, which x86-64 and arm64 use unchanged, and
//! `linux/errno.h` for numbers that the kernel keeps to itself but that tracepoints and netlink let out.

use super::name_list::nth;
use std::borrow::Cow;

/// From 1 on.
const NAMES: &str = "\
    EPERM ENOENT ESRCH EINTR EIO ENXIO E2BIG ENOEXEC \
    EBADF ECHILD EAGAIN ENOMEM EACCES EFAULT ENOTBLK EBUSY \
    EEXIST EXDEV ENODEV ENOTDIR EISDIR EINVAL ENFILE EMFILE \
    ENOTTY ETXTBSY EFBIG ENOSPC ESPIPE EROFS EMLINK EPIPE \
    EDOM ERANGE EDEADLK ENAMETOOLONG ENOLCK ENOSYS ENOTEMPTY ELOOP \
    - ENOMSG EIDRM ECHRNG EL2NSYNC EL3HLT EL3RST ELNRNG \
    EUNATCH ENOCSI EL2HLT EBADE EBADR EXFULL ENOANO EBADRQC \
    EBADSLT - EBFONT ENOSTR ENODATA ETIME ENOSR ENONET \
    ENOPKG EREMOTE ENOLINK EADV ESRMNT ECOMM EPROTO EMULTIHOP \
    EDOTDOT EBADMSG EOVERFLOW ENOTUNIQ EBADFD EREMCHG ELIBACC ELIBBAD \
    ELIBSCN ELIBMAX ELIBEXEC EILSEQ ERESTART ESTRPIPE EUSERS ENOTSOCK \
    EDESTADDRREQ EMSGSIZE EPROTOTYPE ENOPROTOOPT EPROTONOSUPPORT ESOCKTNOSUPPORT EOPNOTSUPP EPFNOSUPPORT \
    EAFNOSUPPORT EADDRINUSE EADDRNOTAVAIL ENETDOWN ENETUNREACH ENETRESET ECONNABORTED ECONNRESET \
    ENOBUFS EISCONN ENOTCONN ESHUTDOWN ETOOMANYREFS ETIMEDOUT ECONNREFUSED EHOSTDOWN \
    EHOSTUNREACH EALREADY EINPROGRESS ESTALE EUCLEAN ENOTNAM ENAVAIL EISNAM \
    EREMOTEIO EDQUOT ENOMEDIUM EMEDIUMTYPE ECANCELED ENOKEY EKEYEXPIRED EKEYREVOKED \
    EKEYREJECTED EOWNERDEAD ENOTRECOVERABLE ERFKILL EHWPOISON";
/// The kernel's own, from [`INTERNAL_FIRST`] on.
const INTERNAL: &str = "\
    ERESTARTSYS ERESTARTNOINTR ERESTARTNOHAND ENOIOCTLCMD ERESTART_RESTARTBLOCK EPROBE_DEFER EOPENSTALE \
    ENOPARAM - EBADHANDLE ENOTSYNC EBADCOOKIE ENOTSUPP ETOOSMALL ESERVERFAULT EBADTYPE EJUKEBOX \
    EIOCBQUEUED ERECALLCONFLICT ENOGRACE";
const INTERNAL_FIRST: u32 = 512;

/// The standard name of a positive error number; `errno 4095` for one without a name.
pub fn errno_name(errno: u32) -> Cow<'static, str> {
    let named = |list, first: u32| nth(list, errno.checked_sub(first)? as usize);
    match named(NAMES, 1).or_else(|| named(INTERNAL, INTERNAL_FIRST)) {
        Some(name) => Cow::Borrowed(name),
        None => Cow::Owned(format!("errno {errno}")),
    }
}

#[cfg(test)]
mod tests {
    use super::errno_name;

    #[test]
    fn names_stand_at_the_numbers_of_the_c_library() {
        for (errno, name) in [
            (libc::EPERM, "EPERM"),
            (libc::ENOENT, "ENOENT"),
            (libc::EAGAIN, "EAGAIN"),
            (libc::EACCES, "EACCES"),
            (libc::EBUSY, "EBUSY"),
            (libc::EEXIST, "EEXIST"),
            (libc::EINVAL, "EINVAL"),
            (libc::ETXTBSY, "ETXTBSY"),
            (libc::EPIPE, "EPIPE"),
            (libc::ELOOP, "ELOOP"),
            (libc::ENOMSG, "ENOMSG"),
            (libc::EBADSLT, "EBADSLT"),
            (libc::EBFONT, "EBFONT"),
            (libc::EOVERFLOW, "EOVERFLOW"),
            (libc::EILSEQ, "EILSEQ"),
            (libc::ENOTSOCK, "ENOTSOCK"),
            (libc::EOPNOTSUPP, "EOPNOTSUPP"),
            (libc::ENETUNREACH, "ENETUNREACH"),
            (libc::ENOBUFS, "ENOBUFS"),
            (libc::ETIMEDOUT, "ETIMEDOUT"),
            (libc::ESTALE, "ESTALE"),
            (libc::ECANCELED, "ECANCELED"),
            (libc::EHWPOISON, "EHWPOISON"),
        ] {
            assert_eq!(errno_name(errno as u32), name);
        }
    }

    /// glibc knows all but the kernel's own numbers; its texts tell which exist.
    #[test]
    fn every_number_the_c_library_knows_has_a_name_and_no_other() {
        for errno in 1..=400 {
            let text = std::io::Error::from_raw_os_error(errno).to_string();
            let named = errno_name(errno as u32).starts_with('E');
            assert_eq!(named, !text.starts_with("Unknown error"), "{errno}: {text}");
        }
    }

    #[test]
    fn the_kernels_own_and_numbers_without_a_name() {
        for (errno, name) in [
            (512, "ERESTARTSYS"),
            (514, "ERESTARTNOHAND"),
            (519, "ENOPARAM"),
            (520, "errno 520"),
            (521, "EBADHANDLE"),
            (524, "ENOTSUPP"),
            (531, "ENOGRACE"),
            (532, "errno 532"),
            (0, "errno 0"),
            (41, "errno 41"),
            (58, "errno 58"),
            (134, "errno 134"),
            (511, "errno 511"),
            (u32::MAX, "errno 4294967295"),
        ] {
            assert_eq!(errno_name(errno), name);
        }
    }
}
