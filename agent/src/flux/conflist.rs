//! Network configuration lists. In: a file or a folder as runtimes read them. Out: a checked [`Conflist`], and per
//! plugin the configuration it gets on standard input (CNI specification 1.1.0, sections 1 and 3).

use super::error::FluxError;
use super::version::Version;
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// Endings of files a runtime takes for network configurations, as libcni's callers have them.
const ENDINGS: [&str; 3] = ["conflist", "conf", "json"];
/// Largest configuration file: real ones have a few KiB.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Most plugins in one chain: real ones have two to five.
const PLUGINS_MAX: usize = 64;

/// A chain of plugins that makes one network.
#[derive(Clone, Debug, PartialEq)]
pub struct Conflist {
    /// Name of the network.
    pub name: String,
    /// The version of the protocol to speak: the highest that the list and slowpod both know.
    pub version: Version,
    /// Whether the list asks not to be CHECKed.
    pub disable_check: bool,
    /// The chain, in the order of ADD. Never empty.
    pub plugins: Vec<Plugin>,
}

/// One plugin of a chain.
#[derive(Clone, Debug, PartialEq)]
pub struct Plugin {
    /// Its `type`: the name of its program.
    pub kind: String,
    /// The configuration as written in the list.
    config: Map<String, Value>,
}

/// What a call adds to a plugin's configuration.
#[derive(Clone, Copy, Debug, Default)]
pub struct Injected<'a> {
    /// The result so far (ADD), or the one of the last ADD (CHECK, DEL).
    pub prev_result: Option<&'a Value>,
    /// Arguments by capability, for those the plugin asks for.
    pub capability_args: Option<&'a Map<String, Value>>,
}

impl Conflist {
    /// Reads a list, or a single plugin's configuration, which is a list of one.
    ///
    /// # Errors
    /// When the file cannot be read, is no JSON, or is no usable configuration.
    pub fn from_file(path: &Path) -> Result<Conflist, FluxError> {
        let refuse = |why: String| FluxError::Config(format!("{}: {why}", path.display()));
        let size = std::fs::metadata(path).map_err(|error| refuse(error.to_string()))?.len();
        if size > FILE_BYTES_MAX {
            return Err(refuse(format!("{size} bytes are too many for a network configuration")));
        }
        let text = std::fs::read(path).map_err(|error| refuse(error.to_string()))?;
        let value: Value =
            serde_json::from_slice(&text).map_err(|error| refuse(format!("not JSON: {error}")))?;
        Conflist::from_value(&value).map_err(refuse)
    }

    /// Takes the first configuration of a folder in the order of file names, as runtimes do.
    ///
    /// # Errors
    /// When the folder is not there or holds none, or the first is not usable.
    pub fn from_dir(folder: &Path) -> Result<Conflist, FluxError> {
        let refuse = |why: String| FluxError::Config(format!("{}: {why}", folder.display()));
        let entries = std::fs::read_dir(folder).map_err(|error| refuse(error.to_string()))?;
        let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        files.retain(|file| {
            file.extension().is_some_and(|ending| ENDINGS.iter().any(|known| ending == *known))
        });
        files.sort();
        let first = files.first().ok_or_else(|| refuse("holds no .conflist, .conf or .json file".into()))?;
        Conflist::from_file(first)
    }

    /// Checks a parsed configuration.
    ///
    /// # Errors
    /// Says in words what is wrong.
    pub fn from_value(value: &Value) -> Result<Conflist, String> {
        let list = value.as_object().ok_or("a network configuration is a JSON object")?;
        let name = word(list, "name")?.ok_or("there is no \"name\"")?;
        if !is_network_name(name) {
            return Err(format!("{name:?} is no name of a network: letters, digits, `_`, `.` and `-`"));
        }
        let plugins = match (list.get("plugins"), list.get("type")) {
            (Some(Value::Array(plugins)), _) if plugins.is_empty() => {
                return Err("\"plugins\" is empty".into());
            }
            (Some(Value::Array(plugins)), _) if plugins.len() > PLUGINS_MAX => {
                return Err(format!("{} plugins are more than {PLUGINS_MAX}", plugins.len()));
            }
            (Some(Value::Array(plugins)), _) => plugins
                .iter()
                .enumerate()
                .map(|(at, plugin)| Plugin::read(at, plugin))
                .collect::<Result<_, _>>()?,
            (Some(_), _) => return Err("\"plugins\" is no list".into()),
            (None, Some(_)) => vec![Plugin::read(0, value)?],
            (None, None) => return Err("there is no list of \"plugins\"".into()),
        };
        Ok(Conflist {
            name: name.to_owned(),
            version: version(list)?,
            disable_check: flag(list, "disableCheck")?,
            plugins,
        })
    }

