//! Real daemons and tools of a node: they need root.

mod containerd;
mod flux;
