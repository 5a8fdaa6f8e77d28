//! A real container runtime: pods started through CRI, and what slowpod says of their starts.

mod bed;
mod cri;
mod image;
mod starts;