    /// The list as JSON, from which [`Conflist::from_value`] makes the same list again.
    pub fn to_value(&self) -> Value {
        let plugins: Vec<Value> =
            self.plugins.iter().map(|plugin| Value::Object(plugin.config.clone())).collect();
        serde_json::json!({
            "cniVersion": self.version.name(),
            "name": self.name,
            "disableCheck": self.disable_check,
            "plugins": plugins,
        })
    }

    /// What the plugin at `at` gets on standard input.
    ///
    /// `capabilities` is the runtime's to read and not passed on; `runtimeConfig` holds the arguments of those the
    /// plugin switched on.
    pub fn stdin(&self, plugin: &Plugin, injected: Injected<'_>) -> Value {
        let mut config = plugin.config.clone();
        config.insert("name".into(), self.name.as_str().into());
        config.insert("cniVersion".into(), self.version.name().into());
        let wanted = config.remove("capabilities");
        if let (Some(Value::Object(wanted)), Some(args)) = (wanted, injected.capability_args) {
            let is_on = |name: &String| wanted.get(name) == Some(&Value::Bool(true));
            let args: Map<String, Value> = args
                .iter()
                .filter(|(name, _)| is_on(name))
                .map(|(name, arg)| (name.clone(), arg.clone()))
                .collect();
            if !args.is_empty() {
                config.insert("runtimeConfig".into(), Value::Object(args));
            }
        }
        if let Some(result) = injected.prev_result {
            config.insert("prevResult".into(), result.clone());
        }
        Value::Object(config)
    }
}

impl Plugin {
    fn read(at: usize, value: &Value) -> Result<Plugin, String> {
        let config = value.as_object().ok_or(format!("plugin {at} is no JSON object"))?;
        let kind = word(config, "type")?.ok_or(format!("plugin {at} has no \"type\""))?;
        // A type is looked up in the plugin folders: nothing else may be reached by it.
        if kind.contains('/') || kind == "." || kind == ".." {
            return Err(format!("plugin {at}: {kind:?} is no name of a program"));
        }
        Ok(Plugin { kind: kind.to_owned(), config: config.clone() })
    }
}

/// The version to speak: `cniVersion`, or the highest known one of `cniVersions`. Without either, it is 0.1.0.
fn version(list: &Map<String, Value>) -> Result<Version, String> {
    let mut names = Vec::new();
    match list.get("cniVersions") {
        None => {}
        Some(Value::Array(versions)) => {
            for version in versions {
                names.push(version.as_str().ok_or("\"cniVersions\" holds something that is no text")?);
            }
        }
        Some(_) => return Err("\"cniVersions\" is no list".into()),
    }
    let single = word(list, "cniVersion")?;
    names.extend(single);
    if names.is_empty() {
        return Ok(Version::V0_1_0);
    }
    let known = names.iter().filter_map(|name| Version::of(name)).max();
    known.ok_or_else(|| {
        format!("no version of {} is known here: up to {} are", names.join(", "), Version::NEWEST.name())
    })
}

fn word<'a>(object: &'a Map<String, Value>, key: &str) -> Result<Option<&'a str>, String> {
    match object.get(key) {
        None => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(format!("{key:?} is no text")),
    }
}

/// A flag; libcni takes the words too.
fn flag(object: &Map<String, Value>, key: &str) -> Result<bool, String> {
    match object.get(key) {
        None => Ok(false),
        Some(Value::Bool(value)) => Ok(*value),
        Some(Value::String(text)) if text.eq_ignore_ascii_case("true") => Ok(true),
        Some(Value::String(text)) if text.eq_ignore_ascii_case("false") => Ok(false),
        Some(_) => Err(format!("{key:?} is neither true nor false")),
    }
}

