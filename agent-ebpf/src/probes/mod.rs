//! The kernel programs: one file per probe, with the names of `abi/`. Beside them, what they share:
//! `kernel` (fields of kernel structures), `settings`, `tables` (what is kept per thread and per process),
//! `ring` (submitting and counting losses), `threads` (a slot for every thread), `seats` (where a thread's waits are
//! counted), `away` (long absences from the CPU), `blocked` (why a thread went to sleep), `thing` (what it waits for),
//! `messages` (netlink messages in their sender's memory), `frames` and `unwind` (user stacks) and `text` (copying paths).

mod away;
mod blocked;
mod cgroup;
mod cni;
mod exec;
mod exit;
mod flood;
mod frames;
mod kernel;
mod locks;
mod messages;
mod netlink;
mod output;
mod queue;
mod reap;
mod ring;
mod sample;
mod seats;
mod settings;
mod spawn;
mod split;
mod stack;
mod tables;
mod text;
mod thing;
mod threads;
mod unwind;
mod wait;
mod wakes;
