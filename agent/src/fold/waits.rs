//! What threads waited for, beyond the cause in their time split. In: `Wait` records. Out: rows of sums, by the thing
//! waited for; each row is evidence for a part of a split.

use super::State;
use super::grow::Grow;
use crate::enrich::{ProcId, text};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use slowpod_ebpf::abi::split::Cause;
use slowpod_ebpf::abi::wait::{NAME_BYTES, PART_BYTES, THING_MUTEX, Wait};
use slowpod_ebpf::rules::cause::{AF_INET, AF_INET6, AF_NETLINK, AF_UNIX};
use slowpod_ebpf::rules::op::Op;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Rows kept of one call, or of one call's descendants: a plugin waits for a handful of things. A lock may have a hundred
/// holders: beyond this they are left out, and beyond twice as many rows the thing is too.
pub const ROWS_MAX: usize = 32;
/// Longest text of a path, in bytes.
const PATH_TEXT_BYTES: usize = 200;
/// `NETLINK_ROUTE` of `linux/netlink.h`.
const NETLINK_ROUTE: u16 = 0;
/// `NETLINK_NETFILTER`.
const NETLINK_NETFILTER: u16 = 12;

/// The thing waited for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Thing {
    /// Nothing more is known than cause and call.
    Unknown,
    /// A file, directory or device. Of a lock the inode, of other waits the whole device: a plugin writes many files.
    File {
        /// Device, as the kernel numbers it.
        dev: u32,
        /// Inode; 0 = any of the device.
        ino: u64,
    },
    /// A host, over TCP, UDP or a raw socket.
    Inet(SocketAddr),
    /// Whoever is at the other end of a unix socket.
    Unix,
    /// The kernel's answer to a request over netlink.
    Netlink {
        /// Netlink protocol.
        protocol: u16,
        /// Type of the request's first message; 0 = it waited for an answer.
        message_type: u16,
    },
}

/// Names a row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Cause, as the time split has it: `Poll` for a program that polls, whatever is behind it.
    pub cause: u32,
    /// The call it was in.
    pub op: Op,
    /// What it waited for.
    pub thing: Thing,
    /// It waited for a mutex of the kernel meanwhile; over netlink that is a [`KernelLock`].
    pub mutex: bool,
    /// Who had it: the lock's holder, the daemon at the socket's other end.
    pub holder: Option<ProcId>,
}

/// Sums over one thing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// How many waits.
    pub waits: u64,
    /// Blocked in all; over several threads this may exceed the time that passed.
    pub blocked_ns: u64,
    /// Longest wait.
    pub longest_ns: u64,
    /// When the first began.
    pub first_ns: u64,
    /// When the last ended.
    pub last_ns: u64,
    /// Of a lock: most that were before it, the holder included.
    pub queue_max: u64,
    /// Of TCP: most segments sent again in a connection's life.
    pub retransmits: u64,
    /// Path of the file or of the unix socket, of the longest wait; empty = not known.
    pub name: Arc<str>,
    /// This end's address, of the last wait.
    pub local: Option<SocketAddr>,
}

impl Key {
    /// Cause as the contract has it.
    pub fn cause(&self) -> Cause {
        Cause::ALL.get(self.cause as usize).copied().unwrap_or(Cause::Other)
    }

    /// What was behind it: a poll on a connection is a wait for its other end.
    pub fn kind(&self) -> Cause {
        match self.thing {
            Thing::Inet(_) => Cause::Inet,
            Thing::Unix => Cause::Unix,
            Thing::Netlink { .. } => Cause::Netlink,
            Thing::Unknown | Thing::File { .. } => self.cause(),
        }
    }

    /// The lock of the kernel that it waited for, if it is one that is known.
    pub fn kernel_lock(&self) -> Option<KernelLock> {
        match self.thing {
            Thing::Netlink { protocol: NETLINK_ROUTE, .. } if self.mutex => Some(KernelLock::Rtnl),
            Thing::Netlink { protocol: NETLINK_NETFILTER, .. } if self.mutex => Some(KernelLock::Nftables),
            _ => None,
        }
    }
}

/// A lock of the kernel that netlink requests take: a mutex met in a send over this protocol is it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KernelLock {
    /// For all changes to interfaces, addresses and routes (`rtnl_mutex`).
    Rtnl,
    /// For all changes to a network namespace's packet filter (`nftables_pernet.commit_mutex`); whoever has it waits in it
    /// until no CPU uses the old rules.
    Nftables,
}

impl KernelLock {
    /// Name in answers.
    pub fn name(self) -> &'static str {
        match self {
            KernelLock::Rtnl => "rtnl",
            KernelLock::Nftables => "nftables",
        }
    }
}

