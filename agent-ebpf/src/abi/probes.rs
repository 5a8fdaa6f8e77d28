//! The table of probes: what each one is for, and by which hooks it can be had, best first.
//!
//! A probe is what users see ("netlink sends: attached, rung `sock_send_length`"). A rung is one way to get
//! it: all its programs attach, or the loader tries the next rung.

/// One thing slowpod watches.
#[derive(Clone, Copy, Debug)]
pub struct Probe {
    /// Stable name in JSON, metrics and logs.
    pub name: &'static str,
    /// What is lost without it, as a clause that can follow "without it ".
    pub gives: &'static str,
    /// Whether the agent is of any use without it.
    pub need: Need,
    /// Ways to have it, best first.
    pub rungs: &'static [Rung],
}

/// Whether a probe's failure stops the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// The agent refuses to start without it.
    Required,
    /// The agent runs on and says in every answer what is missing.
    Optional,
}

/// One way to have a probe.
#[derive(Clone, Copy, Debug)]
pub struct Rung {
    /// Short name, shown in the verdict.
    pub name: &'static str,
    /// The programs it needs; all or none.
    pub programs: &'static [Program],
    /// Globals of [`super::offsets::OFFSETS`] without which this rung is pointless.
    pub fields: &'static [&'static str],
}

/// One kernel program and where it hangs.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// Function name in the kernel object.
    pub name: &'static str,
    /// Its hook.
    pub hook: Hook,
    /// True when this one may be absent without breaking the rung (an architecture without `vfork`).
    pub optional: bool,
}

