//! `/api/v1/openapi.json`: the API's description, made from [`VIEWS`] and their parameters, so that it cannot
//! name a path or a parameter that is not there.

use super::profiles::{self, PROFILES};
use super::query::{COMMON, ParamKind};
use super::{JSON, Param, VIEWS, View};
use serde_json::{Map, Value, json};

/// Where the document is served.
pub const PATH: &str = "/api/v1/openapi.json";

/// The OpenAPI 3.1 document, as JSON ended by a newline.
pub fn document() -> Vec<u8> {
    let mut paths: Map<String, Value> = VIEWS.iter().map(|view| (view.path.into(), path(view))).collect();
    paths.extend(PROFILE_PATHS.map(|of| (of.path.into(), profile_path(&of))));
    let document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "slowpod",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "What a node's daemons spend their time on. Every JSON answer states its window and \
                            what is missing from it. Times are nanoseconds where the name ends in _ns.",
            "license": { "name": "Apache-2.0 OR MIT", "identifier": "Apache-2.0 OR MIT" },
        },
        "servers": [{ "url": "/" }],
        "paths": paths,
        "components": { "schemas": schemas() },
    });
    let mut bytes =
        serde_json::to_vec_pretty(&document).expect("the document holds nothing that JSON cannot");
    bytes.push(b'\n');
    bytes
}

fn path(view: &View) -> Value {
    let parameters: Vec<Value> =
        COMMON.iter().chain(view.params).map(|param| parameter(view, param)).collect();
    let schema = if view.content_type == JSON {
        json!({ "$ref": "#/components/schemas/Answer" })
    } else {
        json!({ "type": "string" })
    };
    let answer =
        json!({ "description": "The answer.", "content": { view.content_type: { "schema": schema } } });
    json!({ "get": {
        "operationId": view.name,
        "summary": view.about,
        "parameters": parameters,
        "responses": responses(answer, JSON, view.in_path().next().is_some()),
    } })
}

/// An answer, and every refusal there is beside it.
fn responses(answer: Value, refusals_as: &str, may_be_unknown: bool) -> Value {
    let schema = if refusals_as == JSON {
        json!({ "$ref": "#/components/schemas/Error" })
    } else {
        json!({ "type": "string" })
    };
    let mut responses = Map::from_iter([("200".to_owned(), answer)]);
    for (status, about) in REFUSALS {
        if *status != "404" || may_be_unknown {
            // Those of all paths come before a path is looked at, and are JSON everywhere.
            let of_all = matches!(*status, "403" | "405" | "414");
            let (kind, schema) = match of_all {
                true => (JSON, json!({ "$ref": "#/components/schemas/Error" })),
                false => (refusals_as, schema.clone()),
            };
            let content = json!({ kind: { "schema": schema } });
            responses.insert((*status).to_owned(), json!({ "description": about, "content": content }));
        }
    }
    Value::Object(responses)
}

/// Statuses of refusals, and when they are given.
const REFUSALS: &[(&str, &str)] = &[
    ("400", "A parameter is unknown, repeated or out of bounds, or the request names two hosts."),
    ("403", "The request names a host that is not this server (see `--allow-host`)."),
    ("404", "What the path names does not exist."),
    ("405", "Everything is only read: use GET or HEAD."),
    ("414", "The query is longer than 8 KiB."),
    ("500", "The view failed; the agent goes on."),
    ("503", "The agent is starting, or too many ask at once; `Retry-After` says when to come back."),
];

/// A path under which every kind of profile is.
struct ProfilePath {
    path: &'static str,
    name: &'static str,
    about: &'static str,
    params: &'static [Param],
    content_types: &'static [&'static str],
    refusals_as: &'static str,
}

const PROFILE_PATHS: [ProfilePath; 3] = [
    ProfilePath {
        path: "/debug/pprof/{kind}",
        name: "pprof",
        about: "A profile as Go's net/http/pprof gives it: gzipped protobuf, or text with `debug=1`. `seconds` waits, unless \
                `ago` looks back.",
        params: profiles::params::PPROF,
        content_types: &[profiles::pprof::CONTENT_TYPE, profiles::text::CONTENT_TYPE],
        refusals_as: profiles::text::CONTENT_TYPE,
    },
    ProfilePath {
        path: "/flamegraph/{kind}",
        name: "flamegraph",
        about: "A profile as a flame graph, by pod, container and process; or as folded stacks.",
        params: profiles::params::FLAMEGRAPH,
        content_types: &[profiles::svg::CONTENT_TYPE, profiles::folded::CONTENT_TYPE],
        refusals_as: JSON,
    },
    ProfilePath {
        path: "/debug/self/pprof/profile",
        name: "own_profile",
        about: "The agent's own CPU profile, by its own sampler.",
        params: profiles::params::PPROF,
        content_types: &[profiles::pprof::CONTENT_TYPE, profiles::text::CONTENT_TYPE],
        refusals_as: profiles::text::CONTENT_TYPE,
    },
];

fn profile_path(of: &ProfilePath) -> Value {
    let kinds: Vec<&str> = PROFILES.iter().map(|kind| kind.name).collect();
    let about: Vec<String> = PROFILES.iter().map(|kind| format!("`{}`: {}", kind.name, kind.about)).collect();
    let kind = json!({
        "name": "kind",
        "in": "path",
        "required": true,
        "description": about.join(" "),
        "schema": { "type": "string", "enum": kinds },
    });
    let kind = of.path.contains("{kind}").then_some(kind);
    let own = COMMON.iter().chain(of.params).map(|param| described(param, false));
    let content: Map<String, Value> = of
        .content_types
        .iter()
        .map(|name| ((*name).to_owned(), json!({ "schema": { "type": "string" } })))
        .collect();
    json!({ "get": {
        "operationId": of.name,
        "summary": of.about,
        "parameters": kind.into_iter().chain(own).collect::<Vec<Value>>(),
        "responses": responses(json!({ "description": "The profile.", "content": content }), of.refusals_as, true),
    } })
}

