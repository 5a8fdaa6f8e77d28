use slowpod::{agent, fold::Window, pipeline};
fn main() {
    let t = std::time::Instant::now();
    let a = match agent::start(agent::Options::default()) {
        Ok(a) => a,
        Err(e) => {
            eprintln!("{e}");
            return;
        }
    };
    eprintln!("attached in {:?}", t.elapsed());
    for p in a.probes() {
        eprintln!("{} {} {} {}", p.probe, p.state.name(), p.rung, p.why);
    }
    let secs: u64 = std::env::args().nth(1).unwrap().parse().unwrap();
    std::thread::sleep(std::time::Duration::from_secs(secs));
    let hub = a.hub();
    let pu = hub.pulse();
    println!("TALLIES {:?}", pu.kernel.tallies);
    println!("PULSE {:?}", pu.loss.received);
    a.stop().unwrap();
    let t = std::time::Instant::now();
    let s = pipeline::answer(&hub.excerpt(&Window::ALL), Window::ALL);
    eprintln!("folded in {:?}", t.elapsed());
    let st = &s.state;
    println!("{:?}", st.loss);
    for (k, d) in st.daemons.iter() {
        println!("DAEMON {:?} name={} members={} loops={}", k, d.name, d.member_count, d.series.begun);
        for l in &d.series.loops {
            println!(
                "  loop#{} dur={:.1}ms spawns={} busy={:.1}ms peak={} waits={:?}",
                l.number,
                l.duration_ns() as f64 / 1e6,
                l.spawns(),
                l.busy.total_ns() as f64 / 1e6,
                l.peak_alive,
                l.waits
            );
            for (c, x) in &l.classes {
                println!(
                    "     {c}: ended={} running={} counted={} wall={:.1}ms split={:.1}ms on={:.1} run={:.1} blocked={:?} cost={:.3}ms busy={:.1}ms fail={:?} nl={:?}",
                    x.ended,
                    x.running,
                    x.counted,
                    x.wall_ns as f64 / 1e6,
                    x.split.total_ns() as f64 / 1e6,
                    x.split.on_cpu_ns as f64 / 1e6,
                    x.split.runnable_ns as f64 / 1e6,
                    x.split.blocked_ns.map(|n| n / 1000),
                    x.spawn_cost_ns as f64 / 1e6 / (x.with_exec.max(1) as f64),
                    x.busy.total_ns() as f64 / 1e6,
                    x.outcomes,
                    x.netlink.total()
                );
            }
        }
    }
    let mut worst = 0.0f64;
    let mut n = 0;
    for e in &st.ended {
        if e.exit.thread_count == 1 {
            let w = (e.exit.header.ktime_ns - e.exit.spawned_ns) as f64;
            let d = (e.exit.main.total_ns() as f64 - w).abs() / w;
            if d > worst {
                worst = d;
            }
            n += 1;
        }
    }
    println!("split vs wall worst {:.5} over {n}", worst);
    for (id, c) in &st.children {
        if let Some(p) = st.processes.get(*id) {
            println!("CHILD {:?} {} begun {} exec {}", id, p.argv_text(), c.timing.begun_ns, p.exec_ns);
        }
    }
    println!("senders {} failed {}", st.senders.len(), st.failed.rows().count());
}
