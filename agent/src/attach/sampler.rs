//! How closely the kernel's programs look: the sampling timers, one perf event per CPU that runs a kernel program, and
//! the budget for stacks of absent threads. In: what clients want. Out: timers that run until dropped, turned knobs.
//!
//! The events are opened here and not by aya, which hands out no descriptor: with it the rate of a running timer is
//! changed by one call, without a moment in which nothing is sampled or everything twice.

use aya::{
    Ebpf,
    maps::{Array, MapData, MapError},
};
use slowpod_ebpf::abi::settings::Knob;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Rate at which all CPUs are sampled all the time. A prime, so as not to beat with anything periodic. A sample costs
/// some 7 us (`cargo xtask bench --only programs`), so this is 0.01 % of a CPU; what bounds it is the flight recorder,
/// where each sample may be a row.
pub const STEADY_HZ: u32 = 19;

/// Looks at the stacks of absent threads per CPU and `LOOKS_STRETCH_NS`, all the time: were each as dear as a sample,
/// 0.1 % of a CPU.
const STEADY_LOOKS: u64 = 16;
/// The same while a client listens.
const LISTENED_LOOKS: u64 = 512;

/// `struct perf_event_attr` of `linux/perf_event.h`, as long as its first version (`PERF_ATTR_SIZE_VER0`).
#[repr(C)]
#[derive(Default)]
struct PerfEventAttr {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    bp_type: u32,
    config1: u64,
}
const _: () = assert!(size_of::<PerfEventAttr>() == 64);

const PERF_TYPE_SOFTWARE: u32 = 1;
const PERF_COUNT_SW_CPU_CLOCK: u64 = 0;
const PERF_FLAG_FD_CLOEXEC: libc::c_ulong = 8;
/// `_IOW('$', 4, __u64)`, and `_IOW('$', 8, __u32)`.
const PERF_EVENT_IOC_PERIOD: libc::c_ulong = 0x4008_2404;
const PERF_EVENT_IOC_SET_BPF: libc::c_ulong = 0x4004_2408;

/// How closely the kernel's programs look.
pub struct Sampler {
    knobs: Array<MapData, u64>,
    /// One running timer per CPU; none where they cannot be had.
    timers: Vec<OwnedFd>,
    wanted_hz: Option<u32>,
}

impl Sampler {
    /// Takes the knobs of a loaded object, and sets them for looking all the time.
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Sampler, MapError> {
        let knobs = ebpf.take_map("KNOBS").ok_or(MapError::ElementNotFound)?;
        let mut sampler = Sampler { knobs: Array::try_from(knobs)?, timers: Vec::new(), wanted_hz: None };
        sampler.turn(STEADY_HZ, STEADY_LOOKS)?;
        Ok(sampler)
    }

    /// Starts a timer on each of these CPUs that runs `program`, at the steady rate.
    ///
    /// # Errors
    /// The kernel's, when one of them cannot be had.
    pub(super) fn start(&mut self, program: BorrowedFd<'_>, cpus: &[u32]) -> io::Result<()> {
        self.timers = cpus.iter().map(|cpu| timer(program, *cpu, STEADY_HZ)).collect::<io::Result<_>>()?;
        Ok(())
    }

    /// Looks as closely as a client wants that asks for so many samples a second; with `None` as closely as is right
    /// all the time.
    ///
    /// # Errors
    /// The kernel's.
    pub fn want(&mut self, hz: Option<u32>) -> io::Result<()> {
        if hz == self.wanted_hz {
            return Ok(());
        }
        self.wanted_hz = hz;
        let looks = if hz.is_some() { LISTENED_LOOKS } else { STEADY_LOOKS };
        self.turn(hz.unwrap_or(STEADY_HZ), looks).map_err(io::Error::other)?;
        let period_ns = period_ns(hz.unwrap_or(STEADY_HZ));
        for timer in &self.timers {
            // SAFETY: the argument lives for the call.
            check(unsafe {
                libc::ioctl(timer.as_raw_fd(), PERF_EVENT_IOC_PERIOD as _, &raw const period_ns)
            })?;
        }
        Ok(())
    }

    fn turn(&mut self, hz: u32, looks: u64) -> Result<(), MapError> {
        self.knobs.set(Knob::SamplePeriodNs as u32, period_ns(hz), 0)?;
        self.knobs.set(Knob::Looks as u32, looks, 0)
    }
}

/// Time between two ticks.
fn period_ns(hz: u32) -> u64 {
    1_000_000_000 / u64::from(hz.max(1))
}

fn timer(program: BorrowedFd<'_>, cpu: u32, hz: u32) -> io::Result<OwnedFd> {
    let attr = PerfEventAttr {
        kind: PERF_TYPE_SOFTWARE,
        size: size_of::<PerfEventAttr>() as u32,
        config: PERF_COUNT_SW_CPU_CLOCK,
        sample_period: period_ns(hz),
        ..PerfEventAttr::default()
    };
    let (every_process, no_group) = (-1, -1);
    // SAFETY: the attributes are as long as they say.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            &raw const attr,
            every_process,
            cpu,
            no_group,
            PERF_FLAG_FD_CLOEXEC,
        )
    };
    let fd = check(i32::try_from(fd).unwrap_or(-1))?;
    // SAFETY: just opened, owned by no one else.
    let timer = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: no pointers.
    check(unsafe { libc::ioctl(fd, PERF_EVENT_IOC_SET_BPF as _, program.as_raw_fd()) })?;
    Ok(timer)
}

fn check(answer: i32) -> io::Result<i32> {
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}
