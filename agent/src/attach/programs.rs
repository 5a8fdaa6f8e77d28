//! Loading and hooking one program, and what went wrong if that failed.

use super::sampler::Sampler;
use super::verdict::Failure;
use aya::{
    Btf, BtfError, Ebpf,
    programs::{Program as Loaded, ProgramError, TracePointError},
    util::online_cpus,
};
use slowpod_ebpf::abi::probes::{Hook, Program};
use std::{
    error::Error,
    io,
    os::fd::AsFd,
    sync::{Mutex, PoisonError},
    thread,
    time::Instant,
};

/// The program that takes the verifier longest by far.
const SLOWEST: &str = "sched_switch";

/// Loads these programs, as many at once as there are CPUs: most of what attaching takes is the kernel's verifier. The
/// slowest goes first, and with no more threads than CPUs it has one to itself: what comes after waits for it. What fails here
/// fails again, with its reason, when it is hooked.
pub(super) fn load_together(ebpf: &mut Ebpf, btf: &Btf, wanted: &[Program]) {
    let wish = |name: &str| wanted.iter().find(|program| program.name == name);
    let mut jobs: Vec<_> =
        ebpf.programs_mut().filter_map(|(name, loaded)| Some((wish(name)?, loaded))).collect();
    // Taken from the end.
    jobs.sort_by_key(|(program, _)| program.name == SLOWEST);
    let cpus = thread::available_parallelism().map_or(1, usize::from);
    let jobs = Mutex::new(jobs);
    let next = || jobs.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let work = || {
        while let Some((program, loaded)) = next() {
            let _ = load(loaded, btf, program.hook);
        }
    };
    thread::scope(|scope| {
        for _ in 1..cpus {
            // Without a thread the others do its work.
            let _ = thread::Builder::new().spawn_scoped(scope, work);
        }
        work();
    });
}

/// Loads a program into the kernel, if that was not done yet, and hooks it. On failure nothing of it stays.
pub(super) fn hook(ebpf: &mut Ebpf, btf: &Btf, program: &Program) -> Result<(), Failure> {
    let Some(loaded) = ebpf.program_mut(program.name) else {
        let detail = "it is not in the kernel object".to_string();
        return Err(Failure::Refused { program: program.name, errno: None, detail });
    };
    let begun = Instant::now();
    let outcome = load_and_attach(loaded, btf, program.hook);
    tracing::debug!(
        program = program.name,
        took_us = begun.elapsed().as_micros(),
        verified = loaded.info().ok().and_then(|info| info.verified_instruction_count()),
        attached = outcome.is_ok(),
        "tried"
    );
    if outcome.is_err() {
        unhook(ebpf, program);
    }
    outcome.map_err(|error| failure(program, &error))
}

/// Unhooks and unloads a program; one that is not loaded is left alone.
pub(super) fn unhook(ebpf: &mut Ebpf, program: &Program) {
    if let Some(loaded) = ebpf.program_mut(program.name) {
        unload(loaded);
    }
}

/// Unhooks and unloads a loaded program.
pub(super) fn unload(loaded: &mut Loaded) {
    // The only error is that it is not loaded.
    let _ = match loaded {
        Loaded::BtfTracePoint(program) => program.unload(),
        Loaded::TracePoint(program) => program.unload(),
        Loaded::FEntry(program) => program.unload(),
        Loaded::FExit(program) => program.unload(),
        Loaded::KProbe(program) => program.unload(),
        Loaded::PerfEvent(program) => program.unload(),
        _ => Ok(()),
    };
}

/// Loads a program into the kernel and lets it run on a timer on each CPU that is online now.
pub(super) fn sample(ebpf: &mut Ebpf, sampler: &mut Sampler, program: &Program) -> Result<(), Failure> {
    let Some(Loaded::PerfEvent(loaded)) = ebpf.program_mut(program.name) else {
        let detail = "it is not in the kernel object".to_string();
        return Err(Failure::Refused { program: program.name, errno: None, detail });
    };
    let there = if loaded.fd().is_ok() { Ok(()) } else { loaded.load() };
    let started = there.map_err(|error| failure(program, &error)).and_then(|()| {
        let fd = loaded.fd().map_err(|error| failure(program, &error))?;
        let started =
            online_cpus().map_err(|(_, error)| error).and_then(|cpus| sampler.start(fd.as_fd(), &cpus));
        started.map_err(|error| Failure::Refused {
            program: program.name,
            errno: error.raw_os_error(),
            detail: error.to_string(),
        })
    });
    if started.is_err() {
        unhook(ebpf, program);
    }
    started
}

