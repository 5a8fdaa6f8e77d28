//! slowpod, the agent: stages in the order records flow through them.

pub mod capture;
pub mod decode;
pub mod enrich;
