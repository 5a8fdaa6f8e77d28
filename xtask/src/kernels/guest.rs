//! One boot: a kernel, an initial root file system made for it, and what came back over the serial line.

use super::agent::File;
use super::initramfs::Archive;
use super::packages::Qemu;
use crate::sh;
use anyhow::{Context, bail};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Boot and smoke test take 30 s to a minute when emulated on two quiet cores, on a loaded machine several times that.
const MAX_BOOT: Duration = Duration::from_secs(600);
/// Seconds for one command inside: half of the boot's, so that one that hangs can still be looked at.
const MAX_COMMAND_SECONDS: u32 = 300;
/// What `timeout` of BusyBox ends with when it had to end the command: 128 and SIGTERM.
const TIMED_OUT: u32 = 143;
/// Room for the archive, the agent and its maps.
const MEMORY_MB: &str = "1024";
/// Lines of the kernel's own log that are shown when a boot fails.
const LOG_LINES: usize = 30;
/// Starts a line of ours among what the commands print.
const MARK: &str = "@@slowpod";

/// A command that ran inside.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ran {
    pub(super) command: String,
    /// What it printed, errors included.
    pub(super) output: String,
    pub(super) exit: i32,
}

/// Boots the kernel image with BusyBox and `files` (path inside, file here) and runs each command in a shell.
///
/// # Errors
/// When QEMU cannot run, the kernel does not come up in time, or it goes down before the last command ended.
pub(super) fn boot(
    qemu: &Qemu,
    image: &Path,
    busybox: &Path,
    files: &[File],
    commands: &[String],
) -> anyhow::Result<Vec<Ran>> {
    let work = sh::target_dir().join("kernels");
    let (initrd, answers, log) = (work.join("initrd"), work.join("answers"), work.join("console.log"));
    std::fs::write(&initrd, initial_files(busybox, files, commands)?)?;
    std::fs::write(&answers, "")?;
    let serial = |file: &Path| format!("file:{}", file.display());
    let mut command = Command::new(&qemu.program);
    command
        .args(&qemu.search)
        .args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", MEMORY_MB])
        .args(["-nodefaults", "-display", "none", "-no-reboot", "-append", "console=ttyS0 panic=-1 nokaslr"])
        // The kernel talks on the first line, the commands on the second: neither can garble the other.
        .args(["-serial", &serial(&log), "-serial", &serial(&answers)])
        .arg("-kernel")
        .arg(image)
        .arg("-initrd")
        .arg(&initrd)
        .stdin(Stdio::null());
    let ended = wait(command)?;
    let answers = std::fs::read(&answers)?;
    let ran = parse(&String::from_utf8_lossy(&answers), commands);
    if !ended || ran.len() < commands.len() {
        let log = String::from_utf8_lossy(&std::fs::read(&log)?).into_owned();
        let lines: Vec<_> = log.lines().collect();
        let last = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
        let why = if ended { "went down" } else { "did not finish in time" };
        let answers = String::from_utf8_lossy(&answers);
        bail!(
            "it {why} after {} of {} commands; its log ends:\n{last}\nThe command it was at, and what it said:\n{}\n{}",
            ran.len(),
            commands.len(),
            commands.get(ran.len()).map_or("none", String::as_str),
            unfinished(&answers, ran.len()),
        );
    }
    Ok(ran)
}

