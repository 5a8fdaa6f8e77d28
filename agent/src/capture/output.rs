//! What CNI plugins write, cut down before it is kept anywhere. In: `Output` records as the kernel wrote them. Out:
//! records with what the specification defines of a result (its addresses) or an error (code, message, details).
//!
//! A plugin's output may hold what its configuration holds, and that may be secrets. So this is the first thing that
//! happens to such a record, as with command lines: what is neither a result nor an error is not kept at all, only its
//! length is; and secrets in an error's words are masked by the rules for command lines.
//!
//! A result may come in several writes, and then is one record, at the time of the last. What does not become a
//! result by the time its process ends is told of then.

use super::redact;
use crate::decode;
use crate::decode::output::{CniError, Said};
use crate::enrich::ProcId;
use serde_json::Value;
use slowpod_ebpf::abi::output::{FLAG_CUT, FLAG_UNPARSED, FLAG_UNREAD, Output};
use slowpod_ebpf::abi::{Header, Kind, exit::Exit, prefix};
use std::collections::BTreeMap;
use zerocopy::IntoBytes;

/// Streams followed at once: both of every process of a hundred calls. Of more, the one that comes is told of at once.
const STREAMS_MAX: usize = 2_048;
/// Addresses kept of a result: two families on a handful of interfaces.
const IPS_MAX: usize = 16;
/// Bytes kept of an address, of an error's message and of its details.
const IP_BYTES_MAX: usize = 64;
const WORDS_BYTES_MAX: usize = 1_024;

/// What was written so far, by stream.
#[derive(Default)]
pub struct Outputs {
    streams: BTreeMap<(ProcId, u32), Stream>,
}

/// What a process has written to one of its two descriptors and that is not yet told of.
struct Stream {
    fixed: Output,
    text: Vec<u8>,
}

impl Outputs {
    /// Takes a record of any kind. An `Output` record is kept, and `tell` is handed what became whole; an exit lets go
    /// what its process left. False for an `Output` record that is none.
    pub fn take(&mut self, record: &[u8], mut tell: impl FnMut(&[u8])) -> bool {
        let Ok(header) = decode::header(record) else { return false };
        let kind = Kind::from_u32(header.kind);
        if kind == Some(Kind::Exit)
            && let Some((exit, _)) = prefix::<Exit>(record)
        {
            self.ended(ProcId::of(&exit.task), header.ktime_ns, &mut tell);
        }
        if kind != Some(Kind::Output) {
            return true;
        }
        match prefix::<Output>(record) {
            Some((fixed, rest)) if rest.len() >= fixed.len as usize => {
                self.add(fixed, &rest[..fixed.len as usize], &mut tell);
                true
            }
            _ => false,
        }
    }

    fn add(&mut self, fixed: Output, text: &[u8], tell: &mut impl FnMut(&[u8])) {
        let key = (ProcId::of(&fixed.task), fixed.fd);
        let is_new = !self.streams.contains_key(&key);
        let stream = self
            .streams
            .entry(key)
            .or_insert_with(|| Stream { fixed: Output { written: 0, flags: 0, ..fixed }, text: Vec::new() });
        stream.text.extend_from_slice(text);
        stream.fixed.written = stream.fixed.written.saturating_add(fixed.written);
        stream.fixed.flags |= fixed.flags & (FLAG_CUT | FLAG_UNREAD);
        stream.fixed.header.ktime_ns = fixed.header.ktime_ns;
        if let Some(said) = said(&stream.text) {
            tell(&record(stream.fixed, Some(&said)));
            self.streams.remove(&key);
        } else if is_new && self.streams.len() > STREAMS_MAX {
            self.streams.remove(&key).into_iter().for_each(|stream| tell(&record(stream.fixed, None)));
        }
    }

    fn ended(&mut self, id: ProcId, ended_ns: u64, tell: &mut impl FnMut(&[u8])) {
        for fd in [1, 2] {
            if let Some(mut stream) = self.streams.remove(&(id, fd)) {
                // Others' records of its last write's time may have been passed on.
                stream.fixed.header.ktime_ns = ended_ns;
                tell(&record(stream.fixed, None));
            }
        }
    }
}

fn record(mut fixed: Output, said: Option<&Said>) -> Vec<u8> {
    let text = said.map_or_else(Vec::new, |said| serde_json::to_vec(said).unwrap_or_default());
    fixed.flags |= if text.is_empty() { FLAG_UNPARSED } else { 0 };
    fixed.len = text.len() as u32;
    let len_bytes = (size_of::<Output>() + text.len()) as u32;
    fixed.header = Header { kind: Kind::Output as u32, len_bytes, ..fixed.header };
    [fixed.as_bytes(), &text].concat()
}

