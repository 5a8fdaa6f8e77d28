//! Tests on a live kernel: they need root.

mod witnesses;
