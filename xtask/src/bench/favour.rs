//! Keeps other work on the machine from being measured along: for as long as a bench runs, its session is favoured by
//! the scheduler over all others. Runs with and without the agent are favoured alike.

/// The session's group and its niceness (`man 7 sched`, "The autogroup feature"). Not there on every kernel.
const AUTOGROUP: &str = "/proc/self/autogroup";
/// The strongest favour there is.
const MOST: i32 = -20;

/// Favour that ends when this is dropped.
pub(super) struct Favour {
    before: i32,
}

impl Favour {
    /// Asks for favour; `None` where there is none to be had, which makes figures wander but not wrong.
    pub(super) fn ask() -> Option<Favour> {
        let before = niceness(&std::fs::read_to_string(AUTOGROUP).ok()?)?;
        std::fs::write(AUTOGROUP, MOST.to_string()).ok()?;
        Some(Favour { before })
    }
}

impl Drop for Favour {
    fn drop(&mut self) {
        if let Err(error) = std::fs::write(AUTOGROUP, self.before.to_string()) {
            eprintln!("this session stays favoured: {AUTOGROUP}: {error}");
        }
    }
}

/// From a text such as `/autogroup-25 nice 0`.
fn niceness(text: &str) -> Option<i32> {
    text.trim().rsplit_once(" nice ")?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_groups_niceness() {
        assert_eq!(niceness("/autogroup-25 nice 0\n"), Some(0));
        assert_eq!(niceness("/autogroup-25 nice -20\n"), Some(-20));
        assert_eq!(niceness(""), None);
    }
}
