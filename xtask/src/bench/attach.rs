//! How long the agent takes from its start until it is attached, and until it shows the first thing it saw.

use super::Bench;
use super::agent::Agent;
use super::figure::Figure;
use super::workload;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// The limit.
const MAX_FIRST_EVENT_S: f64 = 0.3;
/// Starts of the agent; odd, so that the median is one of them.
const STARTS: usize = 9;
/// Children of one helping of background work, so that there is always something to see: some 20 ms.
const HELPING: u64 = 20;

/// Starts the agent time and again while something spawns all the time.
pub(super) fn measure(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let starts = if bench.scale > 1 { 3 } else { STARTS };
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let spawner = scope.spawn(|| {
            while !done.load(Relaxed) {
                workload::storm(&bench.workload, HELPING, 1)?;
            }
            anyhow::Ok(())
        });
        let measured = (0..starts).map(|_| start(bench)).collect::<anyhow::Result<Vec<_>>>();
        done.store(true, Relaxed);
        spawner.join().map_err(|_| anyhow::anyhow!("the spawning thread panicked"))??;
        let (attached, first): (Vec<_>, Vec<_>) = measured?.into_iter().unzip();
        Ok(vec![
            Figure::new("start to attached, s", None, attached),
            Figure::new("start to first event shown, s", Some(MAX_FIRST_EVENT_S), first),
        ])
    })
}

/// Seconds from the start to both.
fn start(bench: &Bench) -> anyhow::Result<(f64, f64)> {
    let mut agent = Agent::start(&bench.agent)?;
    let attached = agent.wait_until("attached", |agent| matches!(agent.get("/readyz"), Ok((200, _))))?;
    let first = agent.wait_until("showing a spawn", shows_a_spawn)?;
    agent.stop()?;
    Ok((attached.as_secs_f64(), first.as_secs_f64()))
}

fn shows_a_spawn(agent: &Agent) -> bool {
    agent.json("/api/v1/storms?seconds=60").is_ok_and(|answer| has_spawns(&answer))
}

/// Whether any object of the answer counts spawns, wherever it stands.
fn has_spawns(answer: &serde_json::Value) -> bool {
    match answer {
        serde_json::Value::Object(fields) => {
            fields.get("spawns").and_then(serde_json::Value::as_u64).is_some_and(|spawns| spawns > 0)
                || fields.values().any(has_spawns)
        }
        serde_json::Value::Array(items) => items.iter().any(has_spawns),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spawn_is_seen_wherever_it_stands() {
        assert!(has_spawns(&serde_json::json!({"storms": [{"loops": [{"spawns": 3}]}]})));
        assert!(!has_spawns(&serde_json::json!({"storms": [], "spawns": 0})));
    }
}
