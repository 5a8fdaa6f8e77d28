//! Tests on a live kernel: they need root.

mod facts;
mod witnesses;