impl Sum {
    fn add(&mut self, other: &Sum) {
        if other.longest_ns > self.longest_ns || self.waits == 0 {
            self.longest_ns = other.longest_ns;
            self.name = other.name.clone();
        }
        if self.waits == 0 || other.first_ns < self.first_ns {
            self.first_ns = other.first_ns;
        }
        self.waits.grow(other.waits);
        self.blocked_ns.grow(other.blocked_ns);
        self.last_ns = self.last_ns.max(other.last_ns);
        self.queue_max = self.queue_max.max(other.queue_max);
        self.retransmits = self.retransmits.max(other.retransmits);
        self.local = other.local.or(self.local);
    }
}

/// Rows by thing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waits {
    rows: BTreeMap<Key, Sum>,
}

impl Waits {
    /// Adds to a row.
    pub fn add(&mut self, key: &Key, sum: &Sum) {
        let fits = |key: &Key, max| self.rows.len() < max || self.rows.contains_key(key);
        let by_anyone = Key { holder: None, ..key.clone() };
        let key = if fits(key, ROWS_MAX) {
            key.clone()
        } else if key.holder.is_some() && fits(&by_anyone, 2 * ROWS_MAX) {
            by_anyone
        } else {
            Key { op: Op::Other, thing: Thing::Unknown, mutex: false, holder: None, ..*key }
        };
        self.rows.entry(key).or_default().add(sum);
    }

    /// Rows, in no telling order.
    pub fn rows(&self) -> impl Iterator<Item = (&Key, &Sum)> {
        self.rows.iter()
    }

    /// Blocked on what the filter takes.
    pub fn blocked_ns(&self, mut is: impl FnMut(&Key) -> bool) -> u64 {
        super::grow::total(self.rows.iter().filter(|(key, _)| is(key)).map(|(_, sum)| sum.blocked_ns))
    }
}

/// A record as a row. `holder` finds the process with this pid.
pub(super) fn row(wait: &Wait, holder: impl Fn(u32) -> ProcId) -> (Key, Sum) {
    let thing = &wait.thing;
    let lock = thing.cause == Cause::FileLock as u8;
    let known = match thing.family {
        AF_INET | AF_INET6 => Thing::Inet(address(thing.family, &thing.remote, thing.remote_port)),
        AF_UNIX => Thing::Unix,
        AF_NETLINK => Thing::Netlink { protocol: thing.protocol, message_type: thing.message_type },
        _ if thing.ino == 0 && thing.dev == 0 => Thing::Unknown,
        _ => Thing::File { dev: thing.dev, ino: if lock { thing.ino } else { 0 } },
    };
    let name = match known {
        Thing::File { .. } => file_path(&wait.name),
        Thing::Unix => unix_path(&wait.name[..usize::from(wait.name_len).min(NAME_BYTES)]),
        Thing::Unknown | Thing::Inet(_) | Thing::Netlink { .. } => String::new(),
    };
    let local = matches!(known, Thing::Inet(_)).then(|| address(thing.family, &wait.local, wait.local_port));
    let key = Key {
        cause: u32::from(thing.cause),
        op: Op::from_u8(thing.op),
        thing: known,
        mutex: thing.flags & THING_MUTEX != 0,
        holder: (thing.holder != 0).then(|| holder(thing.holder)),
    };
    let sum = Sum {
        waits: u64::from(wait.waits),
        blocked_ns: wait.blocked_ns,
        longest_ns: wait.longest_ns,
        first_ns: wait.first_ns,
        last_ns: wait.last_ns,
        queue_max: u64::from(wait.queue),
        retransmits: u64::from(wait.retransmits),
        name: name.into(),
        local,
    };
    (key, sum)
}

/// Addresses as people write them: an IPv4 address in IPv6's clothes is one of IPv4.
fn address(family: u16, bytes: &[u8; 16], port: u16) -> SocketAddr {
    let ip = match family {
        AF_INET => IpAddr::V4(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3])),
        _ => Ipv6Addr::from(*bytes).to_canonical(),
    };
    SocketAddr::new(ip, port)
}

/// Parts from the base name upwards, as a path. One that begins with `…` has more directories above; one that begins
/// with `/` begins at its file system's root, which may be mounted anywhere.
fn file_path(name: &[u8; NAME_BYTES]) -> String {
    let parts: Vec<&[u8]> =
        name.chunks(PART_BYTES).map(text::until_nul).take_while(|part| !part.is_empty()).collect();
    let Some((top, below)) = parts.split_last() else { return String::new() };
    let mut path: Vec<u8> = match *top {
        b"/" => Vec::new(),
        top => ["…/".as_bytes(), top].concat(),
    };
    for part in below.iter().rev() {
        path.push(b'/');
        path.extend_from_slice(part);
    }
    if path.is_empty() {
        path.push(b'/');
    }
    text::safe(&path, PATH_TEXT_BYTES).into_owned()
}

