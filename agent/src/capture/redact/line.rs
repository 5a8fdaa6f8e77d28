//! One command line: which of its words, or parts of them, are secrets. In: the argv bytes. Out: new ones.
//!
//! Three kinds of rule mark byte ranges, and every range becomes [`MASK`]: a word that follows a telling
//! option ([`follow`](super::follow)), the value of a telling name inside a word ([`assign`](super::assign)),
//! and what looks like a secret by itself ([`shapes`](super::shapes)).

use super::{MASK, assign, follow, shapes};
use crate::enrich::argv_class::{CommandLine, class_words};
use crate::enrich::text::is_listed;
use slowpod_ebpf::abi::exec::{FLAG_ARGV_CUT, FLAG_SCRIPT};
use std::ops::Range;

/// Commands whose words are networking names, among them hashes that look like tokens (`CNI-` and 24 hex
/// digits).
const PACKET_TOOLS: &str = "\
    ip ipset iptables ip6tables ebtables arptables nft tc bridge conntrack ipvsadm sysctl ethtool \
    iptables-nft ip6tables-nft ebtables-nft arptables-nft iptables-legacy ip6tables-legacy ebtables-legacy \
    iptables-save ip6tables-save iptables-restore ip6tables-restore iptables-nft-restore \
    ip6tables-nft-restore iptables-legacy-restore ip6tables-legacy-restore ovs-vsctl ovs-ofctl";
/// Sub-commands of these that do take keys (`ip xfrm state add ... enc aes 0x...`).
const PACKET_KEYS: &str = "xfrm macsec";

/// The argv with its secrets replaced; `None` when there are none.
pub(super) fn redact(command: &CommandLine<'_>) -> Option<Vec<u8>> {
    let argv = command.argv;
    let words = split(argv);
    let mut marks = Marks::default();
    follow::mark(argv, &words, &mut marks);

    // The program's own path, and a script's, are names and no secrets.
    let named = if command.flags & FLAG_SCRIPT != 0 { 2 } else { 1 };
    for word in words.into_iter().skip(named) {
        let text = &argv[word.clone()];
        if text.iter().any(u8::is_ascii_whitespace) {
            follow::mark_inside(argv, word.clone(), &mut marks);
        }
        assign::mark(argv, word.clone(), &|| is_packet_filter(command), &mut marks);
        let cut = word.end == argv.len() && command.flags & FLAG_ARGV_CUT != 0;
        shapes::mark(argv, word, cut, &|| is_packet_filter(command), &mut marks);
    }
    marks.apply(argv)
}

/// Whether this is a packet filter's command. Asked only when something was found, which is rare.
fn is_packet_filter(command: &CommandLine<'_>) -> bool {
    let words = class_words(command);
    words.iter().any(|word| is_listed(PACKET_TOOLS, word.as_bytes()))
        && !words.iter().any(|word| is_listed(PACKET_KEYS, word.as_bytes()))
}

/// The words of an argv, empty ones left out.
fn split(argv: &[u8]) -> Vec<Range<usize>> {
    let mut start = 0;
    let words = argv.split(|byte| *byte == 0).map(|word| {
        let range = start..start + word.len();
        start = range.end + 1;
        range
    });
    words.filter(|range| !range.is_empty()).collect()
}

/// Byte ranges to be replaced.
#[derive(Default)]
pub(super) struct Marks {
    ranges: Vec<Range<usize>>,
}

impl Marks {
    /// Marks a range; an empty one is nothing.
    pub(super) fn add(&mut self, range: Range<usize>) {
        if !range.is_empty() {
            self.ranges.push(range);
        }
    }

    /// Marks what follows the first `:` (or `%`, as Samba has it), unless both halves are numbers (`1000:1000`).
    pub(super) fn add_second_half(&mut self, argv: &[u8], range: Range<usize>) {
        let word = &argv[range.clone()];
        let Some(colon) = word.iter().position(|byte| matches!(byte, b':' | b'%')) else { return };
        if word.iter().enumerate().any(|(at, byte)| at != colon && !byte.is_ascii_digit()) {
            self.add(range.start + colon + 1..range.end);
        }
    }

    /// The bytes with every marked range replaced; `None` when that changes nothing.
    fn apply(mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        self.ranges.sort_by_key(|range| range.start);
        let mut out = Vec::with_capacity(bytes.len() + MASK.len());
        let mut done = 0;
        for range in self.ranges {
            if range.start >= done {
                out.extend_from_slice(&bytes[done..range.start]);
                out.extend_from_slice(MASK);
            }
            done = done.max(range.end);
        }
        out.extend_from_slice(&bytes[done..]);
        (out != bytes).then_some(out)
    }
}
