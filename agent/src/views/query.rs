//! Query strings to validated parameters. In: the raw query of a URL. Out: a [`Query`], or an error that names
//! the parameter and says what would be right.

use crate::fold::Window;
use std::borrow::Cow;

/// A parameter a view takes.
#[derive(Clone, Copy, Debug)]
pub struct Param {
    /// Name in the query string.
    pub name: &'static str,
    /// What it is for, as a clause for the API document.
    pub about: &'static str,
    /// What values it takes.
    pub kind: ParamKind,
}

/// What values a parameter takes.
#[derive(Clone, Copy, Debug)]
pub enum ParamKind {
    /// A span of time: seconds, with a fraction if wanted, or with a unit (`90`, `1.5`, `500ms`, `5m`, `1h`).
    Seconds {
        /// Smallest value, in ns.
        min_ns: u64,
        /// Largest value, in ns.
        max_ns: u64,
    },
    /// A whole number.
    Count {
        /// Smallest value.
        min: u64,
        /// Largest value.
        max: u64,
    },
    /// A whole number for which nothing is known of pods and processes: with a filter it is refused.
    CountAlone {
        /// Smallest value.
        min: u64,
        /// Largest value.
        max: u64,
    },
    /// One of these words.
    Choice {
        /// The words; the first is the default.
        of: &'static [&'static str],
    },
    /// Text, at most this many bytes.
    Text {
        /// Most bytes.
        max_bytes: usize,
    },
}

/// Longest window or look-back that can be asked for: one hour, six times the default recorder.
pub const SPAN_MAX_NS: u64 = 3_600_000_000_000;
/// Window of an answer when none is asked for.
pub const SECONDS_DEFAULT_NS: u64 = 60_000_000_000;
/// Rows of an answer when no limit is asked for.
pub const LIMIT_DEFAULT: usize = 100;

/// How long a window is.
pub const SECONDS: Param = Param {
    name: "seconds",
    about: "length of the window (default 60)",
    kind: ParamKind::Seconds { min_ns: 1_000_000, max_ns: SPAN_MAX_NS },
};
/// How long before now it ends.
pub const AGO: Param = Param {
    name: "ago",
    about: "how long ago the window began, as in `ago=5m&seconds=60`; without `ago` it ends now",
    kind: ParamKind::Seconds { min_ns: 0, max_ns: SPAN_MAX_NS },
};
/// How many rows.
pub const LIMIT: Param = Param {
    name: "limit",
    about: "most rows in the answer (default 100)",
    kind: ParamKind::Count { min: 1, max: 20_000 },
};
/// Only this pod.
pub const POD: Param =
    Param { name: "pod", about: "only this pod, by UID or name", kind: ParamKind::Text { max_bytes: 253 } };
/// Only pods of this namespace.
pub const NAMESPACE: Param = Param {
    name: "namespace",
    about: "only pods of this namespace, as far as their names are known (from their runtime or CNI calls)",
    kind: ParamKind::Text { max_bytes: 253 },
};
/// Only this container.
pub const CONTAINER: Param = Param {
    name: "container",
    about: "only this container, by its name, its id or the beginning of that (12 digits at least)",
    kind: ParamKind::Text { max_bytes: 64 },
};
/// Only this process.
pub const PID: Param =
    Param { name: "pid", about: "only this process id", kind: ParamKind::Count { min: 1, max: 4_194_304 } };
/// Only processes of this name.
pub const COMM: Param = Param {
    name: "comm",
    about: "only processes of this kernel name (15 bytes at most)",
    kind: ParamKind::Text { max_bytes: 64 },
};
/// Only this cgroup.
pub const CGROUP: Param = Param {
    name: "cgroup",
    about: "only cgroups whose path begins so",
    kind: ParamKind::Text { max_bytes: 1_024 },
};

/// What every view takes.
pub const COMMON: &[Param] = &[SECONDS, AGO, LIMIT, POD, NAMESPACE, CONTAINER, PID, COMM, CGROUP];
/// Of these, what an answer can be narrowed to.
const FILTERS: &[Param] = &[POD, NAMESPACE, CONTAINER, PID, COMM, CGROUP];

/// Validated parameters.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Query {
    /// Length of the window; `None` = the default, or all of a tape.
    pub seconds_ns: Option<u64>,
    /// How long ago the window began.
    pub ago_ns: Option<u64>,
    /// Most rows.
    pub limit: Option<usize>,
    /// Pod, by UID or name.
    pub pod: Option<String>,
    /// Namespace of the pod.
    pub namespace: Option<String>,
    /// Container, by the beginning of its id.
    pub container: Option<String>,
    /// Process id.
    pub pid: Option<u32>,
    /// Kernel's name of the process.
    pub comm: Option<String>,
    /// Beginning of the cgroup's path.
    pub cgroup: Option<String>,
    /// Parameters of single views, as given and validated.
    pub more: Vec<(&'static str, String)>,
}

/// Why a query cannot be answered. Shown to the caller as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("parameter {parameter:?}: {problem}")]
pub struct QueryError {
    /// The parameter.
    pub parameter: String,
    /// What is wrong with it, and what would be right.
    pub problem: String,
}

