//! `/debug/self`: what the agent costs. In: the pulse, `/proc/self`, the allocator's own account. Out: JSON.

use super::own_cost::own_cost;
use crate::pipeline::Pulse;
use serde::Serialize;
use slowpod_ebpf::abi::threads::{Owner, SLOTS, Slot};
use std::collections::BTreeMap;

#[derive(Serialize)]
struct Own {
    /// CPU time so far, in seconds.
    cpu_seconds: f64,
    open_fds: u64,
    memory: Memory,
    /// Kernel programs since they were attached, the most time first.
    programs: Vec<Program>,
}

/// Memory by part. The parts are not all of it: code, stacks of threads and the allocator's spare room are in
/// `resident_bytes` only.
#[derive(Serialize)]
struct Memory {
    resident_bytes: u64,
    /// Given out by the allocator and not returned; `null` where it does not tell.
    allocated_bytes: Option<u64>,
    /// The flight recorder, of the allocated bytes, and its bound.
    recorder_bytes: usize,
    recorder_bytes_max: usize,
    /// Symbol tables, of the allocated bytes.
    symbol_bytes: u64,
    /// What is left of the allocated bytes: tables of processes, cgroups and stacks, and answers being made.
    rest_bytes: Option<u64>,
    /// Every thread's slot, shared with the kernel.
    thread_slot_bytes: usize,
    /// Rings shared with the kernel, by name: their size, not what waits in them.
    ring_bytes: BTreeMap<&'static str, u64>,
    /// Rows of the live state's tables, and how many there may be.
    tables: BTreeMap<&'static str, Table>,
}

#[derive(Serialize)]
struct Table {
    rows: usize,
    rows_max: usize,
}

#[derive(Serialize)]
struct Program {
    program: String,
    runs: u64,
    /// 0 unless the kernel keeps the time (`kernel.bpf_stats_enabled`).
    run_ns: u64,
    mean_ns: u64,
}

/// What the agent costs, as JSON ended by a newline.
pub(super) fn cost(pulse: &Pulse) -> Vec<u8> {
    let own = own_cost();
    let programs = pulse.kernel.programs.iter().map(|program| Program {
        program: program.program.clone(),
        runs: program.runs,
        run_ns: program.run_ns,
        mean_ns: program.run_ns / program.runs.max(1),
    });
    let mut programs: Vec<Program> = programs.collect();
    programs.sort_by_key(|program| std::cmp::Reverse((program.run_ns, program.runs)));
    let tables = pulse
        .tables
        .iter()
        .map(|(name, (rows, rows_max))| (*name, Table { rows: *rows, rows_max: *rows_max }));
    let allocated = allocated_bytes();
    let symbol_bytes = pulse.kernel.symbols.held_bytes;
    let parts = symbol_bytes.saturating_add(pulse.recorder.bytes as u64);
    let cost = Own {
        cpu_seconds: own.cpu_s,
        open_fds: own.open_fds,
        memory: Memory {
            resident_bytes: own.resident_bytes,
            allocated_bytes: allocated,
            recorder_bytes: pulse.recorder.bytes,
            recorder_bytes_max: pulse.recorder.bytes_max,
            symbol_bytes,
            rest_bytes: allocated.map(|all| all.saturating_sub(parts)),
            thread_slot_bytes: SLOTS as usize * (size_of::<Slot>() + size_of::<Owner>()),
            ring_bytes: pulse.kernel.rings.iter().map(|(name, (_, size))| (*name, *size)).collect(),
            tables: tables.collect(),
        },
        programs,
    };
    let mut bytes = serde_json::to_vec_pretty(&cost).expect("costs hold nothing that JSON cannot");
    bytes.push(b'\n');
    bytes
}

fn allocated_bytes() -> Option<u64> {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: reads the allocator's own counts.
        let counts = unsafe { libc::mallinfo2() };
        Some(counts.uordblks as u64 + counts.hblkhd as u64)
    }
    #[cfg(not(target_env = "gnu"))]
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::{KernelPulse, ProgramCost};

    #[test]
    fn the_costliest_program_is_first_and_means_are_worked_out() {
        let program =
            |program: &str, runs, run_ns| ProgramCost { program: program.into(), runs, run_ns, skipped: 0 };
        let programs = vec![program("cheap", 10, 100), program("dear", 4, 1_000), program("idle", 0, 0)];
        let pulse = Pulse { kernel: KernelPulse { programs, ..Default::default() }, ..Pulse::default() };
        let cost: serde_json::Value = serde_json::from_slice(&cost(&pulse)).unwrap();
        assert_eq!(
            (&cost["programs"][0]["program"], &cost["programs"][0]["mean_ns"]),
            (&"dear".into(), &250.into())
        );
        assert_eq!(cost["programs"][2]["mean_ns"], 0);
        let memory = &cost["memory"];
        let of = |part: &str| memory[part].as_u64().unwrap_or(0);
        assert!(of("allocated_bytes") >= of("rest_bytes") && of("thread_slot_bytes") > 1 << 20, "{cost}");
        assert!(cost["memory"]["allocated_bytes"].as_u64().is_none_or(|bytes| bytes > 10_000), "{cost}");
    }
}
