//! Real processes, and a made-up kernel.

use super::*;
use crate::capture::facts::node::clk_tck;
use crate::capture::facts::proc::Directory;
use crate::capture::symbols::elf::Elf;
use crate::capture::symbols::lately::Program;
use crate::capture::symbols::maps::{MAPS_BYTES_MAX, Maps};
use crate::capture::symbols::samples::{DEBUG, INLINED, LOOP, SMALL, STRIPPED};
use crate::decode::fact::symbols::Place;
use crate::enrich::symbols::{Frame, Symbols as Reader};
use object::{Object, ObjectSymbol};
use slowpod_ebpf::abi::{self, Header, Task};
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

fn resolver() -> Resolver {
    Resolver::new(World { proc: "/proc".into(), clk_tck: clk_tck() })
}

fn stack(id: u64, tgid: u32, user: bool, frames: &[u64]) -> Stack {
    let header = Header { ktime_ns: 1, kind: abi::Kind::Stack as u32, len_bytes: 0 };
    let task = Task { tgid, tid: tgid, start_ns: 0 };
    let fixed = abi::stack::Stack { header, task, id, depth: frames.len() as u32, user: u32::from(user) };
    Stack { fixed, frames: frames.to_vec() }
}

/// Resolves one stack; its answer, and the frames that a reader makes of all facts so far.
fn resolve(
    resolver: &mut Resolver,
    reader: &mut Reader,
    stack: &Stack,
) -> (StackPlaces, Vec<Frame>, Vec<Place>) {
    resolve_from(resolver, reader, stack, &Origin::default())
}

/// As [`resolve`], of a process of which more is known.
fn resolve_from(
    resolver: &mut Resolver,
    reader: &mut Reader,
    stack: &Stack,
    origin: &Origin,
) -> (StackPlaces, Vec<Frame>, Vec<Place>) {
    resolver.resolve(stack, origin);
    let facts = resolver.take();
    facts.iter().for_each(|fact| reader.take(fact, |_, _| false));
    let answer = facts.iter().flat_map(|fact| fact.stacks.clone()).next().unwrap();
    let frames = reader.frames_of(stack.fixed.id).map(|frames| frames.cloned().collect());
    (answer, frames.unwrap_or_default(), facts.into_iter().flat_map(|fact| fact.places).collect())
}

fn origin_of(parent: Option<&Child>, program: Option<&Path>) -> Origin {
    let program = program.map(|path| {
        let mount_ns = crate::capture::symbols::open::host_mount_ns().unwrap_or(0);
        let executed_ns = clock::ktime_ns();
        Arc::new(Program { path: path.as_os_str().as_encoded_bytes().to_vec(), mount_ns, executed_ns })
    });
    let task = |child: &Child| Task { tgid: child.id(), tid: child.id(), start_ns: 0 };
    Origin { program, parent: parent.map(task), since_ns: 0 }
}

/// As [`resolve_from`], by a resolver and a reader that know nothing: the frames, and whether there is no answer.
fn resolve_gone(stack: &Stack, origin: &Origin) -> (Vec<Frame>, bool) {
    let (answer, frames, _) = resolve_from(&mut resolver(), &mut Reader::default(), stack, origin);
    (frames, answer.process_gone)
}

fn names(frames: &[Frame]) -> Vec<&str> {
    frames.iter().map(|frame| &*frame.name).collect()
}

#[test]
fn own_functions_have_names_and_are_told_once() {
    let (mut resolver, mut reader) = (resolver(), Reader::default());
    let here = own_functions_have_names_and_are_told_once as *const () as u64;
    let there = resolve as *const () as u64;
    // The second address is one to which a call returns: it may be just behind its function.
    let first = stack(1, std::process::id(), true, &[here, there + 1]);
    let (answer, frames, told) = resolve(&mut resolver, &mut reader, &first);
    assert!(answer.mapped_ns > 0 && !answer.process_gone);
    assert_eq!(told.len(), 2);
    let [own, other] = &frames[..] else { panic!("{frames:?}") };
    assert!(own.name.ends_with("own_functions_have_names_and_are_told_once"), "{own:?}");
    assert!(other.name.ends_with("resolver::tests::resolve"), "{other:?}");
    assert_eq!(&*own.module.path, std::env::current_exe().unwrap().to_str().unwrap());
    assert!(own.known && own.module_offset > 0);

    let second = stack(2, std::process::id(), true, &[there, here + 1]);
    let (_, frames, told) = resolve(&mut resolver, &mut reader, &second);
    assert_eq!((frames.len(), told), (2, vec![]), "both were told before");
    let counts = resolver.counts();
    assert_eq!((counts.stacks, counts.frames, counts.unknown_frames, counts.files_read), (2, 4, 0, 1));
    assert!(counts.held_bytes > 10_000 && counts.busy_ns > 0);
    assert!(resolver.files.is_closed());
}

