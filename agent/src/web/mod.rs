//! HTTP: routes made from [`VIEWS`](crate::views::VIEWS), within bounds. The only module that names axum.
//!
//! Everything is read-only and unauthenticated, so it is for this machine only unless the user says
//! otherwise ([`Listen`]); a browser's stranger is kept out by name (`guard`). Nothing here computes: a route
//! is a view, and a view is a function of a snapshot.

mod answers;
mod connections;
mod guard;
mod listen;
mod on_demand;
mod own;
mod own_cost;
mod page;
mod pprof_index;
mod profiles;
mod refusal;
mod routes;
mod server;
mod stall;

pub use answers::{CACHE_AGE_MAX, PROFILES_MAX, QUEUE_MAX, RENDERS_MAX};
pub use connections::{CONNECTIONS_MAX, GRACE_MAX, HEADER_MAX};
pub(crate) use guard::SERVER_NAME;
pub use listen::{Bound, LISTEN_DEFAULT, Listen, ListenError, bind};
pub use routes::{FIXED, router};
pub use server::{Server, start};

use crate::pipeline::Hub;
use crate::views::View;
use std::sync::Arc;

/// What is served.
#[derive(Clone)]
pub struct Site {
    /// Where answers come from.
    pub hub: Arc<Hub>,
    /// The endpoints; [`crate::views::VIEWS`] outside tests.
    pub views: &'static [&'static View],
    /// Reads the kernel's monotonic clock (`CLOCK_MONOTONIC`, ns): what records are stamped with.
    pub now_ns: fn() -> u64,
    /// Names the server answers to beside those of loopback and its own address.
    pub allow_hosts: Vec<String>,
}