fn load_and_attach(loaded: &mut Loaded, btf: &Btf, hook: Hook) -> Result<(), ProgramError> {
    if loaded.fd().is_err() {
        load(loaded, btf, hook)?;
    }
    match (hook, loaded) {
        (Hook::TpBtf(_), Loaded::BtfTracePoint(program)) => program.attach().map(drop),
        (Hook::Tracepoint(category, name), Loaded::TracePoint(program)) => {
            program.attach(category, name).map(drop)
        }
        (Hook::Fentry(_), Loaded::FEntry(program)) => program.attach().map(drop),
        (Hook::Fexit(_), Loaded::FExit(program)) => program.attach().map(drop),
        (Hook::Kprobe(function) | Hook::Kretprobe(function), Loaded::KProbe(program)) => {
            program.attach(function, 0).map(drop)
        }
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

fn load(loaded: &mut Loaded, btf: &Btf, hook: Hook) -> Result<(), ProgramError> {
    match (hook, loaded) {
        (Hook::TpBtf(name), Loaded::BtfTracePoint(program)) => program.load(name, btf),
        (Hook::Tracepoint(..), Loaded::TracePoint(program)) => program.load(),
        (Hook::Fentry(function), Loaded::FEntry(program)) => program.load(function, btf),
        (Hook::Fexit(function), Loaded::FExit(program)) => program.load(function, btf),
        (Hook::Kprobe(_) | Hook::Kretprobe(_), Loaded::KProbe(program)) => program.load(),
        (Hook::CpuClock, Loaded::PerfEvent(program)) => program.load(),
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

fn failure(program: &Program, error: &ProgramError) -> Failure {
    let no_hook = || Failure::NoHook { hook: describe(program.hook) };
    match error {
        // The hook's name is not among the kernel's types, or not in tracefs.
        ProgramError::Btf(BtfError::UnknownBtfTypeName { .. }) => no_hook(),
        ProgramError::TracePointError(TracePointError::FileError { io_error, .. })
            if io_error.kind() == io::ErrorKind::NotFound =>
        {
            no_hook()
        }
        ProgramError::KProbeError(_) => no_hook(),
        ProgramError::LoadError { io_error, verifier_log } => Failure::Refused {
            program: program.name,
            errno: io_error.raw_os_error(),
            detail: refusal(io_error, &verifier_log.to_string()),
        },
        other => Failure::Refused { program: program.name, errno: errno(other), detail: chain(other) },
    }
}

/// The kernel's error, with the line of the verifier's log that says what it disliked: the last one that is
/// no statistics.
fn refusal(error: &io::Error, log: &str) -> String {
    const STATISTICS: &[&str] = &["processed ", "verification time", "stack depth", "insns processed"];
    let said = log
        .lines()
        .rev()
        .map(str::trim)
        .find(|line| !line.is_empty() && !STATISTICS.iter().any(|start| line.starts_with(start)));
    match said {
        Some(line) => format!("{error}: {line}"),
        None => error.to_string(),
    }
}

/// A hook in words.
fn describe(hook: Hook) -> String {
    match hook {
        Hook::TpBtf(name) => format!("tracepoint {name}"),
        Hook::Tracepoint(category, name) => format!("tracepoint {category}:{name}"),
        Hook::Fentry(function) | Hook::Fexit(function) => format!("function {function} to hook"),
        Hook::Kprobe(function) | Hook::Kretprobe(function) => format!("kprobe on {function}"),
        Hook::CpuClock => "timer of each CPU".to_string(),
    }
}

/// An error and its causes, in one line.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let said = inner.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = inner.source();
    }
    text
}

/// The kernel's error number, wherever in the chain it is.
pub(super) fn errno(error: &(dyn Error + 'static)) -> Option<i32> {
    let mut cause = Some(error);
    while let Some(inner) = cause {
        if let Some(number) = inner.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
            return Some(number);
        }
        cause = inner.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verifiers_reason_is_found_above_its_statistics() {
        let log = "0: R1=ctx()\n5: (61) r0 = *(u32 *)(r1 +8)\nR1 invalid mem access 'scalar'\n\
                   verification time 21 usec\nstack depth 8\nprocessed 6 insns (limit 1000000)\n";
        let error = io::Error::from_raw_os_error(libc::EACCES);
        assert!(refusal(&error, log).ends_with(": R1 invalid mem access 'scalar'"));
        assert_eq!(refusal(&error, ""), error.to_string());
    }

    #[test]
    fn an_errno_is_found_below_other_errors() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer")]
        struct Outer(#[source] io::Error);
        let outer = Outer(io::Error::from_raw_os_error(libc::EPERM));
        assert_eq!(errno(&outer), Some(libc::EPERM));
        assert!(chain(&outer).starts_with("outer: "));
    }
}
