//! Commands of generic netlink families, as the kernel headers number them.
//! A `-` is a number that is not used.

use super::Names;

/// `linux/genetlink.h`.
pub(super) static CTRL: Names = Names {
    prefix: "CTRL_CMD_",
    first: 1,
    names: "\
        CTRL_CMD_NEWFAMILY CTRL_CMD_DELFAMILY CTRL_CMD_GETFAMILY CTRL_CMD_NEWOPS CTRL_CMD_DELOPS \
        CTRL_CMD_GETOPS CTRL_CMD_NEWMCAST_GRP CTRL_CMD_DELMCAST_GRP CTRL_CMD_GETMCAST_GRP \
        CTRL_CMD_GETPOLICY",
};
/// `linux/ip_vs.h`.
pub(super) static IPVS: Names = Names {
    prefix: "IPVS_CMD_",
    first: 1,
    names: "\
        IPVS_CMD_NEW_SERVICE IPVS_CMD_SET_SERVICE IPVS_CMD_DEL_SERVICE IPVS_CMD_GET_SERVICE \
        IPVS_CMD_NEW_DEST IPVS_CMD_SET_DEST IPVS_CMD_DEL_DEST IPVS_CMD_GET_DEST IPVS_CMD_NEW_DAEMON \
        IPVS_CMD_DEL_DAEMON IPVS_CMD_GET_DAEMON IPVS_CMD_SET_CONFIG IPVS_CMD_GET_CONFIG \
        IPVS_CMD_SET_INFO IPVS_CMD_GET_INFO IPVS_CMD_ZERO IPVS_CMD_FLUSH",
};
/// `linux/wireguard.h`.
pub(super) static WIREGUARD: Names =
    Names { prefix: "WG_CMD_", first: 0, names: "WG_CMD_GET_DEVICE WG_CMD_SET_DEVICE" };
/// `linux/ethtool_netlink.h`.
pub(super) static ETHTOOL: Names = Names {
    prefix: "ETHTOOL_MSG_",
    first: 1,
    names: "\
        ETHTOOL_MSG_STRSET_GET ETHTOOL_MSG_LINKINFO_GET ETHTOOL_MSG_LINKINFO_SET \
        ETHTOOL_MSG_LINKMODES_GET ETHTOOL_MSG_LINKMODES_SET ETHTOOL_MSG_LINKSTATE_GET \
        ETHTOOL_MSG_DEBUG_GET ETHTOOL_MSG_DEBUG_SET ETHTOOL_MSG_WOL_GET ETHTOOL_MSG_WOL_SET \
        ETHTOOL_MSG_FEATURES_GET ETHTOOL_MSG_FEATURES_SET ETHTOOL_MSG_PRIVFLAGS_GET \
        ETHTOOL_MSG_PRIVFLAGS_SET ETHTOOL_MSG_RINGS_GET ETHTOOL_MSG_RINGS_SET ETHTOOL_MSG_CHANNELS_GET \
        ETHTOOL_MSG_CHANNELS_SET ETHTOOL_MSG_COALESCE_GET ETHTOOL_MSG_COALESCE_SET ETHTOOL_MSG_PAUSE_GET \
        ETHTOOL_MSG_PAUSE_SET ETHTOOL_MSG_EEE_GET ETHTOOL_MSG_EEE_SET ETHTOOL_MSG_TSINFO_GET \
        ETHTOOL_MSG_CABLE_TEST_ACT ETHTOOL_MSG_CABLE_TEST_TDR_ACT ETHTOOL_MSG_TUNNEL_INFO_GET \
        ETHTOOL_MSG_FEC_GET ETHTOOL_MSG_FEC_SET ETHTOOL_MSG_MODULE_EEPROM_GET ETHTOOL_MSG_STATS_GET \
        ETHTOOL_MSG_PHC_VCLOCKS_GET ETHTOOL_MSG_MODULE_GET ETHTOOL_MSG_MODULE_SET ETHTOOL_MSG_PSE_GET \
        ETHTOOL_MSG_PSE_SET ETHTOOL_MSG_RSS_GET ETHTOOL_MSG_PLCA_GET_CFG ETHTOOL_MSG_PLCA_SET_CFG \
        ETHTOOL_MSG_PLCA_GET_STATUS ETHTOOL_MSG_MM_GET ETHTOOL_MSG_MM_SET \
        ETHTOOL_MSG_MODULE_FW_FLASH_ACT ETHTOOL_MSG_PHY_GET ETHTOOL_MSG_TSCONFIG_GET \
        ETHTOOL_MSG_TSCONFIG_SET ETHTOOL_MSG_RSS_SET ETHTOOL_MSG_RSS_CREATE_ACT \
        ETHTOOL_MSG_RSS_DELETE_ACT",
};
/// `linux/netdev.h`.
pub(super) static NETDEV: Names = Names {
    prefix: "NETDEV_CMD_",
    first: 1,
    names: "\
        NETDEV_CMD_DEV_GET NETDEV_CMD_DEV_ADD_NTF NETDEV_CMD_DEV_DEL_NTF NETDEV_CMD_DEV_CHANGE_NTF \
        NETDEV_CMD_PAGE_POOL_GET NETDEV_CMD_PAGE_POOL_ADD_NTF NETDEV_CMD_PAGE_POOL_DEL_NTF \
        NETDEV_CMD_PAGE_POOL_CHANGE_NTF NETDEV_CMD_PAGE_POOL_STATS_GET NETDEV_CMD_QUEUE_GET \
        NETDEV_CMD_NAPI_GET NETDEV_CMD_QSTATS_GET NETDEV_CMD_BIND_RX NETDEV_CMD_NAPI_SET \
        NETDEV_CMD_BIND_TX",
};
/// `linux/taskstats.h`, and `linux/cgroupstats.h` from 4 on.
pub(super) static TASKSTATS: Names = Names {
    prefix: "TASKSTATS_CMD_",
    first: 1,
    names: "TASKSTATS_CMD_GET TASKSTATS_CMD_NEW - CGROUPSTATS_CMD_GET CGROUPSTATS_CMD_NEW",
};
/// `linux/tcp_metrics.h`.
pub(super) static TCP_METRICS: Names =
    Names { prefix: "TCP_METRICS_CMD_", first: 1, names: "TCP_METRICS_CMD_GET TCP_METRICS_CMD_DEL" };