/// Whether a text may name a network, a container or a run: what libcni lets through.
pub fn is_network_name(name: &str) -> bool {
    let rest = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    name.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric()) && name.bytes().all(rest)
}

/// Whether a text may name an interface: the kernel's rule, and no white space or colon.
pub fn is_interface_name(name: &str) -> bool {
    let refused = |letter: char| letter.is_whitespace() || letter == '/' || letter == ':';
    (1..=15).contains(&name.len()) && name != "." && name != ".." && !name.contains(refused)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn refused(value: Value) -> String {
        Conflist::from_value(&value).unwrap_err()
    }

    #[test]
    fn refuses_what_no_runtime_could_use_and_says_why() {
        assert!(refused(json!([])).contains("JSON object"));
        assert!(refused(json!({ "plugins": [{ "type": "a" }] })).contains("no \"name\""));
        assert!(
            refused(json!({ "name": "a/b", "plugins": [{ "type": "a" }] })).contains("no name of a network")
        );
        assert!(refused(json!({ "name": "n" })).contains("no list of \"plugins\""));
        assert!(refused(json!({ "name": "n", "plugins": [] })).contains("empty"));
        assert!(refused(json!({ "name": "n", "plugins": {} })).contains("no list"));
        assert!(refused(json!({ "name": "n", "plugins": [1] })).contains("plugin 0 is no JSON object"));
        assert!(refused(json!({ "name": "n", "plugins": [{}] })).contains("no \"type\""));
        assert!(
            refused(json!({ "name": "n", "plugins": [{ "type": "../sh" }] }))
                .contains("no name of a program")
        );
        let future = json!({ "name": "n", "cniVersion": "9.0.0", "plugins": [{ "type": "a" }] });
        assert!(refused(future).contains("9.0.0"));
        let check = json!({ "name": "n", "disableCheck": 3, "plugins": [{ "type": "a" }] });
        assert!(refused(check).contains("disableCheck"));
    }

    #[test]
    fn the_highest_known_version_is_spoken() {
        let of = |value: Value| Conflist::from_value(&value).unwrap().version.name();
        let plugins = json!([{ "type": "a" }]);
        assert_eq!(of(json!({ "name": "n", "plugins": plugins })), "0.1.0");
        assert_eq!(of(json!({ "name": "n", "cniVersion": "0.4.0", "plugins": plugins })), "0.4.0");
        let several = json!({
            "name": "n", "cniVersion": "0.4.0", "cniVersions": ["0.3.1", "1.0.0", "9.9.9"], "plugins": plugins
        });
        assert_eq!(of(several), "1.0.0");
    }

    #[test]
    fn a_plugin_gets_the_list_s_name_and_only_the_capabilities_it_asked_for() {
        let list = Conflist::from_value(&json!({
            "name": "net", "cniVersion": "1.0.0", "plugins": [{
                "type": "portmap", "snat": true, "name": "other",
                "capabilities": { "portMappings": true, "bandwidth": false }
            }]
        }))
        .unwrap();
        let args = json!({ "portMappings": [{ "hostPort": 80 }], "bandwidth": 1, "aliases": ["a"] });
        let result = json!({ "cniVersion": "1.0.0", "ips": [] });
        let injected = Injected { prev_result: Some(&result), capability_args: args.as_object() };
        let stdin = list.stdin(&list.plugins[0], injected);
        assert_eq!(
            stdin,
            json!({
                "type": "portmap", "snat": true, "name": "net", "cniVersion": "1.0.0", "prevResult": result,
                "runtimeConfig": { "portMappings": [{ "hostPort": 80 }] }
            })
        );
        assert_eq!(Conflist::from_value(&list.to_value()).unwrap(), list);
    }

    #[test]
    fn names_follow_the_field_s_rules() {
        assert!(is_network_name("cbr0") && is_network_name("a_b.c-1"));
        assert!(!is_network_name("") && !is_network_name("-a") && !is_network_name("a b"));
        assert!(is_interface_name("eth0") && is_interface_name("an-interface-15"));
        assert!(
            !is_interface_name("") && !is_interface_name("a/b") && !is_interface_name("sixteen-letters-")
        );
    }
}
