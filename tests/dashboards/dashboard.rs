//! The dashboard's file as panels and expressions.

use serde_json::Value;

/// A query of a panel.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// Title of its panel.
    pub(crate) panel: String,
    /// PromQL with Grafana's variables in it.
    pub(crate) expression: String,
    /// How its series are called, with `{{label}}` places.
    pub(crate) legend: String,
}

/// The dashboard.
pub(crate) fn read() -> Value {
    serde_json::from_str(&crate::text("slowpod.json")).expect("slowpod.json is JSON")
}

/// Panels that show something: all but rows.
pub(crate) fn panels(dashboard: &Value) -> Vec<&Value> {
    let all = dashboard["panels"].as_array().expect("panels");
    all.iter().filter(|panel| panel["type"] != "row").collect()
}

/// Every query of every panel.
pub(crate) fn targets(dashboard: &Value) -> Vec<Target> {
    let of_panel = |panel: &Value| -> Vec<Target> {
        let target = |target: &Value| Target {
            panel: string(&panel["title"]),
            expression: string(&target["expr"]),
            legend: string(&target["legendFormat"]),
        };
        panel["targets"].as_array().into_iter().flatten().map(target).collect()
    };
    panels(dashboard).into_iter().flat_map(of_panel).collect()
}

pub(crate) fn string(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

impl Target {
    /// The expression as Grafana would send it with "All" chosen everywhere.
    pub(crate) fn concrete(&self) -> String {
        let filled = self
            .expression
            .replace("$__rate_interval", "30s")
            .replace("$node", ".*")
            .replace("$daemon", ".*");
        assert!(!filled.contains('$'), "{}: a variable that nobody fills in {filled}", self.panel);
        filled
    }

    /// Labels its legend shows.
    pub(crate) fn legend_labels(&self) -> Vec<&str> {
        self.legend.split("{{").skip(1).filter_map(|rest| rest.split("}}").next()).collect()
    }
}

/// Names of metrics in a text: words that begin as ours or as the process's own do.
pub(crate) fn names(text: &str) -> Vec<&str> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let words = text.split(|c: char| !is_name(c));
    words.filter(|word| word.starts_with("slowpod_") || word.starts_with("process_")).collect()
}
