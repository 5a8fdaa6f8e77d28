//! iproute2's command lines: `ip [options] OBJECT [verb] ...`, `tc`, `bridge`. Objects and verbs may be cut to
//! any prefix; the first match in the tool's own order counts (`ip.c` `cmds[]`, `iproute.c` `do_iproute`).

use super::Class;

/// One tool of the suite.
pub(super) struct Grammar {
    /// Options whose value is the next word, with the least length (dash included) that means them.
    pub(super) valued: &'static [(&'static str, usize)],
    /// Objects in the tool's matching order, and the spelling shown.
    pub(super) objects: &'static [(&'static str, &'static str)],
}

/// `ip`.
pub(super) static IP: Grammar = Grammar {
    valued: &[("-netns", 2), ("-family", 2), ("-loops", 2), ("-rcvbuf", 3)],
    objects: &[
        ("address", "addr"),
        ("addrlabel", "addrlabel"),
        ("maddress", "maddr"),
        ("route", "route"),
        ("rule", "rule"),
        ("neighbor", "neigh"),
        ("neighbour", "neigh"),
        ("ntable", "ntable"),
        ("ntbl", "ntable"),
        ("link", "link"),
        ("l2tp", "l2tp"),
        ("fou", "fou"),
        ("ila", "ila"),
        ("macsec", "macsec"),
        ("tunnel", "tunnel"),
        ("tunl", "tunnel"),
        ("tuntap", "tuntap"),
        ("tap", "tuntap"),
        ("token", "token"),
        ("tcpmetrics", "tcp_metrics"),
        ("tcp_metrics", "tcp_metrics"),
        ("monitor", "monitor"),
        ("xfrm", "xfrm"),
        ("mroute", "mroute"),
        ("mrule", "mrule"),
        ("netns", "netns"),
        ("netconf", "netconf"),
        ("vrf", "vrf"),
        ("sr", "sr"),
        ("nexthop", "nexthop"),
        ("mptcp", "mptcp"),
        ("ioam", "ioam"),
        ("help", "help"),
        ("stats", "stats"),
    ],
};

/// `tc`.
pub(super) static TC: Grammar = Grammar {
    valued: &[("-netns", 2), ("-conf", 3), ("-cf", 3)],
    objects: &[
        ("qdisc", "qdisc"),
        ("class", "class"),
        ("filter", "filter"),
        ("chain", "chain"),
        ("actions", "actions"),
        ("monitor", "monitor"),
        ("exec", "exec"),
    ],
};

/// `bridge`.
pub(super) static BRIDGE: Grammar = Grammar {
    valued: &[("-netns", 2), ("-family", 2)],
    objects: &[
        ("link", "link"),
        ("fdb", "fdb"),
        ("mdb", "mdb"),
        ("mst", "mst"),
        ("vlan", "vlan"),
        ("vni", "vni"),
        ("stp", "stp"),
        ("monitor", "monitor"),
    ],
};

/// Verbs, in the order that decides between abbreviations, and the spelling shown.
const VERBS: &[(&str, &str)] = &[
    ("add", "add"),
    ("append", "append"),
    ("attach", "attach"),
    ("allocspi", "allocspi"),
    ("afstats", "afstats"),
    ("replace", "replace"),
    ("restore", "restore"),
    ("change", "change"),
    ("chg", "change"),
    ("count", "count"),
    ("delete", "del"),
    ("deleteall", "deleteall"),
    ("prepend", "prepend"),
    ("pids", "pids"),
    ("property", "property"),
    ("flush", "flush"),
    ("get", "get"),
    ("exec", "exec"),
    ("identify", "identify"),
    ("monitor", "monitor"),
    ("show", "show"),
    ("list", "show"),
    ("list-id", "list-id"),
    ("lst", "show"),
    ("set", "set"),
    ("save", "save"),
    ("showdump", "showdump"),
    ("test", "test"),
    ("update", "update"),
    ("link", "link"),
    ("help", "help"),
];

/// Adds object and verb. Hands back a command that follows (`ip netns exec NS CMD`, `ip vrf exec NAME CMD`).
pub(super) fn describe<'a, 'b>(
    class: &mut Class,
    grammar: &Grammar,
    args: &'a [&'b [u8]],
) -> Option<&'a [&'b [u8]]> {
    let mut at = 0;
    let mut all = false;
    while let Some(option) = args.get(at).filter(|word| word.starts_with(b"-")) {
        // `--netns` is taken as `-netns`.
        let option = if option.starts_with(b"--") { &option[1..] } else { option };
        if "-batch".as_bytes().starts_with(option) && option.len() > 1 {
            class.push(b"-batch");
            return None;
        }
        all |= option.len() > 1 && "-all".as_bytes().starts_with(option);
        let valued =
            |(long, least): &(&str, usize)| option.len() >= *least && long.as_bytes().starts_with(option);
        at += 1 + usize::from(grammar.valued.iter().any(valued));
    }
    let object = prefixed(args.get(at)?, grammar.objects)?;
    class.push(object.as_bytes());
    at += 1;
    if object == "monitor" {
        return None;
    }
    if object == "xfrm" {
        class.push(
            prefixed(args.get(at)?, &[("state", "state"), ("sa", "state"), ("policy", "policy")])?.as_bytes(),
        );
        at += 1;
    }
    let word = args.get(at)?;
    // `ip link s eth0 up`: link knows `set` before `show`.
    let verb = if object == "link" && *word == b"s" { "set" } else { prefixed(word, VERBS)? };
    class.push(verb.as_bytes());
    let operands = usize::from(!all);
    (matches!(object, "netns" | "vrf") && verb == "exec")
        .then(|| args.get(at + 1 + operands..).unwrap_or_default())
}

/// The first entry that `word` is a prefix of, unless `word` is an entry itself.
fn prefixed(word: &[u8], table: &[(&str, &'static str)]) -> Option<&'static str> {
    if word.is_empty() {
        return None;
    }
    let whole = table.iter().find(|(name, _)| name.as_bytes() == word);
    let found = whole.or_else(|| table.iter().find(|(name, _)| name.as_bytes().starts_with(word)));
    found.map(|(_, shown)| *shown)
}
