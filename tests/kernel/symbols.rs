//! Names of functions: Go programs against Go's own tools, and a stripped daemon's storm under its own names.

use crate::exact::{class, path};
use harness::agent;
use harness::agent::monotonic_ns;
use harness::serviceproxy::{ServiceProxy, build_as, build_stripped};
use harness::tools::Tool;
use harness::truth::Truth;
use slowpod::capture::symbols::bytes::Part;
use slowpod::capture::symbols::dwarf::Debug;
use slowpod::capture::symbols::elf::Elf;
use slowpod::capture::symbols::lately::{Origin, Program};
use slowpod::capture::symbols::open::host_mount_ns;
use slowpod::capture::symbols::pclntab::{GoFrame, find::GoTables};
use slowpod::capture::symbols::resolver::{Resolver, World};
use slowpod::decode::Stack;
use slowpod_ebpf::abi::{self, Header, Kind, Task};
use std::io::Write;
use std::ops::Range;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Addresses looked up in each program.
const ADDRESSES: u64 = 3_000;

/// What our reader finds in a program's Go tables at each address.
fn ours(program: &Path, addresses: &[u64]) -> Vec<Vec<GoFrame>> {
    let file = std::fs::read(program).expect("the program was built");
    let elf = Elf::read(&file).expect("an ELF file");
    let go = GoTables::read(&elf, &file).expect("whole tables").expect("a Go program");
    let table = Part::new(&file, go.file.clone());
    let find = |address: &u64| go.pclntab.find(&table, &elf.memory(&file), *address).expect("a whole table");
    addresses.iter().map(|address| find(address).unwrap_or_default()).collect()
}

/// Addresses spread over a program's text, at no regular distance.
fn spread(program: &Path) -> Vec<u64> {
    let file = std::fs::read(program).expect("the program was built");
    let elf = Elf::read(&file).expect("an ELF file");
    let text = elf.section(".text").expect("code");
    let Range { start, end } = text.file.clone();
    let mut dice = 7_u64;
    let mut next = || {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        text.vaddr + (dice >> 20) % (end - start)
    };
    (0..ADDRESSES).map(|_| next()).collect()
}

/// What `go tool addr2line` says of each address: the function, and file and line of the innermost place.
fn addr2line(program: &Path, addresses: &[u64]) -> Vec<(String, String)> {
    let mut command = Command::new(Tool::Go.require());
    command.args(["tool", "addr2line"]).arg(program).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("Go's addr2line runs");
    let asked: String = addresses.iter().map(|address| format!("{address:#x}\n")).collect();
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let asking = std::thread::spawn(move || stdin.write_all(asked.as_bytes()));
    let output = child.wait_with_output().expect("it ends");
    asking.join().expect("no panic").expect("it reads all");
    let text = String::from_utf8(output.stdout).expect("names are UTF-8");
    let lines: Vec<&str> = text.lines().collect();
    lines.chunks(2).map(|pair| (pair[0].to_owned(), pair[1].to_owned())).collect()
}