/// A bound address; abstract ones, which begin with NUL, as `ss` and `netstat` show them.
fn unix_path(name: &[u8]) -> String {
    match name.split_first() {
        Some((0, rest)) => text::safe(&[b"@", rest].concat(), PATH_TEXT_BYTES).into_owned(),
        _ => text::safe(text::until_nul(name), PATH_TEXT_BYTES).into_owned(),
    }
}

impl State {
    /// A thread waited.
    pub(super) fn wait(&mut self, wait: &Wait) {
        let Some(id) = self.processes.resolve(&wait.task) else {
            self.loss.unattributed += u64::from(self.window.holds(wait.header.ktime_ns));
            return;
        };
        let (key, sum) = row(wait, |tgid| self.lived_at(tgid, wait.first_ns));
        let work = self.processes.get(id).and_then(|process| process.cni.clone());
        if self.window.holds(wait.header.ktime_ns) {
            self.locks.add(id, work.as_ref(), &key, &sum);
        }
        if let Some(work) = work {
            self.cni_waited(id, &work, &key, &sum);
        }
    }

    /// The process that had this pid at some time; one without a start when none is known.
    fn lived_at(&self, tgid: u32, ktime_ns: u64) -> ProcId {
        let lives = self.processes.lives_of(tgid);
        let begun = lives.filter(|process| process.spawned_ns <= ktime_ns);
        begun.map(|process| process.id).next_back().unwrap_or(ProcId { tgid, start_ns: 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::FromZeros;

    fn named(parts: &[&str]) -> [u8; NAME_BYTES] {
        let mut name = [0; NAME_BYTES];
        for (at, part) in parts.iter().enumerate() {
            name[at * PART_BYTES..][..part.len()].copy_from_slice(part.as_bytes());
        }
        name
    }

    #[test]
    fn paths_are_put_together_from_the_base_name_upwards() {
        assert_eq!(file_path(&named(&["lock", "bed", "networks", "cni"])), "…/cni/networks/bed/lock");
        assert_eq!(file_path(&named(&["xtables.lock", "/"])), "/xtables.lock");
        assert_eq!(file_path(&named(&["/"])), "/");
        assert_eq!(file_path(&named(&[])), "");
        assert_eq!(file_path(&named(&["a\x1b", "/"])), "/a\\x1b");
        assert_eq!(unix_path(b"\0agent"), "@agent");
        assert_eq!(unix_path(b"/run/x.sock\0rest"), "/run/x.sock");
    }

    #[test]
    fn a_poll_on_a_connection_is_a_wait_for_its_other_end() {
        let mut wait = Wait::new_zeroed();
        wait.thing.cause = Cause::Poll as u8;
        wait.thing.op = Op::Poll as u8;
        wait.thing.family = AF_INET6;
        wait.thing.remote_port = 443;
        wait.thing.remote = Ipv4Addr::new(10, 96, 0, 1).to_ipv6_mapped().octets();
        let (key, _) = row(&wait, |_| ProcId::default());
        assert_eq!((key.cause(), key.kind()), (Cause::Poll, Cause::Inet));
        assert_eq!(key.thing, Thing::Inet("10.96.0.1:443".parse().unwrap()));
        assert_eq!(key.holder, None);
    }

    #[test]
    fn holders_beyond_the_bound_are_left_out_and_the_lock_is_not() {
        let mut waits = Waits::default();
        for pid in 1..=ROWS_MAX as u32 + 9 {
            let mut wait = Wait::new_zeroed();
            (wait.thing.cause, wait.thing.family) = (Cause::Netlink as u8, AF_NETLINK);
            (wait.thing.flags, wait.thing.holder) = (THING_MUTEX, pid);
            (wait.waits, wait.blocked_ns) = (1, 5);
            let (key, sum) = row(&wait, |tgid| ProcId { tgid, ..ProcId::default() });
            waits.add(&key, &sum);
        }
        assert_eq!(waits.rows().count(), ROWS_MAX + 1);
        let of_lock = waits.blocked_ns(|key| key.kernel_lock() == Some(KernelLock::Rtnl));
        assert_eq!(of_lock, 5 * (ROWS_MAX as u64 + 9));
    }

    #[test]
    fn rows_beyond_the_bound_are_one_of_their_cause() {
        let mut waits = Waits::default();
        for port in 0..ROWS_MAX as u16 + 9 {
            let mut wait = Wait::new_zeroed();
            wait.thing.cause = Cause::Inet as u8;
            (wait.thing.family, wait.thing.remote_port) = (AF_INET, port);
            (wait.waits, wait.blocked_ns) = (1, 5);
            let (key, sum) = row(&wait, |_| ProcId::default());
            waits.add(&key, &sum);
        }
        assert_eq!(waits.rows().count(), ROWS_MAX + 1);
        assert_eq!(waits.blocked_ns(|key| key.kind() == Cause::Inet), 5 * (ROWS_MAX as u64 + 9));
    }
}
