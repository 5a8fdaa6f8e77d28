//! Answers: (Snapshot, Query) to bytes. Pure; one file is one endpoint. The router, the index page, the
//! OpenAPI document, `slowpod replay` and the golden tests all walk [`VIEWS`].

pub mod body;
pub mod classes;
pub mod cni;
mod cni_flow;
mod cni_sandboxes;
pub mod completeness;
pub mod describe;
pub mod filter;
pub mod findings;
pub mod health;
pub mod metrics;
pub mod netlink;
pub mod netlink_rows;
pub mod openapi;
pub mod probes;
pub mod processes;
pub mod query;
pub mod storms;

use crate::fold::Snapshot;
pub use query::{Param, Query, QueryError};

/// One endpoint.
pub struct View {
    /// Short name: the verb's argument in `slowpod replay TAPE NAME`, the file's name here.
    pub name: &'static str,
    /// HTTP path.
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

/// MIME type of JSON.
pub const JSON: &str = "application/json";

/// Every view, in the order the index lists them.
pub const VIEWS: &[&View] =
    &[&findings::VIEW, &storms::VIEW, &cni::VIEW, &processes::VIEW, &netlink::VIEW, &probes::VIEW];

/// The view with this name.
pub fn named(name: &str) -> Option<&'static View> {
    VIEWS.iter().find(|view| view.name == name).copied()
}
