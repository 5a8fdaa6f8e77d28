//! The `workload` program (`tests/workloads`): run a scenario, get its ground truth.

use std::fmt::Display;
use std::process::Command;

use crate::running::Running;
use crate::truth::Truth;

/// Starts the description of a run: `workload!("storm").option("--count", 5000).run()`. A macro because Cargo
/// tells the program's path to integration tests only, not to this library.
#[macro_export]
macro_rules! workload {
    ($scenario:expr) => {
        $crate::workload::Workload::new(env!("CARGO_BIN_EXE_workload"), $scenario)
    };
}

/// A run to be.
pub struct Workload {
    command: Command,
}

impl Workload {
    /// A scenario of the program at this path; [`crate::workload!`] fills in the path.
    pub fn new(program: &str, scenario: &str) -> Workload {
        let mut command = Command::new(program);
        command.arg(scenario);
        Workload { command }
    }

    /// Adds `NAME VALUE`.
    pub fn option(mut self, name: &str, value: impl Display) -> Workload {
        self.command.arg(name).arg(value.to_string());
        self
    }

    /// Adds a word: a flag, or what the scenario takes before its options.
    pub fn word(mut self, word: impl Display) -> Workload {
        self.command.arg(word.to_string());
        self
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// When it fails: then it could not do exactly what its truth would say.
    pub fn run(self) -> Truth {
        StartedWorkload { running: Running::start(self.command) }.finish()
    }

    /// Starts it and leaves it running.
    pub fn start(self) -> StartedWorkload {
        StartedWorkload { running: Running::start(self.command) }
    }

    /// Starts the process, but holds the scenario back until [`GatedWorkload::go`].
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start_gated(mut self) -> GatedWorkload {
        self.command.arg("--gate");
        let mut running = Running::start(self.command);
        let ready = running.next_line().expect("the workload ended before its gate");
        assert_eq!(ready.at("/ready"), true, "{ready}");
        GatedWorkload { running }
    }
}

/// A process that waits for the word to go.
pub struct GatedWorkload {
    running: Running,
}

impl GatedWorkload {
    /// Pid of the process.
    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// Lets the scenario begin.
    pub fn go(mut self) -> StartedWorkload {
        self.running.say("go");
        StartedWorkload { running: self.running }
    }
}

/// A scenario under way. Dropping it kills it.
pub struct StartedWorkload {
    running: Running,
}

impl StartedWorkload {
    /// Pid of the process.
    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// Waits for its end and returns its truth.
    ///
    /// # Panics
    /// When it fails.
    pub fn finish(self) -> Truth {
        let (mut lines, status) = self.running.finish();
        assert!(status.success(), "the workload failed ({status}); its reason is on stderr");
        lines.pop().expect("a workload that succeeds prints its truth")
    }
}
