//! Everything that enters, as timestamped records.

pub mod batch;
pub mod coalesce;
pub mod order;
pub mod redact;
