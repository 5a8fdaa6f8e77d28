use super::*;
use crate::decode::fact::{Node, Probe, ProbeState};
use crate::enrich::symbols::SymbolLoss;
use crate::fold::totals::{DURATION_BOUNDS_S, ThrottledTotals, Totals};
use crate::pipeline::{KernelPulse, ProgramCost};
use slowpod_ebpf::abi::{Tally, split::Cause};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A pulse in which everything has happened, to a daemon of this name.
fn full(daemon: &str) -> Pulse {
    let (daemon, class): (Arc<str>, Arc<str>) = (daemon.into(), "ipset add".into());
    let mut totals = Totals::default();
    let row = totals.spawns.row(&daemon, &class);
    (row.spawns, row.failed, row.wall_ns) = (2_000, 3, 3_500_000_000);
    row.split.on_cpu_ns = 1_500_000_000;
    row.split.blocked_ns[Cause::Netlink as usize] = 250_000_000;
    *totals.exec_fails.row(&daemon, &"ENOENT".into()) += 4;
    totals.loops.row(&daemon, &Arc::default()).add(6_200_000_000, 3_500_000_000);
    totals.cni.calls.row(&"ADD".into(), &"bridge".into()).add(67_000_000, 0);
    *totals.cni.failed.row(&"ADD".into(), &"bridge".into()) += 1;
    *totals.cni.errors.row(&"bridge".into(), &"11".into()) += 2;
    *totals.cni.conflicts.row(&"bridge".into(), &Arc::default()) += 1;
    totals.cni.network_ready.add(120_000_000, 0);
    totals.run_queue.node.buckets[41] = 5;
    let pod = totals.run_queue.pods.row(&"shop".into(), &"web".into());
    (pod.buckets[0], pod.buckets[40], pod.buckets[41], pod.wait_ns) = (3, 2, 1, 2_500_000);
    *totals.run_queue.throttled.row(&"shop".into(), &"web".into()) =
        ThrottledTotals { containers_ns: 40_000_000, pod_ns: 30_000_000 };
    let sums = totals.netlink.row(&daemon, &"RTM_NEWROUTE".into());
    (sums.messages, sums.bytes, sums.inside_ns, sums.refused) = (10, 440, 1_000, 1);
    Pulse {
        now_ns: 1_000_000_000,
        ready: true,
        probes: vec![Probe {
            probe: "spawn".into(),
            state: ProbeState::Attached,
            rung: "sched_process_fork".into(),
            why: String::new(),
            consequence: String::new(),
        }],
        node: Node { node_name: "node-7".into(), kernel_release: "6.18".into(), ..Node::default() },
        totals,
        cni_in_flight: BTreeMap::from([(("ADD".into(), "bridge".into()), 2)]),
        tables: BTreeMap::from([("processes", (7, 100))]),
        kernel: KernelPulse {
            tallies: BTreeMap::from([("spawn", Tally { seen: 9, ..Tally::default() })]),
            programs: vec![ProgramCost { program: "process_fork".into(), runs: 5, run_ns: 900, skipped: 1 }],
            rings: BTreeMap::from([("life", (100, 4_194_304))]),
            symbols: Default::default(),
        },
        symbols: SymbolLoss { no_frame_pointers: 3, ..SymbolLoss::default() },
        ..Pulse::default()
    }
}

fn page(daemon: &str) -> String {
    render(&full(daemon), &OwnCost { cpu_s: 1.25, ..OwnCost::default() }, 2_000_000_000)
}

#[test]
fn stacks_without_their_beginning_are_told() {
    let row = "slowpod_records_truncated_total{what=\"stack_without_frame_pointers\"} 3\n";
    assert!(page("kube-router").contains(row));
}

#[test]
fn every_metric_of_the_table_is_on_the_page_with_its_labels() {
    let page = page("kube-router");
    for metric in METRICS {
        let is_sample = |line: &&str| {
            let name = line.split(['{', ' ']).next().unwrap_or_default();
            let name = match metric.kind {
                Kind::Histogram => name.strip_suffix("_bucket").unwrap_or(name),
                Kind::Counter | Kind::Gauge => name,
            };
            name == metric.name
        };
        let sample = page.lines().find(is_sample).unwrap_or_else(|| panic!("{} has no row", metric.name));
        for label in metric.labels {
            assert!(sample.contains(&format!("{label}=\"")), "{sample} lacks {label}");
        }
        assert!(page.contains(&format!("# HELP {} {}", metric.name, metric.help)));
    }
    assert!(page.contains("slowpod_spawns_total{daemon=\"kube-router\",argv_class=\"ipset add\"} 2000\n"));
    assert!(
        page.contains(
            "slowpod_spawn_wall_seconds_total{daemon=\"kube-router\",argv_class=\"ipset add\"} 3.5\n"
        )
    );
    assert!(
        page.contains("slowpod_spawn_blocked_seconds_total{daemon=\"kube-router\",cause=\"netlink\"} 0.25\n")
    );
    assert!(page.contains("process_cpu_seconds_total 1.25\n"));
}

