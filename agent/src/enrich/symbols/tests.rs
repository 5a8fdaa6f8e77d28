use super::*;

fn place(id: u32, names: &[&str]) -> fact::Place {
    let functions =
        names.iter().map(|name| fact::Function { name: (*name).into(), file: "a.go".into(), line: id });
    fact::Place { id, module: 1, offset: 0x100 + u64::from(id), functions: functions.collect() }
}

fn stack(stack: u64, places: &[u32]) -> fact::StackPlaces {
    fact::StackPlaces { stack, mapped_ns: 50, places: places.into(), process_gone: false }
}

fn told() -> fact::Symbols {
    fact::Symbols {
        modules: vec![fact::Module { id: 1, path: "/opt/cni/bin/kube-router".into(), build_id: "ab".into() }],
        places: vec![place(1, &["inner", "outer"]), place(2, &[]), place(3, &["main"])],
        stacks: vec![stack(77, &[1, 2, 3])],
        dropped: 2,
    }
}

fn names(symbols: &Symbols, stack: u64) -> Vec<String> {
    symbols.frames_of(stack).into_iter().flatten().map(|frame| frame.name.to_string()).collect()
}

#[test]
fn frames_come_innermost_first_and_unknown_ones_say_where_they_are() {
    let mut symbols = Symbols::default();
    symbols.take(&told(), |_, _| false);
    assert_eq!(names(&symbols, 77), ["inner", "outer", "kube-router+0x102", "main"]);
    let frames: Vec<_> = symbols.frames_of(77).unwrap().collect();
    assert_eq!(frames.iter().map(|f| f.inlined).collect::<Vec<_>>(), [true, false, false, false]);
    assert_eq!((&*frames[3].file, frames[3].line, &*frames[3].module.build_id), ("a.go", 3, "ab"));
    assert_eq!(symbols.unknown_of(77), (1, 4));
    assert_eq!(symbols.loss.dropped, 2);
    assert!(symbols.frames_of(78).is_none());
}

#[test]
fn where_a_walk_went_astray_its_stack_ends() {
    let mut symbols = Symbols::default();
    let odd = |id, path: &str| fact::Module { id, path: path.into(), build_id: String::new() };
    let at = |id, module| fact::Place { module, ..place(id, &[]) };
    let told = told();
    let fact = fact::Symbols {
        modules: [told.modules, vec![odd(2, "[heap]"), odd(3, "[unmapped]")]].concat(),
        places: [told.places, vec![at(4, 2), at(5, 3)]].concat(),
        stacks: vec![
            stack(1, &[3, 4, 3]),
            stack(2, &[3, 5, 3, 5, 5]),
            stack(3, &[4, 3]),
            stack(4, &[5]),
            stack(5, &[3, 5, 4, 3]),
        ],
        ..told
    };
    symbols.take(&fact, |_, _| false);
    let [heap, unloaded] = ["[heap]+0x104", "[unmapped]+0x105"];
    assert_eq!(names(&symbols, 1), ["main"]);
    assert_eq!(names(&symbols, 2), ["main", unloaded, "main"], "code may have been unloaded");
    assert_eq!(names(&symbols, 3), [heap, "main"], "where it ran is known, and not walked to");
    assert_eq!(names(&symbols, 4), [unloaded]);
    assert_eq!(names(&symbols, 5), ["main"]);
    assert!(!symbols.is_whole(1), "who called it is not known");
}

#[test]
fn stacks_that_are_not_whole_are_counted_once() {
    let mut symbols = Symbols::default();
    let deep = stack(1, &[3; FRAMES]);
    let of_the_kernel = fact::StackPlaces { mapped_ns: 0, ..stack(2, &[3]) };
    let whole = stack(3, &[3, 4]);
    let root = place(4, &["_start"]);
    let told = told();
    let fact = fact::Symbols {
        places: [told.places, vec![root]].concat(),
        stacks: [told.stacks, vec![deep, of_the_kernel, whole]].concat(),
        ..told
    };
    symbols.take(&fact, |_, _| false);
    symbols.take(&fact, |_, _| false);
    assert_eq!(
        (symbols.loss.cut, symbols.loss.no_frame_pointers),
        (1, 1),
        "the deep one, and 77, which ends in main"
    );
}

