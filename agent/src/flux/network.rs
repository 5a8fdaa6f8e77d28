//! A chain of plugins that can be run. In: a [`Conflist`] and the folders of programs. Out: ADD, CHECK and DEL of the
//! whole chain, with one [`Call`] per plugin process (specification 1.1.0, sections 2 and 3).

use super::conflist::{Conflist, Injected, Plugin};
use super::error::FluxError;
use super::netns;
use super::outcome::{self, CallFailure, FailureKind};
use super::process::{self, Ran};
use super::sandbox::Sandbox;
use super::stop::Stop;
use super::version::{Version, result_as};
use serde_json::{Map, Value, json};
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// How the programs of a network are run.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Means {
    /// Where programs are looked for, in this order.
    pub plugin_dirs: Vec<PathBuf>,
    /// Name of the interface in the pod.
    pub ifname: String,
    /// Arguments by capability, for plugins that ask for them.
    pub capability_args: Map<String, Value>,
    /// Longest run of one plugin.
    pub timeout: Duration,
}

/// What a plugin is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "a variant is its command's name")]
pub enum Verb {
    Add,
    Check,
    Del,
    Version,
}

impl Verb {
    fn name(self) -> &'static str {
        match self {
            Verb::Add => "ADD",
            Verb::Check => "CHECK",
            Verb::Del => "DEL",
            Verb::Version => "VERSION",
        }
    }
}

/// What a plugin is asked about.
#[derive(Clone, Copy)]
struct Ask<'a> {
    verb: Verb,
    pod: &'a Sandbox,
    /// `prevResult`.
    result: Option<&'a Value>,
}

/// One plugin process.
#[derive(Clone, Debug)]
pub struct Call {
    /// What it was asked.
    pub verb: Verb,
    /// Its `type`.
    pub plugin: String,
    /// Its wall time in nanoseconds; 0 when it did not start.
    pub wall_ns: u64,
    /// What went wrong.
    pub failure: Option<CallFailure>,
}

/// A chain with its programs.
#[derive(Clone, Debug)]
pub struct Network {
    list: Conflist,
    programs: Vec<PathBuf>,
    means: Means,
}

impl Network {
    /// Finds the program of each plugin.
    ///
    /// # Errors
    /// When one is in none of the folders.
    pub fn new(list: Conflist, means: Means) -> Result<Network, FluxError> {
        let programs = list.plugins.iter().map(|plugin| find(&plugin.kind, &means.plugin_dirs));
        let programs = programs.collect::<Result<_, _>>()?;
        Ok(Network { list, programs, means })
    }

    /// The chain that containerd adds by itself: the loopback interface comes up.
    ///
    /// # Errors
    /// When there is no such plugin.
    pub fn loopback(means: &Means) -> Result<Network, FluxError> {
        let list =
            json!({ "cniVersion": "0.3.1", "name": "cni-loopback", "plugins": [{ "type": "loopback" }] });
        let list = Conflist::from_value(&list).map_err(FluxError::Config)?;
        Network::new(list, Means { ifname: "lo".into(), ..means.clone() })
    }

    /// The list behind it.
    pub fn list(&self) -> &Conflist {
        &self.list
    }

    /// Asks each plugin for the versions it speaks.
    ///
    /// # Errors
    /// When one does not answer as a plugin does, or does not speak the list's version.
    pub fn try_versions(&self, stop: &Stop) -> Result<(), FluxError> {
        for (plugin, program) in self.list.plugins.iter().zip(&self.programs) {
            let spoken = self.versions(plugin, program, stop).map_err(|failure| {
                FluxError::Config(format!(
                    "{} does not answer as a CNI plugin: {}",
                    program.display(),
                    failure.words
                ))
            })?;
            let wanted = self.list.version.name();
            if !spoken.iter().any(|version| version == wanted) {
                return Err(FluxError::Config(format!(
                    "{} does not speak CNI {wanted} as network {} wants, but {}",
                    program.display(),
                    self.list.name,
                    spoken.join(", ")
                )));
            }
        }
        Ok(())
    }

    fn versions(&self, plugin: &Plugin, program: &Path, stop: &Stop) -> Result<Vec<String>, CallFailure> {
        let mut command = Command::new(program);
        let names = ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS", "CNI_PATH"];
        command.env("CNI_COMMAND", Verb::Version.name()).envs(names.map(|name| (name, "dummy")));
        let input = json!({ "cniVersion": Version::NEWEST.name() }).to_string();
        let ran = self.process(plugin, command, input.as_bytes(), stop)?;
        let answer = match outcome::result(&ran) {
            // Plugins from before the command existed (0.1.0) say so.
            Err(failure) if failure.words.starts_with("unknown CNI_COMMAND") => {
                return Ok(vec![Version::V0_1_0.name().to_owned()]);
            }
            answer => answer?,
        };
        let versions = answer["supportedVersions"].as_array().ok_or_else(|| {
            CallFailure::new(FailureKind::Garbage, None, format!("no supportedVersions in {answer}"))
        })?;
        Ok(versions.iter().filter_map(Value::as_str).map(str::to_owned).collect())
    }

