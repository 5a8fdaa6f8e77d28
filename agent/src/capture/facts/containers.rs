//! What a container is called, and its pod: as the runtimes that Kubernetes speaks to note it beside each container. In: a
//! container's id. Out: names.
//!
//! containerd and CRI-O write the container's OCI configuration, with annotations; Docker a file of its own, with labels.

use crate::decode::fact::{Fact, PodRef};
use crate::enrich::cgroups::Cgroups;
use serde_json::Value;
use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Where runtimes keep their notes: what stands before the id, and behind it. containerd, also k3s's and MicroK8s's own;
/// CRI-O; Docker.
const PLACES: [(&str, &str); 6] = [
    ("run/containerd/io.containerd.runtime.v2.task/k8s.io/", "config.json"),
    ("run/k3s/containerd/io.containerd.runtime.v2.task/k8s.io/", "config.json"),
    ("var/snap/microk8s/common/run/containerd/io.containerd.runtime.v2.task/k8s.io/", "config.json"),
    ("run/containers/storage/overlay-containers/", "userdata/config.json"),
    ("var/lib/containers/storage/overlay-containers/", "userdata/config.json"),
    ("var/lib/docker/containers/", "config.v2.json"),
];
/// Read at most of such a file; with every mount and capability they have some ten thousand bytes.
const CONFIG_BYTES_MAX: u64 = 1 << 20;
/// Looks at one container before it is given up: its cgroup may be there before its notes.
const TRIES_MAX: u32 = 4;
/// Looks in one turn; a node has some hundred containers.
const LOOKS_MAX: usize = 64;
/// Digits of a container id. Nothing else becomes part of a path.
const ID_DIGITS: usize = 64;

/// Keys of annotations and labels: the container's name, and its pod's UID, namespace and name. Of containerd's CRI plugin,
/// and of CRI-O and Docker's.
const KEYS: [[&str; 4]; 2] = [
    [
        "io.kubernetes.cri.container-name",
        "io.kubernetes.cri.sandbox-uid",
        "io.kubernetes.cri.sandbox-namespace",
        "io.kubernetes.cri.sandbox-name",
    ],
    [
        "io.kubernetes.container.name",
        "io.kubernetes.pod.uid",
        "io.kubernetes.pod.namespace",
        "io.kubernetes.pod.name",
    ],
];

/// Containers looked at so far.
pub struct Containers {
    root: PathBuf,
    /// How often each was looked at in vain; [`TRIES_MAX`] when it is settled.
    tries: HashMap<String, u32>,
}

impl Containers {
    /// None looked at. `root` is `/` but in tests.
    pub fn new(root: &Path) -> Self {
        Containers { root: root.into(), tries: HashMap::new() }
    }

    /// Names of the containers that are there and have none yet.
    pub fn names(&mut self, cgroups: &Cgroups) -> Vec<Fact> {
        let ids = |cgroups: &Cgroups| -> Vec<String> {
            let living = cgroups.living().filter_map(|(_, cgroup)| cgroup.identity.container_id());
            living.filter(|id| is_id(id)).map(str::to_owned).collect()
        };
        let living = ids(cgroups);
        if self.tries.len() > 2 * living.len() + LOOKS_MAX {
            self.tries.retain(|id, _| living.contains(id));
        }
        let mut facts = Vec::new();
        let mut looks = 0;
        for id in living {
            let tries = self.tries.entry(id.clone()).or_default();
            if *tries >= TRIES_MAX || looks >= LOOKS_MAX {
                continue;
            }
            looks += 1;
            *tries += 1;
            if let Some(fact) = look(&self.root, &id) {
                *tries = TRIES_MAX;
                facts.push(fact);
            }
        }
        facts
    }
}

