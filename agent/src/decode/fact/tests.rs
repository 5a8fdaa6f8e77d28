use super::*;
use slowpod_ebpf::abi::exec::ARGV_BYTES;

/// One fact of every sort with every field set, and the JSON that tapes hold of it.
fn samples() -> Vec<(Fact, &'static str)> {
    let process = Process {
        tgid: 4242,
        start_ns: 81_230_000_000,
        start_exact: true,
        ppid: 1,
        spawner: Some(ProcessId { tgid: 17, start_ns: 5 }),
        spawned_ns: 6,
        begun_ns: 5,
        exec_ns: 7,
        comm: "ipset".into(),
        path: b"/opt/caf\xe9/ipset".as_slice().into(),
        path_deleted: true,
        argv: b"ipset\0add\0".as_slice().into(),
        argv_cut: true,
        class_only: true,
        script: true,
        cgroup_id: u64::MAX,
        inner_pid: 9,
        threads: 2,
        uid: 1000,
        namespaces: Namespaces { mount: 4_026_531_841, pid: 4_026_532_200, net: u32::MAX },
        cni: Some(Box::new(CniWork {
            call: ProcessId { tgid: 7, start_ns: 8 },
            parent: Some(ProcessId { tgid: 5, start_ns: 6 }),
            environment: crate::decode::cni::Environment {
                command: "ADD".into(),
                args: b"K8S_POD_NAME=\xff"[..].into(),
                ..Default::default()
            },
        })),
        cni_environment: None,
        exited: Some(Exited { exit_ns: 8, status: 256 }),
    };
    let node = Node {
        node_name: "worker-1".to_owned(),
        kernel_release: "6.18.0".to_owned(),
        cpus: 2,
        boot_id: Some("8f936013-0952-4937-a405-94a8abd75f8b".to_owned()),
        agent_version: "0.1.0".to_owned(),
        argv_mode: "redacted".to_owned(),
        clk_tck: 100,
        host_pid_ns: true,
        agent_pid: 4711,
        api_servers: vec!["10.96.0.1:443".to_owned()],
    };
    let capture = Capture { late: 1, garbled: 2, coalesced: 3, evicted_records: 4, evicted_bytes: 5 };
    vec![
        (
            Fact::Node(node),
            r#"{"fact":"node","node_name":"worker-1","kernel_release":"6.18.0","cpus":2,"boot_id":"8f936013-0952-4937-a405-94a8abd75f8b","agent_version":"0.1.0","argv_mode":"redacted","clk_tck":100,"host_pid_ns":true,"agent_pid":4711,"api_servers":["10.96.0.1:443"]}"#,
        ),
        (Fact::Clock { wall_unix_ns: -1 }, r#"{"fact":"clock","wall_unix_ns":-1}"#),
        (
            Fact::Process(Box::new(process)),
            r#"{"fact":"process","tgid":4242,"start_ns":81230000000,"start_exact":true,"ppid":1,"spawner":{"tgid":17,"start_ns":5},"spawned_ns":6,"begun_ns":5,"exec_ns":7,"comm":"ipset","path":"/opt/caf\\xe9/ipset","path_deleted":true,"argv":"ipset\\0add\\0","argv_cut":true,"class_only":true,"script":true,"cgroup_id":18446744073709551615,"inner_pid":9,"threads":2,"uid":1000,"namespaces":{"mount":4026531841,"pid":4026532200,"net":4294967295},"cni":{"call":{"tgid":7,"start_ns":8},"parent":{"tgid":5,"start_ns":6},"environment":{"command":"ADD","container_id":"","netns":"","ifname":"","args":"K8S_POD_NAME=\\xff","traceparent":""}},"exited":{"exit_ns":8,"status":256}}"#,
        ),
        (
            Fact::Cgroup { id: 77, hierarchy: 4, path: "/kubepods".into() },
            r#"{"fact":"cgroup","id":77,"hierarchy":4,"path":"/kubepods"}"#,
        ),
        (
            Fact::ScanDone { processes: 3, cgroups: 4, cut: false, took_ns: 5 },
            r#"{"fact":"scan_done","processes":3,"cgroups":4,"cut":false,"took_ns":5}"#,
        ),
        (
            Fact::Probe(Probe {
                probe: "reap".to_owned(),
                state: ProbeState::Unsupported,
                rung: String::new(),
                why: "no tracefs".to_owned(),
                consequence: "waits are not known".to_owned(),
            }),
            r#"{"fact":"probe","probe":"reap","state":"unsupported","rung":"","why":"no tracefs","consequence":"waits are not known"}"#,
        ),
        (
            Fact::Loss { kind: Kind::NetlinkSend, dropped: 1, counted: 2 },
            r#"{"fact":"loss","kind":"netlink_send","dropped":1,"counted":2}"#,
        ),
        (
            Fact::Skipped { program: "process_exec".into(), count: 2 },
            r#"{"fact":"skipped","program":"process_exec","count":2}"#,
        ),
        (
            Fact::Miss { reason: Miss::StackWalk, count: 3 },
            r#"{"fact":"miss","reason":"stack_walk","count":3}"#,
        ),
        (
            Fact::Capture(capture),
            r#"{"fact":"capture","late":1,"garbled":2,"coalesced":3,"evicted_records":4,"evicted_bytes":5}"#,
        ),
        (
            Fact::Throttled(Throttled { cgroup_id: 5, periods: 10, throttled: 4, throttled_ns: 9 }),
            r#"{"fact":"throttled","cgroup_id":5,"periods":10,"throttled":4,"throttled_ns":9}"#,
        ),
        (Fact::CpuPressure { some_ns: 12 }, r#"{"fact":"cpu_pressure","some_ns":12}"#),
        (
            Fact::GenlFamily { id: 27, name: "ipvs".to_owned() },
            r#"{"fact":"genl_family","id":27,"name":"ipvs"}"#,
        ),
        (
            Fact::PodName { uid: "u-1".to_owned(), namespace: "shop".to_owned(), name: "web".to_owned() },
            r#"{"fact":"pod_name","uid":"u-1","namespace":"shop","name":"web"}"#,
        ),
        (Fact::Gone { tgid: 12, start_ns: 34 }, r#"{"fact":"gone","tgid":12,"start_ns":34}"#),
    ]
}

#[test]
fn json_on_tapes_is_fixed_and_reads_back() {
    for (fact, json) in samples() {
        let mut record = Vec::new();
        encode(123_456, &fact, &mut record);
        let (header, body) = abi::prefix::<Header>(&record).expect("a header");
        assert_eq!((header.ktime_ns, header.kind), (123_456, Kind::Fact as u32));
        assert_eq!(header.len_bytes as usize, record.len());
        assert_eq!(std::str::from_utf8(body).expect("UTF-8"), json);
        assert_eq!(decode(&record).expect(json), fact);
    }
}

#[test]
fn encode_appends() {
    let mut both = Vec::new();
    encode(1, &Fact::Clock { wall_unix_ns: 1 }, &mut both);
    let first = both.len();
    encode(2, &Fact::Gone { tgid: 1, start_ns: 2 }, &mut both);
    assert_eq!(decode(&both[..first]).expect("the first"), Fact::Clock { wall_unix_ns: 1 });
    assert_eq!(decode(&both[first..]).expect("the second"), Fact::Gone { tgid: 1, start_ns: 2 });
}

#[test]
fn every_kind_and_miss_has_a_name_of_its_own() {
    let facts = Kind::ALL.map(|kind| Fact::Loss { kind, dropped: 1, counted: 0 });
    let misses = Miss::ALL.map(|reason| Fact::Miss { reason, count: 1 });
    for fact in facts.into_iter().chain(misses) {
        let mut record = Vec::new();
        encode(0, &fact, &mut record);
        assert_eq!(decode(&record).expect("its own name"), fact);
    }
}

#[test]
fn the_longest_process_is_far_below_the_bound() {
    let process = Process {
        comm: RawText(vec![0xff; abi::COMM_BYTES]),
        path: RawText(vec![0xff; libc::PATH_MAX as usize]),
        argv: RawText(vec![0xff; ARGV_BYTES]),
        start_ns: u64::MAX,
        spawner: Some(ProcessId { tgid: u32::MAX, start_ns: u64::MAX }),
        namespaces: Namespaces { mount: u32::MAX, pid: u32::MAX, net: u32::MAX },
        exited: Some(Exited { exit_ns: u64::MAX, status: u32::MAX }),
        ..Process::default()
    };
    let mut record = Vec::new();
    encode(u64::MAX, &Fact::Process(Box::new(process)), &mut record);
    assert!(record.len() < RECORD_BYTES_MAX / 2, "{}", record.len());
}

#[test]
fn bad_records_say_what_is_wrong() {
    let mut good = Vec::new();
    encode(1, &Fact::Clock { wall_unix_ns: 1 }, &mut good);
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut record = good.clone();
        change(&mut record);
        decode(&record).expect_err("a bad record").to_string()
    };
    assert_eq!(with(&|record| record.truncate(15)), "15 bytes are no record");
    assert_eq!(with(&|record| record[8] = 1), "kind 1 is not a fact");
    let cut = with(&|record| record.truncate(record.len() - 1));
    assert!(cut.starts_with("a fact of"), "{cut}");
    let bad = with(&|record| record[16] = b'[');
    assert!(bad.starts_with("unreadable fact"), "{bad}");

    let mut long = good.clone();
    long.resize(RECORD_BYTES_MAX + 1, b' ');
    let len_bytes = (long.len() as u32).to_ne_bytes();
    long[12..16].copy_from_slice(&len_bytes);
    assert!(matches!(decode(&long), Err(FactError::Length { .. })));
}

#[test]
fn no_prefix_and_no_flipped_byte_panics() {
    for (fact, _) in samples() {
        let mut record = Vec::new();
        encode(9, &fact, &mut record);
        for len in 0..record.len() {
            assert!(decode(&record[..len]).is_err());
        }
        for at in 0..record.len() {
            for bit in 0..8 {
                let mut flipped = record.clone();
                flipped[at] ^= 1 << bit;
                // A flipped digit may well be another valid fact; only a panic is wrong.
                let _ = decode(&flipped);
            }
        }
    }
}

#[test]
fn unknown_names_are_errors_and_unknown_fields_are_not() {
    let read = |json: &str| {
        let mut record = Vec::new();
        encode(0, &Fact::Clock { wall_unix_ns: 0 }, &mut record);
        record.truncate(size_of::<Header>());
        record.extend_from_slice(json.as_bytes());
        let len_bytes = (record.len() as u32).to_ne_bytes();
        record[12..16].copy_from_slice(&len_bytes);
        decode(&record)
    };
    assert!(read(r#"{"fact":"weather"}"#).is_err());
    assert!(read(r#"{"fact":"loss","kind":"tea","dropped":0,"counted":0}"#).is_err());
    assert!(read(r#"{"fact":"miss","reason":"tea","count":0}"#).is_err());
    let newer = read(r#"{"fact":"clock","wall_unix_ns":5,"leap":true}"#);
    assert_eq!(newer.expect("a newer agent's field"), Fact::Clock { wall_unix_ns: 5 });
}

#[test]
fn starts_compare_by_tick() {
    assert!(same_start(81_237_654_321, 81_230_000_000, 100));
    assert!(!same_start(81_240_000_000, 81_230_000_000, 100));
    assert!(same_start(81_230_500_000, 81_230_000_001, 1000));
    assert!(!same_start(81_231_000_000, 81_230_000_001, 1000));
    assert!(same_start(1, 9_999_999, 0));
}