#[test]
fn names_say_unit_and_type_and_nobody_is_named_by_number() {
    let mut seen = BTreeSet::new();
    for metric in METRICS {
        assert!(seen.insert(metric.name), "{} twice", metric.name);
        assert_eq!(metric.name.ends_with("_total"), metric.kind == Counter, "{}", metric.name);
        assert!(metric.help.ends_with('.') && !metric.help.contains('\\'), "{}", metric.help);
        for label in metric.labels {
            assert!(!["pid", "tgid", "uid", "pod_uid", "cgroup", "path"].contains(label), "{label}");
        }
    }
}

#[test]
fn durations_are_cumulative_and_end_at_infinity() {
    let page = page("d");
    let buckets: Vec<&str> =
        page.lines().filter(|line| line.contains("sync_loop_duration_seconds_bucket")).collect();
    assert_eq!(buckets.len(), DURATION_BOUNDS_S.len() + 1);
    assert!(page.contains("slowpod_sync_loop_duration_seconds_bucket{daemon=\"d\",le=\"5\"} 0\n"));
    assert!(page.contains("slowpod_sync_loop_duration_seconds_bucket{daemon=\"d\",le=\"10\"} 1\n"));
    assert!(page.contains("slowpod_sync_loop_duration_seconds_bucket{daemon=\"d\",le=\"+Inf\"} 1\n"));
    assert!(page.contains("slowpod_sync_loop_duration_seconds_sum{daemon=\"d\"} 6.2\n"));
    assert!(page.contains("slowpod_sync_loop_duration_seconds_count{daemon=\"d\"} 1\n"));
}

#[test]
fn hostile_names_stay_inside_their_quotes() {
    let hostile = "a\"} 1\nevil{x=\"\\";
    let page = page(hostile);
    assert!(
        page.contains(
            "slowpod_exec_failures_total{daemon=\"a\\\"} 1\\nevil{x=\\\"\\\\\",error=\"ENOENT\"} 4\n"
        )
    );
    for line in page.lines() {
        assert!(
            line.starts_with("# ") || line.starts_with("slowpod_") || line.starts_with("process_"),
            "{line}"
        );
    }
}

#[test]
fn long_names_are_cut_and_what_then_is_the_same_is_added_up() {
    let long = "é".repeat(500_000);
    let mut pulse = full(&long);
    let twin: Arc<str> = format!("{long}!").into();
    pulse.totals.exec_fails.row(&twin, &"ENOENT".into()).clone_from(&6);
    pulse.totals.loops.row(&twin, &Arc::default()).add(1, 1);
    let page = render(&pulse, &OwnCost::default(), 0);
    assert!(page.lines().all(|line| line.len() < 600), "a line is too long");
    let rows: Vec<&str> =
        page.lines().filter(|line| line.starts_with("slowpod_exec_failures_total")).collect();
    assert_eq!(rows.len(), 1);
    assert!(rows[0].contains("é…\"") && rows[0].ends_with(" 10"), "{}", rows[0]);
    assert!(page.lines().any(|line| line.contains("_duration_seconds_count") && line.ends_with(" 2")));
}

#[test]
fn no_name_is_not_an_empty_label() {
    assert!(page("").contains("slowpod_spawns_total{daemon=\"unknown\""));
}

#[test]
fn counters_of_losses_are_there_before_the_first_loss() {
    let page = render(&Pulse::default(), &OwnCost::default(), 0);
    for row in [
        "slowpod_records_lost_total{kind=\"spawn\",reason=\"ring_full\"} 0",
        "slowpod_records_lost_total{kind=\"any\",reason=\"late\"} 0",
        "slowpod_records_counted_total{kind=\"exit\"} 0",
        "slowpod_kernel_table_misses_total{reason=\"task_table_full\"} 0",
        "slowpod_label_overflow_total{table=\"spawns\"} 0",
        "slowpod_ready 0",
    ] {
        assert!(page.contains(row), "{row}");
    }
}

#[test]
fn waits_keep_the_bounds_of_their_buckets() {
    let page = page("kube-router");
    let bucket = |le: &str| {
        let row = format!(
            "slowpod_pod_run_queue_wait_seconds_bucket{{namespace=\"shop\",pod=\"web\",le=\"{le}\"}} "
        );
        page.lines().find_map(|line| line.strip_prefix(&row)?.parse::<u64>().ok()).expect(&row)
    };
    assert_eq!((bucket("0.000004096"), bucket("0.000262144"), bucket("0.001048576")), (3, 3, 5));
    assert_eq!((bucket("0.004194304"), bucket("1.073741824"), bucket("+Inf")), (6, 6, 6));
    assert!(page.contains("slowpod_pod_run_queue_wait_seconds_sum{namespace=\"shop\",pod=\"web\"} 0.0025\n"));
    assert!(page.contains("slowpod_pod_cpu_throttled_seconds_total{namespace=\"shop\",pod=\"web\"} 0.04\n"));
}
