//! Messages of netfilter's netlink subsystems, as the kernel headers number them.
//! A `-` is a number that is not used.

use super::Names;

/// `linux/netfilter/nfnetlink_conntrack.h`.
pub(super) static CONNTRACK: Names = Names {
    prefix: "IPCTNL_MSG_CT_",
    first: 0,
    names: "\
        IPCTNL_MSG_CT_NEW IPCTNL_MSG_CT_GET IPCTNL_MSG_CT_DELETE IPCTNL_MSG_CT_GET_CTRZERO \
        IPCTNL_MSG_CT_GET_STATS_CPU IPCTNL_MSG_CT_GET_STATS IPCTNL_MSG_CT_GET_DYING \
        IPCTNL_MSG_CT_GET_UNCONFIRMED",
};
/// Likewise.
pub(super) static EXPECT: Names = Names {
    prefix: "IPCTNL_MSG_EXP_",
    first: 0,
    names: "IPCTNL_MSG_EXP_NEW IPCTNL_MSG_EXP_GET IPCTNL_MSG_EXP_DELETE IPCTNL_MSG_EXP_GET_STATS_CPU",
};
/// `linux/netfilter/nfnetlink_queue.h`.
pub(super) static QUEUE: Names = Names {
    prefix: "NFQNL_MSG_",
    first: 0,
    names: "NFQNL_MSG_PACKET NFQNL_MSG_VERDICT NFQNL_MSG_CONFIG NFQNL_MSG_VERDICT_BATCH",
};
/// `linux/netfilter/nfnetlink_log.h`.
pub(super) static ULOG: Names =
    Names { prefix: "NFULNL_MSG_", first: 0, names: "NFULNL_MSG_PACKET NFULNL_MSG_CONFIG" };
/// `linux/netfilter/nfnetlink_osf.h`.
pub(super) static OSF: Names = Names { prefix: "OSF_MSG_", first: 0, names: "OSF_MSG_ADD OSF_MSG_REMOVE" };
/// `linux/netfilter/ipset/ip_set.h`; those from 16 on never leave the tool.
pub(super) static IPSET: Names = Names {
    prefix: "IPSET_CMD_",
    first: 0,
    names: "\
        IPSET_CMD_NONE IPSET_CMD_PROTOCOL IPSET_CMD_CREATE IPSET_CMD_DESTROY IPSET_CMD_FLUSH \
        IPSET_CMD_RENAME IPSET_CMD_SWAP IPSET_CMD_LIST IPSET_CMD_SAVE IPSET_CMD_ADD IPSET_CMD_DEL \
        IPSET_CMD_TEST IPSET_CMD_HEADER IPSET_CMD_TYPE IPSET_CMD_GET_BYNAME IPSET_CMD_GET_BYINDEX \
        IPSET_CMD_RESTORE IPSET_CMD_HELP IPSET_CMD_VERSION IPSET_CMD_QUIT IPSET_CMD_COMMIT",
};
/// `linux/netfilter/nfnetlink_acct.h`.
pub(super) static ACCT: Names = Names {
    prefix: "NFNL_MSG_ACCT_",
    first: 0,
    names: "\
        NFNL_MSG_ACCT_NEW NFNL_MSG_ACCT_GET NFNL_MSG_ACCT_GET_CTRZERO NFNL_MSG_ACCT_DEL \
        NFNL_MSG_ACCT_OVERQUOTA",
};
/// `linux/netfilter/nfnetlink_cttimeout.h`.
pub(super) static TIMEOUT: Names = Names {
    prefix: "IPCTNL_MSG_TIMEOUT_",
    first: 0,
    names: "\
        IPCTNL_MSG_TIMEOUT_NEW IPCTNL_MSG_TIMEOUT_GET IPCTNL_MSG_TIMEOUT_DELETE \
        IPCTNL_MSG_TIMEOUT_DEFAULT_SET IPCTNL_MSG_TIMEOUT_DEFAULT_GET",
};
/// `linux/netfilter/nfnetlink_cthelper.h`.
pub(super) static HELPER: Names = Names {
    prefix: "NFNL_MSG_CTHELPER_",
    first: 0,
    names: "NFNL_MSG_CTHELPER_NEW NFNL_MSG_CTHELPER_GET NFNL_MSG_CTHELPER_DEL",
};
/// `linux/netfilter/nf_tables.h`.
pub(super) static NFTABLES: Names = Names {
    prefix: "NFT_MSG_",
    first: 0,
    names: "\
        NFT_MSG_NEWTABLE NFT_MSG_GETTABLE NFT_MSG_DELTABLE \
        NFT_MSG_NEWCHAIN NFT_MSG_GETCHAIN NFT_MSG_DELCHAIN \
        NFT_MSG_NEWRULE NFT_MSG_GETRULE NFT_MSG_DELRULE \
        NFT_MSG_NEWSET NFT_MSG_GETSET NFT_MSG_DELSET \
        NFT_MSG_NEWSETELEM NFT_MSG_GETSETELEM NFT_MSG_DELSETELEM \
        NFT_MSG_NEWGEN NFT_MSG_GETGEN NFT_MSG_TRACE \
        NFT_MSG_NEWOBJ NFT_MSG_GETOBJ NFT_MSG_DELOBJ \
        NFT_MSG_GETOBJ_RESET NFT_MSG_NEWFLOWTABLE NFT_MSG_GETFLOWTABLE \
        NFT_MSG_DELFLOWTABLE NFT_MSG_GETRULE_RESET NFT_MSG_DESTROYTABLE \
        NFT_MSG_DESTROYCHAIN NFT_MSG_DESTROYRULE NFT_MSG_DESTROYSET \
        NFT_MSG_DESTROYSETELEM NFT_MSG_DESTROYOBJ NFT_MSG_DESTROYFLOWTABLE \
        NFT_MSG_GETSETELEM_RESET",
};
/// `linux/netfilter/nf_tables_compat.h`.
pub(super) static COMPAT: Names =
    Names { prefix: "NFNL_MSG_COMPAT_", first: 0, names: "NFNL_MSG_COMPAT_GET" };
/// `linux/netfilter/nfnetlink_hook.h`.
pub(super) static HOOK: Names = Names { prefix: "NFNL_MSG_HOOK_", first: 0, names: "NFNL_MSG_HOOK_GET" };

/// Subsystems by number (`linux/netfilter/nfnetlink.h`), with their messages.
pub(super) static SUBSYSTEMS: [(&str, Option<&Names>); 13] = [
    ("none", None),
    ("conntrack", Some(&CONNTRACK)),
    ("conntrack_exp", Some(&EXPECT)),
    ("queue", Some(&QUEUE)),
    ("ulog", Some(&ULOG)),
    ("osf", Some(&OSF)),
    ("ipset", Some(&IPSET)),
    ("acct", Some(&ACCT)),
    ("timeout", Some(&TIMEOUT)),
    ("helper", Some(&HELPER)),
    ("nftables", Some(&NFTABLES)),
    ("compat", Some(&COMPAT)),
    ("hook", Some(&HOOK)),
];
