use super::*;
use slowpod_ebpf::abi::exec::ARGV_BYTES;

/// Rows of class, path and argv words, separated by tabs; how to read one is said at its top.
const TABLE: &str = include_str!("../../../../tests/data/argv_class.tsv");

fn command<'a>(path: &'a [u8], argv: &'a [u8], flags: u32) -> CommandLine<'a> {
    CommandLine { path, argv, comm: b"comm\0\0\0\0\0\0\0\0\0\0\0\0", flags }
}

fn argv(words: &[&str]) -> Vec<u8> {
    words.iter().flat_map(|word| word.bytes().chain([0])).collect()
}

#[test]
fn the_table_of_command_lines() {
    let mut rows = 0;
    for line in TABLE.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let fields: Vec<&str> = line.split('\t').collect();
        let [class, path, words @ ..] = &fields[..] else {
            panic!("a row needs a class and a path: {line:?}")
        };
        let (path, flags) = match path.strip_prefix("#!") {
            Some(script) => (script, FLAG_SCRIPT),
            None => (*path, 0),
        };
        let argv = argv(words);
        let command = command(path.as_bytes(), &argv, flags);
        assert_eq!(argv_class(&command), *class, "{line}");

        let kept = argv_of_words(&class_words(&command));
        let again = CommandLine { argv: &kept, flags: flags | FLAG_CLASS_ONLY, ..command };
        assert_eq!(argv_class(&again), *class, "from its own words: {line}");
        rows += 1;
    }
    assert!(rows >= 150, "{rows} rows");
}

fn argv_of_words(words: &[String]) -> Vec<u8> {
    words.iter().flat_map(|word| word.bytes().chain([0])).collect()
}

#[test]
fn a_cut_argv_gives_no_half_word() {
    let whole = argv(&["ipset", "add"]);
    let cut = &whole[..whole.len() - 2];
    assert_eq!(argv_class(&command(b"/sbin/ipset", cut, FLAG_ARGV_CUT)), "ipset");
    assert_eq!(argv_class(&command(b"/sbin/ipset", &whole, FLAG_ARGV_CUT)), "ipset add");
    assert_eq!(argv_class(&command(b"/sbin/ipset", b"ipset\0add", 0)), "ipset add");
    assert_eq!(argv_class(&command(b"/proc/self/exe", b"longna", FLAG_ARGV_CUT)), "comm");
}

#[test]
fn names_come_from_the_next_best_source() {
    assert_eq!(argv_class(&command(b"/usr/sbin/ipset", b"", 0)), "ipset");
    assert_eq!(argv_class(&command(b"/usr/sbin/ipset", b"ipset\0add\0", FLAG_ARGV_UNREAD)), "ipset");
    assert_eq!(
        argv_class(&command(b"/a/very/long/path/cut/half", b"tool\0sync\0", FLAG_PATH_CUT)),
        "tool sync"
    );
    assert_eq!(argv_class(&command(b"/a/very/long/path/cut/half", b"", FLAG_PATH_CUT)), "comm");
    assert_eq!(argv_class(&command(b"", b"", 0)), "comm");
    assert_eq!(argv_class(&command(b"", b"\0\0\0", 0)), "comm");
    assert_eq!(argv_class(&CommandLine::default()), "?");
    assert_eq!(argv_class(&command(b"/dev/fd/9", b"/bin/sh\0/dev/fd/9\0", FLAG_SCRIPT)), "sh");
}

#[test]
fn hostile_words_are_made_safe_and_long_ones_do_not_fit() {
    assert_eq!(argv_class(&command(b"/bin/\x1b[2J\n\xff", b"x\0", 0)), r"\x1b[2J\n\xff");
    assert_eq!(argv_class(&command(b"/usr/bin/git", b"git\0fe\ntch\0", 0)), "git");
    assert_eq!(argv_class(&command(b"/usr/bin/python3", b"python3\0a\x1bb.py\0", 0)), r"python3 a\x1bb.py");
    let long = [b'n'; 200];
    assert_eq!(argv_class(&command(&long, b"", 0)), format!("{}…", "n".repeat(61)));
    let file = argv(&["python3", &"f".repeat(100)]);
    assert_eq!(argv_class(&command(b"/usr/bin/python3", &file, 0)), "python3");
}

#[test]
fn wrappers_in_wrappers_end() {
    let words = vec!["nohup"; 200];
    let argv = argv(&words);
    assert_eq!(argv_class(&command(b"/usr/bin/nohup", &argv, 0)), "nohup nohup nohup nohup");
}

/// Bytes and words that steer into every layout, put together at random.
#[test]
fn any_command_line_gives_a_short_visible_class() {
    let seeds: Vec<&[u8]> = TABLE.as_bytes().split(|byte| matches!(byte, b'\t' | b'\n')).collect();
    let mut state = 1_u64;
    let mut next = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for _ in 0..100_000 {
        let mut argv = Vec::new();
        for _ in 0..next(7) {
            argv.extend_from_slice(seeds[next(seeds.len())]);
            if next(4) == 0 {
                argv.push(next(256) as u8);
            }
            if next(8) != 0 {
                argv.push(0);
            }
        }
        argv.truncate(ARGV_BYTES);
        let mut path = seeds[next(seeds.len())].to_vec();
        if next(4) == 0 {
            path.push(next(256) as u8);
        }
        let comm: Vec<u8> = (0..16).map(|_| next(256) as u8).collect();
        let command = CommandLine { path: &path, argv: &argv, comm: &comm, flags: next(64) as u32 };
        let class = argv_class(&command);
        assert!((1..=CLASS_BYTES).contains(&class.len()), "{class:?} of {command:?}");
        assert_eq!(text::safe(class.as_bytes(), CLASS_BYTES), class, "{command:?}");
    }
}
