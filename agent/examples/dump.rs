use slowpod::attach;
use slowpod_ebpf::abi::{self, *};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};
fn name(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end_matches('\0').to_string()
}
fn main() {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let mut options = attach::Options::default();
    let mut seconds = 5;
    let mut show = 20u64;
    let mut stall = 0u64;
    let mut args = std::env::args().skip(1);
    while let Some(a) = args.next() {
        match a.as_str() {
            "-t" => seconds = args.next().unwrap().parse().unwrap(),
            "-n" => show = args.next().unwrap().parse().unwrap(),
            "-r" => options.life_ring_bytes = args.next().unwrap().parse().unwrap(),
            "-s" => stall = args.next().unwrap().parse().unwrap(),
            "--no-stacks" => options.spawn_stacks = false,
            "--avoid" => options.avoid.push(args.next().unwrap()),
            x => panic!("{x}"),
        }
    }
    let begun = Instant::now();
    let attached = match attach::attach(&options) {
        Ok(a) => a,
        Err(e) => {
            eprintln!("{e} ({:?})", e.kind());
            std::process::exit(3)
        }
    };
    eprintln!("attached in {:?}", begun.elapsed());
    for v in &attached.verdicts {
        eprintln!("{}", serde_json::to_string(v).unwrap());
    }
    let mut rings = attached.rings;
    let mut got: BTreeMap<u32, u64> = BTreeMap::new();
    let end = Instant::now() + Duration::from_secs(seconds);
    let (mut exits, mut bad, mut worst) = (0u64, 0u64, 0f64);
    if stall > 0 {
        std::thread::sleep(Duration::from_secs(stall));
    }
    let mut wakes = 0u64;
    while Instant::now() < end {
        rings.wait(Duration::from_millis(50)).unwrap();
        wakes += 1;
        rings.drain(&mut |bytes| {
            let (h, _): (Header, _) = prefix(bytes).unwrap();
            assert!(h.len_bytes as usize <= bytes.len() && bytes.len() < h.len_bytes as usize + 8, "{h:?} {}", bytes.len());
            let bytes = &bytes[..h.len_bytes as usize];
            let n = got.entry(h.kind).or_default(); *n += 1;
            let print = *n <= show;
            match Kind::from_u32(h.kind).unwrap() {
                Kind::Spawn => { let (r, _): (spawn::Spawn, _) = prefix(bytes).unwrap(); if print { println!("{r:?} cost_us={} comm={}", h.ktime_ns.saturating_sub(r.begun_ns)/1000, name(&r.comm)) } }
                Kind::Exec => { let (r, t): (exec::Exec, _) = prefix(bytes).unwrap(); if print { println!("{r:?} {} | {}", name(&t[..r.path_len as usize]), String::from_utf8_lossy(&t[r.path_len as usize..]).replace('\0', " ")) } }
                Kind::ExecFail => { let (r, t): (exec::ExecFail, _) = prefix(bytes).unwrap(); if print { println!("{r:?} {}", name(t)) } }
                Kind::Exit => { let (r, _): (exit::Exit, _) = prefix(bytes).unwrap();
                    exits += 1;
                    let wall = h.ktime_ns - r.spawned_ns; let off = (r.main.total_ns() as f64 - wall as f64).abs() / wall as f64;
                    if r.thread_count == 1 { if off > 0.01 { bad += 1 } worst = worst.max(off); }
                    let t = (r.threads.total_ns() as f64 - r.thread_ns as f64).abs() / r.thread_ns as f64; if t > 0.01 { bad += 1; println!("THREADS {t}"); }
                    if print { println!("Exit {} tgid={} status={:#x} wall_us={} main_us={} on_cpu={} runnable={} blocked={:?} threads={} execs={} fails={} exec_after_us={} teardown_us={} cg={}", name(&r.comm), r.task.tgid, r.status, wall/1000, r.main.total_ns()/1000, r.main.on_cpu_ns/1000, r.main.runnable_ns/1000,
                        split::Cause::ALL.iter().filter(|c| r.threads.blocked_ns[**c as usize] > 0).map(|c| format!("{}={}", c.name(), r.threads.blocked_ns[*c as usize]/1000)).collect::<Vec<_>>(), r.thread_count, r.execs, r.exec_fails, r.exec_ns.saturating_sub(r.spawned_ns)/1000, h.ktime_ns.saturating_sub(r.exiting_ns)/1000, r.cgroup_id) } }
                Kind::Reap => { let (r, _): (reap::Reap, _) = prefix(bytes).unwrap(); if print { println!("{r:?}") } }
                Kind::NetlinkSend => { let (r, _): (abi::netlink::NetlinkSend, _) = prefix(bytes).unwrap(); if print { println!("{r:?} {}", name(&r.comm)) } }
                Kind::NetlinkError => { let (r, _): (abi::netlink::NetlinkError, _) = prefix(bytes).unwrap(); if print { println!("{r:?} {}", name(&r.comm)) } }
                Kind::Cgroup => { let (r, t): (cgroup::Cgroup, _) = prefix(bytes).unwrap(); if print { println!("{r:?} {}", name(t)) } }
                Kind::CgroupMove => { let (r, _): (cgroup::CgroupMove, _) = prefix(bytes).unwrap(); if print { println!("{r:?}") } }
                Kind::Stack => { let (r, t): (stack::Stack, _) = prefix(bytes).unwrap(); assert_eq!(t.len(), r.depth as usize * 8); if print { println!("{r:?}") } }
                Kind::Flood | Kind::Fact => panic!(),
            }
        });
    }
    let counts = attached.counters.read().unwrap();
    println!("wakes={wakes} exits={exits} bad={bad} worst={worst:.6}");
    for (kind, t) in &counts.tallies {
        let n = got.get(&(*kind as u32)).copied().unwrap_or(0);
        println!(
            "{:12} got={n} {t:?} {}",
            kind.name(),
            if n == t.submitted && t.seen == t.submitted + t.dropped + t.counted { "ok" } else { "MISMATCH" }
        );
    }
    println!("{:?}", counts.misses);
    for (k, c) in &counts.flood {
        println!("flood {} by {}: {c:?}", name(&k.binary), k.spawner.tgid);
    }
    for p in &counts.programs {
        if p.runs > 0 || p.skipped > 0 {
            println!(
                "{:24} runs={} ns/run={:.0} skipped={}",
                p.name,
                p.runs,
                p.run_ns as f64 / p.runs.max(1) as f64,
                p.skipped
            )
        }
    }
    let begun = Instant::now();
    drop(attached.hooks);
    eprintln!("detached in {:?}", begun.elapsed());
}