    /// Adds the pod to the network: each plugin in order gets the result of the one before it. The last result is the
    /// network's. Ends at the first failure.
    pub fn add(&self, pod: &Sandbox, stop: &Stop) -> (Vec<Call>, Option<Value>) {
        let (mut calls, mut result) = (Vec::new(), None);
        for (plugin, program) in self.list.plugins.iter().zip(&self.programs) {
            let ask = Ask { verb: Verb::Add, pod, result: result.as_ref() };
            let asked = self.ask(ask, plugin, program, stop);
            let (wall_ns, outcome) =
                asked.map_or_else(|failure| (0, Err(failure)), |ran| (ran.wall_ns, self.result(&ran)));
            let (next, failure) =
                outcome.map_or_else(|failure| (None, Some(failure)), |next| (Some(next), None));
            calls.push(Call { verb: Verb::Add, plugin: plugin.kind.clone(), wall_ns, failure });
            result = next;
            if result.is_none() {
                break;
            }
        }
        (calls, result)
    }

    fn result(&self, ran: &Ran) -> Result<Value, CallFailure> {
        let result = outcome::result(ran)?;
        result_as(result, self.list.version).map_err(|why| CallFailure::new(FailureKind::Garbage, None, why))
    }

    /// Asks each plugin in order whether the pod's network is as its ADD left it. No call when the list or its version
    /// does not have it.
    pub fn check(&self, pod: &Sandbox, result: &Value, stop: &Stop) -> Vec<Call> {
        if self.list.disable_check || !self.list.version.has_check() {
            return Vec::new();
        }
        self.each(Verb::Check, pod, Some(result), stop)
    }

    /// Takes the pod from the network, last plugin first. `result` is that of its ADD, when that came so far.
    pub fn del(&self, pod: &Sandbox, result: Option<&Value>, stop: &Stop) -> Vec<Call> {
        self.each(Verb::Del, pod, result.filter(|_| self.list.version.has_check()), stop)
    }

    /// Calls that have no result of their own; ends at the first failure.
    fn each(&self, verb: Verb, pod: &Sandbox, result: Option<&Value>, stop: &Stop) -> Vec<Call> {
        let mut chain: Vec<(&Plugin, &PathBuf)> = self.list.plugins.iter().zip(&self.programs).collect();
        if verb == Verb::Del {
            chain.reverse();
        }
        let mut calls = Vec::new();
        for (plugin, program) in chain {
            let asked = self.ask(Ask { verb, pod, result }, plugin, program, stop);
            let (wall_ns, failure) = match asked {
                Ok(ran) => (ran.wall_ns, outcome::output(&ran).err()),
                Err(failure) => (0, Some(failure)),
            };
            let failed = failure.is_some();
            calls.push(Call { verb, plugin: plugin.kind.clone(), wall_ns, failure });
            if failed {
                break;
            }
        }
        calls
    }

    fn ask(&self, ask: Ask<'_>, plugin: &Plugin, program: &Path, stop: &Stop) -> Result<Ran, CallFailure> {
        let Ask { verb, pod, result } = ask;
        let injected = Injected { prev_result: result, capability_args: Some(&self.means.capability_args) };
        let input = self.list.stdin(plugin, injected).to_string();
        // DEL may do without one (section 2), and Debian's plugins refuse a path that leads to something else.
        let gone = verb == Verb::Del && !netns::is_bound(&pod.netns);
        let mut command = Command::new(program);
        command
            .env("CNI_COMMAND", verb.name())
            .env("CNI_CONTAINERID", &pod.container_id)
            .env("CNI_NETNS", if gone { Path::new("") } else { &pod.netns })
            .env("CNI_IFNAME", &self.means.ifname)
            .env("CNI_ARGS", pod.cni_args())
            .env("CNI_PATH", joined(&self.means.plugin_dirs));
        self.process(plugin, command, input.as_bytes(), stop)
    }

    fn process(
        &self,
        plugin: &Plugin,
        mut command: Command,
        input: &[u8],
        stop: &Stop,
    ) -> Result<Ran, CallFailure> {
        process::run(&mut command, input, self.means.timeout, stop).map_err(|error| {
            let words = format!("cannot run {}: {error}", plugin.kind);
            CallFailure::new(FailureKind::NotStarted, None, words)
        })
    }
}

/// The first folder's program of this name.
fn find(kind: &str, dirs: &[PathBuf]) -> Result<PathBuf, FluxError> {
    let is_program = |file: &PathBuf| {
        std::fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    dirs.iter().map(|dir| dir.join(kind)).find(is_program).ok_or_else(|| {
        let places: Vec<_> = dirs.iter().map(|dir| dir.display().to_string()).collect();
        FluxError::Config(format!("no plugin {kind:?} in {}", places.join(", ")))
    })
}

fn joined(dirs: &[PathBuf]) -> OsString {
    let mut path = OsString::new();
    for dir in dirs {
        if !path.is_empty() {
            path.push(":");
        }
        path.push(dir);
    }
    path
}

#[cfg(test)]
mod tests;
