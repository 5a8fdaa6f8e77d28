//! What usually helps against a command that is run too often. In: an argv class. Out: one sentence.

/// Programs that run another one: the fix is that one's.
const WRAPPERS: &[&str] = &[
    "chroot", "doas", "env", "flock", "ionice", "nice", "nohup", "nsenter", "setpriv", "setsid", "stdbuf",
    "sudo", "taskset", "timeout", "unshare", "xargs",
];

/// Advice by binary name.
const FIXES: &[(&[&str], &str)] = &[
    (
        &["ipset"],
        "write all entries to one `ipset restore` on its standard input: one process per loop, not one per entry",
    ),
    (
        &[
            "iptables",
            "ip6tables",
            "iptables-legacy",
            "ip6tables-legacy",
            "iptables-nft",
            "ip6tables-nft",
            "xtables-nft-multi",
            "xtables-legacy-multi",
        ],
        "write all rules to one `iptables-restore --noflush`: each single `iptables` call reads and writes the \
         whole table, and takes the same lock",
    ),
    (
        &["ebtables", "arptables"],
        "write all rules to one `ebtables-restore --noflush` or `arptables-restore`",
    ),
    (&["nft"], "put all commands into one `nft -f -`, which is also applied as one transaction"),
    (&["ip"], "put all commands into one `ip -batch -`, or send the netlink messages from the daemon itself"),
    (&["tc"], "put all commands into one `tc -batch -`, or send the netlink messages from the daemon itself"),
    (
        &["bridge"],
        "put all commands into one `bridge -batch -`, or send the netlink messages from the daemon",
    ),
    (
        &["conntrack"],
        "delete many entries by one filter, or send the ctnetlink messages from the daemon itself",
    ),
    (
        &["ipvsadm"],
        "write all services to one `ipvsadm --restore`, or send the netlink messages from the daemon",
    ),
    (&["sysctl"], "write to the files below /proc/sys from the daemon, or give one `sysctl -w` all of them"),
    (
        &["runc", "crun", "youki"],
        "each exec probe starts the runtime anew: raise its period, or make it an HTTP, TCP or gRPC probe, which \
         the kubelet does by itself",
    ),
    (&["modprobe", "lsmod"], "look for modules once, when the daemon starts"),
    (&["mount", "umount"], "call mount(2) and umount(2) from the daemon"),
    (&["systemctl", "busctl"], "ask systemd over D-Bus from the daemon, on one connection"),
    (
        &["kubectl", "crictl", "docker", "nerdctl"],
        "use the client library: one connection, and watches in place of polls",
    ),
    (&["curl", "wget"], "make the requests from the daemon, on connections that stay open"),
    (
        &["ash", "bash", "dash", "ksh", "sh", "zsh", "busybox", "python", "python3", "perl"],
        "do the work in the daemon, or feed one interpreter that stays: each of these is started for a few lines",
    ),
    (
        &[
            "awk", "basename", "cat", "cut", "date", "dirname", "expr", "find", "grep", "head", "id", "jq",
            "ls", "mkdir", "mktemp", "readlink", "rm", "sed", "seq", "sleep", "sort", "stat", "tail", "test",
            "touch", "tr", "uniq", "wc",
        ],
        "do it in the program or with the shell's own means: the work is far smaller than starting a process for it",
    ),
];

/// When nothing better is known.
const GENERIC: &str = "do this in the daemon itself, hand many requests to one process, or only what has changed \
                       since the last loop";

/// What usually helps against running this class too often.
pub fn fix(argv_class: &str) -> &'static str {
    let mut words = argv_class.split(' ');
    let binary = words.find(|word| !WRAPPERS.contains(word)).unwrap_or(argv_class);
    // Without a sub-command this is the CNI plugin of that name, not iproute2's tool.
    let plugin = binary == "bridge" && words.next().is_none();
    let row = FIXES.iter().find(|(names, _)| !plugin && names.contains(&binary));
    row.map_or(GENERIC, |(_, fix)| fix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_binary_decides_and_wrappers_are_looked_through() {
        assert!(fix("ipset add").contains("ipset restore"));
        assert!(fix("timeout ipset add").contains("ipset restore"));
        assert!(fix("iptables-nft -A").contains("iptables-restore --noflush"));
        assert!(fix("ip route replace").contains("ip -batch"));
        assert!(fix("nft add").contains("nft -f"));
        assert!(fix("runc exec").contains("probe"));
        assert!(fix("bridge fdb append").contains("bridge -batch"));
        assert_eq!(fix("bridge"), GENERIC, "the CNI plugin");
        assert_eq!(fix("frobnicate sync"), GENERIC);
        assert_eq!(fix(""), GENERIC);
    }

    #[test]
    fn no_binary_has_two_fixes() {
        let mut names: Vec<&str> = FIXES.iter().flat_map(|(names, _)| names.iter().copied()).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
        assert!(names.iter().all(|name| !WRAPPERS.contains(name)));
    }
}
