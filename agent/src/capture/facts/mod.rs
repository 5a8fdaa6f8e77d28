//! Facts about the world outside the rings. In: `/proc`, the cgroup file systems, clocks, one netlink dump.
//! Out: [`Fact`](crate::decode::fact::Fact) values.

pub mod clock;
pub mod genl;
pub mod node;
