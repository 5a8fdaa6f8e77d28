//! Versions of the CNI protocol, and what results look like in each (specification, "Types").

use serde_json::{Map, Value};

/// A version of the protocol, oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "a variant is its version's number")]
pub enum Version {
    V0_1_0,
    V0_2_0,
    V0_3_0,
    V0_3_1,
    V0_4_0,
    V1_0_0,
    V1_1_0,
}

/// The shapes a result has had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// `ip4` and `ip6`.
    Pair,
    /// `ips`, each with the version of its address.
    Versioned,
    /// `ips`.
    Plain,
}

impl Version {
    /// The newest known.
    pub const NEWEST: Version = Version::V1_1_0;

    const ALL: [(Version, &'static str); 7] = [
        (Version::V0_1_0, "0.1.0"),
        (Version::V0_2_0, "0.2.0"),
        (Version::V0_3_0, "0.3.0"),
        (Version::V0_3_1, "0.3.1"),
        (Version::V0_4_0, "0.4.0"),
        (Version::V1_0_0, "1.0.0"),
        (Version::V1_1_0, "1.1.0"),
    ];

    /// The version of this number.
    pub fn of(name: &str) -> Option<Version> {
        Version::ALL.iter().find(|(_, known)| *known == name).map(|(version, _)| *version)
    }

    /// Its number.
    pub fn name(self) -> &'static str {
        Version::ALL.iter().find(|(version, _)| *version == self).map_or("", |(_, name)| name)
    }

    /// Whether the version has CHECK, and hands DEL the result of ADD.
    pub fn has_check(self) -> bool {
        self >= Version::V0_4_0
    }

    fn shape(self) -> Shape {
        match self {
            Version::V0_1_0 | Version::V0_2_0 => Shape::Pair,
            Version::V0_3_0 | Version::V0_3_1 | Version::V0_4_0 => Shape::Versioned,
            Version::V1_0_0 | Version::V1_1_0 => Shape::Plain,
        }
    }
}

/// A plugin's result in the version of its list, so that the next plugin understands it. A result that names no
/// version is taken to have the list's, as libcni does.
///
/// # Errors
/// When the result is no object or names a version that is not known or cannot be turned into the list's.
pub fn result_as(result: Value, wanted: Version) -> Result<Value, String> {
    let Value::Object(mut result) = result else { return Err("the result is no JSON object".into()) };
    let named = match result.get("cniVersion") {
        None => wanted,
        Some(Value::String(name)) if name.is_empty() => wanted,
        Some(Value::String(name)) => {
            Version::of(name).ok_or_else(|| format!("the result has the unknown version {name:?}"))?
        }
        Some(_) => return Err("the result's cniVersion is no text".into()),
    };
    match (named.shape(), wanted.shape()) {
        (one, other) if one == other => {}
        (Shape::Versioned, Shape::Plain) => each_ip(&mut result, |ip| drop(ip.remove("version"))),
        (Shape::Plain, Shape::Versioned) => each_ip(&mut result, |ip| {
            let is_six = ip.get("address").and_then(Value::as_str).is_some_and(|text| text.contains(':'));
            ip.insert("version".into(), if is_six { "6" } else { "4" }.into());
        }),
        _ => {
            return Err(format!("a result of version {} is of no use to {}", named.name(), wanted.name()));
        }
    }
    result.insert("cniVersion".into(), wanted.name().into());
    Ok(Value::Object(result))
}

fn each_ip(result: &mut Map<String, Value>, mut change: impl FnMut(&mut Map<String, Value>)) {
    let ips = result.get_mut("ips").and_then(Value::as_array_mut);
    ips.into_iter().flatten().filter_map(Value::as_object_mut).for_each(&mut change);
}

/// The addresses of a result, without their prefix lengths.
pub fn addresses(result: &Value) -> Vec<String> {
    let new = result["ips"].as_array().into_iter().flatten().map(|ip| &ip["address"]);
    let old = ["ip4", "ip6"].into_iter().map(|family| &result[family]["ip"]);
    let texts = new.chain(old).filter_map(Value::as_str);
    texts.map(|text| text.split('/').next().unwrap_or(text).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn versions_are_ordered_and_named() {
        for pair in Version::ALL.windows(2) {
            assert!(pair[0].0 < pair[1].0);
        }
        for (version, name) in Version::ALL {
            assert_eq!((Version::of(name), version.name()), (Some(version), name));
        }
        assert_eq!(Version::of("1.0"), None);
        assert!(Version::V0_4_0.has_check() && !Version::V0_3_1.has_check());
    }

    #[test]
    fn a_result_takes_the_list_s_version() {
        let old = json!({ "cniVersion": "0.4.0", "ips": [{ "version": "4", "address": "10.0.0.2/24" }] });
        let new = result_as(old.clone(), Version::V1_0_0).unwrap();
        assert_eq!(new, json!({ "cniVersion": "1.0.0", "ips": [{ "address": "10.0.0.2/24" }] }));
        assert_eq!(result_as(new, Version::V0_4_0).unwrap(), old);
        assert_eq!(result_as(json!({}), Version::V1_0_0).unwrap(), json!({ "cniVersion": "1.0.0" }));
    }

    #[test]
    fn results_nobody_can_use_are_refused() {
        assert!(result_as(json!([1]), Version::V1_0_0).is_err());
        assert!(result_as(json!({ "cniVersion": "7.0.0" }), Version::V1_0_0).is_err());
        assert!(result_as(json!({ "cniVersion": 1 }), Version::V1_0_0).is_err());
        assert!(result_as(json!({ "cniVersion": "0.2.0", "ip4": {} }), Version::V1_0_0).is_err());
    }

    #[test]
    fn addresses_of_both_shapes() {
        let new = json!({ "ips": [{ "address": "10.0.0.2/24" }, { "address": "fd00::2/64" }] });
        assert_eq!(addresses(&new), ["10.0.0.2", "fd00::2"]);
        assert_eq!(addresses(&json!({ "ip4": { "ip": "10.0.0.3/24" } })), ["10.0.0.3"]);
        assert!(addresses(&json!({ "ips": 3 })).is_empty());
    }
}
