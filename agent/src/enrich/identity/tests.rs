use super::*;

/// The table: real shapes of paths, with what is expected of each.
const TABLE: &str = include_str!("../../../../tests/data/cgroup/paths.tsv");

struct Case {
    line: usize,
    path: &'static str,
    expected: Identity,
}

fn cases() -> Vec<Case> {
    let rows = TABLE.lines().enumerate().filter(|(_, row)| !row.starts_with('#'));
    rows.map(|(at, row)| {
        let fields: Vec<&str> = row.split('\t').collect();
        let [path, kind, uid, container_id, qos, runtime, unit, note] = fields[..] else {
            panic!("line {}: {} fields", at + 1, fields.len());
        };
        assert!(!note.is_empty(), "line {}: say where the shape comes from", at + 1);
        let text = |field: &str| (field != "-").then(|| field.to_owned());
        let runtime = text(runtime).map(|name| {
            let all = [Containerd, CriO, Docker, Podman];
            all.into_iter().find(|runtime| runtime.name() == name).expect("a runtime's name")
        });
        let container_id = text(container_id);
        let expected = match kind {
            "pod" => {
                let all = [Guaranteed, Burstable, BestEffort, Qos::Unknown];
                let qos = all.into_iter().find(|class| class.name() == qos).expect("a class's name");
                Identity::Pod(PodRef { uid: uid.to_owned(), container_id, qos, runtime })
            }
            "host" => Identity::Host(HostUnit { unit: unit.to_owned(), container_id, runtime }),
            "unknown" => Identity::Unknown,
            other => panic!("line {}: kind {other:?}", at + 1),
        };
        Case { line: at + 1, path, expected }
    })
    .collect()
}

#[test]
fn every_path_of_the_table() {
    let cases = cases();
    for kind in ["pod", "host", "unknown"] {
        assert!(cases.iter().any(|case| case.expected.name() == kind), "no case of kind {kind}");
    }
    let wrong: Vec<String> = cases
        .iter()
        .filter(|case| identify(case.path) != case.expected)
        .map(|case| format!("line {}: {}\n   got {:?}", case.line, case.path, identify(case.path)))
        .collect();
    assert!(wrong.is_empty(), "{} of {} wrong:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn accessors_tell_what_the_variants_hold() {
    for Case { path, expected, .. } in cases() {
        let identity = identify(path);
        assert_eq!(identity.pod().is_some(), matches!(expected, Identity::Pod(_)), "{path}");
        assert_eq!(identity.unit().is_some(), matches!(expected, Identity::Host(_)), "{path}");
        assert_eq!(identity.container_id(), expected.container_id(), "{path}");
        assert!(identity.name() != "unknown" || identity.runtime().is_none(), "{path}");
    }
}

#[test]
fn what_is_no_path_is_unknown() {
    for text in ["", " ", "\0", "/a\nb", "/a\0b", "kubepods", "../x", "/./x", "/a/./b", "/a/..", "\u{feff}/"]
    {
        assert_eq!(identify(text), Identity::Unknown, "{text:?}");
    }
}

#[test]
fn a_workload_cannot_change_whose_it_is_from_below() {
    let forged = "/kubepods/burstable/pod11111111-2222-4333-8444-555555555555";
    let names =
        ["/x", "/init.scope", "/docker", "/kubepods.slice", forged, "/pod0123456789abcdef0123456789abcdef"];
    for Case { path, expected, .. } in cases() {
        let Identity::Pod(pod) = expected else { continue };
        for name in names {
            // Nothing can follow the mark of a removed cgroup.
            let below = path.trim_end_matches(" (deleted)").trim_end_matches('/').to_owned() + name;
            let found = identify(&below);
            let found = found.pod().unwrap_or_else(|| panic!("{below} is {found:?}"));
            assert_eq!((&found.uid, found.qos), (&pod.uid, pod.qos), "{below}");
            if pod.container_id.is_some() {
                assert_eq!(found.container_id, pod.container_id, "{below}");
            }
        }
    }
}

#[test]
fn a_pod_is_the_same_with_either_driver_and_below_any_node() {
    let uid = "0f9a6a2c-7a43-4d0b-9d3e-3a1c55e1b9f2";
    let id = "4be1a5c7d09f3e2b6a8817c5d4f0e9b3a2c1d0e9f8a7b6c5d4e3f2a1b0c9d8e7";
    let slice = uid.replace('-', "_");
    for (level, name, qos) in [("burstable/", "burstable-", Burstable), ("", "", Guaranteed)] {
        let by_cgroupfs = format!("/kubepods/{level}pod{uid}/{id}");
        let by_systemd = format!("/kubepods.slice/kubepods-{name}pod{slice}.slice/cri-containerd-{id}.scope");
        for below in ["", "/docker/node", "/system.slice/docker-0123456789ab.scope", "/.."] {
            for path in [&by_cgroupfs, &by_systemd] {
                let identity = identify(&format!("{below}{path}"));
                let pod = identity.pod().expect(path);
                assert_eq!((pod.uid.as_str(), pod.qos), (uid, qos), "{below}{path}");
                assert_eq!(pod.container_id.as_deref(), Some(id), "{below}{path}");
            }
        }
    }
}

#[test]
fn roots_of_pods_by_name() {
    for name in ["kubepods", "kubepods.slice", "kubelet-kubepods.slice", "a-b-kubepods.slice"] {
        assert!(is_pod_root(name), "{name}");
    }
    for name in ["", "kubepods-burstable.slice", "notkubepods.slice", "kubepods.scope", ".slice", "kubelet"] {
        assert!(!is_pod_root(name), "{name}");
    }
}

/// xorshift64: enough to shuffle bytes, and the same on every run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }
}