impl Query {
    /// Parses a raw query string for a view that takes `own` beside the common parameters.
    ///
    /// # Errors
    /// Names the first parameter that is unknown, repeated, or out of bounds; or one that cannot go with a filter.
    pub fn parse(raw: &str, own: &[Param]) -> Result<Query, QueryError> {
        Query::parse_at(&[], raw, own)
    }

    /// The same for a path that gives some parameters itself: their names and plain values are `in_path`.
    ///
    /// # Errors
    /// As [`Query::parse`].
    pub fn parse_at(in_path: &[(&str, &str)], raw: &str, own: &[Param]) -> Result<Query, QueryError> {
        let mut query = Query::default();
        let mut seen: Vec<&'static str> = Vec::new();
        let in_path = in_path.iter().map(|(name, value)| (Cow::from(*name), Cow::from(*value)));
        for (name, value) in in_path.chain(form_urlencoded::parse(raw.as_bytes())) {
            let fail = |problem: String| QueryError { parameter: name.chars().take(64).collect(), problem };
            let param = COMMON.iter().chain(own).find(|param| param.name == name).ok_or_else(|| {
                let known: Vec<&str> = COMMON.iter().chain(own).map(|param| param.name).collect();
                fail(format!("unknown; this path takes {}", known.join(", ")))
            })?;
            if seen.contains(&param.name) {
                return Err(fail("given more than once".into()));
            }
            seen.push(param.name);
            query.set(param, &value).map_err(fail)?;
        }
        let alone = |param: &&Param| matches!(param.kind, ParamKind::CountAlone { .. });
        if let Some(param) = own.iter().filter(alone).find(|param| seen.contains(&param.name))
            && let Some(filter) = FILTERS.iter().find(|filter| seen.contains(&filter.name))
        {
            let problem = format!("not together with {}: give one of the two", filter.name);
            return Err(QueryError { parameter: param.name.into(), problem });
        }
        Ok(query)
    }

    fn set(&mut self, param: &Param, value: &str) -> Result<(), String> {
        let number = match param.kind {
            ParamKind::Seconds { min_ns, max_ns } => seconds(value, min_ns, max_ns)?,
            ParamKind::Count { min, max } | ParamKind::CountAlone { min, max } => count(value, min, max)?,
            ParamKind::Choice { of } => {
                choice(value, of)?;
                0
            }
            ParamKind::Text { max_bytes } => {
                text(value, max_bytes)?;
                0
            }
        };
        match param.name {
            "seconds" => self.seconds_ns = Some(number),
            "ago" => self.ago_ns = Some(number),
            "limit" => self.limit = Some(number as usize),
            "pid" => self.pid = Some(number as u32),
            "pod" => self.pod = Some(value.into()),
            "namespace" => self.namespace = Some(value.into()),
            "container" => self.container = Some(value.into()),
            "comm" => self.comm = Some(value.into()),
            "cgroup" => self.cgroup = Some(value.into()),
            own => self.more.push((own, value.into())),
        }
        Ok(())
    }

    /// The value of a view's own parameter.
    pub fn own(&self, name: &str) -> Option<&str> {
        self.more.iter().find(|(own, _)| *own == name).map(|(_, value)| value.as_str())
    }

    /// The value of a view's own parameter that is a [`ParamKind::Count`].
    pub fn own_count(&self, name: &str) -> Option<usize> {
        self.own(name).and_then(|value| value.parse().ok())
    }

    /// The value of a view's own parameter that is a [`ParamKind::Seconds`], in ns.
    pub fn own_span(&self, name: &str) -> Option<u64> {
        self.own(name).and_then(|value| seconds(value, 0, SPAN_MAX_NS).ok())
    }

    /// Most rows.
    pub fn rows(&self) -> usize {
        self.limit.unwrap_or(LIMIT_DEFAULT)
    }

    /// The window asked for, when the newest instant is `now_ns`. Without `ago` it ends now; with `ago` it
    /// begins that long ago.
    pub fn window(&self, now_ns: u64) -> Window {
        // A record of this very instant belongs to the window; its end is exclusive.
        let end_ns = now_ns.saturating_add(1);
        let seconds_ns = self.seconds_ns.unwrap_or(SECONDS_DEFAULT_NS);
        match self.ago_ns {
            None => Window { from_ns: now_ns.saturating_sub(seconds_ns), until_ns: end_ns },
            Some(ago_ns) => {
                let from_ns = now_ns.saturating_sub(ago_ns);
                Window { from_ns, until_ns: from_ns.saturating_add(seconds_ns).min(end_ns) }
            }
        }
    }
}

