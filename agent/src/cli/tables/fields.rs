//! Fields of an answer. In: JSON. Out: safe text and numbers; a field that is not there is empty or zero.

use crate::enrich::text;
use crate::findings::human;
use serde_json::Value;

/// Longest text shown of one field: beyond it a terminal is no place to read it.
const TEXT_BYTES: usize = 2_048;

/// A part of an answer.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a>(&'a Value);

impl<'a> Fields<'a> {
    pub(super) fn new(value: &'a Value) -> Self {
        Fields(value)
    }

    /// The part of this name.
    pub(super) fn at(&self, name: &str) -> Fields<'a> {
        Fields(self.0.get(name).unwrap_or(&Value::Null))
    }

    /// Whether there is something.
    pub(super) fn is_some(&self) -> bool {
        !self.0.is_null()
    }

    /// Its elements, when it is a list.
    pub(super) fn list(&self) -> impl Iterator<Item = Fields<'a>> + use<'a> {
        self.0.as_array().into_iter().flatten().map(Fields)
    }

    /// Its entries, when it is an object; names are safe text.
    pub(super) fn entries(&self) -> impl Iterator<Item = (String, Fields<'a>)> + use<'a> {
        let entries = self.0.as_object().into_iter().flatten();
        entries.map(|(name, value)| (safe(name), Fields(value)))
    }

    /// This very value as safe text.
    pub(super) fn own_text(&self) -> String {
        match self.0 {
            Value::String(text) => safe(text),
            Value::Number(number) => number.to_string(),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => String::new(),
        }
    }

    /// A field as safe text.
    pub(super) fn text(&self, name: &str) -> String {
        self.at(name).own_text()
    }

    /// A field as a whole number.
    pub(super) fn whole(&self, name: &str) -> u64 {
        self.at(name).0.as_u64().unwrap_or_default()
    }

    /// A field as a number.
    pub(super) fn number(&self, name: &str) -> f64 {
        self.at(name).0.as_f64().unwrap_or_default()
    }

    /// Whether a field is true.
    pub(super) fn flag(&self, name: &str) -> bool {
        self.at(name).0.as_bool().unwrap_or_default()
    }

    /// This very value as a count: `12,345`; nothing when it is no number.
    pub(super) fn count_text(&self) -> String {
        self.0.as_u64().map(human::count).unwrap_or_default()
    }

    /// A field as a count.
    pub(super) fn count(&self, name: &str) -> String {
        self.at(name).count_text()
    }

    /// A field of nanoseconds as a span of time; nothing when it is no number.
    pub(super) fn span(&self, name: &str) -> String {
        self.at(name).0.as_u64().map(human::duration).unwrap_or_default()
    }

    /// A field from 0 to 1 in percent.
    pub(super) fn share(&self, name: &str) -> String {
        let share = self.at(name).0.as_f64();
        share.map(|share| human::percent((share * 1e4).round().max(0.0) as u64, 10_000)).unwrap_or_default()
    }

    /// Who an `identity` block names, in short.
    pub(super) fn owner(&self) -> String {
        let identity = self.at("identity");
        match identity.text("kind").as_str() {
            "pod" => format!("pod {}", identity.text("pod_uid")),
            "host" => identity.text("unit"),
            other => other.to_owned(),
        }
    }

    /// A `split` block in short: `59 % cpu, 2 % queue, 39 % blocked (disk 30 %)`, causes of a tenth or more named.
    pub(super) fn split(&self) -> String {
        let split = self.at("split");
        let parts = ["on_cpu_ns", "runnable_ns", "blocked_ns"].map(|part| split.whole(part));
        let total = parts.iter().fold(0_u64, |sum, part| sum.saturating_add(*part));
        if total == 0 {
            return String::new();
        }
        let mut causes: Vec<(u64, String)> = split
            .at("blocked_by")
            .entries()
            .map(|(name, ns)| (ns.0.as_u64().unwrap_or_default(), name))
            .collect();
        causes.retain(|(ns, _)| *ns as f64 >= total as f64 / 10.0);
        causes.sort_by(|one, other| other.0.cmp(&one.0).then_with(|| one.1.cmp(&other.1)));
        let causes: Vec<String> =
            causes.iter().map(|(ns, name)| format!("{name} {}", human::percent(*ns, total))).collect();
        let named = ["cpu", "queue", "blocked"].into_iter().zip(parts).filter(|(_, part)| *part > 0);
        let shares: Vec<String> =
            named.map(|(name, part)| format!("{} {name}", human::percent(part, total))).collect();
        let why = if causes.is_empty() { String::new() } else { format!(" ({})", causes.join(", ")) };
        format!("{}{why}", shares.join(", "))
    }
}

fn safe(value: &str) -> String {
    text::safe(value.as_bytes(), TEXT_BYTES).into_owned()
}
