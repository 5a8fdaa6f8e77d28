//! Tests on a live kernel: they need root.

mod cni;
mod cni_odd;
mod exact;
mod execs;
mod facts;
mod gone;
mod hung;
mod lineages;
mod loops;
mod naps;
mod netlink;
mod own_profile;
mod pods;
mod pprof;
mod profiles;
mod proxy;
mod robust;
mod runqlat;
mod sched;
mod splits;
mod storms;
mod symbols;
mod top;
mod unwound;
mod wakers;
mod witnesses;
