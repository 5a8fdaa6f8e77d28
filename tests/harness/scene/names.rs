//! Names in scenes to the kernel's numbers. Only what scenes use; any other number can be written as such.

/// Netlink protocols (`linux/netlink.h`).
const FAMILIES: &[(&str, u16)] =
    &[("ROUTE", 0), ("SOCK_DIAG", 4), ("XFRM", 6), ("NETFILTER", 12), ("GENERIC", 16)];

/// Message types (`linux/rtnetlink.h`; `linux/netfilter`: the subsystem is the high byte).
const MESSAGES: &[(&str, u16)] = &[
    ("RTM_NEWLINK", 16),
    ("RTM_NEWADDR", 20),
    ("RTM_NEWROUTE", 24),
    ("RTM_DELROUTE", 25),
    ("RTM_GETROUTE", 26),
    ("RTM_NEWNEIGH", 28),
    ("IPCTNL_MSG_CT_NEW", 0x0100),
    ("IPCTNL_MSG_CT_DELETE", 0x0102),
    ("IPSET_CMD_ADD", 0x0609),
    ("IPSET_CMD_DEL", 0x060a),
    ("NFT_MSG_NEWRULE", 0x0a06),
    ("NFNL_MSG_BATCH_BEGIN", 16),
];

/// Errnos (`asm-generic/errno-base.h`).
const ERRNOS: &[(&str, u32)] = &[
    ("EPERM", 1),
    ("ENOENT", 2),
    ("ESRCH", 3),
    ("EACCES", 13),
    ("EEXIST", 17),
    ("ENODEV", 19),
    ("EINVAL", 22),
];

/// A netlink protocol's number.
pub(super) fn family(name: &str) -> Result<u16, String> {
    look_up(FAMILIES, name)
}

/// A message type, and a generic command behind a slash: `RTM_NEWROUTE`, `27/3`.
pub(super) fn message(name: &str) -> Result<(u16, u16), String> {
    let (message, command) = name.split_once('/').unwrap_or((name, "0"));
    Ok((look_up(MESSAGES, message)?, look_up(&[], command)?))
}

/// An errno.
pub(super) fn errno(name: &str) -> Result<u32, String> {
    look_up(ERRNOS, name)
}

fn look_up<T: Copy + std::str::FromStr>(table: &[(&str, T)], name: &str) -> Result<T, String> {
    let known = table.iter().find(|(known, _)| *known == name).map(|(_, number)| *number);
    known
        .or_else(|| name.parse().ok())
        .ok_or_else(|| format!("{name:?} is neither a name known here nor a number"))
}