#[test]
fn addresses_of_nothing_say_so() {
    let (mut resolver, mut reader) = (resolver(), Reader::default());
    let heap = Box::new(0_u8);
    // A place where something ran. As a caller neither is believed.
    for (id, address, name) in [(1, 0x10, "[unmapped]+0x10"), (2, &raw const *heap as u64, "")] {
        let asked = stack(id, std::process::id(), true, &[address, 0x10]);
        let (_, frames, _) = resolve(&mut resolver, &mut reader, &asked);
        let [frame] = &frames[..] else { panic!("{frames:?}") };
        let is_odd = frame.name.starts_with("[heap]+") || frame.name.starts_with("[unmapped]+");
        assert!(is_odd && frame.name.starts_with(name), "{frame:?}");
    }
    assert_eq!(resolver.counts().unknown_frames, 4);
}

#[test]
fn a_process_that_is_gone_is_counted_unless_it_was_known() {
    let (mut resolver, mut reader) = (resolver(), Reader::default());
    let mut child = shell("sleep 60");
    let address = exported(child.id(), Path::new("/bin/bash"), "execute_command");
    let (answer, frames, _) = resolve(&mut resolver, &mut reader, &stack(1, child.id(), true, &[address]));
    assert_eq!((names(&frames), answer.process_gone), (vec!["execute_command"], false));
    child.kill().unwrap();
    child.wait().unwrap();

    let other = exported_offset(Path::new("/bin/bash"), "parse_command");
    let base = address - exported_offset(Path::new("/bin/bash"), "execute_command");
    let (answer, frames, _) =
        resolve(&mut resolver, &mut reader, &stack(2, child.id(), true, &[base + other]));
    assert_eq!((names(&frames), answer.process_gone), (vec!["parse_command"], false), "known before");

    // It has executed another program since it was seen: its mappings are void.
    let later = Origin { since_ns: u64::MAX, ..Origin::default() };
    let asked = stack(4, child.id(), true, &[address]);
    let (answer, ..) = resolve_from(&mut resolver, &mut reader, &asked, &later);
    assert!(answer.process_gone);

    let mut fresh = self::resolver();
    let (answer, frames, _) = resolve(&mut fresh, &mut reader, &stack(3, child.id(), true, &[address]));
    assert_eq!((frames.len(), answer.process_gone, fresh.counts().processes_gone), (0, true, 1));
}

/// A pid that no process has: the largest there can be.
const NOBODY: u32 = (1 << 22) - 1;

#[test]
fn a_child_that_is_gone_was_its_parent_over_again() {
    let mut child = shell("sleep 60");
    let address = exported(child.id(), Path::new("/bin/bash"), "execute_command");
    let asked = stack(1, NOBODY, true, &[address]);
    let (frames, gone) = resolve_gone(&asked, &origin_of(Some(&child), None));
    assert_eq!((names(&frames), gone), (vec!["execute_command"], false));
    // Also when the parent is gone, if it was known.
    let (mut known, mut reader) = (resolver(), Reader::default());
    resolve(&mut known, &mut reader, &stack(2, child.id(), true, &[address]));
    child.kill().unwrap();
    child.wait().unwrap();
    let (answer, frames, _) = resolve_from(&mut known, &mut reader, &asked, &origin_of(Some(&child), None));
    assert_eq!((names(&frames), answer.process_gone), (vec!["execute_command"], false));
    let (_, gone) = resolve_gone(&asked, &origin_of(Some(&child), None));
    assert!(gone);
}

