//! What the agent must do inside every kernel. In: what the [`commands`] printed. Out: what is not as it
//! should be.
//!
//! The real thing, small: it attaches, a storm and a netlink storm of known sizes run, the HTTP answers must have
//! exactly those numbers, and after SIGTERM no program of its own is left in the kernel. A second agent is kept from the
//! best rung for netlink, so that the one after it is loaded, attached and counted by too; it runs under lockdown's mode
//! `integrity`. Under `confidentiality` a third must refuse, with a sentence and the exit code for it.

use super::guest::Ran;
use super::packages::Kernel;
use anyhow::{Context, bail, ensure};
use serde_json::Value;

/// Children of the storm; every tenth fails.
const SPAWNS: u64 = 200;
const FAILED: u64 = 20;
/// Messages of the netlink storm.
const MESSAGES: u64 = 300;

/// The rung for netlink sends on all of Debian's kernels, with their trampolines. The second agent must do without it.
const BEST: &str = "fentry and fexit of netlink_sendmsg";
/// The rung it must then have got. They all have kprobes.
const NEXT: &str = "kprobe and kretprobe of netlink_sendmsg";

/// Run inside, one after the other.
pub(super) fn commands() -> Vec<String> {
    let avoiding = start(&format!("--avoid '{BEST}'"));
    let all = [
        "uname -r",
        "slowpod probes -o json",
        // Programs are among the kernel's symbols then. `grep -c` fails when it counts none.
        "echo 1 >/proc/sys/net/core/bpf_jit_kallsyms; grep -c bpf_prog_ /proc/kallsyms || true",
        &start(""),
        "grep -c bpf_prog_ /proc/kallsyms || true",
        "workload storm --count 200 --spawners 2 --fail-every 10 --brief",
        NETLINK_STORM,
        // Its answers are of a second ago at the most.
        "sleep 3; wget -qO- 'http://127.0.0.1:6060/api/v1/storms?seconds=600'",
        NETLINK,
        "wget -qO- 'http://127.0.0.1:6060/api/v1/findings?seconds=600'",
        STOP,
        // The strictest mode in which BPF may read the kernel's memory; it can only be tightened.
        "mount -t securityfs securityfs /sys/kernel/security 2>/dev/null
echo integrity >/sys/kernel/security/lockdown",
        &avoiding,
        NETLINK_STORM,
        "sleep 3; wget -qO- http://127.0.0.1:6060/api/v1/probes",
        NETLINK,
        STOP,
        // The kernel lets go of programs after a grace period.
        "sleep 2; grep -c bpf_prog_ /proc/kallsyms || true",
        "echo confidentiality >/sys/kernel/security/lockdown; slowpod probes 2>&1; echo code $?",
    ];
    all.map(str::to_owned).to_vec()
}

/// Starts an agent and waits until it answers.
fn start(options: &str) -> String {
    format!(
        "rm -f /tmp/code; (slowpod run {options} >/tmp/said 2>&1; echo $? >/tmp/code) &
n=0; until wget -qO- http://127.0.0.1:6060/readyz >/dev/null 2>&1; do
  n=$((n + 1)); [ $n -lt 300 ] || {{ cat /tmp/said; exit 1; }}; sleep 0.2
done"
    )
}

const NETLINK_STORM: &str = "workload netlink-storm --count 300 --what getlink";
const NETLINK: &str = "wget -qO- 'http://127.0.0.1:6060/api/v1/netlink?seconds=600'";
const STOP: &str = "kill -TERM $(pidof slowpod); n=0; until [ -e /tmp/code ]; do
  n=$((n + 1)); [ $n -lt 300 ] || { cat /tmp/said; exit 1; }; sleep 0.1
done; cat /tmp/code";

/// Judges what came back.
///
/// # Errors
/// The first thing that is not as it should be.
pub(super) fn judge(kernel: &Kernel, ran: &[Ran]) -> anyhow::Result<()> {
    for Ran { command, output, exit } in ran {
        ensure!(*exit == 0, "exit code {exit} of {command:?}:\n{output}");
    }
    let said: Vec<&str> = ran.iter().map(|ran| ran.output.trim()).collect();
    let [
        release,
        probes,
        before,
        _ready,
        during,
        storm,
        netlink,
        storms,
        sent,
        findings,
        code,
        ref again @ ..,
    ] = said[..]
    else {
        bail!("only {} answers", said.len());
    };
    let [_integrity, _ready, next_netlink, next_probes, next_sent, next_code, after, locked] = *again else {
        bail!("{} answers of the second agent", again.len());
    };
    rungs(kernel, BEST, &json("probes", probes)?)?;
    ensure!(
        number(during)? > number(before)?,
        "nothing is attached: {before} programs before, {during} during"
    );
    exact(kernel, &json("storm", storm)?, &json("storms", storms)?)?;
    rungs(kernel, NEXT, &json("probes", next_probes)?)?;
    let without_netlink = kernel.without.contains(&"netlink_send");
    if !without_netlink {
        messages(&json("netlink-storm", netlink)?, &json("netlink", sent)?)?;
        messages(&json("netlink-storm", next_netlink)?, &json("netlink", next_sent)?)
            .with_context(|| format!("by {NEXT}"))?;
    }
    let findings = json("findings", findings)?;
    let is_storm = |finding: &Value| finding["rule"] == "exec_storm";
    ensure!(rows(&findings, "findings").any(is_storm), "no exec storm is found: {findings}");
    ensure!(code == "0" && next_code == "0", "the agents ended with {code} and {next_code}");
    ensure!(number(after)? == number(before)?, "{after} programs are left, {before} were there before");
    let refusal = locked.contains("locked down (mode confidentiality)") && locked.ends_with("code 4");
    ensure!(refusal, "locked down, it should say so and end with 4: {locked}");
    let netlink = if without_netlink { String::new() } else { format!(" and {MESSAGES} netlink messages") };
    println!("kernel {release}: {SPAWNS} spawns{netlink} seen as they were, nothing left behind");
    Ok(())
}

