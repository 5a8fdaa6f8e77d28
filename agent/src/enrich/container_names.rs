//! Names of containers by id. In: what their runtimes note beside them. Out: the name in the pod's specification.

use super::text::safe;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Names kept; the oldest make room. A node runs some hundred containers.
pub const CONTAINER_NAMES_MAX: usize = 8_192;
/// Longest text of a name or id. Kubernetes allows 63 bytes, ids have 64.
const NAME_TEXT_BYTES: usize = 80;

/// All names known.
#[derive(Clone, Debug, Default)]
pub struct ContainerNames {
    known: BTreeMap<Arc<str>, Arc<str>>,
    order: VecDeque<Arc<str>>,
}

impl ContainerNames {
    /// Takes in a fact; one without a name says nothing.
    pub fn told(&mut self, id: &str, name: &str) {
        if name.is_empty() {
            return;
        }
        let text = |text: &str| -> Arc<str> { safe(text.as_bytes(), NAME_TEXT_BYTES).into() };
        let id = text(id);
        if self.known.insert(id.clone(), text(name)).is_none() {
            self.order.push_back(id);
            if self.order.len() > CONTAINER_NAMES_MAX
                && let Some(oldest) = self.order.pop_front()
            {
                self.known.remove(&oldest);
            }
        }
    }

    /// The name of the container with this id.
    pub fn get(&self, id: &str) -> Option<&Arc<str>> {
        self.known.get(id)
    }

    /// All, the oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<str>)> {
        self.order.iter().filter_map(|id| Some((id, self.known.get(id)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_make_room_and_nothing_names_nothing() {
        let mut names = ContainerNames::default();
        names.told("a", "");
        assert_eq!(names.get("a"), None);
        names.told("a", "app");
        for other in 0..CONTAINER_NAMES_MAX {
            names.told(&format!("id {other}"), "other");
        }
        assert_eq!((names.get("a"), names.iter().count()), (None, CONTAINER_NAMES_MAX));
    }
}