#[test]
fn another_program_in_the_meantime_makes_an_answer_void() {
    let mut symbols = Symbols::default();
    let exec_ns = 40;
    symbols.take(&told(), |stack, until_ns| stack == 77 && exec_ns <= until_ns);
    assert!(symbols.frames_of(77).is_none());
    assert_eq!(symbols.loss.processes_changed, 1);
}

#[test]
fn what_is_told_again_can_be_read_alone_even_if_it_is_no_longer_referred_to() {
    let mut symbols = Symbols::default();
    symbols.take(&told(), |_, _| false);
    symbols.take(
        &fact::Symbols {
            stacks: vec![fact::StackPlaces { stack: 9, process_gone: true, ..Default::default() }],
            ..Default::default()
        },
        |_, _| false,
    );
    let next = fact::Symbols {
        modules: (2..2 + (MODULES_MAX + SLACK) as u32)
            .map(|id| fact::Module { id, ..Default::default() })
            .collect(),
        ..Default::default()
    };
    symbols.take(&next, |_, _| false);
    let many = fact::Symbols {
        places: (4..4 + (PLACES_MAX + SLACK) as u32)
            .map(|id| fact::Place { module: 4_000, ..place(id, &["x"]) })
            .collect(),
        ..Default::default()
    };
    symbols.take(&many, |_, _| false);
    assert!(!symbols.places.contains_key(&1) && !symbols.modules.contains_key(&1));

    let mut rebuilt = Symbols::default();
    let mut told = Told::default();
    let first = symbols.facts_of(&[77, 9, 1_000], 3, &mut told);
    first.iter().for_each(|fact| rebuilt.take(fact, |_, _| false));
    assert_eq!(names(&rebuilt, 77), names(&symbols, 77));
    assert_eq!((rebuilt.unknown_of(77), rebuilt.loss.dropped), ((1, 4), 3));
    assert!(matches!(rebuilt.stacks.get(&9), Some(Known::ProcessGone)));
    // A second stack through the same places repeats none of them.
    symbols.take(
        &fact::Symbols { stacks: vec![stack(5, &[PLACES_MAX as u32])], ..Default::default() },
        |_, _| false,
    );
    for (ask, new_places) in [(5, 1), (77, 0)] {
        let facts = symbols.facts_of(&[ask], 0, &mut told);
        assert_eq!(facts.iter().map(|fact| fact.places.len()).sum::<usize>(), new_places);
        facts.iter().for_each(|fact| rebuilt.take(fact, |_, _| false));
    }
    assert_eq!((names(&rebuilt, 5), names(&rebuilt, 77)), (vec!["x".to_owned()], names(&symbols, 77)));
}

#[test]
fn damaged_tapes_leave_gaps_and_nothing_worse() {
    let mut symbols = Symbols::default();
    symbols.take(&fact::Symbols { modules: Vec::new(), ..told() }, |_, _| false);
    assert_eq!(symbols.loss.dangling, 4);
    assert!(symbols.frames_of(77).is_none());
    let hostile =
        fact::Symbols { places: vec![place(1, &["\x1b[2J"; 100])], stacks: vec![stack(1, &[1])], ..told() };
    symbols.take(&hostile, |_, _| false);
    assert_eq!(names(&symbols, 1), vec![r"\x1b[2J"; FUNCTIONS_MAX]);
}

#[test]
fn the_oldest_stacks_make_room() {
    let mut symbols = Symbols::default();
    symbols.take(&told(), |_, _| false);
    for id in 1_000..1_000 + STACKS_MAX as u64 {
        let more = fact::Symbols { stacks: vec![stack(id, &[3])], ..Default::default() };
        symbols.take(&more, |_, _| false);
    }
    assert!(symbols.frames_of(77).is_none());
    assert_eq!(symbols.loss.evicted, 1);
    assert_eq!(symbols.sizes()[2], ("symbol_stacks", STACKS_MAX, STACKS_MAX));
}
