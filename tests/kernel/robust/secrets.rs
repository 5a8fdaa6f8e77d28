//! Secrets on command lines and in environments: with default settings they come out nowhere.

use std::process::Command;

use harness::{agent, workload};
use slowpod::client;
use slowpod::views::VIEWS;

use super::{Started, run, slowpod};

/// Stands for a secret; not a word that anything else would print.
const CANARY: &str = "c4n4ry5ecret";

/// Programs with secrets in each place where people put them.
fn run_with_secrets() {
    let lines: [&[&str]; 6] = [
        &["--password=c4n4ry5ecret"],
        &["--token", "c4n4ry5ecret"],
        &["login", "-u", "me", "--api-key", "c4n4ry5ecret"],
        &["postgres://me:c4n4ry5ecret@db/x"],
        &["PGPASSWORD=c4n4ry5ecret"],
        &["-H", "Authorization: Bearer c4n4ry5ecret"],
    ];
    for words in lines {
        let mut command = Command::new("/bin/true");
        // The environment is never read, whatever its names.
        command.args(words).env("PLAIN_NAME", CANARY).env("SECRET_TOKEN", CANARY);
        assert!(command.status().unwrap().success());
    }
}

/// One that was there before the agent and so comes in by the scan.
fn old_one() -> Started {
    Started::new(Command::new("sleep").args(["--password=c4n4ry5ecret", "60"]).env("SECRET_TOKEN", CANARY))
}

fn clean(what: &str, bytes: &[u8]) {
    let found = bytes.windows(CANARY.len()).position(|window| window == CANARY.as_bytes());
    if let Some(at) = found {
        let around = &bytes[at.saturating_sub(120)..(at + 60).min(bytes.len())];
        panic!("{what} gives the secret away: {}", String::from_utf8_lossy(around));
    }
}

#[test]
fn no_secret_comes_out_anywhere() {
    // sleep(1) refuses such an option and ends; a shell with one more argument stays.
    drop(old_one());
    let mut old = Command::new("sh");
    old.args(["-c", "sleep 60", "sh", "--password=c4n4ry5ecret"]).env("SECRET_TOKEN", CANARY);
    let _old = Started::new(&mut old);
    let agent = agent!();
    let directory = tempfile::tempdir().unwrap();
    let tape = directory.path().join("x.tape");
    let words = ["record", "-d", "60s", "-o", tape.to_str().unwrap()];
    let recording = Started::attached(slowpod(&words).env("RUST_LOG", "trace"));
    run_with_secrets();
    let mark = workload!("storm").option("--count", 20).word("--brief").run();
    agent.view_at("/api/v1/processes", mark.number("/end_ns"));
    recording.signal(libc::SIGTERM);
    let recorded = recording.finish().ok();
    clean("stderr of record", recorded.err.as_bytes());
    let bytes = std::fs::read(&tape).unwrap();
    clean("the tape", &bytes);
    // It is not clean because it is empty.
    assert!(bytes.windows(10).any(|window| window == b"--password"), "the option's name may be kept");
    for view in VIEWS {
        let path = format!("{}?limit=2000", view.path);
        clean(&path, &client::get(agent.address(), &path).unwrap());
    }
    for path in ["/", "/metrics", "/readyz"] {
        clean(path, &client::get(agent.address(), path).unwrap());
    }
    for view in ["storms", "findings", "processes", "netlink"] {
        let words = [view, "--listen", agent.address(), "--limit", "2000"];
        clean(view, run(&mut slowpod(&words)).ok().out.as_bytes());
    }
    clean("stderr of run", agent.said().as_bytes());
}
