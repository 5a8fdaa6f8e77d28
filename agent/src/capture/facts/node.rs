//! The machine the agent runs on. In: `/proc` and `/sys`. Out: the `Node` fact.

use crate::decode::fact::Node;
use std::{fs, os::unix::fs::MetadataExt, path::Path};

/// Inode number of the initial pid namespace (`PROC_PID_INIT_INO`, linux/proc_ns.h), the same on every boot.
const INITIAL_PID_NS: u64 = 0xEFFF_FFFC;

/// Reads what there is to know. `root` is `/` but in tests. `node_name` is what Kubernetes calls this node, if
/// the agent was told. What cannot be read stays empty: none of it is worth not starting for.
pub fn node(root: &Path, node_name: Option<&str>, argv_mode: &str) -> Node {
    let sysctl = |name: &str| read(&root.join("proc/sys/kernel").join(name));
    let pid_ns = fs::metadata(root.join("proc/self/ns/pid")).map(|ns| ns.ino());
    let host_pid_ns = pid_ns.is_ok_and(|inode| inode == INITIAL_PID_NS);
    Node {
        node_name: match node_name {
            Some(name) => name.to_owned(),
            None => sysctl("hostname").unwrap_or_default(),
        },
        kernel_release: sysctl("osrelease").unwrap_or_default(),
        cpus: read(&root.join("sys/devices/system/cpu/online")).map_or(0, |list| count_cpus(&list)),
        boot_id: sysctl("random/boot_id"),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        argv_mode: argv_mode.to_owned(),
        clk_tck: clk_tck(),
        host_pid_ns,
        // The kernel's records have the host's pids.
        agent_pid: if host_pid_ns { std::process::id() } else { 0 },
        api_servers: super::api_server::find(root, |name| std::env::var(name).ok()),
    }
}

/// Ticks per second of the times in `/proc`.
pub fn clk_tck() -> u32 {
    // SAFETY: sysconf reads no memory of ours.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    // 100 on every architecture Linux has now.
    u32::try_from(ticks).ok().filter(|ticks| *ticks > 0).unwrap_or(100)
}

fn read(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// How many CPUs a kernel's list (`0-3,8,10-11`) names; 0 if it makes no sense.
fn count_cpus(list: &str) -> u32 {
    let count = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (first.parse::<u32>().ok()?, last.parse::<u32>().ok()?);
        last.checked_sub(first)?.checked_add(1)
    };
    list.split(',').map(count).try_fold(0u32, |sum, more| sum.checked_add(more?)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus() {
        for (list, cpus) in [("0", 1), ("0-1", 2), ("0-3,8,10-11", 7), ("", 0), ("x", 0), ("3-1", 0)] {
            assert_eq!(count_cpus(list), cpus, "{list}");
        }
        assert_eq!(count_cpus("0-4294967295"), 0);
        assert_eq!(count_cpus("0-4294967294,0-9"), 0);
    }

    #[test]
    fn a_tree_with_everything_and_one_with_nothing() {
        let root = tempfile::tempdir().expect("a directory");
        let empty = node(root.path(), None, "full");
        assert_eq!((empty.node_name.as_str(), empty.cpus, empty.boot_id.clone()), ("", 0, None));
        assert!(!empty.host_pid_ns);

        let put = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
            fs::write(path, text).expect("a file");
        };
        put("proc/sys/kernel/hostname", "worker-1\n");
        put("proc/sys/kernel/osrelease", "6.18.0\n");
        put("proc/sys/kernel/random/boot_id", "8f936013-0952-4937-a405-94a8abd75f8b\n");
        put("sys/devices/system/cpu/online", "0-1\n");
        let full = node(root.path(), None, "redacted");
        assert_eq!((full.node_name.as_str(), full.kernel_release.as_str()), ("worker-1", "6.18.0"));
        assert_eq!((full.cpus, full.argv_mode.as_str()), (2, "redacted"));
        assert_eq!(full.boot_id.as_deref(), Some("8f936013-0952-4937-a405-94a8abd75f8b"));
        assert_eq!(node(root.path(), Some("ip-10-0-0-1"), "full").node_name, "ip-10-0-0-1");
    }

    #[test]
    fn this_machine() {
        let node = node(Path::new("/"), None, "full");
        assert!(!node.node_name.is_empty() && node.kernel_release.contains('.'), "{node:?}");
        assert!(node.cpus > 0 && node.clk_tck > 0 && node.boot_id.is_some(), "{node:?}");
    }
}