/// Waits for the machine to power off; false when it had to be stopped.
fn wait(mut command: Command) -> anyhow::Result<bool> {
    let mut child = command.spawn().with_context(|| format!("cannot start {:?}", command.get_program()))?;
    let started = Instant::now();
    while started.elapsed() < MAX_BOOT {
        if let Some(status) = child.try_wait()? {
            return if status.success() { Ok(true) } else { bail!("QEMU failed ({status})") };
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill()?;
    child.wait()?;
    Ok(false)
}

fn initial_files(busybox: &Path, files: &[File], commands: &[String]) -> anyhow::Result<Vec<u8>> {
    let read = |path: &Path| std::fs::read(path).with_context(|| format!("reading {}", path.display()));
    let mut archive = Archive::default();
    for directory in ["bin", "dev", "proc", "sys", "tmp", "run", "etc"] {
        archive.directory(directory);
    }
    archive.executable("bin/busybox", &read(busybox)?);
    let folders: BTreeSet<&Path> =
        files.iter().flat_map(|(inside, _)| Path::new(inside).ancestors().skip(1)).collect();
    for folder in
        folders.iter().filter(|folder| !folder.as_os_str().is_empty() && **folder != Path::new("bin"))
    {
        archive.directory(&folder.to_string_lossy());
    }
    for (inside, here) in files {
        archive.executable(inside, &read(here)?);
    }
    for (number, command) in commands.iter().enumerate() {
        archive.executable(&format!("run/{number}"), format!("#!/bin/sh\n{command}\n").as_bytes());
    }
    archive.executable("init", init(commands.len()).as_bytes());
    Ok(archive.finish())
}

/// What the command of this number had said when the machine went down.
fn unfinished(answers: &str, number: usize) -> &str {
    answers.split_once(&format!("\n{MARK} begin {number}\n")).map_or("nothing", |(_, said)| said.trim())
}

/// The first process: mounts what a node has mounted, runs the commands one after the other, powers off. A command that
/// does not end is the last: it is ended, and what it started says where in the kernel it stands.
fn init(commands: usize) -> String {
    format!(
        "#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin HOME=/
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mount -t tracefs tracefs /sys/kernel/tracing
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs tmp /tmp
ip link set lo up
stty -F /dev/ttyS1 raw
exec >/dev/ttyS1 2>&1 </dev/null
stands() {{
  echo 'It did not end. What runs, and where in the kernel:'
  ps -o pid,ppid,stat,args
  for task in /proc/[0-9]*/task/[0-9]*; do
    [ -z \"$(tr -d '\\0' <$task/cmdline)\" ] || {{ echo \"$task $(cat $task/comm)\"; cat $task/stack; }}
  done
  cat /proc/interrupts /tmp/said
}}
n=0
while [ $n -lt {commands} ]; do
  printf '\\n{MARK} begin %d\\n' $n
  timeout {MAX_COMMAND_SECONDS} /run/$n
  code=$?
  [ $code != {TIMED_OUT} ] || {{ stands; break; }}
  printf '\\n{MARK} end %d %d\\n' $n $code
  n=$((n + 1))
done
poweroff -f
"
    )
}

/// Takes the commands' outputs apart. A command that did not end is not among them.
fn parse(answers: &str, commands: &[String]) -> Vec<Ran> {
    let mut ran = Vec::new();
    for (number, command) in commands.iter().enumerate() {
        let begin = format!("\n{MARK} begin {number}\n");
        let end = format!("\n{MARK} end {number} ");
        let Some((output, exit)) = answers
            .split_once(&begin)
            .and_then(|(_, after)| after.split_once(&end))
            .and_then(|(output, after)| Some((output, after.lines().next()?.trim().parse().ok()?)))
        else {
            break;
        };
        ran.push(Ran { command: command.clone(), output: output.to_owned(), exit });
    }
    ran
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_outputs_apart() {
        let answers = "\n@@slowpod begin 0\na\nb\n\n@@slowpod end 0 0\n\n@@slowpod begin 1\n\n@@slowpod end 1 127\n\
            \n@@slowpod begin 2\nhalf";
        let ran = parse(answers, &["one", "two", "three"].map(str::to_owned));
        assert_eq!(
            ran,
            [
                Ran { command: "one".to_owned(), output: "a\nb\n".to_owned(), exit: 0 },
                Ran { command: "two".to_owned(), output: String::new(), exit: 127 },
            ]
        );
    }

    #[test]
    fn the_first_process_runs_every_command() {
        let script = init(3);
        assert!(
            script.contains("while [ $n -lt 3 ]") && script.contains("'\\n@@slowpod end %d %d\\n' $n $code")
        );
    }

    #[test]
    fn an_unfinished_command_is_shown_with_what_it_said() {
        let answers = "\n@@slowpod begin 0\na\n\n@@slowpod end 0 0\n\n@@slowpod begin 1\nhalf\n";
        assert_eq!([unfinished(answers, 1), unfinished(answers, 2)], ["half", "nothing"]);
    }
}
