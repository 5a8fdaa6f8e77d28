//! Answers: (Snapshot, Query) to bytes. Pure; one file is one endpoint. The router, the index page, the
//! OpenAPI document, `slowpod replay` and the golden tests all walk [`VIEWS`].

pub mod body;
pub mod classes;
pub mod cni;
mod cni_calls;
mod cni_flow;
mod cni_sandboxes;
pub mod completeness;
pub mod describe;
pub mod filter;
pub mod findings;
pub mod health;
pub mod html;
pub mod metrics;
pub mod netlink;
pub mod netlink_rows;
pub mod openapi;
pub mod pod;
mod pod_steps;
pub mod pods;
pub mod probes;
pub mod processes;
pub mod profiles;
pub mod query;
pub mod sched;
pub mod sched_heatmap;
pub mod sched_page;
pub mod storms;
pub mod top;
mod waits;
pub mod wakers;

use crate::fold::Snapshot;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
pub use query::{Param, Query, QueryError};
pub(crate) use waits::message as netlink_wait;

/// One endpoint.
pub struct View {
    /// Short name: the verb's argument in `slowpod replay TAPE NAME`, the file's name here.
    pub name: &'static str,
    /// HTTP path. A segment `{name}` stands for the value of the parameter of that name in `params`, which is
    /// then required and given nowhere else.
    pub path: &'static str,
    /// What it answers, as one sentence for the index page and the API document.
    pub about: &'static str,
    /// Parameters it takes beside those of every view ([`query::COMMON`]).
    pub params: &'static [Param],
    /// MIME type of what it renders.
    pub content_type: &'static str,
    /// The answer.
    pub render: fn(&Snapshot, &Query) -> Vec<u8>,
}

impl View {
    /// Names of the parameters that are given in the path, in its order.
    pub fn in_path(&self) -> impl Iterator<Item = &'static str> {
        self.path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
    }

    /// Path and query string that ask for this view with these parameters, given plain.
    pub fn url(&self, given: &[(&str, &str)]) -> String {
        let value_of = |name: &str| given.iter().find(|(own, _)| *own == name).map_or("", |(_, value)| value);
        let segments = self.path.split('/').map(|segment| {
            match segment.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
                Some(name) => utf8_percent_encode(value_of(name), ESCAPED).to_string(),
                None => segment.to_owned(),
            }
        });
        let path = segments.collect::<Vec<_>>().join("/");
        let rest = given.iter().filter(|(name, _)| !self.in_path().any(|own| own == *name));
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(rest).finish();
        if query.is_empty() { path } else { format!("{path}?{query}") }
    }
}

/// What a segment of a path may not hold as it is (RFC 3986, `unreserved`).
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// MIME type of JSON.
pub const JSON: &str = "application/json";

/// Every view, in the order the index lists them.
pub const VIEWS: &[&View] = &[
    &findings::VIEW,
    &storms::VIEW,
    &cni::VIEW,
    &pods::VIEW,
    &pod::VIEW,
    &cni::SANDBOX_VIEW,
    &processes::VIEW,
    &netlink::VIEW,
    &top::VIEW,
    &sched::VIEW,
    &sched_heatmap::VIEW,
    &wakers::VIEW,
    &probes::VIEW,
];

/// Views of what is looked at only while somebody asks: without `ago` their window begins when they are asked, and the answer
/// comes when it is over.
pub const ON_DEMAND: &[&View] = &[&wakers::VIEW];

/// The view with this name.
pub fn named(name: &str) -> Option<&'static View> {
    VIEWS.iter().find(|view| view.name == name).copied()
}
