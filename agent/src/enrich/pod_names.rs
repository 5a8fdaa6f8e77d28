//! Names of pods by UID. In: what `CNI_ARGS` of their CNI calls say. Out: namespace and name.
//!
//! A pod's processes are known by its UID, from their cgroup's path. Names come when its network is made, and stay
//! until many other pods have come.

use super::cni::PodArgs;
use super::text::safe;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Names kept; the oldest make room. A node runs some hundred pods, and makes some thousands a day.
pub const POD_NAMES_MAX: usize = 4_096;
/// Longest text of a name or UID. The API allows 253 bytes.
const NAME_TEXT_BYTES: usize = 260;

/// What a pod is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodName {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name in there.
    pub name: Arc<str>,
}

/// All names known.
#[derive(Clone, Debug, Default)]
pub struct PodNames {
    known: BTreeMap<Arc<str>, PodName>,
    order: VecDeque<Arc<str>>,
}

impl PodNames {
    /// Takes in what a call says of its pod, if it says all of it.
    pub fn learn(&mut self, pod: &PodArgs) {
        if let PodArgs { namespace: Some(namespace), name: Some(name), uid: Some(uid), .. } = pod {
            self.put(uid.clone(), PodName { namespace: namespace.clone(), name: name.clone() });
        }
    }

    /// Takes in a fact.
    pub fn told(&mut self, uid: &str, namespace: &str, name: &str) {
        let text = |text: &str| -> Arc<str> { safe(text.as_bytes(), NAME_TEXT_BYTES).into() };
        self.put(text(uid), PodName { namespace: text(namespace), name: text(name) });
    }

    fn put(&mut self, uid: Arc<str>, name: PodName) {
        if self.known.insert(uid.clone(), name).is_none() {
            self.order.push_back(uid);
            if self.order.len() > POD_NAMES_MAX
                && let Some(oldest) = self.order.pop_front()
            {
                self.known.remove(&oldest);
            }
        }
    }

    /// The pod of this UID.
    pub fn get(&self, uid: &str) -> Option<&PodName> {
        self.known.get(uid)
    }

    /// All, the oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &PodName)> {
        self.order.iter().filter_map(|uid| Some((uid, self.known.get(uid)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_names_are_learnt_and_the_oldest_make_room() {
        let mut names = PodNames::default();
        names.learn(&PodArgs::parse(b"K8S_POD_NAME=web;K8S_POD_UID=u"));
        assert_eq!(names.get("u"), None);
        names.learn(&PodArgs::parse(b"K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web;K8S_POD_UID=u"));
        assert_eq!(names.get("u").map(|pod| (&*pod.namespace, &*pod.name)), Some(("shop", "web")));
        for other in 0..POD_NAMES_MAX {
            let name = PodName { namespace: "n".into(), name: "p".into() };
            names.put(other.to_string().into(), name);
        }
        assert_eq!((names.get("u"), names.iter().count()), (None, POD_NAMES_MAX));
    }
}