/// A span of time as users write it, in nanoseconds.
///
/// # Errors
/// Says what a span looks like, or what the bounds are.
pub fn seconds(value: &str, min_ns: u64, max_ns: u64) -> Result<u64, String> {
    let digits = value.len() - value.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').len();
    let (number, unit) = value.split_at(digits);
    let scale = match unit {
        "" | "s" => 1e9,
        "ms" => 1e6,
        "m" => 60e9,
        "h" => 3_600e9,
        _ => f64::NAN,
    };
    let nanoseconds = number.parse::<f64>().unwrap_or(f64::NAN) * scale;
    if !nanoseconds.is_finite() {
        return Err(format!("{:?} is no span of time; write 30, 1.5, 500ms, 5m or 1h", shown(value)));
    }
    if nanoseconds < min_ns as f64 || nanoseconds > max_ns as f64 {
        let bounds = (min_ns as f64 / 1e9, max_ns as f64 / 1e9);
        return Err(format!("must be from {} to {} seconds", bounds.0, bounds.1));
    }
    Ok(nanoseconds as u64)
}

fn count(value: &str, min: u64, max: u64) -> Result<u64, String> {
    let plain = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    let number = value.parse::<u64>().ok().filter(|number| plain && (min..=max).contains(number));
    number.ok_or_else(|| format!("{:?} is no whole number from {min} to {max}", shown(value)))
}

fn choice(value: &str, of: &[&str]) -> Result<(), String> {
    if of.contains(&value) { Ok(()) } else { Err(format!("must be one of {}", of.join(", "))) }
}

fn text(value: &str, max_bytes: usize) -> Result<(), String> {
    if value.is_empty() || value.len() > max_bytes {
        return Err(format!("must have 1 to {max_bytes} bytes"));
    }
    if value.chars().any(char::is_control) {
        return Err("must not contain control characters".into());
    }
    Ok(())
}

/// A value as an error may show it: short, so that a hostile one does not fill the log.
fn shown(value: &str) -> String {
    value.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(raw: &str) -> String {
        Query::parse(raw, &[]).unwrap_err().to_string()
    }

    #[test]
    fn spans_take_units() {
        for (raw, expected_ns) in
            [("30", 30e9), ("1.5", 1.5e9), ("500ms", 5e8), ("5m", 300e9), ("1h", 3_600e9), ("2s", 2e9)]
        {
            assert_eq!(seconds(raw, 0, SPAN_MAX_NS), Ok(expected_ns as u64), "{raw}");
        }
    }

    #[test]
    fn absurd_values_name_the_parameter() {
        for raw in [
            "seconds=-1",
            "seconds=1e9",
            "seconds=0",
            "seconds=99999999",
            "seconds=",
            "seconds=NaN",
            "seconds=inf",
            "seconds=.",
            "seconds=1.2.3",
            "seconds=5%00",
        ] {
            assert!(problem(raw).contains("\"seconds\""), "{raw}: {}", problem(raw));
        }
        for raw in
            ["limit=0", "limit=20001", "limit=-1", "limit=+5", "limit=1.5", "limit=18446744073709551616"]
        {
            assert!(problem(raw).contains("\"limit\""), "{raw}");
        }
        assert!(problem("pid=0").contains("\"pid\""));
        assert!(problem("pod=a%0Ab").contains("control"));
        assert!(problem(&format!("comm={}", "x".repeat(65))).contains("64 bytes"));
    }

    #[test]
    fn unknown_and_repeated_parameters_are_refused() {
        assert!(problem("second=5").contains("unknown; this path takes seconds, ago"));
        assert!(problem("limit=1&limit=2").contains("more than once"));
        assert!(problem(&format!("{}=1", "z".repeat(9_999))).len() < 400);
    }

    #[test]
    fn what_knows_no_processes_takes_no_filter() {
        let own = &[Param { name: "cpu", about: "", kind: ParamKind::CountAlone { min: 0, max: 7 } }];
        let problem = |raw: &str| Query::parse(raw, own).unwrap_err().to_string();
        assert!(Query::parse("cpu=1&seconds=5&ago=9&limit=3", own).is_ok());
        assert!(Query::parse("pid=4&comm=a", own).is_ok());
        for filter in ["pod=a", "namespace=a", "container=a", "pid=1", "comm=a", "cgroup=/a"] {
            let name = filter.split('=').next().unwrap();
            let expected = format!("parameter \"cpu\": not together with {name}: give one of the two");
            assert_eq!(problem(&format!("cpu=1&{filter}")), expected);
            assert_eq!(problem(&format!("{filter}&cpu=1")), expected);
        }
        assert!(problem("cpu=8").contains("from 0 to 7"));
    }

    #[test]
    fn windows_end_now_or_begin_ago() {
        let s = 1_000_000_000;
        let window = |raw: &str| Query::parse(raw, &[]).unwrap().window(1_000 * s);
        assert_eq!(window(""), Window { from_ns: 940 * s, until_ns: 1_000 * s + 1 });
        assert_eq!(window("seconds=10"), Window { from_ns: 990 * s, until_ns: 1_000 * s + 1 });
        assert_eq!(window("ago=5m&seconds=60"), Window { from_ns: 700 * s, until_ns: 760 * s });
        assert_eq!(window("ago=5"), Window { from_ns: 995 * s, until_ns: 1_000 * s + 1 });
    }
}
