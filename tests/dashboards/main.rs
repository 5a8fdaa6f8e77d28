//! `dashboards/` against the metrics that are really there: its form, its rules by promtool, and every
//! expression asked of a real Prometheus (Debian's) that scrapes an agent.

mod dashboard;
mod form;
mod living;
mod prometheus;
mod promtool;

use std::path::PathBuf;

/// A file of `dashboards/`.
fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../dashboards").join(name)
}

/// Its text.
fn text(name: &str) -> String {
    std::fs::read_to_string(file(name)).unwrap_or_else(|error| panic!("dashboards/{name}: {error}"))
}
