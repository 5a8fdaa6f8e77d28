//! What the tests have in common: programs to watch, and what they say of themselves.

pub mod agent;
pub mod check;
pub mod go;
pub mod load;
pub mod made_up;
pub mod netns;
pub mod pod_cgroup;
pub mod running;
pub mod scene;
pub mod serviceproxy;
pub mod tools;
pub mod truth;
pub mod workload;
