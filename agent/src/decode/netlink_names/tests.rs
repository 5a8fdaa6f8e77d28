use super::*;

fn none(_: u16) -> Option<&'static str> {
    None
}

/// Families as one machine numbered them.
fn here(id: u16) -> Option<&'static str> {
    match id {
        0x15 => Some("ethtool"),
        0x1a => Some("IPVS"),
        0x1b => Some("wireguard"),
        0x1c => Some("nl80211"),
        0x1d => Some("ovs_flow"),
        0x1e => Some("TASKSTATS"),
        _ => None,
    }
}

#[test]
fn protocols_by_number() {
    for (protocol, name) in [
        (0, "ROUTE"),
        (2, "USERSOCK"),
        (4, "SOCK_DIAG"),
        (6, "XFRM"),
        (7, "SELINUX"),
        (8, "ISCSI"),
        (9, "AUDIT"),
        (10, "FIB_LOOKUP"),
        (11, "CONNECTOR"),
        (12, "NETFILTER"),
        (15, "KOBJECT_UEVENT"),
        (16, "GENERIC"),
        (17, "0x11"),
        (18, "SCSITRANSPORT"),
        (20, "RDMA"),
        (21, "CRYPTO"),
        (22, "SMC"),
        (23, "0x17"),
        (u16::MAX, "0xffff"),
    ] {
        assert_eq!(family(protocol), name);
    }
}

#[test]
fn subsystems_of_netfilter_only() {
    for (protocol, message_type, name) in [
        (12, 0x0100, Some("conntrack")),
        (12, 0x0200, Some("conntrack_exp")),
        (12, 0x0302, Some("queue")),
        (12, 0x0609, Some("ipset")),
        (12, 0x0900, Some("helper")),
        (12, 0x0a06, Some("nftables")),
        (12, 0x0c00, Some("hook")),
        (12, 0x0d00, None),
        (12, 0xffff, None),
        (12, 0x0010, None),
        (0, 0x0609, None),
    ] {
        assert_eq!(subsystem(protocol, message_type), name, "{protocol} {message_type:#x}");
    }
}