/// Where a program can hang.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// BTF-typed raw tracepoint, by name.
    TpBtf(&'static str),
    /// Classic tracepoint: category, name. Needs tracefs.
    Tracepoint(&'static str, &'static str),
    /// Entry of a kernel function through a BPF trampoline.
    Fentry(&'static str),
    /// Return of a kernel function through a BPF trampoline.
    Fexit(&'static str),
    /// Entry of a kernel function by breakpoint.
    Kprobe(&'static str),
    /// Return of a kernel function, likewise.
    Kretprobe(&'static str),
    /// A timer on each CPU (perf event `cpu-clock`), at a rate that can be changed.
    CpuClock,
}

const fn program(name: &'static str, hook: Hook) -> Program {
    Program { name, hook, optional: false }
}

const fn maybe(name: &'static str, hook: Hook) -> Program {
    Program { name, hook, optional: true }
}

/// Every probe, in the order they are attached and listed. Exits before spawns, so that no spawn is tracked
/// whose end would be missed.
pub const PROBES: &[Probe] = &[
    Probe {
        name: "exit",
        gives: "ends and exit codes of processes are not seen",
        need: Need::Required,
        rungs: &[Rung {
            name: "sched_process_exit",
            programs: &[program("process_exit", Hook::TpBtf("sched_process_exit"))],
            fields: &[
                "OFF_TASK_EXIT_CODE",
                "OFF_TASK_SIGNAL",
                "OFF_SIGNAL_FLAGS",
                "OFF_SIGNAL_GROUP_EXIT_CODE",
            ],
        }],
    },
    Probe {
        name: "split",
        gives: "time is not split into on-CPU, runnable and blocked",
        need: Need::Required,
        rungs: &[
            Rung {
                name: "sched_switch with the kernel's queue clock",
                programs: &[program("sched_switch", Hook::TpBtf("sched_switch"))],
                fields: &[
                    "OFF_TASK_PID",
                    "OFF_TASK_STATE",
                    "OFF_TASK_LAST_QUEUED",
                    "OFF_TASK_RUN_DELAY",
                    "OFF_TASK_CFS_RQ",
                    "OFF_CFS_RQ_RQ",
                    "OFF_RQ_CLOCK",
                ],
            },
            Rung {
                name: "sched_switch with wake-up hooks",
                programs: &[
                    program("sched_wakeup", Hook::TpBtf("sched_wakeup")),
                    program("sched_switch", Hook::TpBtf("sched_switch")),
                ],
                fields: &["OFF_TASK_PID", "OFF_TASK_STATE"],
            },
        ],
    },
    Probe {
        name: "reap",
        gives: "how long parents wait for their children is not known",
        need: Need::Optional,
        rungs: &[Rung {
            name: "sched_process_wait with sys_exit_wait4 and _waitid",
            programs: &[
                program("process_wait", Hook::TpBtf("sched_process_wait")),
                program("wait4_exit", Hook::Tracepoint("syscalls", "sys_exit_wait4")),
                program("waitid_exit", Hook::Tracepoint("syscalls", "sys_exit_waitid")),
            ],
            fields: &["OFF_REGS_ARG1", "OFF_REGS_ARG2", "OFF_REGS_ARG3"],
        }],
    },
    Probe {
        name: "exec",
        gives: "the programs that processes become are not known",
        need: Need::Required,
        rungs: &[Rung {
            name: "sched_process_exec",
            programs: &[program("process_exec", Hook::TpBtf("sched_process_exec"))],
            fields: &["OFF_TASK_MM", "OFF_MM_ARG_START", "OFF_MM_ARG_END", "OFF_BPRM_FILENAME"],
        }],
    },
    // Behind "exec": programs at one tracepoint run in the order they were attached.
    Probe {
        name: "cni",
        gives: "CNI calls are not recognised, and their processes count as the container runtime's",
        need: Need::Optional,
        rungs: &[Rung {
            name: "environment at sched_process_exec",
            programs: &[program("process_exec_cni", Hook::TpBtf("sched_process_exec"))],
            fields: &["OFF_TASK_MM", "OFF_MM_ENV_START", "OFF_MM_ENV_END"],
        }],
    },
    Probe {
        name: "lock_holder",
        gives: "it is not known who held the file locks that others waited for",
        need: Need::Optional,
        rungs: &[Rung {
            name: "flock_lock_inode and posix_lock_inode",
            programs: &[
                program("flock_lock_inode", Hook::TpBtf("flock_lock_inode")),
                program("posix_lock_inode", Hook::TpBtf("posix_lock_inode")),
            ],
            fields: &["OFF_LOCK_BLOCKER", "OFF_LOCK_PID"],
        }],
    },
    Probe {
        name: "mutex_owner",
        gives: "it is not known who held RTNL while CNI plugins waited for it",
        need: Need::Optional,
        rungs: &[Rung {
            name: "contention_begin",
            programs: &[program("contention_begin", Hook::TpBtf("contention_begin"))],
            fields: &["OFF_MUTEX_OWNER"],
        }],
    },
    Probe {
        name: "output",
        gives: "results and errors of CNI plugins are not known",
        need: Need::Optional,
        rungs: &[Rung {
            name: "sys_enter_write and _writev",
            programs: &[
                program("write_enter", Hook::Tracepoint("syscalls", "sys_enter_write")),
                program("writev_enter", Hook::Tracepoint("syscalls", "sys_enter_writev")),
            ],
            fields: &[],
        }],
    },
    Probe {
        name: "exec_fail",
        gives: "failed execs (a PATH search) are not counted",
        need: Need::Optional,
        rungs: &[Rung {
            name: "sys_exit_execve and _execveat",
            programs: &[
                program("execve_exit", Hook::Tracepoint("syscalls", "sys_exit_execve")),
                maybe("execveat_exit", Hook::Tracepoint("syscalls", "sys_exit_execveat")),
            ],
            fields: &["OFF_REGS_ARG0", "OFF_REGS_ARG1"],
        }],
    },
    Probe {
        name: "clone_enter",
        gives: "the time inside fork itself is not part of a spawn's cost",
        need: Need::Optional,
        rungs: &[Rung {
            name: "sys_enter_clone, _clone3, _fork and _vfork",
            programs: &[
                program("clone_enter", Hook::Tracepoint("syscalls", "sys_enter_clone")),
                maybe("clone3_enter", Hook::Tracepoint("syscalls", "sys_enter_clone3")),
                maybe("fork_enter", Hook::Tracepoint("syscalls", "sys_enter_fork")),
                maybe("vfork_enter", Hook::Tracepoint("syscalls", "sys_enter_vfork")),
            ],
            fields: &[],
        }],
    },
    Probe {
        name: "spawn",
        gives: "new processes are not seen",
        need: Need::Required,
        rungs: &[Rung {
            name: "sched_process_fork",
            programs: &[program("process_fork", Hook::TpBtf("sched_process_fork"))],
            fields: &[
                "OFF_TASK_PID",
                "OFF_TASK_TGID",
                "OFF_TASK_MM",
                "OFF_TASK_SIGNAL",
                "OFF_TASK_START_BOOTTIME",
                "OFF_TASK_GROUP_LEADER",
            ],
        }],
    },
    Probe {
        name: "netlink_send",
        gives: "netlink messages are not counted",
        need: Need::Optional,
        rungs: &[
            Rung {
                name: "fentry and fexit of netlink_sendmsg",
                programs: &[
                    program("netlink_send_fentry", Hook::Fentry("netlink_sendmsg")),
                    program("netlink_send_fexit", Hook::Fexit("netlink_sendmsg")),
                ],
                fields: &["OFF_SK_PROTOCOL", "OFF_SOCKET_SK"],
            },
            Rung {
                name: "kprobe and kretprobe of netlink_sendmsg",
                programs: &[
                    program("netlink_send_kprobe", Hook::Kprobe("netlink_sendmsg")),
                    program("netlink_send_kretprobe", Hook::Kretprobe("netlink_sendmsg")),
                ],
                fields: &["OFF_SK_PROTOCOL", "OFF_SOCKET_SK", "OFF_REGS_CALL_ARG0", "OFF_REGS_CALL_RESULT"],
            },
            Rung {
                name: "sock_send_length with sys_enter_sendmsg and _sendto",
                programs: &[
                    program("netlink_sendmsg_enter", Hook::Tracepoint("syscalls", "sys_enter_sendmsg")),
                    program("netlink_sendto_enter", Hook::Tracepoint("syscalls", "sys_enter_sendto")),
                    program("netlink_send_length", Hook::TpBtf("sock_send_length")),
                ],
                fields: &["OFF_SK_PROTOCOL", "OFF_SK_FAMILY"],
            },
        ],
    },
    Probe {
        name: "netlink_error",
        gives: "requests that the kernel refused over netlink are not counted",
        need: Need::Optional,
        rungs: &[Rung {
            name: "sock_recv_length",
            programs: &[program("netlink_recv_length", Hook::TpBtf("sock_recv_length"))],
            fields: &["OFF_SK_PROTOCOL", "OFF_SK_FAMILY", "OFF_REGS_SYSCALL", "OFF_REGS_ARG1"],
        }],
    },
    Probe {
        name: "sample",
        gives: "there are no CPU profiles",
        need: Need::Optional,
        rungs: &[Rung {
            name: "perf event cpu-clock",
            programs: &[program("cpu_sample", Hook::CpuClock)],
            fields: &["OFF_TASK_PID"],
        }],
    },
    Probe {
        name: "cgroup",
        gives: "cgroups made after the start are seen only by a slower scan",
        need: Need::Optional,
        rungs: &[Rung {
            name: "cgroup_mkdir, cgroup_rmdir and cgroup_attach_task",
            programs: &[
                program("cgroup_made", Hook::TpBtf("cgroup_mkdir")),
                program("cgroup_gone", Hook::TpBtf("cgroup_rmdir")),
                program("cgroup_moved", Hook::TpBtf("cgroup_attach_task")),
            ],
            fields: &["OFF_CGROUP_KN", "OFF_KN_ID", "OFF_CGROUP_ROOT", "OFF_CGROUP_ROOT_HIERARCHY"],
        }],
    },
];

/// What is hooked only while a client asks who woke whom. Ends of interrupts before their beginnings.
pub const WAKES: Rung = Rung {
    name: "sched_waking and interrupts",
    programs: &[
        maybe("timer_ends", Hook::TpBtf("local_timer_exit")),
        program("device_ends", Hook::TpBtf("irq_handler_exit")),
        program("softirq_ends", Hook::TpBtf("softirq_exit")),
        maybe("timer_begins", Hook::TpBtf("local_timer_entry")),
        program("device_begins", Hook::TpBtf("irq_handler_entry")),
        program("softirq_begins", Hook::TpBtf("softirq_entry")),
        program("sched_waking", Hook::TpBtf("sched_waking")),
    ],
    fields: &["OFF_TASK_PID", "OFF_TASK_TGID"],
};
