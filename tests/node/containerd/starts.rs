//! Starts of real pods.

use super::bed::Node;
use super::image::{NAME, PROGRAM};
use harness::agent::monotonic_ns;

#[test]
fn a_pod_starts() {
    let node = Node::up();
    let cri = node.cri().unwrap();
    let uid = "8d3f6f0e-52c1-4a53-9a0e-1b1f4f0f7c01";
    let cgroup = node.pod_cgroup(uid);
    let config = node.sandbox("web-0", uid, &cgroup, 0);
    eprintln!("{}", monotonic_ns());
    let sandbox = cri.run_sandbox(&config).unwrap_or_else(|e| panic!("{e}\n{}", node.said()));
    let init = cri.run_container(&sandbox, &config, "init", NAME, &[PROGRAM, "100"]).unwrap();
    while !cri.has_exited(&init).unwrap() {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let main = cri.run_container(&sandbox, &config, "main", NAME, &[PROGRAM]).unwrap();
    eprintln!("{sandbox} {init} {main}");
}
