//! What a witness says happened, as JSON, read by pointer so that a missing field fails with its name.

use std::fmt;

use serde_json::Value;

/// One line of a witness. Pointers are JSON pointers (RFC 6901): `/spawners/0/pid`.
#[derive(Clone, Debug, PartialEq)]
pub struct Truth {
    value: Value,
}

/// A child as its spawner's own clock and wait saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WitnessedChild {
    /// Its pid.
    pub pid: u32,
    /// Just before the call that made it, CLOCK_MONOTONIC.
    pub spawn_ns: u64,
    /// Just after the wait that reaped it.
    pub reaped_ns: u64,
    /// Wait status: exit code << 8, or the signal.
    pub status: u32,
}

impl Truth {
    /// Wraps a value.
    pub fn new(value: Value) -> Truth {
        Truth { value }
    }

    /// The value at a pointer.
    ///
    /// # Panics
    /// When there is none.
    pub fn at(&self, pointer: &str) -> &Value {
        self.value.pointer(pointer).unwrap_or_else(|| panic!("no {pointer} in {self}"))
    }

    /// The number at a pointer.
    ///
    /// # Panics
    /// When there is none.
    pub fn number(&self, pointer: &str) -> u64 {
        let value = self.at(pointer);
        value.as_u64().unwrap_or_else(|| panic!("{pointer} is {value}, not a number"))
    }

    /// The text at a pointer.
    ///
    /// # Panics
    /// When there is none.
    pub fn text(&self, pointer: &str) -> &str {
        let value = self.at(pointer);
        value.as_str().unwrap_or_else(|| panic!("{pointer} is {value}, not text"))
    }

    /// The elements of the array at a pointer.
    ///
    /// # Panics
    /// When there is none.
    pub fn list(&self, pointer: &str) -> Vec<Truth> {
        let value = self.at(pointer);
        let elements = value.as_array().unwrap_or_else(|| panic!("{pointer} is {value}, not a list"));
        elements.iter().cloned().map(Truth::new).collect()
    }

    /// The child at a pointer (`/child`, `/children/0`).
    ///
    /// # Panics
    /// When one of its fields is missing.
    pub fn child(&self, pointer: &str) -> WitnessedChild {
        let number = |field: &str| self.number(&format!("{pointer}/{field}"));
        WitnessedChild {
            pid: number("pid") as u32,
            spawn_ns: number("spawn_ns"),
            reaped_ns: number("reaped_ns"),
            status: number("status") as u32,
        }
    }

    /// The children in the list at a pointer.
    ///
    /// # Panics
    /// When it is no list of children.
    pub fn children(&self, pointer: &str) -> Vec<WitnessedChild> {
        self.list(pointer).iter().map(|element| element.child("")).collect()
    }
}

impl fmt::Display for Truth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

impl WitnessedChild {
    /// From just before its start to just after its reap: an upper bound of its life.
    pub fn wall_ns(&self) -> u64 {
        self.reaped_ns - self.spawn_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn children_are_read_whole() {
        let child = json!({ "pid": 7, "spawn_ns": 10, "reaped_ns": 15, "status": 256 });
        let truth = Truth::new(json!({ "children": [child] }));
        let expected = WitnessedChild { pid: 7, spawn_ns: 10, reaped_ns: 15, status: 256 };
        assert_eq!(truth.children("/children"), [expected]);
        assert_eq!(expected.wall_ns(), 5);
    }

    #[test]
    #[should_panic(expected = "no /spawns in")]
    fn a_missing_field_fails_by_name() {
        Truth::new(json!({})).number("/spawns");
    }
}