#[test]
fn a_program_at_fixed_addresses_is_read_from_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("small");
    std::fs::write(&path, SMALL).unwrap();
    let asked = stack(1, NOBODY, true, &[INLINED, LOOP + 1]);
    let (frames, gone) = resolve_gone(&asked, &origin_of(None, Some(&path)));
    assert_eq!((names(&frames), gone), (vec!["twice", "nested", "outer", "loop_forever"], false));
    assert_eq!((&*frames[0].file, frames[0].line, frames[0].inlined), ("/src/small.c", 11, true));
    // Its debug information is not held for ever.
    let mut used = resolver();
    resolve_from(&mut used, &mut Reader::default(), &asked, &origin_of(None, Some(&path)));
    let before = used.counts().held_bytes;
    used.rest();
    assert_eq!(used.counts().held_bytes, before, "it was used since");
    used.rest();
    assert!(used.counts().held_bytes + 500 < before, "{before}");
    // A position-independent program could have been anywhere.
    let (_, gone) = resolve_gone(&asked, &origin_of(None, Some(Path::new("/bin/bash"))));
    assert!(gone);
    // In another mount namespace the path may be another file.
    let executed_ns = clock::ktime_ns();
    let elsewhere = Program { path: path.as_os_str().as_encoded_bytes().to_vec(), mount_ns: 1, executed_ns };
    let origin = Origin { program: Some(Arc::new(elsewhere)), parent: None, since_ns: 0 };
    assert!(resolve_gone(&asked, &origin).1);
    // And here it is another since it was executed: even one of the same bytes may be another program.
    let executed = origin_of(None, Some(&path));
    assert!(!resolve_gone(&asked, &executed).1);
    std::thread::sleep(Duration::from_millis(20));
    std::fs::copy(&path, folder.path().join("next")).unwrap();
    std::fs::rename(folder.path().join("next"), &path).unwrap();
    assert!(resolve_gone(&asked, &executed).1);
    assert!(!resolve_gone(&asked, &origin_of(None, Some(&path))).1, "executed since");
}

#[test]
fn names_that_were_stripped_come_from_the_debug_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("small");
    std::fs::write(&path, STRIPPED).unwrap();
    let asked = stack(1, NOBODY, true, &[INLINED, LOOP + 1]);
    let (frames, _) = resolve_gone(&asked, &origin_of(None, Some(&path)));
    assert_eq!(names(&frames), ["small+0x400155", "small+0x400170"]);
    std::fs::create_dir(folder.path().join(".debug")).unwrap();
    std::fs::write(folder.path().join(".debug/small.debug"), DEBUG).unwrap();
    let (frames, _) = resolve_gone(&asked, &origin_of(None, Some(&path)));
    assert_eq!(names(&frames), ["twice", "nested", "outer", "loop_forever"]);
    assert_eq!((&*frames[3].file, frames[3].line), ("/src/small.c", 26));
    // One of another build is not taken for it.
    let mut other = DEBUG.to_vec();
    let id = other.windows(4).position(|bytes| bytes == [0x51, 0x07, 0xf0, 0xd0]).unwrap();
    other[id] = 0;
    std::fs::write(folder.path().join(".debug/small.debug"), other).unwrap();
    let (frames, _) = resolve_gone(&asked, &origin_of(None, Some(&path)));
    assert!(frames.iter().all(|frame| !frame.known), "{frames:?}");
}