/// A result or an error, if this text is one. Lines before it are passed over: some plugins log to where their result
/// goes.
fn said(text: &[u8]) -> Option<Said> {
    let begin = text.iter().position(|byte| *byte == b'{')?;
    let at_line = begin == 0 || text[..begin].ends_with(b"\n");
    let value: Value = serde_json::from_slice(&text[begin..]).ok().filter(|_| at_line)?;
    if let Some(code) = value["code"].as_u64().filter(|_| value["msg"].is_string()) {
        let words = |name: &str| masked(value[name].as_str().unwrap_or_default());
        let error = CniError { code, msg: words("msg"), details: words("details") };
        return Some(Said { ips: Vec::new(), error: Some(error) });
    }
    // A result of VERSION has the one, of ADD the other.
    value.get("cniVersion")?;
    let new = value["ips"].as_array().into_iter().flatten().map(|ip| &ip["address"]);
    let old = ["ip4", "ip6"].into_iter().map(|family| &value[family]["ip"]);
    let ips = new.chain(old).filter_map(Value::as_str).take(IPS_MAX);
    Some(Said { ips: ips.map(|ip| cut(ip, IP_BYTES_MAX).to_owned()).collect(), error: None })
}

/// An error's words without what looks like a secret.
fn masked(words: &str) -> String {
    redact::redact_words(cut(words, WORDS_BYTES_MAX))
}

/// At most so many bytes, at a whole character.
fn cut(text: &str, max_bytes: usize) -> &str {
    &text[..text.floor_char_boundary(max_bytes)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use slowpod_ebpf::abi::Task;
    use zerocopy::FromZeros;

    fn write(pid: u32, fd: u32, text: &str, ktime_ns: u64) -> Vec<u8> {
        let mut fixed = Output::new_zeroed();
        fixed.task = Task { tgid: pid, tid: pid, start_ns: 7 };
        fixed.header.ktime_ns = ktime_ns;
        (fixed.fd, fixed.written) = (fd, text.len() as u32);
        let mut whole = record(fixed, None);
        whole.extend_from_slice(text.as_bytes());
        let (mut fixed, _) = prefix::<Output>(&whole).unwrap();
        (fixed.len, fixed.flags, fixed.header.len_bytes) = (text.len() as u32, 0, whole.len() as u32);
        whole[..size_of::<Output>()].copy_from_slice(fixed.as_bytes());
        whole
    }

    fn exit(pid: u32, ktime_ns: u64) -> Vec<u8> {
        let mut exit = Exit::new_zeroed();
        exit.task = Task { tgid: pid, tid: pid, start_ns: 7 };
        exit.header = Header { ktime_ns, kind: Kind::Exit as u32, len_bytes: size_of::<Exit>() as u32 };
        exit.as_bytes().to_vec()
    }

    fn told(records: &[Vec<u8>]) -> Vec<(u64, u32, Option<Said>)> {
        let (mut outputs, mut told) = (Outputs::default(), Vec::new());
        for record in records {
            assert!(outputs.take(record, |record| told.push(record.to_vec())));
        }
        let read = |record: &Vec<u8>| match decode::event(record).unwrap() {
            (header, decode::Event::Output(output)) => (header.ktime_ns, output.fixed.written, output.said),
            other => panic!("{other:?}"),
        };
        told.iter().map(read).collect()
    }

    #[test]
    fn a_result_in_pieces_is_one_record() {
        let pieces = [
            write(5, 1, "starting\n{\"cniVersion\":\"1.0.0\",\"ips\":[{\"address\":\"10.0.0.2/24\"}],", 10),
            write(6, 1, "noise", 11),
            write(5, 1, "\"dns\":{\"token\":\"hunter2\"}}\n", 12),
            exit(5, 13),
        ];
        let expected = Said { ips: vec!["10.0.0.2/24".into()], error: None };
        assert_eq!(told(&pieces), [(12, 92, Some(expected))]);
    }

    #[test]
    fn an_error_keeps_its_words_without_secrets() {
        let text = r#"{"cniVersion":"0.4.0","code":11,"msg":"object has been modified","details":"PUT https://u:hunter2@10.0.0.1/ --token=abc","key":"k"}"#;
        let (_, _, said) = told(&[write(5, 1, text, 1)]).remove(0);
        let error = said.unwrap().error.unwrap();
        assert_eq!((error.code, &*error.msg), (11, "object has been modified"));
        assert!(error.details.contains("10.0.0.1"), "{}", error.details);
        assert!(!error.details.contains("hunter2") && !error.details.contains("abc"), "{}", error.details);
    }

    #[test]
    fn what_is_neither_is_not_kept_but_counted_at_the_end() {
        for text in ["password=hunter2", "{\"a\":", "{}", "[1]", "\u{0}\u{7f}", "{\"code\":\"x\"}"] {
            assert_eq!(told(&[write(5, 2, text, 1), exit(5, 9)]), [(9, text.len() as u32, None)], "{text}");
        }
        assert_eq!(told(&[write(5, 1, "never ends", 1)]), []);
    }

    #[test]
    fn streams_beyond_the_bound_are_told_of_at_once() {
        let records: Vec<_> = (0..STREAMS_MAX as u32 + 3).map(|pid| write(pid, 1, "log", 1)).collect();
        assert_eq!(told(&records).len(), 3);
    }

    #[test]
    fn halves_of_records_are_refused() {
        let whole = write(5, 1, "x", 1);
        assert!(!Outputs::default().take(&whole[..20], |_| panic!("nothing to tell")));
    }
}