/// Every probe is attached but those this kernel cannot have, and netlink by the rung it should be.
fn rungs(kernel: &Kernel, netlink: &str, probes: &Value) -> anyhow::Result<()> {
    for probe in rows(probes, "probes") {
        let (name, state) = (text(probe, "probe"), text(probe, "state"));
        let expected = match name {
            _ if kernel.without.contains(&name) => "unsupported",
            "netlink_send" if netlink != BEST => "degraded",
            _ => "attached",
        };
        ensure!(state == expected, "{name} should be {expected}: {probe}");
        if name == "netlink_send" && state != "unsupported" {
            ensure!(text(probe, "rung") == netlink, "not by {netlink}: {probe}");
        }
    }
    Ok(())
}

/// The storm as the agent has it, against the storm's own account.
fn exact(kernel: &Kernel, storm: &Value, storms: &Value) -> anyhow::Result<()> {
    ensure!(storm["spawns"] == SPAWNS && storm["failed"] == FAILED, "another storm: {storm}");
    let pid = &storm["pid"];
    let is_it = |daemon: &&Value| rows(daemon, "pids").any(|member| member == pid);
    let daemon = rows(storms, "daemons").find(is_it).with_context(|| format!("no daemon {pid}: {storms}"))?;
    let spawns = |class: &str| -> u64 {
        let of_class =
            rows(daemon, "classes").filter(|row| text(row, "argv_class").split(' ').next() == Some(class));
        of_class.filter_map(|row| row["spawns"].as_u64()).sum()
    };
    let seen = (spawns("true"), spawns("false"));
    let lost = storms["completeness"]["lost"].as_object().context("no completeness")?;
    let skipped = lost.get("program_runs_skipped").and_then(Value::as_u64).unwrap_or(0);
    ensure!(lost.len() == usize::from(skipped > 0), "lost: {}", storms["completeness"]);
    ensure!(skipped == 0 || kernel.skips_programs, "{skipped} runs skipped");
    let missing = (SPAWNS - FAILED).checked_sub(seen.0).zip(FAILED.checked_sub(seen.1));
    let missing = missing.map_or(u64::MAX, |(of_true, of_false)| of_true + of_false);
    ensure!(missing <= skipped, "{seen:?} spawns of true and false, {skipped} runs skipped: {daemon}");
    if skipped > 0 {
        println!(
            "the kernel skipped {skipped} runs of programs; {missing} spawns miss their program, and the answer says so"
        );
    }
    Ok(())
}

/// The netlink storm likewise.
fn messages(netlink: &Value, sent: &Value) -> anyhow::Result<()> {
    ensure!(netlink["messages"] == MESSAGES, "another storm: {netlink}");
    let is_it = |row: &&Value| row["message"] == netlink["message_type"];
    let row =
        rows(sent, "messages").find(is_it).with_context(|| format!("no row of its messages: {sent}"))?;
    ensure!(row["messages"] == MESSAGES, "{row}");
    Ok(())
}

fn json(what: &str, text: &str) -> anyhow::Result<Value> {
    serde_json::from_str(text).with_context(|| format!("{what} is no JSON: {text}"))
}

fn number(text: &str) -> anyhow::Result<u64> {
    text.parse().with_context(|| format!("{text:?} is no number"))
}

fn rows<'a>(of: &'a Value, list: &str) -> impl Iterator<Item = &'a Value> {
    of[list].as_array().into_iter().flatten()
}

fn text<'a>(of: &'a Value, field: &str) -> &'a str {
    of[field].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use slowpod_ebpf::abi::probes::PROBES;

    #[test]
    fn the_rungs_are_the_tables_own() {
        let probe = PROBES.iter().find(|probe| probe.name == "netlink_send").unwrap();
        assert_eq!([probe.rungs[0].name, probe.rungs[1].name], [BEST, NEXT]);
    }
}
