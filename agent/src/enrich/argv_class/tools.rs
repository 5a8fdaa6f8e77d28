//! The tools of this field, and how each one's command line is laid out. A tool that is not here is treated
//! as unknown, which is right for most; a row is needed where options with values come before the
//! sub-command, where the command is an option, or where the first argument is data.

use super::iproute;
use super::shape::{Flags, Interpreter, List, Shape, Words, Wrapper};

/// One row.
struct Tool {
    /// Base names it is run under.
    names: List,
    shape: Shape,
}

/// The layout of a tool, by the base name it was run under; `None` for an unknown tool.
pub(super) fn shape(name: &[u8]) -> Option<&'static Shape> {
    // Names that end in a version: python3.11, containerd-shim-runc-v2, bash5.
    let version = name.iter().rev().take_while(|byte| byte.is_ascii_digit() || **byte == b'.').count();
    let stem = &name[..name.len() - version];
    named(TOOLS, &TOOLS_BY_NAME, name).or_else(|| named(VERSIONED, &VERSIONED_BY_NAME, stem))
}

/// A name, and the row of its table that has it.
type Named = (&'static [u8], usize);

/// The tables below by name, made by the compiler: every exec is looked up, and reading two hundred names for each
/// would cost more than all else that is done with it.
static TOOLS_BY_NAME: [Named; names(TOOLS)] = by_name(TOOLS);
static VERSIONED_BY_NAME: [Named; names(VERSIONED)] = by_name(VERSIONED);

fn named(rows: &'static [Tool], by_name: &[Named], name: &[u8]) -> Option<&'static Shape> {
    let found = by_name.binary_search_by(|(known, _)| (*known).cmp(name)).ok()?;
    Some(&rows[by_name[found].1].shape)
}

/// How many names a table has.
const fn names(rows: &[Tool]) -> usize {
    let (mut row, mut count) = (0, 0);
    while row < rows.len() {
        let mut rest = rows[row].names.as_bytes();
        while !rest.is_empty() {
            (_, rest) = first_name(rest);
            count += 1;
        }
        row += 1;
    }
    count
}

const fn by_name<const N: usize>(rows: &'static [Tool]) -> [Named; N] {
    let mut sorted: [Named; N] = [(b"", 0); N];
    let (mut row, mut count) = (0, 0);
    while row < rows.len() {
        let mut rest = rows[row].names.as_bytes();
        while !rest.is_empty() {
            let name;
            (name, rest) = first_name(rest);
            let mut at = count;
            while at > 0 && is_before(name, sorted[at - 1].0) {
                sorted[at] = sorted[at - 1];
                at -= 1;
            }
            sorted[at] = (name, row);
            count += 1;
        }
        row += 1;
    }
    sorted
}

/// The first word of a list, and what follows the space behind it.
const fn first_name(list: &[u8]) -> (&[u8], &[u8]) {
    let mut len = 0;
    while len < list.len() && list[len] != b' ' {
        len += 1;
    }
    let (name, rest) = list.split_at(len);
    (name, if rest.is_empty() { rest } else { rest.split_at(1).1 })
}

const fn is_before(one: &[u8], other: &[u8]) -> bool {
    let mut at = 0;
    while at < one.len() && at < other.len() {
        if one[at] != other[at] {
            return one[at] < other[at];
        }
        at += 1;
    }
    one.len() < other.len()
}

/// Whether one file is many commands, told apart by `argv[0]` or by the first argument.
pub(super) fn is_multi_call(name: &[u8]) -> bool {
    matches!(shape(name), Some(Shape::MultiCall))
}

/// Most rows take nothing special.
const PLAIN: Words = Words { valued: "", groups: "", commands: "" };

static IPTABLES: Flags = Flags {
    commands: "ADIRLSFZNXPECVh",
    valued: "tpsdjgiomMc",
    attached: "wW",
    longs: "\
        --append=-A --delete=-D --insert=-I --replace=-R --list=-L --list-rules=-S --flush=-F --zero=-Z \
        --new-chain=-N --delete-chain=-X --policy=-P --rename-chain=-E --check=-C --version=-V --help=-h",
};
static CONNTRACK: Flags = Flags {
    commands: "LGDIUEFCSAVh",
    valued: "sdpfrqtueaozmlcwb",
    attached: "ngj",
    longs: "\
        --dump=-L --list=-L --get=-G --delete=-D --create=-I --add=-A --update=-U --event=-E --flush=-F \
        --count=-C --stats=-S",
};
static IPVSADM: Flags = Flags {
    commands: "AEDCRSadeLlZ",
    valued: "tufsrwxyMb",
    attached: "pO",
    longs: "\
        --add-service=-A --edit-service=-E --delete-service=-D --clear=-C --restore=-R --save=-S \
        --add-server=-a --edit-server=-e --delete-server=-d --list=-L --zero=-Z --set=--set",
};
static ETHTOOL: Flags = Flags {
    commands: "aAcCgGikKdeEprPtsSnNuUwWfxXTmlLhQ",
    valued: "",
    attached: "",
    longs: "\
        --show-features=-k --show-offload=-k --features=-K --offload=-K --driver=-i --statistics=-S \
        --change=-s --show-ring=-g --set-ring=-G --show-coalesce=-c --coalesce=-C --show-channels=-l \
        --set-channels=-L --show-fec=--show-fec --show-priv-flags=--show-priv-flags",
};
static SYSCTL: Flags = Flags {
    commands: "wpa",
    valued: "r",
    attached: "",
    longs: "--write=-w --load=-p --all=-a --system=--system",
};
static MODPROBE: Flags = Flags { commands: "r", valued: "dCS", attached: "", longs: "--remove=-r" };
/// Tools that take a command line for another shell as `-c`.
static DASH_C: Flags = Flags { commands: "c", valued: "", attached: "", longs: "--command=-c" };

static IPSET: Words = Words {
    valued: "-o -output --output -f -file --file",
    groups: "",
    commands: "\
        -N=create --create=create -A=add --add=add -D=del --del=del -T=test --test=test -X=destroy \
        --destroy=destroy -L=list --list=list -S=save --save=save -R=restore --restore=restore -F=flush \
        --flush=flush -E=rename --rename=rename -W=swap --swap=swap",
};
static NFT: Words = Words {
    valued: "-I --includepath -D --define",
    groups: "add create insert replace delete destroy list flush reset get rename",
    commands: "-f=-f --file=-f -jf=-f -nf=-f -cf=-f -i=-i --interactive=-i",
};
static RUNC: Words =
    Words { valued: "--root --log --log-format --log-level --criu --rootless --cgroup-manager", ..PLAIN };
static SHIM: Words = Words {
    valued: "\
        -namespace -address -publish-binary -id -bundle -socket -runtime-root -workdir -criu --namespace \
        --address --publish-binary --id --bundle",
    ..PLAIN
};
static CTR: Words = Words {
    valued: "\
        -n --namespace -a --address --timeout --connect-timeout -H --host --log-level -c --config -l \
        --data-root --root --runroot --storage-driver --cgroup-manager",
    groups: "\
        image images i container containers c task tasks t content leases namespaces ns snapshots \
        snapshot plugins sandboxes network volume system compose buildx builder context pod",
    commands: "",
};
static CRICTL: Words =
    Words { valued: "-r --runtime-endpoint -i --image-endpoint -c --config -t --timeout", ..PLAIN };
static KUBECTL: Words = Words {
    valued: "\
        -n --namespace --kubeconfig --context --cluster --user -s --server --token --as --as-group \
        --request-timeout --cache-dir --certificate-authority -v -o --config --etcd-servers",
    groups: "\
        config rollout set auth certificate cluster-info top plugin repo init kubectl crictl ctr \
        etcd-snapshot token certs upgrade alpha",
    commands: "",
};
static SYSTEMCTL: Words = Words {
    valued: "\
        -t --type -p --property -H --host -M --machine -s --signal -n --lines -o --output --state --root \
        --job-mode --kill-whom -i --interface -u --unit",
    ..PLAIN
};
static GIT: Words = Words {
    valued: "-C -c --git-dir --work-tree --namespace --config-env",
    groups: "remote submodule stash worktree notes bisect lfs",
    commands: "",
};
static ETCDCTL: Words = Words {
    valued: "\
        --endpoints --cacert --cert --key --user --password --command-timeout --dial-timeout -w \
        --write-out --ca-file --cert-file --key-file",
    groups: "member endpoint lease user role auth alarm check snapshot cluster-health",
    commands: "",
};
static CALICOCTL: Words =
    Words { valued: "-c --config --context", groups: "node ipam datastore", commands: "" };
static CILIUM: Words = Words {
    valued: "-H --host --config -n --namespace --context",
    groups: "\
        bpf ct lb nat ipcache policy endpoint service identity ip node map metrics config encrypt fqdn \
        cache bgp clustermesh hubble kvstore prefilter recorder statedb status lrp auth egress fs ipmasq \
        tunnel vtep",
    commands: "",
};
static OVS: Words = Words { valued: "-O --protocols -t --timeout -T -F --flow-format -m", ..PLAIN };
static OPENSSL: Words = PLAIN;
static JAVA: Words = Words {
    valued: "-cp -classpath --class-path -p --module-path --add-modules --add-opens",
    groups: "",
    commands: "-jar=-jar",
};

static SHELL: Interpreter =
    Interpreter { code: "c", module: "", valued: "oO", attached: "", valued_longs: "--rcfile --init-file" };
static PYTHON: Interpreter = Interpreter {
    code: "c",
    module: "m",
    valued: "WX",
    attached: "",
    valued_longs: "--check-hash-based-pycs",
};
static PERL: Interpreter =
    Interpreter { code: "eE", module: "", valued: "I", attached: "MmFxDCi", valued_longs: "" };
static NODE: Interpreter = Interpreter {
    code: "ep",
    module: "",
    valued: "rC",
    attached: "",
    valued_longs: "--require --import --loader --conditions --env-file",
};
static PHP: Interpreter =
    Interpreter { code: "r", module: "", valued: "cdf", attached: "", valued_longs: "--define --php-ini" };

const BARE: Wrapper = Wrapper { valued: "", valued_longs: "", operands: 0 };
static NO_OPTIONS: Wrapper = BARE;
static ONE_OPERAND: Wrapper = Wrapper { operands: 1, ..BARE };
static ENV: Wrapper = Wrapper { valued: "uCS", valued_longs: "--unset --chdir", ..BARE };
static SUDO: Wrapper = Wrapper {
    valued: "ughpCrtTUDR",
    valued_longs: "--user --group --host --prompt --chdir --chroot --role --type",
    ..BARE
};
static NICE: Wrapper = Wrapper { valued: "ncpP", valued_longs: "--adjustment --class --classdata", ..BARE };
static CHRT: Wrapper = Wrapper { valued: "TPD", valued_longs: "", operands: 1 };
static TIMEOUT: Wrapper = Wrapper { valued: "ks", valued_longs: "--kill-after --signal", operands: 1 };
static XARGS: Wrapper = Wrapper {
    valued: "aEILnPsd",
    valued_longs: "--arg-file --max-args --max-procs --max-lines --max-chars --delimiter",
    ..BARE
};
static WATCH: Wrapper = Wrapper { valued: "n", valued_longs: "--interval", operands: 0 };
static NSENTER: Wrapper = Wrapper { valued: "tSG", valued_longs: "--target --setuid --setgid", ..BARE };
static UNSHARE: Wrapper = Wrapper {
    valued: "RwSGl",
    valued_longs: "--root --wd --setuid --setgid --map-user --map-group --propagation",
    ..BARE
};
static SETPRIV: Wrapper = Wrapper {
    valued: "",
    valued_longs: "\
        --reuid --regid --ruid --rgid --euid --egid --groups --bounding-set --inh-caps --ambient-caps \
        --securebits --pdeathsig --selinux-label --apparmor-profile",
    operands: 0,
};
static CHROOT: Wrapper = Wrapper { valued: "", valued_longs: "--userspec --groups", operands: 1 };
static FLOCK: Wrapper =
    Wrapper { valued: "wE", valued_longs: "--timeout --wait --conflict-exit-code", operands: 1 };
static SYSTEMD_RUN: Wrapper = Wrapper {
    valued: "pEtuHM",
    valued_longs: "\
        --unit --slice --property --description --setenv --uid --gid --service-type --working-directory \
        --nice",
    operands: 0,
};
static STRACE: Wrapper =
    Wrapper { valued: "eoPsSaEuUbOIpX", valued_longs: "--output --trace --attach", ..BARE };
static LOADER: Wrapper =
    Wrapper { valued: "", valued_longs: "--library-path --argv0 --preload --audit", operands: 0 };

const TOOLS: &[Tool] = &[
    // Packet filters and addresses.
    Tool { names: "ip", shape: Shape::Objects(&iproute::IP) },
    Tool { names: "tc", shape: Shape::Objects(&iproute::TC) },
    Tool { names: "bridge", shape: Shape::Objects(&iproute::BRIDGE) },
    Tool { names: "ipset", shape: Shape::Words(&IPSET) },
    Tool { names: "nft", shape: Shape::Words(&NFT) },
    Tool {
        names: "\
            iptables ip6tables ebtables arptables iptables-nft ip6tables-nft ebtables-nft arptables-nft \
            iptables-legacy ip6tables-legacy ebtables-legacy arptables-legacy",
        shape: Shape::Flags(&IPTABLES),
    },
    Tool { names: "conntrack", shape: Shape::Flags(&CONNTRACK) },
    Tool { names: "ipvsadm", shape: Shape::Flags(&IPVSADM) },
    Tool { names: "ethtool", shape: Shape::Flags(&ETHTOOL) },
    Tool { names: "sysctl", shape: Shape::Flags(&SYSCTL) },
    Tool { names: "modprobe", shape: Shape::Flags(&MODPROBE) },
    Tool { names: "vtysh su", shape: Shape::Flags(&DASH_C) },
    Tool {
        names: "\
        ovs-vsctl ovs-ofctl ovs-appctl ovs-dpctl ovn-nbctl ovn-sbctl",
        shape: Shape::Words(&OVS),
    },
    // Containers and clusters.
    Tool { names: "runc crun youki runsc kata-runtime", shape: Shape::Words(&RUNC) },
    Tool { names: "ctr nerdctl docker podman buildah", shape: Shape::Words(&CTR) },
    Tool { names: "crictl", shape: Shape::Words(&CRICTL) },
    Tool { names: "kubectl k3s k0s rke2 kubeadm helm oc", shape: Shape::Words(&KUBECTL) },
    Tool { names: "etcdctl", shape: Shape::Words(&ETCDCTL) },
    Tool { names: "calicoctl", shape: Shape::Words(&CALICOCTL) },
    Tool { names: "cilium cilium-dbg hubble", shape: Shape::Words(&CILIUM) },
    // The host.
    Tool {
        names: "\
            systemctl loginctl machinectl networkctl resolvectl busctl udevadm timedatectl \
            hostnamectl",
        shape: Shape::Words(&SYSTEMCTL),
    },
    Tool { names: "git", shape: Shape::Words(&GIT) },
    Tool { names: "openssl", shape: Shape::Words(&OPENSSL) },
    Tool { names: "java", shape: Shape::Words(&JAVA) },
    Tool { names: "node nodejs", shape: Shape::Interpreter(&NODE) },
    Tool {
        names: "\
        busybox toybox coreutils xtables-nft-multi xtables-legacy-multi xtables-multi",
        shape: Shape::MultiCall,
    },
    // Commands that run a command.
    Tool { names: "env", shape: Shape::Wrapper(&ENV) },
    Tool { names: "sudo doas runuser", shape: Shape::Wrapper(&SUDO) },
    Tool { names: "nice ionice", shape: Shape::Wrapper(&NICE) },
    Tool { names: "chrt", shape: Shape::Wrapper(&CHRT) },
    Tool { names: "taskset gosu su-exec s6-setuidgid", shape: Shape::Wrapper(&ONE_OPERAND) },
    Tool { names: "timeout", shape: Shape::Wrapper(&TIMEOUT) },
    Tool { names: "xargs", shape: Shape::Wrapper(&XARGS) },
    Tool { names: "watch", shape: Shape::Wrapper(&WATCH) },
    Tool { names: "nsenter", shape: Shape::Wrapper(&NSENTER) },
    Tool { names: "unshare", shape: Shape::Wrapper(&UNSHARE) },
    Tool { names: "setpriv", shape: Shape::Wrapper(&SETPRIV) },
    Tool { names: "chroot", shape: Shape::Wrapper(&CHROOT) },
    Tool { names: "flock", shape: Shape::Wrapper(&FLOCK) },
    Tool { names: "systemd-run", shape: Shape::Wrapper(&SYSTEMD_RUN) },
    Tool { names: "strace ltrace", shape: Shape::Wrapper(&STRACE) },
    Tool { names: "nohup setsid time tini dumb-init catatonit stdbuf", shape: Shape::Wrapper(&NO_OPTIONS) },
    Tool {
        names: "\
        ld-linux-x86-64.so.2 ld-linux-aarch64.so.1 ld-musl-x86_64.so.1 ld-musl-aarch64.so.1",
        shape: Shape::Wrapper(&LOADER),
    },
    // First argument is data.
    Tool {
        names: "\
            [ awk base64 basename blkid cat chmod chown cp curl cut date df dig dirname du echo egrep \
            expr false fgrep file find gawk getent getopt grep gzip head host hostname id insmod install \
            jq kill killall less ln logger ls lsmod mawk mkdir mkfifo mknod mktemp mount mountpoint mv \
            nc nslookup pgrep pidof ping pkill printf ps readlink realpath rm rmdir rmmod scp sed seq \
            sha256sum sleep sort ssh stat tail tar tee test touch tr true umount uname uniq wc wget \
            which yq",
        shape: Shape::Name,
    },
];

/// Tools whose names may end in a version; the names here are what is left without it.
const VERSIONED: &[Tool] = &[
    Tool {
        names: "\
        containerd-shim-runc-v containerd-shim containerd-shim-runsc-v containerd-shim-kata-v",
        shape: Shape::Words(&SHIM),
    },
    Tool { names: "sh bash dash ash zsh ksh mksh", shape: Shape::Interpreter(&SHELL) },
    Tool { names: "python pypy", shape: Shape::Interpreter(&PYTHON) },
    Tool { names: "perl ruby lua", shape: Shape::Interpreter(&PERL) },
    Tool { names: "php", shape: Shape::Interpreter(&PHP) },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_in_its_own_row() {
        for (rows, by_name) in [(TOOLS, &TOOLS_BY_NAME[..]), (VERSIONED, &VERSIONED_BY_NAME[..])] {
            for (row, tool) in rows.iter().enumerate() {
                for name in tool.names.split(' ') {
                    let found = by_name.binary_search_by(|(known, _)| (*known).cmp(name.as_bytes()));
                    assert_eq!(found.map(|at| by_name[at].1), Ok(row), "{name:?}");
                }
            }
            assert!(by_name.is_sorted_by(|one, other| one.0 < other.0), "each name once");
        }
    }
}