/// The ends of every table and the messages that matter most, with their numbers spelled out. All numbers
/// were compared with Linux 6.18's BTF and with the 6.1 headers.
#[test]
fn messages_by_number() {
    for (protocol, message_type, name) in [
        (0, 16, "RTM_NEWLINK"),
        (0, 19, "RTM_SETLINK"),
        (0, 20, "RTM_NEWADDR"),
        (0, 23, "RTM_0x17"),
        (0, 24, "RTM_NEWROUTE"),
        (0, 25, "RTM_DELROUTE"),
        (0, 26, "RTM_GETROUTE"),
        (0, 28, "RTM_NEWNEIGH"),
        (0, 32, "RTM_NEWRULE"),
        (0, 36, "RTM_NEWQDISC"),
        (0, 44, "RTM_NEWTFILTER"),
        (0, 52, "RTM_NEWPREFIX"),
        (0, 58, "RTM_GETMULTICAST"),
        (0, 67, "RTM_SETNEIGHTBL"),
        (0, 72, "RTM_NEWADDRLABEL"),
        (0, 80, "RTM_NEWNETCONF"),
        (0, 90, "RTM_GETNSID"),
        (0, 96, "RTM_NEWCACHEREPORT"),
        (0, 104, "RTM_NEWNEXTHOP"),
        (0, 114, "RTM_GETVLAN"),
        (0, 122, "RTM_GETTUNNEL"),
        (0, 123, "RTM_0x7b"),
        (0, 0x7f, "RTM_0x7f"),
        (4, 18, "TCPDIAG_GETSOCK"),
        (4, 20, "SOCK_DIAG_BY_FAMILY"),
        (4, 21, "SOCK_DESTROY"),
        (4, 22, "SOCK_DIAG_0x16"),
        (6, 16, "XFRM_MSG_NEWSA"),
        (6, 25, "XFRM_MSG_UPDPOLICY"),
        (6, 40, "XFRM_MSG_GETDEFAULT"),
        (7, 17, "SELNL_MSG_POLICYLOAD"),
        (9, 1000, "AUDIT_GET"),
        (9, 1011, "AUDIT_ADD_RULE"),
        (9, 1019, "AUDIT_GET_FEATURE"),
        (9, 1112, "AUDIT_0x458"),
        (12, 0x0010, "NFNL_MSG_BATCH_BEGIN"),
        (12, 0x0011, "NFNL_MSG_BATCH_END"),
        (12, 0x0100, "IPCTNL_MSG_CT_NEW"),
        (12, 0x0102, "IPCTNL_MSG_CT_DELETE"),
        (12, 0x0107, "IPCTNL_MSG_CT_GET_UNCONFIRMED"),
        (12, 0x0203, "IPCTNL_MSG_EXP_GET_STATS_CPU"),
        (12, 0x0301, "NFQNL_MSG_VERDICT"),
        (12, 0x0401, "NFULNL_MSG_CONFIG"),
        (12, 0x0500, "OSF_MSG_ADD"),
        (12, 0x0601, "IPSET_CMD_PROTOCOL"),
        (12, 0x0602, "IPSET_CMD_CREATE"),
        (12, 0x0609, "IPSET_CMD_ADD"),
        (12, 0x060a, "IPSET_CMD_DEL"),
        (12, 0x060d, "IPSET_CMD_TYPE"),
        (12, 0x060f, "IPSET_CMD_GET_BYINDEX"),
        (12, 0x061f, "IPSET_CMD_0x1f"),
        (12, 0x0703, "NFNL_MSG_ACCT_DEL"),
        (12, 0x0804, "IPCTNL_MSG_TIMEOUT_DEFAULT_GET"),
        (12, 0x0902, "NFNL_MSG_CTHELPER_DEL"),
        (12, 0x0a00, "NFT_MSG_NEWTABLE"),
        (12, 0x0a06, "NFT_MSG_NEWRULE"),
        (12, 0x0a0c, "NFT_MSG_NEWSETELEM"),
        (12, 0x0a10, "NFT_MSG_GETGEN"),
        (12, 0x0a18, "NFT_MSG_DELFLOWTABLE"),
        (12, 0x0a1c, "NFT_MSG_DESTROYRULE"),
        (12, 0x0a21, "NFT_MSG_GETSETELEM_RESET"),
        (12, 0x0a30, "NFT_MSG_0x30"),
        (12, 0x0b00, "NFNL_MSG_COMPAT_GET"),
        (12, 0x0c00, "NFNL_MSG_HOOK_GET"),
        (12, 0x0d01, "NFNL_0xd01"),
        (21, 16, "CRYPTO_MSG_NEWALG"),
        (21, 21, "CRYPTO_MSG_GETSTAT"),
        (8, 0x20, "ISCSI 0x20"),
        (20, 0x1401, "RDMA 0x1401"),
        (0x17, 0x10, "0x17 0x10"),
        (0, 1, "NLMSG_NOOP"),
        (12, 2, "NLMSG_ERROR"),
        (11, 3, "NLMSG_DONE"),
        (16, 4, "NLMSG_OVERRUN"),
        (0, 0, "NLMSG_0x0"),
        (0, 15, "NLMSG_0xf"),
    ] {
        assert_eq!(message_name(protocol, message_type, 0, &none), name, "{protocol} {message_type:#x}");
    }
}

#[test]
fn generic_commands_by_their_family() {
    for (family, command, name) in [
        (0x10, 3, "CTRL_CMD_GETFAMILY"),
        (0x10, 10, "CTRL_CMD_GETPOLICY"),
        (0x10, 11, "CTRL_CMD_0xb"),
        (0x15, 1, "ETHTOOL_MSG_STRSET_GET"),
        (0x15, 38, "ETHTOOL_MSG_RSS_GET"),
        (0x1a, 1, "IPVS_CMD_NEW_SERVICE"),
        (0x1a, 5, "IPVS_CMD_NEW_DEST"),
        (0x1a, 17, "IPVS_CMD_FLUSH"),
        (0x1a, 0, "IPVS_CMD_0x0"),
        (0x1b, 0, "WG_CMD_GET_DEVICE"),
        (0x1b, 1, "WG_CMD_SET_DEVICE"),
        (0x1c, 5, "GENL nl80211/5"),
        (0x1d, 1, "OVS_FLOW_CMD_NEW"),
        (0x1e, 3, "TASKSTATS_CMD_0x3"),
        (0x1e, 4, "CGROUPSTATS_CMD_GET"),
        (0x2c, 3, "GENL 0x2c/3"),
    ] {
        assert_eq!(message_name(16, family, command, &here), name);
    }
    assert_eq!(message_name(16, 0x1c, 3, &none), "GENL 0x1c/3");
}

#[test]
fn every_number_has_a_name_of_visible_characters() {
    for protocol in 0..=32 {
        for message_type in 0..=u16::MAX {
            let name = message_name(protocol, message_type, message_type, &here);
            assert!(!name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' '));
        }
    }
}
