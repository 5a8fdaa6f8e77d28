//! Scenes through the whole pipeline: golden answers, and the numbers that matter worked out by hand.

mod golden;
