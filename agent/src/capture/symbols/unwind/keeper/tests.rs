use super::*;
use crate::capture::facts::node::clk_tck;
use slowpod_ebpf::abi::unwind::Node;
use slowpod_ebpf::rules::unwind::{find, mapping};
use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

/// A kernel that keeps what it is given.
#[derive(Debug, Default)]
struct Given {
    tables: BTreeMap<u32, Vec<Node>>,
    images: BTreeMap<u32, Image>,
    registered: BTreeMap<u32, Registered>,
    /// The process executes something as soon as it is announced.
    forgets: bool,
    /// It has no memory left.
    refuses: bool,
}

#[derive(Clone, Default)]
struct Fake(Arc<Mutex<Given>>);

impl Fake {
    fn given(&self) -> std::sync::MutexGuard<'_, Given> {
        self.0.lock().unwrap()
    }
}

impl Kernel for Fake {
    fn set_table(&mut self, number: u32, nodes: &[Node]) -> Result<(), String> {
        if self.given().refuses {
            return Err("no memory".into());
        }
        self.given().tables.insert(number, nodes.to_vec());
        Ok(())
    }

    fn clear_table(&mut self, number: u32) -> Result<(), String> {
        self.given().tables.remove(&number).map(drop).ok_or("no such table".into())
    }

    fn set_image(&mut self, number: u32, image: &Image) -> Result<(), String> {
        self.given().images.insert(number, *image);
        Ok(())
    }

    fn clear_image(&mut self, number: u32) -> Result<(), String> {
        self.given().images.remove(&number);
        Ok(())
    }

    fn register(&mut self, tgid: u32, what: Registered) -> Result<(), String> {
        assert_eq!(what.ready, 0, "announced first");
        let mut given = self.given();
        if !given.forgets {
            given.registered.insert(tgid, what);
        }
        Ok(())
    }

    fn update(&mut self, tgid: u32, what: Registered) -> Result<bool, String> {
        assert!(self.given().images.contains_key(&what.image), "its image is there before it is used");
        Ok(self.given().registered.get_mut(&tgid).map(|known| *known = what).is_some())
    }

    fn registered(&self, tgid: u32) -> Option<Registered> {
        self.given().registered.get(&tgid).copied()
    }

    fn forget(&mut self, tgid: u32) {
        self.given().registered.remove(&tgid);
    }
}

fn keeper() -> (Keeper, Fake) {
    let kernel = Fake::default();
    let world = World { proc: "/proc".into(), clk_tck: clk_tck() };
    (Keeper::new(world, Box::new(kernel.clone())), kernel)
}

