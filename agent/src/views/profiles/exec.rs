//! `exec`: time in spawned children. The spawner's stack, then what it ran, then where the child's time went: the
//! picture of a daemon that does its work in children.

use super::collect::{About, Collector};
use super::{Kind, Value};
use crate::fold::spawned::{SpawnKey, SpawnSums};

/// The kind.
pub static KIND: Kind = Kind {
    name: "exec",
    about: "Time in spawned children, on the stack of who spawned them, by argv class, then by where the child's time \
            went. Children of children stand under their own spawner.",
    values: &[Value::count("spawns"), Value::time("wall"), Value::time("cpu")],
    default_value: 1,
    period: None,
    sampled: false,
    collect,
};

/// What stands for the stack of a spawner that nobody saw.
const NO_STACK: &str = "[spawned from an unknown place]";

fn collect(profile: &mut Collector<'_>) {
    for (key, sums) in profile.state().spawned.rows() {
        if let Some(owner) = profile.process(key.spawner) {
            add(profile, owner, key, sums);
        }
    }
}

fn add(profile: &mut Collector<'_>, owner: u32, key: &SpawnKey, sums: &SpawnSums) {
    let with_stack = [&*key.argv_class];
    let without_stack = [NO_STACK, &*key.argv_class];
    let notes: &[&str] = if key.user_stack == 0 { &without_stack } else { &with_stack };
    if key.user_stack == 0 {
        profile.without_stack();
    }
    let about = About { owner, user_stack: key.user_stack, notes, ..About::default() };
    profile.add(&about, [sums.spawns, 0, sums.on_cpu_ns]);
    profile.add_split(&about, &sums.split, |ns| [0, ns, 0]);
    for (note, cause, ns) in [
        ("[clone]", "clone", sums.clone_ns),
        ("[ending]", "ending", sums.ending_ns),
        ("[until collected]", "collecting", sums.collecting_ns),
        ("[still running]", "running", sums.running_ns),
        ("[only counted]", "counted", sums.counted_ns),
    ] {
        let notes: Vec<&str> = notes.iter().copied().chain([note]).collect();
        profile.add(&About { cause: Some(cause), notes: &notes, ..about }, [0, ns, 0]);
    }
}
