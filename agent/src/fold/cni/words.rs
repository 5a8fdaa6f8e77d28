//! A plugin's own words: its result or its error. In: what it wrote, as `capture` keeps it. Out: safe text.

use crate::decode::{Output, output::Said};
use crate::enrich::text::safe;
use slowpod_ebpf::abi::output::{FLAG_CUT, FLAG_UNREAD};
use std::sync::Arc;

/// Longest text kept of an address, in bytes.
const IP_TEXT_BYTES: usize = 64;
/// Longest text kept of an error's message and of its details.
const WORDS_TEXT_BYTES: usize = 1_024;

/// What a plugin said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words {
    /// Addresses of its result.
    pub ips: Vec<Arc<str>>,
    /// Its error.
    pub error: Option<CniError>,
    /// Bytes it wrote to standard output and to standard error.
    pub written: [u64; 2],
    /// There was a result or an error in it.
    pub understood: bool,
    /// More was written than what is looked at, or it could not be read.
    pub cut: bool,
    /// It was a child that wrote them: a script that hands on what a command printed.
    by_child: bool,
}

/// An error as CNI has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CniError {
    /// Its number.
    pub code: u64,
    /// What happened.
    pub msg: Arc<str>,
    /// More about it.
    pub details: Arc<str>,
}

impl CniError {
    /// Someone else changed the object first: the API server's optimistic lock (HTTP 409), and the words its clients
    /// print (`apimachinery`, `NewConflict`; Calico's and Whereabouts' IPAM hand them on).
    pub fn is_conflict(&self) -> bool {
        const WORDS: [&str; 4] =
            ["object has been modified", "update conflict", "resource conflict", "statuscode:409"];
        let says = |text: &str| {
            let text = text.to_ascii_lowercase();
            WORDS.iter().any(|words| text.contains(words))
                || text.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == "409")
        };
        says(&self.msg) || says(&self.details)
    }
}

impl Words {
    /// Takes in what the plugin wrote, or a child of it that is no plugin. The plugin's own words count more.
    pub(super) fn add(&mut self, output: &Output, own: bool) {
        let fixed = &output.fixed;
        if own {
            let stream = usize::from(fixed.fd == 2);
            self.written[stream] = self.written[stream].saturating_add(u64::from(fixed.written));
            self.cut |= fixed.flags & (FLAG_CUT | FLAG_UNREAD) != 0;
        }
        let Some(said) = &output.said else { return };
        if own || !self.understood || self.by_child {
            self.take(said);
            self.by_child = !own;
        }
    }

    fn take(&mut self, said: &Said) {
        let text = |text: &str, max_bytes| -> Arc<str> { safe(text.as_bytes(), max_bytes).into() };
        self.understood = true;
        self.ips = said.ips.iter().map(|ip| text(ip, IP_TEXT_BYTES)).collect();
        self.error = said.error.as_ref().map(|error| CniError {
            code: error.code,
            msg: text(&error.msg, WORDS_TEXT_BYTES),
            details: text(&error.details, WORDS_TEXT_BYTES),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conflicts_are_told_by_their_words() {
        let error =
            |msg: &str, details: &str| CniError { code: 11, msg: msg.into(), details: details.into() };
        let told = "Operation cannot be fulfilled on ippools.whereabouts.cni.cncf.io \"10\": the object has been \
                    modified; please apply your changes to the latest version and try again";
        assert!(error(told, "").is_conflict());
        assert!(error("failed", "PUT /apis: 409 Conflict").is_conflict());
        assert!(error("update conflict: IPAMBlock(10-0-0-0-26)", "").is_conflict());
        assert!(!error("no more addresses", "10.0.4.90").is_conflict());
        assert!(!error("object has been deleted", "port 14090").is_conflict());
    }
}
