//! Everything that enters the agent, as timestamped records.

pub mod facts;