/// A function's name without what the symbol table adds to it, and without type arguments, which the line table
/// writes as `[...]`.
fn plain(name: &str) -> String {
    let name = name.strip_suffix(".abi0").unwrap_or(name);
    match (name.find('['), name.rfind(']')) {
        (Some(open), Some(close)) if open < close => format!("{}[...]{}", &name[..open], &name[close + 1..]),
        _ => name.to_owned(),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// At fixed addresses only: Go's tool finds nothing in position-independent programs, which the next test compares.
#[test]
fn go_programs_are_read_as_gos_own_tool_reads_them() {
    let whole = build_as("symbols-exe", &["-buildmode=exe"]);
    let stripped = build_as("symbols-exe-stripped", &["-buildmode=exe", "-ldflags=-s -w"]);
    let addresses = spread(&whole);
    let witness = addr2line(&whole, &addresses);
    let (mut compared, mut same) = (0, 0);
    for (found, (function, place)) in ours(&stripped, &addresses).iter().zip(&witness) {
        // Between functions the witness has a name but no line.
        if place.ends_with(":0") || place.ends_with(":-1") {
            continue;
        }
        let (first, last) = (found.first().expect(function), found.last().expect(function));
        compared += 1;
        let line = format!("{}:{}", text(&first.file), first.line);
        same += u64::from(plain(&text(&last.name)) == plain(function) && line == *place);
    }
    assert!(compared > ADDRESSES * 9 / 10 && same >= compared * 995 / 1_000, "{same} of {compared}");
}

/// Inlined calls, which Go's own tool does not tell: against the debug information of the program before it was
/// stripped, which the compiler writes from another source.
#[test]
fn inlined_calls_of_stripped_programs_are_those_of_the_debug_information() {
    for name in ["exe", "pie"] {
        let mode = format!("-buildmode={name}");
        let whole = build_as(&format!("symbols-{name}"), &[&mode]);
        let stripped = build_as(&format!("symbols-{name}-stripped"), &[&mode, "-ldflags=-s -w"]);
        let file = std::fs::read(&whole).expect("the program was built");
        let debug = Debug::read(&Elf::read(&file).expect("an ELF file"), &file).expect("whole sections");
        let debug = debug.expect("debug information");
        let addresses = spread(&whole);
        let (mut compared, mut inlined, mut same) = (0, 0, 0);
        for (found, address) in ours(&stripped, &addresses).iter().zip(&addresses) {
            let witness = debug.find(*address);
            if witness.first().is_none_or(|frame| frame.line == 0) {
                continue;
            }
            compared += 1;
            inlined += u64::from(witness.len() > 1);
            let names = |frame: &[u8], line: u32| (plain(&text(frame)), line);
            let found = found.iter().map(|frame| names(&frame.name, frame.line));
            same += u64::from(found.eq(witness.iter().map(|frame| names(&frame.name, frame.line))));
        }
        assert!(compared > ADDRESSES * 9 / 10 && inlined > ADDRESSES / 10, "{name}: {inlined} of {compared}");
        assert!(same >= compared * 99 / 100, "{name}: {same} of {compared}");
    }
}

/// A large stripped program (Debian's prometheus, 48 MB), met for the first time: its tables are not read whole.
#[test]
fn a_large_program_is_named_at_once_and_costs_little_memory() {
    let program = Tool::Prometheus.require().canonicalize().expect("it is there");
    let frames: Vec<u64> = spread(&program).into_iter().take(64).collect();
    // A pid that nobody has: all is read from the file.
    let task = Task { tgid: (1 << 22) - 1, tid: 1, start_ns: 0 };
    let header = Header { ktime_ns: 1, kind: Kind::Stack as u32, len_bytes: 0 };
    let fixed = abi::stack::Stack { header, task, id: 1, depth: 64, user: 1 };
    let path = program.as_os_str().as_encoded_bytes().to_vec();
    let mount_ns = host_mount_ns().expect("root may know");
    let program = Arc::new(Program { path, mount_ns, executed_ns: monotonic_ns() });
    let origin = Origin { program: Some(program), parent: None, since_ns: 0 };
    let mut resolver = Resolver::new(World { proc: "/proc".into(), clk_tck: 100 });
    let begun = Instant::now();
    resolver.resolve(&Stack { fixed, frames }, &origin);
    let took = begun.elapsed();
    let counts = resolver.counts();
    assert_eq!((counts.frames, counts.processes_gone, counts.files_flawed), (64, 0, 0));
    assert!(counts.unknown_frames <= 2, "{counts:?}");
    assert!(took < Duration::from_secs(1), "{took:?}, without optimisation");
    assert!(counts.held_bytes < 2 << 20, "{counts:?}");
}

/// The main job's evidence: which function of a stripped daemon spawned the storm, told after the daemon is gone.
#[test]
fn a_stripped_daemons_storm_names_the_functions_that_spawned_it() {
    let agent = agent!();
    let flags = ["-services", "50", "-resyncs", "0", "-idle-between", "60s"];
    let mut proxy = ServiceProxy::start_program(build_stripped(), &flags);
    let pid = proxy.pid();
    proxy.go();
    let resync = proxy.await_event("resync");
    // Names come a moment after the stacks, while the daemon is there; the answer is one of when it is not.
    let has_names = |answer: &Truth| {
        let stacks = answer
            .list("/daemons")
            .into_iter()
            .flat_map(|daemon| class(&daemon, "ip route replace").list("/stacks"));
        stacks.into_iter().all(|stack| stack.at("/frames").is_array())
    };
    agent.view_when(&path("storms", &format!("pid={pid}")), |answer| {
        answer.number("/window/until_ktime_ns") > resync.number("/end_ns") && has_names(answer)
    });
    proxy.stop();
    let daemon = crate::exact::daemon(&agent, pid.into(), monotonic_ns());
    for (name, function) in [("ipset add", "runIPSetAdd"), ("ip route replace", "runIPRouteReplace")] {
        let stacks = class(&daemon, name).list("/stacks");
        let frames: Vec<Truth> = stacks.iter().flat_map(|stack| stack.list("/frames")).collect();
        let own = frames.iter().find(|frame| frame.text("/function").contains(function));
        let own = own.unwrap_or_else(|| panic!("no {function} in {stacks:?}"));
        assert!(own.text("/function").starts_with("main.(*proxy)."), "{own}");
        assert!(own.text("/file").ends_with("/proxy.go") && own.number("/line") > 0, "{own}");
        // The whole way down: from the standard library's clone call to the program's main function.
        let deepest = stacks[0].list("/frames");
        let names: Vec<&str> = deepest.iter().map(|frame| frame.text("/function")).collect();
        assert!(names.iter().any(|name| name.starts_with("syscall.")), "{names:?}");
        assert!(names.contains(&"os/exec.(*Cmd).Start"), "{names:?}");
    }
}