/// The machine's shell, which waits for its input.
fn shell() -> (Child, Task) {
    let mut command = Command::new("/bin/sh");
    let child = command.args(["-c", "echo; read line"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = child.spawn().unwrap();
    let mut line = [0];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut line).unwrap();
    let task = Task { tgid: child.id(), tid: child.id(), start_ns: 0 };
    (child, task)
}

fn end(mut child: Child) {
    drop(child.stdin.take());
    child.wait().unwrap();
}

#[test]
fn a_process_gets_its_mappings_and_a_table_for_each_binary() {
    let (mut keeper, kernel) = keeper();
    let (child, task) = shell();
    keeper.want(&task);
    let registered = kernel.registered(task.tgid).unwrap();
    assert_eq!((registered.ready, registered.start_ns), (1, 0));
    let image = kernel.given().images[&registered.image];
    let maps = Maps::parse(&std::fs::read(format!("/proc/{}/maps", task.tgid)).unwrap());
    let mut with_tables = 0;
    for seen in maps.iter().filter(|seen| matches!(seen.kind, MappingKind::File { .. } | MappingKind::Vdso)) {
        let (first, last) = (seen.range.start, seen.range.end - 1);
        let mapped = mapping(&image, first).expect("each mapping of code is there");
        assert_eq!(Some(mapped), mapping(&image, last));
        // The shell's entry is nobody's callee, and so on: whatever the rule is, there is one for each address.
        let table = &kernel.given().tables[&mapped.table];
        let find =
            |pc: u64| find(mapped.index_nodes, pc.wrapping_sub(mapped.bias), |n| table.get(n as usize));
        assert!(find(first).is_some() && find(last).is_some(), "{seen:?}");
        with_tables += 1;
    }
    assert!(with_tables >= 4, "shell, C library, loader, vdso: {maps:?}");
    assert_eq!(keeper.counts.made, kernel.given().tables.len() as u64);
    assert_eq!((keeper.counts.processes, keeper.counts.refused, keeper.counts.faults), (1, 0, 0));
    assert!(keeper.counts.kernel_bytes < 2 << 20, "{:?}", keeper.counts);

    // A second process of the same binaries has an image of its own, and the same tables.
    let (second, other) = shell();
    let made = keeper.counts.made;
    keeper.want(&other);
    assert_eq!((keeper.counts.made, keeper.counts.processes), (made, 2));
    end(child);
    keeper.sweep();
    assert_eq!((kernel.registered(task.tgid), keeper.counts.processes), (None, 1), "one is gone");
    assert_eq!(kernel.given().images.len(), 1);
    assert_eq!(kernel.given().tables.len() as u64, made, "tables stay for the next one");
    end(second);
}

#[test]
fn a_process_that_executes_something_meanwhile_gets_nothing() {
    let (mut keeper, kernel) = keeper();
    let (child, task) = shell();
    kernel.given().forgets = true;
    keeper.want(&task);
    assert_eq!((kernel.registered(task.tgid), keeper.counts.processes), (None, 0));
    assert!(kernel.given().images.is_empty());
    // The kernel forgets one that executes something later; it is given nothing until its stacks break off again.
    kernel.given().forgets = false;
    keeper.want(&task);
    assert_eq!(keeper.counts.processes, 1);
    kernel.given().registered.clear();
    keeper.sweep();
    assert_eq!((keeper.counts.processes, kernel.given().images.len()), (0, 0));
    keeper.want(&task);
    assert_eq!(keeper.counts.processes, 1);
    end(child);
}

#[test]
fn what_is_the_same_is_not_given_again_and_what_was_asked_a_moment_ago_waits() {
    let (mut keeper, kernel) = keeper();
    let (child, task) = shell();
    keeper.want(&task);
    let first = kernel.registered(task.tgid);
    kernel.given().registered.clear();
    keeper.want(&task);
    assert_eq!(kernel.registered(task.tgid), None, "asked again at once");
    let known = keeper.processes.get_mut(&key(&task)).unwrap();
    (known.again_ns, known.wait_ns) = (0, AGAIN_NS_MAX);
    keeper.want(&task);
    assert_eq!(kernel.registered(task.tgid), first);
    assert_eq!(keeper.processes[&key(&task)].wait_ns, AGAIN_NS_MAX);
    keeper.processes.get_mut(&key(&task)).unwrap().code ^= 1;
    kernel.given().images.clear();
    keeper.sweep();
    assert_eq!(kernel.given().images.len(), 1, "other code was mapped");
    end(child);
}

#[test]
fn tables_that_nobody_uses_make_room_and_what_finds_none_is_counted() {
    let (mut keeper, kernel) = keeper();
    let (child, task) = shell();
    keeper.want(&task);
    let tables = kernel.given().tables.len();
    keeper.free_tables.truncate(0);
    assert!(!keeper.make_room(0), "all are in use");
    end(child);
    keeper.sweep();
    let least = *keeper.tables.iter().min_by_key(|(_, held)| held.used).unwrap().0;
    assert!(keeper.make_room(0) && !keeper.tables.contains_key(&least));
    assert_eq!(kernel.given().tables.len(), tables - 1);
    assert!(!keeper.make_room(TABLES_BYTES_MAX + 1));
    assert!(kernel.given().tables.is_empty() && keeper.free_tables.len() == tables);

    let (child, task) = shell();
    keeper.free_tables.clear();
    keeper.want(&task);
    assert!(keeper.counts.refused >= 4, "{:?}", keeper.counts);
    let registered = kernel.registered(task.tgid).unwrap();
    let image = kernel.given().images[&registered.image];
    let maps = Maps::parse(&std::fs::read(format!("/proc/{}/maps", task.tgid)).unwrap());
    let file = maps.iter().find(|seen| matches!(seen.kind, MappingKind::File { .. })).unwrap();
    assert_eq!(mapping(&image, file.range.start), None, "a walk ends there");
    keeper.free_images.clear();
    let (second, other) = shell();
    let refused = keeper.counts.refused;
    keeper.want(&other);
    assert_eq!((keeper.counts.refused, kernel.registered(other.tgid)), (refused + 1, None));
    end(child);
    end(second);
}

#[test]
fn a_kernel_that_refuses_is_counted() {
    let (mut keeper, kernel) = keeper();
    let (child, task) = shell();
    kernel.given().refuses = true;
    keeper.want(&task);
    assert!(keeper.counts.faults >= 4 && keeper.tables.is_empty(), "{:?}", keeper.counts);
    assert_eq!(keeper.free_tables.len(), TABLES_MAX as usize, "no number is lost");
    // Pids of the past, and of the kernel's own threads.
    for tgid in [(1 << 22) - 1, 2] {
        keeper.want(&Task { tgid, tid: tgid, start_ns: 0 });
        assert_eq!(kernel.registered(tgid), None);
    }
    end(child);
}