/// What must hold of any answer to any text.
fn check_sound(text: &str) {
    match identify(text) {
        Identity::Pod(pod) => {
            assert!(!pod.uid.is_empty() && !pod.uid.contains(['/', ':']), "{text:?}: {pod:?}");
            assert!(text.replace('_', "-").contains(&pod.uid.replace('_', "-")), "{text:?}: {pod:?}");
            assert!(pod.container_id.is_none_or(|id| id.len() >= 12 && text.contains(&id)), "{text:?}");
        }
        Identity::Host(host) => {
            assert!(text.starts_with('/') && !host.unit.is_empty(), "{text:?}: {host:?}");
            assert!(host.container_id.is_none_or(|id| id.len() >= 12 && text.contains(&id)), "{text:?}");
        }
        Identity::Unknown => {}
    }
}

#[test]
fn mangled_paths_never_panic_and_never_invent() {
    let cases = cases();
    let mut random = Random(0x5eed_1234_abcd_0001);
    for round in 0..20_000 {
        let mut bytes = cases[random.below(cases.len())].path.as_bytes().to_vec();
        for _ in 0..=round % 5 {
            let at = random.below(bytes.len() + 1);
            match random.below(5) {
                0 => bytes.insert(at, random.below(256) as u8),
                1 => bytes.truncate(at),
                2 if at < bytes.len() => drop(bytes.remove(at)),
                3 if at < bytes.len() => bytes[at] = b"/-_.:pod\xff\xc3"[random.below(10)],
                _ => {
                    let other = cases[random.below(cases.len())].path.as_bytes();
                    let from = random.below(other.len());
                    bytes.splice(at..at, other[from..].iter().copied());
                }
            }
        }
        check_sound(&String::from_utf8_lossy(&bytes));
    }
}

#[test]
fn words_in_any_order_never_panic_and_never_invent() {
    let words = [
        "/",
        "/",
        "/",
        "..",
        ".",
        "pod",
        "kubepods",
        "-",
        "_",
        ":",
        ".slice",
        ".scope",
        ".service",
        "burstable",
        "besteffort",
        "kubepods-",
        "crio-",
        "conmon-",
        "docker",
        "libpod-",
        "cri-containerd",
        "é",
        "\u{1f980}",
        "0123456789abcdef0123456789abcdef",
        "01234567-89ab-4cde-8f01-23456789abcd",
        " (deleted)",
        "\n",
    ];
    let mut random = Random(0x5eed_1234_abcd_0002);
    for _ in 0..50_000 {
        let text: String = (0..random.below(14)).map(|_| words[random.below(words.len())]).collect();
        check_sound(&text);
    }
}

#[test]
fn the_longest_paths_are_fine() {
    let deep = "/x".repeat(100_000);
    assert_eq!(identify(&deep).unit(), Some(deep.as_str()));
    check_sound(&"/pod".repeat(50_000));
    check_sound(&format!("/{}", "kubepods-".repeat(20_000)));
}
