//! Processes that hang: why they wait is told while they do, whether they began before the agent or after it, and no wait is
//! told twice.

use crate::exact::path;
use harness::agent;
use harness::agent::{Agent, monotonic_ns};
use harness::truth::Truth;
use slowpod::client;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const S: u64 = 1_000_000_000;

/// A process that waits for something that does not come, and why.
struct Hung {
    child: Child,
    cause: &'static str,
    begun_ns: u64,
}

impl Hung {
    fn start(command: &mut Command, cause: &'static str) -> Hung {
        let begun_ns = monotonic_ns();
        let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("it starts");
        Hung { child, cause, begun_ns }
    }

    /// The call alone tells the cause, or the file behind its descriptor does.
    fn both() -> [Hung; 2] {
        [
            Hung::start(Command::new("sleep").arg("1000"), "sleep"),
            Hung::start(&mut Command::new("cat"), "pipe"),
        ]
    }

    /// How long it waited, by an answer.
    fn told_ns(&self, answer: &Truth) -> u64 {
        let pid = u64::from(self.child.id());
        let rows = answer.list("/processes");
        let own =
            rows.iter().find(|row| row.at("/process").get("pid").and_then(|own| own.as_u64()) == Some(pid));
        own.and_then(|row| row.at("/blocked_by").get(self.cause)?.as_u64()).unwrap_or(0)
    }
}

impl Drop for Hung {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The first answer by which each of them waited for at least so long.
fn told(agent: &Agent, hung: &[Hung], at_least_ns: u64) -> Truth {
    let all = path("top", "sort=blocked");
    agent.view_when(&all, |answer| hung.iter().all(|hung| hung.told_ns(answer) >= at_least_ns))
}

#[test]
fn what_hangs_is_told_while_it_does_and_once() {
    let before = Hung::both();
    // They wait by the time the programs come.
    std::thread::sleep(Duration::from_millis(300));
    let attached_ns = monotonic_ns();
    let agent = agent!();
    let mut after = Hung::both();
    // While a client listens, what goes on is told every second.
    let address = agent.address().to_owned();
    let listener = std::thread::spawn(move || client::get(&address, "/debug/pprof/offcpu?seconds=12"));
    for hung in [&before, &after] {
        let answer = told(&agent, hung, 3 * S);
        for hung in hung {
            let (told_ns, longest_ns) =
                (hung.told_ns(&answer), monotonic_ns() - hung.begun_ns.max(attached_ns));
            assert!(told_ns <= longest_ns, "{}: {told_ns} ns told of {longest_ns}", hung.cause);
        }
    }
    // What is left of a wait is told when it ends.
    let waited_ns = after.each_mut().map(|hung| {
        hung.child.kill().expect("it can be killed");
        let waited_ns = monotonic_ns() - hung.begun_ns;
        hung.child.wait().expect("it ends");
        waited_ns
    });
    let shortest_ns = waited_ns.into_iter().min().expect("two of them");
    let answer = told(&agent, &after, shortest_ns - S / 5);
    for (hung, waited_ns) in after.iter().zip(waited_ns) {
        let told_ns = hung.told_ns(&answer);
        assert!(told_ns <= waited_ns + S / 20, "{}: {told_ns} ns told of {waited_ns}", hung.cause);
    }
    listener.join().expect("it does not panic").expect("a profile");
}
