//! Scenes through the whole pipeline: golden answers, and the numbers that matter worked out by hand.

mod cni;
mod filters;
mod findings;
mod garbage;
mod golden;
mod hostile;
mod lives;
mod loops;
mod losses;
mod pods;
mod profile;
mod profiles;
mod same;
mod sched;
mod storm;
mod top;
mod wakers;
mod windows;

use serde_json::Value;

/// One millisecond.
const MS: u64 = 1_000_000;
/// One second.
const S: u64 = 1_000 * MS;

/// The daemon of this name in an answer of `storms`.
fn daemon<'a>(answer: &'a Value, name: &str) -> &'a Value {
    named(&answer["daemons"], "name", name)
}

/// The argv class of this name in a loop or a daemon.
fn class<'a>(of: &'a Value, name: &str) -> &'a Value {
    named(&of["classes"], "argv_class", name)
}

/// The element of a list whose field has this value.
fn named<'a>(list: &'a Value, field: &str, value: &str) -> &'a Value {
    let list = list.as_array().expect("a list");
    let found = list.iter().find(|element| element[field] == value);
    found.unwrap_or_else(|| panic!("no {field} is {value:?} among {:?}", fields(list, field)))
}

/// A field of each element.
fn fields<'a>(list: &'a [Value], field: &str) -> Vec<&'a Value> {
    list.iter().map(|element| &element[field]).collect()
}
