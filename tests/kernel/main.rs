//! Tests on a live kernel: they need root.

mod cni;
mod facts;
mod witnesses;