#[test]
fn another_program_in_the_same_process_is_another_image() {
    let (mut resolver, mut reader) = (resolver(), Reader::default());
    let mut child = shell("read line; exec sleep 60");
    let address = exported(child.id(), Path::new("/bin/bash"), "execute_command");
    let asked = stack(1, child.id(), true, &[address]);
    let (_, frames, _) = resolve(&mut resolver, &mut reader, &asked);
    assert_eq!(names(&frames), ["execute_command"]);
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    let comm = format!("/proc/{}/comm", child.id());
    while std::fs::read_to_string(&comm).unwrap() != "sleep\n" {
        std::thread::sleep(Duration::from_millis(5));
    }
    let (_, frames, _) = resolve(&mut resolver, &mut reader, &stack(2, child.id(), true, &[address]));
    assert!(!frames[0].known, "{frames:?}");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_removed_program_still_has_names() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("removed\nprogram");
    std::fs::copy("/bin/bash", &path).unwrap();
    let mut child = Command::new(&path).args(["-c", "read line"]).stdin(Stdio::piped()).spawn().unwrap();
    await_mapped(child.id(), &path);
    let address = exported(child.id(), &path, "execute_command");
    std::fs::remove_file(&path).unwrap();
    let (mut resolver, mut reader) = (resolver(), Reader::default());
    let (_, frames, _) = resolve(&mut resolver, &mut reader, &stack(1, child.id(), true, &[address]));
    // SAFETY: it only reads.
    let is_root = unsafe { libc::geteuid() } == 0;
    // Without privilege there is only the path, which is gone.
    assert_eq!(frames[0].known, is_root, "{frames:?}");
    assert!(frames[0].module.path.ends_with(r"removed\012program"), "{frames:?}");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn code_compiled_just_in_time_is_named_by_the_perf_map() {
    // SAFETY: a fresh mapping, of which nothing is executed.
    let code = unsafe {
        let (protection, flags) =
            (libc::PROT_READ | libc::PROT_EXEC, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        libc::mmap(std::ptr::null_mut(), 4_096, protection, flags, -1, 0)
    };
    assert_ne!(code, libc::MAP_FAILED);
    let code = code as u64;
    let path = format!("/tmp/perf-{}.map", std::process::id());
    std::fs::write(&path, format!("{:x} 40 jitted\x1b[2J\n", code + 0x20)).unwrap();
    let (mut resolver, mut reader) = (resolver(), Reader::default());
    let asked = stack(1, std::process::id(), true, &[code + 0x20, code + 8]);
    let (_, frames, _) = resolve(&mut resolver, &mut reader, &asked);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(names(&frames)[0], r"jitted\x1b[2J");
    assert_eq!((&*frames[0].module.path, frames[1].known), ("[jit]", false));
}

#[test]
fn kernel_functions_come_from_the_kernels_table() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("kallsyms"), "ff00 T _text\nff40 t do_wait\nff80 t __x64_sys_wait4\n")
        .unwrap();
    let mut resolver = Resolver::new(World { proc: folder.path().into(), clk_tck: 100 });
    let mut reader = Reader::default();
    let asked = stack(9, 1, false, &[0xff80, 0xff80]);
    let (answer, frames, _) = resolve(&mut resolver, &mut reader, &asked);
    assert_eq!(names(&frames), ["__x64_sys_wait4", "do_wait"], "a call is before the address it returns to");
    assert_eq!((&*frames[0].module.path, frames[0].module_offset, answer.mapped_ns), ("[kernel]", 0x80, 0));

    let hidden = Resolver::new(World { proc: "/nonexistent".into(), clk_tck: 100 });
    let (_, frames, _) = resolve(&mut { hidden }, &mut Reader::default(), &asked);
    assert_eq!(names(&frames), ["[kernel]+0xff80", "[kernel]+0xff7f"]);
}

#[test]
fn after_a_fault_numbers_go_on() {
    let (mut resolver, mut reader) = (resolver(), Reader::default());
    let asked = |id| stack(id, std::process::id(), true, &[resolve as *const () as u64]);
    let (before, ..) = resolve(&mut resolver, &mut reader, &asked(1));
    resolver.restart();
    let (after, frames, _) = resolve(&mut resolver, &mut reader, &asked(2));
    assert!(after.places[0] > before.places[0] && frames[0].known);
    assert_eq!(resolver.counts().stacks, 2);
}

fn shell(script: &str) -> Child {
    // A builtin in front, so that the shell does not simply become its only command.
    let script = format!(":; {script}; :");
    let child = Command::new("/bin/bash").args(["-c", &script]).stdin(Stdio::piped()).spawn().unwrap();
    await_mapped(child.id(), Path::new("/bin/bash"));
    child
}

/// Waits until a child has become the program it is to be.
fn await_mapped(pid: u32, path: &Path) {
    let path = path.canonicalize().unwrap();
    while std::fs::read_link(format!("/proc/{pid}/exe")).ok().as_ref() != Some(&path) {
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Where a process has an exported function of its program.
fn exported(pid: u32, path: &Path, name: &str) -> u64 {
    let offset = exported_offset(path, name);
    let inode = std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(path).unwrap());
    let directory = Directory::open(Path::new(&format!("/proc/{pid}"))).unwrap();
    // The kernel shows the new program's name a moment before it maps it.
    let mapping = (0..1_000).find_map(|_| {
        let maps = Maps::parse(&directory.read_lines(c"maps", MAPS_BYTES_MAX).unwrap());
        let found = maps.iter().find(|mapping| mapping.inode == inode).cloned();
        if found.is_none() {
            std::thread::sleep(Duration::from_millis(2));
        }
        found
    });
    let mapping = mapping.unwrap();
    mapping.range.start - mapping.offset + offset
}

/// Where an exported function stands in a file.
fn exported_offset(path: &Path, name: &str) -> u64 {
    let bytes = std::fs::read(path).unwrap();
    let file = object::File::parse(&*bytes).unwrap();
    let address = file.dynamic_symbols().find(|symbol| symbol.name() == Ok(name)).unwrap().address();
    let elf = Elf::read(&bytes).unwrap();
    let holds = |segment: &&super::super::elf::Segment| {
        address.checked_sub(segment.vaddr).is_some_and(|at| at < segment.file_bytes)
    };
    let segment = elf.segments.iter().find(holds).unwrap();
    address - segment.vaddr + segment.offset
}
