//! What the verbs that attach share: waiting for a time, Ctrl-C or SIGTERM, and saying how the probes fare.

use super::Failure;
use crate::agent::Agent;
use crate::decode::fact::ProbeState;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How long to watch.
#[derive(Clone, Copy, Debug)]
pub enum Until {
    /// This long, or until interrupted.
    Passed(Duration),
    /// Until Ctrl-C or SIGTERM.
    Interrupted,
}

/// How often progress is shown.
const PROGRESS: Duration = Duration::from_millis(100);
/// How often a wait that shows none looks whether the agent is still well; more often, it would cost an idle agent
/// more than its other work.
const LOOK: Duration = Duration::from_secs(1);

/// Ctrl-C and SIGTERM, caught from the moment this is made. Make it before attaching: a signal that comes between is
/// then not the end of the program but of the wait that follows, and the verb ends in its usual order.
pub struct Signals {
    runtime: Runtime,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Begins to catch.
    ///
    /// # Errors
    /// When signals cannot be caught.
    pub fn catch() -> Result<Signals, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (terminate, interrupt) = {
            let _inside = runtime.enter();
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
        };
        Ok(Signals { runtime, terminate, interrupt })
    }

    /// Waits. Calls `progress` with the time gone, now and then. An agent that failed ends the wait; stopping it
    /// tells why.
    pub fn wait(self, until: Until, agent: &Agent, mut progress: impl FnMut(Duration)) {
        let Signals { runtime, mut terminate, mut interrupt } = self;
        runtime.block_on(async {
            let begun = tokio::time::Instant::now();
            let look = if matches!(until, Until::Passed(_)) { PROGRESS } else { LOOK };
            loop {
                tokio::select! {
                    _ = terminate.recv() => return,
                    _ = interrupt.recv() => return,
                    () = tokio::time::sleep(look) => {}
                }
                progress(begun.elapsed());
                let over = matches!(until, Until::Passed(span) if begun.elapsed() >= span);
                if over || agent.failed() {
                    return;
                }
            }
        });
    }
}

/// One line on how the probes fare, and one for each that is not at its best.
pub fn print_probes(agent: &Agent) {
    let probes = agent.probes();
    let attached = probes.iter().filter(|probe| probe.state.is_on()).count();
    eprintln!("attached {attached} of {} probes", probes.len());
    for probe in probes.iter().filter(|probe| probe.state != ProbeState::Attached) {
        let rung = if probe.rung.is_empty() { String::new() } else { format!(" by {}", probe.rung) };
        eprintln!("  {}: {}{rung}: {}", probe.probe, probe.state.name(), probe.why);
    }
}
