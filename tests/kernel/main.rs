//! Tests on a live kernel: they need root.

mod facts;
mod robust;
mod witnesses;
