//! `slowpod flux` with Debian's plugins and with the slow plugin, in a private network namespace.

mod bed;
mod contended;
mod explained;
mod failures;
mod many;
mod refusals;
mod runs;
mod stops;
mod thirty;
mod xtables;
