//! slowpod.