fn parameter(view: &View, param: &Param) -> Value {
    described(param, view.in_path().any(|name| name == param.name))
}

fn described(param: &Param, in_path: bool) -> Value {
    json!({
        "name": param.name,
        "in": if in_path { "path" } else { "query" },
        "required": in_path,
        "description": param.about,
        "schema": schema(&param.kind),
    })
}

fn schema(kind: &ParamKind) -> Value {
    match kind {
        ParamKind::Seconds { min_ns, max_ns } => json!({
            "type": "string",
            "pattern": r"^[0-9]*\.?[0-9]+(ms|s|m|h)?$",
            "description": format!("from {} to {} seconds", *min_ns as f64 / 1e9, *max_ns as f64 / 1e9),
        }),
        ParamKind::Count { min, max } | ParamKind::CountAlone { min, max } => {
            json!({ "type": "integer", "minimum": min, "maximum": max })
        }
        ParamKind::Choice { of } => json!({ "type": "string", "enum": of, "default": of.first() }),
        ParamKind::Text { max_bytes } => json!({ "type": "string", "minLength": 1, "maxLength": max_bytes }),
    }
}

/// What all JSON answers have; the views' own fields stand beside it.
fn schemas() -> Value {
    let counts = json!({ "type": "object", "additionalProperties": { "type": "integer" } });
    let text = json!({ "type": ["string", "null"], "format": "date-time" });
    json!({
        "Answer": {
            "type": "object",
            "required": ["window", "completeness"],
            "properties": {
                "window": { "$ref": "#/components/schemas/Window" },
                "completeness": { "$ref": "#/components/schemas/Completeness" },
            },
        },
        "Window": {
            "type": "object",
            "properties": {
                "from": text,
                "until": text,
                "seconds": { "type": "number" },
                "covered_seconds": { "type": "number" },
                "from_ktime_ns": { "type": "integer" },
                "until_ktime_ns": { "type": "integer" },
            },
        },
        "Completeness": {
            "type": "object",
            "required": ["complete"],
            "properties": {
                "complete": { "type": "boolean" },
                "lost": counts,
                "counted_only": counts,
                "truncated": counts,
                "unattributed": { "type": "integer" },
                "evicted": counts,
                "degraded": { "type": "array", "items": { "type": "string" } },
            },
        },
        "Error": {
            "type": "object",
            "required": ["error"],
            "properties": {
                "error": { "type": "string", "description": "What is wrong, as a sentence." },
                "parameter": { "type": "string", "description": "The parameter that is wrong." },
                "hint": { "type": "string", "description": "What would be right." },
                "paths": {
                    "type": "array",
                    "items": { "type": "string" },
                    "description": "The paths there are.",
                },
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn describes_every_view_and_every_parameter_and_nothing_else() {
        let document: Value = serde_json::from_slice(&document()).unwrap();
        assert_eq!(document["openapi"], "3.1.0");
        let paths = document["paths"].as_object().unwrap();
        assert_eq!(paths.len(), VIEWS.len() + PROFILE_PATHS.len());
        for view in VIEWS {
            let get = &paths[view.path]["get"];
            let described: BTreeSet<&str> =
                get["parameters"].as_array().unwrap().iter().map(|p| p["name"].as_str().unwrap()).collect();
            let taken: BTreeSet<&str> = COMMON.iter().chain(view.params).map(|param| param.name).collect();
            assert_eq!(described, taken, "{}", view.path);
            let in_path: BTreeSet<&str> = get["parameters"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|p| p["in"] == "path" && p["required"] == true)
                .map(|p| p["name"].as_str().unwrap())
                .collect();
            assert_eq!(in_path, view.in_path().collect(), "{}", view.path);
            assert!(get["responses"]["200"]["content"][view.content_type].is_object());
        }
    }

    #[test]
    fn every_reference_points_at_something() {
        fn walk<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
            match value {
                Value::Object(map) => {
                    found.extend(map.get("$ref").and_then(Value::as_str));
                    map.values().for_each(|value| walk(value, found));
                }
                Value::Array(values) => values.iter().for_each(|value| walk(value, found)),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
            }
        }
        let document: Value = serde_json::from_slice(&document()).unwrap();
        let mut found = Vec::new();
        walk(&document, &mut found);
        assert!(found.len() >= 2 * VIEWS.len());
        for reference in found {
            assert!(document.pointer(reference.strip_prefix('#').unwrap()).is_some(), "{reference}");
        }
    }

    #[test]
    fn answers_keep_to_the_common_schema() {
        use crate::fold::{Limits, State, Window};
        let document: Value = serde_json::from_slice(&document()).unwrap();
        let snapshot = State::new(Window::ALL, Limits::LIVE).finish(0);
        for view in VIEWS.iter().filter(|view| view.content_type == JSON) {
            let answer: Value =
                serde_json::from_slice(&(view.render)(&snapshot, &Default::default())).unwrap();
            for (block, schema) in [("window", "Window"), ("completeness", "Completeness")] {
                let said: BTreeSet<&String> = answer[block].as_object().unwrap().keys().collect();
                let schema = &document["components"]["schemas"][schema]["properties"];
                assert_eq!(said, schema.as_object().unwrap().keys().collect(), "{} {block}", view.name);
            }
        }
    }
}