/// `linux/mptcp_pm.h`.
pub(super) static MPTCP: Names = Names {
    prefix: "MPTCP_PM_CMD_",
    first: 1,
    names: "\
        MPTCP_PM_CMD_ADD_ADDR MPTCP_PM_CMD_DEL_ADDR MPTCP_PM_CMD_GET_ADDR MPTCP_PM_CMD_FLUSH_ADDRS \
        MPTCP_PM_CMD_SET_LIMITS MPTCP_PM_CMD_GET_LIMITS MPTCP_PM_CMD_SET_FLAGS MPTCP_PM_CMD_ANNOUNCE \
        MPTCP_PM_CMD_REMOVE MPTCP_PM_CMD_SUBFLOW_CREATE MPTCP_PM_CMD_SUBFLOW_DESTROY",
};
/// `linux/seg6_genl.h`.
pub(super) static SEG6: Names = Names {
    prefix: "SEG6_CMD_",
    first: 1,
    names: "SEG6_CMD_SETHMAC SEG6_CMD_DUMPHMAC SEG6_CMD_SET_TUNSRC SEG6_CMD_GET_TUNSRC",
};
/// `linux/fou.h`.
pub(super) static FOU: Names =
    Names { prefix: "FOU_CMD_", first: 1, names: "FOU_CMD_ADD FOU_CMD_DEL FOU_CMD_GET" };
/// `linux/l2tp.h`.
pub(super) static L2TP: Names = Names {
    prefix: "L2TP_CMD_",
    first: 0,
    names: "\
        L2TP_CMD_NOOP L2TP_CMD_TUNNEL_CREATE L2TP_CMD_TUNNEL_DELETE L2TP_CMD_TUNNEL_MODIFY \
        L2TP_CMD_TUNNEL_GET L2TP_CMD_SESSION_CREATE L2TP_CMD_SESSION_DELETE L2TP_CMD_SESSION_MODIFY \
        L2TP_CMD_SESSION_GET",
};
/// `linux/openvswitch.h`, as are the next three.
pub(super) static OVS_DATAPATH: Names = Names {
    prefix: "OVS_DP_CMD_",
    first: 1,
    names: "OVS_DP_CMD_NEW OVS_DP_CMD_DEL OVS_DP_CMD_GET OVS_DP_CMD_SET",
};
/// Ports.
pub(super) static OVS_VPORT: Names = Names {
    prefix: "OVS_VPORT_CMD_",
    first: 1,
    names: "OVS_VPORT_CMD_NEW OVS_VPORT_CMD_DEL OVS_VPORT_CMD_GET OVS_VPORT_CMD_SET",
};
/// Flows.
pub(super) static OVS_FLOW: Names = Names {
    prefix: "OVS_FLOW_CMD_",
    first: 1,
    names: "OVS_FLOW_CMD_NEW OVS_FLOW_CMD_DEL OVS_FLOW_CMD_GET OVS_FLOW_CMD_SET",
};
/// Packets.
pub(super) static OVS_PACKET: Names = Names {
    prefix: "OVS_PACKET_CMD_",
    first: 1,
    names: "OVS_PACKET_CMD_MISS OVS_PACKET_CMD_ACTION OVS_PACKET_CMD_EXECUTE",
};

/// The commands of a family, by the name it is registered under.
pub(super) fn commands(family: &str) -> Option<&'static Names> {
    Some(match family {
        "nlctrl" => &CTRL,
        "IPVS" => &IPVS,
        "wireguard" => &WIREGUARD,
        "ethtool" => &ETHTOOL,
        "netdev" => &NETDEV,
        "TASKSTATS" => &TASKSTATS,
        "tcp_metrics" => &TCP_METRICS,
        "mptcp_pm" => &MPTCP,
        "SEG6" => &SEG6,
        "fou" => &FOU,
        "l2tp" => &L2TP,
        "ovs_datapath" => &OVS_DATAPATH,
        "ovs_vport" => &OVS_VPORT,
        "ovs_flow" => &OVS_FLOW,
        "ovs_packet" => &OVS_PACKET,
        _ => return None,
    })
}
