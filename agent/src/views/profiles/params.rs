//! What a profile can be asked with, beside what every view takes.

use super::Kind;
use super::svg::Style;
use crate::demand::{DEFAULT_HZ, MAX_HZ};
use crate::fold::Window;
use crate::views::query::{Param, ParamKind, Query, QueryError, SPAN_MAX_NS, seconds};

/// Text in place of protobuf.
pub const DEBUG: Param = Param {
    name: "debug",
    about: "1 gives text to read, 0 the protobuf",
    kind: ParamKind::Count { min: 0, max: 2 },
};
/// How often to sample.
pub const HZ: Param = Param {
    name: "hz",
    about: "samples per second of each CPU while the window lasts (default 99)",
    kind: ParamKind::Count { min: 1, max: MAX_HZ as u64 },
};
/// Which value to draw.
pub const VALUE: Param = Param {
    name: "value",
    about: "which of the kind's values the widths are, by name; the index of /debug/pprof/ lists them",
    kind: ParamKind::Text { max_bytes: 32 },
};
/// What to draw.
pub const FORMAT: Param = Param {
    name: "format",
    about: "svg, or folded stacks",
    kind: ParamKind::Choice { of: &["svg", "folded"] },
};
/// Upside down.
pub const ICICLE: Param = Param {
    name: "icicle",
    about: "1 draws from top to bottom",
    kind: ParamKind::Choice { of: &["0", "1"] },
};
/// Inside out.
pub const REVERSE: Param = Param {
    name: "reverse",
    about: "1 puts the innermost functions first, with their callers on them",
    kind: ParamKind::Choice { of: &["0", "1"] },
};
/// What to compare with.
pub const BASE: Param = Param {
    name: "base",
    about: "colours by the difference to the window of the same length that began so long ago",
    kind: ParamKind::Seconds { min_ns: 0, max_ns: SPAN_MAX_NS },
};

/// What `/debug/pprof/KIND` takes.
pub const PPROF: &[Param] = &[DEBUG, HZ];
/// What `/flamegraph/KIND` takes.
pub const FLAMEGRAPH: &[Param] = &[HZ, VALUE, FORMAT, ICICLE, REVERSE, BASE];

/// The rate asked for.
pub fn hz(query: &Query) -> u32 {
    query.own_count(HZ.name).and_then(|hz| u32::try_from(hz).ok()).unwrap_or(DEFAULT_HZ)
}

/// How a flame graph is to be drawn.
///
/// # Errors
/// When the kind has no value of the name asked for.
pub fn style(kind: &Kind, query: &Query) -> Result<Style, QueryError> {
    let is_set = |param: &Param| query.own(param.name) == Some("1");
    Ok(Style { value: value(kind, query)?, icicle: is_set(&ICICLE), reverse: is_set(&REVERSE) })
}

/// The number of the value asked for.
///
/// # Errors
/// When the kind has no value of this name.
pub fn value(kind: &Kind, query: &Query) -> Result<usize, QueryError> {
    let Some(wanted) = query.own(VALUE.name) else { return Ok(kind.default_value) };
    kind.values.iter().position(|value| value.name == wanted).ok_or_else(|| {
        let names: Vec<&str> = kind.values.iter().map(|value| value.name).collect();
        let problem = format!("{} has no value of this name; it has {}", kind.name, names.join(", "));
        QueryError { parameter: VALUE.name.into(), problem }
    })
}

/// The window to compare with, if one is asked for: as long as `window`, and begun so long before `now_ns`.
pub fn base(query: &Query, window: Window, now_ns: u64) -> Option<Window> {
    let ago_ns = seconds(query.own(BASE.name)?, 0, SPAN_MAX_NS).ok()?;
    let from_ns = now_ns.saturating_sub(ago_ns);
    let length_ns = window.until_ns.saturating_sub(window.from_ns);
    Some(Window { from_ns, until_ns: from_ns.saturating_add(length_ns) })
}