fn is_id(id: &str) -> bool {
    id.len() == ID_DIGITS && id.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn look(root: &Path, id: &str) -> Option<Fact> {
    let paths = PLACES.iter().map(|(before, after)| root.join(before).join(id).join(after));
    let text = paths.filter_map(|path| read(&path)).next()?;
    names(id, &serde_json::from_slice(&text).ok()?)
}

fn read(path: &Path) -> Option<Vec<u8>> {
    let file = File::open(path).ok()?;
    let mut text = Vec::new();
    file.metadata().ok().filter(std::fs::Metadata::is_file)?;
    file.take(CONFIG_BYTES_MAX).read_to_end(&mut text).ok()?;
    Some(text)
}

/// The names in a container's notes; `None` when Kubernetes has no part in it.
fn names(id: &str, config: &Value) -> Option<Fact> {
    let notes = config.get("annotations").or_else(|| config.get("Config")?.get("Labels"))?;
    let [name, uid, namespace, pod] = KEYS.iter().find_map(|keys| {
        let texts = keys.map(|key| notes.get(key).and_then(Value::as_str).map(str::to_owned));
        texts.iter().any(Option::is_some).then_some(texts)
    })?;
    let pod = match (uid, namespace, pod) {
        (Some(uid), Some(namespace), Some(name)) => Some(PodRef { uid, namespace, name }),
        _ => None,
    };
    // A sandbox has no name of its own.
    Some(Fact::Container { id: id.into(), name: name.unwrap_or_default(), pod })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder_with(place: (&str, &str), id: &str, text: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a folder");
        let folder = root.path().join(place.0).join(id);
        std::fs::create_dir_all(folder.join(Path::new(place.1).parent().expect("a folder")))
            .expect("folders");
        std::fs::write(folder.join(place.1), text).expect("a file");
        root
    }

    fn cgroups(id: &str) -> Cgroups {
        let mut cgroups = Cgroups::default();
        let pod = "/kubepods/burstable/pod8d3f6f0e-52c1-4a53-9a0e-1b1f4f0f7c55";
        cgroups.made(1, pod.as_bytes(), 0);
        cgroups.made(2, format!("{pod}/{id}").as_bytes(), 0);
        cgroups
    }

    #[test]
    fn each_runtimes_notes_name_container_and_pod() {
        let id = "ab".repeat(32);
        let containerd = r#"{"ociVersion":"1.1.0","annotations":{"io.kubernetes.cri.container-name":"app",
            "io.kubernetes.cri.container-type":"container","io.kubernetes.cri.sandbox-id":"x",
            "io.kubernetes.cri.sandbox-name":"web-0","io.kubernetes.cri.sandbox-namespace":"shop",
            "io.kubernetes.cri.sandbox-uid":"u-1"}}"#;
        let crio = r#"{"annotations":{"io.kubernetes.container.name":"app","io.kubernetes.pod.name":"web-0",
            "io.kubernetes.pod.namespace":"shop","io.kubernetes.pod.uid":"u-1","io.kubernetes.cri-o.Image":"i"}}"#;
        let docker = r#"{"ID":"x","Config":{"Labels":{"io.kubernetes.container.name":"app","io.kubernetes.pod.name":"web-0",
            "io.kubernetes.pod.namespace":"shop","io.kubernetes.pod.uid":"u-1"}}}"#;
        let pod = PodRef { uid: "u-1".into(), namespace: "shop".into(), name: "web-0".into() };
        let expected = Fact::Container { id: id.clone(), name: "app".into(), pod: Some(pod) };
        for (place, text) in [(PLACES[0], containerd), (PLACES[3], crio), (PLACES[5], docker)] {
            let root = folder_with(place, &id, text);
            let mut containers = Containers::new(root.path());
            assert_eq!(containers.names(&cgroups(&id)), std::slice::from_ref(&expected), "{}", place.0);
            assert_eq!(containers.names(&cgroups(&id)), [], "it is asked about once");
        }
    }

    #[test]
    fn notes_that_are_none_are_tried_a_few_times_and_then_left() {
        let id = "cd".repeat(32);
        for text in ["", "null", "{\"annotations\":7}", "{\"annotations\":{\"a\":\"b\"}}", "{\"Config\":[]}"]
        {
            let root = folder_with(PLACES[0], &id, text);
            let mut containers = Containers::new(root.path());
            for _ in 0..TRIES_MAX + 2 {
                assert_eq!(containers.names(&cgroups(&id)), [], "{text}");
            }
            assert_eq!(containers.tries[&id], TRIES_MAX);
        }
        let sandbox = r#"{"annotations":{"io.kubernetes.cri.sandbox-name":"web-0"}}"#;
        assert_eq!(
            names("x", &serde_json::from_str(sandbox).unwrap()),
            Some(Fact::Container { id: "x".into(), name: String::new(), pod: None })
        );
        assert!(!is_id("../../etc/passwd") && !is_id(&"ab".repeat(31)));
    }
}
