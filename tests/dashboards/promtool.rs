//! What promtool says of the metrics page and of the rules.

use harness::made_up::{BOOT_NS, MadeUp};
use harness::tools::Tool;
use slowpod::views::metrics::{OwnCost, render};
use std::io::Write;
use std::process::{Command, Stdio};

/// Runs promtool with this input; its whole output when it does not succeed.
fn promtool(arguments: &[&str], input: &str) -> Result<(), String> {
    let mut child = Command::new(Tool::Promtool.require())
        .args(arguments)
        .current_dir(crate::file(""))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&said).into_owned()) }
}

/// Whether promtool takes a page, without any remark.
pub(crate) fn check_metrics(page: &str) -> Result<(), String> {
    promtool(&["check", "metrics"], page)
}

#[test]
fn pages_pass_whatever_daemons_are_called() {
    for name in [
        "kube-router",
        "a\"b",
        "a\\",
        "new\nline",
        "{x=\"y\"} 1",
        "日本",
        "\u{202e}",
        "",
        &"é".repeat(1 << 19),
    ] {
        let (hub, until_ns) = MadeUp::hub(name.as_bytes(), 10);
        let page = render(&hub.pulse(), &OwnCost::default(), until_ns);
        check_metrics(&page).unwrap_or_else(|error| panic!("{name:.40}: {error}"));
        assert!(page.len() < 1 << 20);
    }
    let empty = render(&Default::default(), &OwnCost::default(), BOOT_NS);
    check_metrics(&empty).unwrap();
}

#[test]
fn promtool_would_have_remarked() {
    // The check above can fail: a counter without its suffix, and a page that breaks off.
    assert!(check_metrics("# HELP a b.\n# TYPE a counter\na 1\n").is_err());
    assert!(check_metrics("# HELP a_total b.\n# TYPE a_total counter\na_total{x=\"y} 1\n").is_err());
}

#[test]
fn rules_are_rules() {
    promtool(&["check", "rules", "slowpod.rules.yml"], "").unwrap();
}

#[test]
fn alerts_fire_for_what_they_are_meant_for() {
    promtool(&["test", "rules", "slowpod.rules.test.yml"], "").unwrap();
}
