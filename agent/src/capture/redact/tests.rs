use super::*;
use slowpod_ebpf::abi::exec::FLAG_SCRIPT;
use slowpod_ebpf::abi::{Header, Task};

/// Command lines with secrets, and harmless ones; how to read them is said at their top.
const SECRETS: &str = include_str!("../../../../tests/data/redact_secrets.tsv");
const HARMLESS: &str = include_str!("../../../../tests/data/redact_harmless.tsv");

fn record(path: &[u8], argv: &[u8], flags: u32) -> Vec<u8> {
    let len_bytes = size_of::<Exec>() + path.len() + argv.len();
    let exec = Exec {
        header: Header { ktime_ns: 7, kind: Kind::Exec as u32, len_bytes: len_bytes as u32 },
        task: Task { start_ns: 1, tgid: 2, tid: 2 },
        cgroup_id: 3,
        old_tid: 2,
        uid: 0,
        mount_ns: 0,
        pid_ns: 0,
        net_ns: 0,
        flags,
        argv_total_bytes: argv.len() as u32,
        path_len: path.len() as u16,
        argv_len: argv.len() as u16,
        comm: *b"comm\0\0\0\0\0\0\0\0\0\0\0\0",
    };
    [exec.as_bytes(), path, argv].concat()
}

fn parts(record: &[u8]) -> (Exec, &[u8], &[u8]) {
    let (exec, rest) = prefix::<Exec>(record).expect("a whole record");
    let (path, argv) = rest.split_at(usize::from(exec.path_len));
    assert_eq!(argv.len(), usize::from(exec.argv_len));
    assert_eq!(record.len(), exec.header.len_bytes as usize);
    (exec, path, argv)
}

/// A row's argv: fields are words, `\n` in them is a newline.
fn argv_of(row: &str) -> Vec<u8> {
    row.split('\t').flat_map(|word| word.replace("\\n", "\n").into_bytes().into_iter().chain([0])).collect()
}

fn program(argv: &[u8]) -> &[u8] {
    argv.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn rows(table: &str) -> impl Iterator<Item = &str> {
    table.lines().filter(|line| !line.is_empty() && !line.starts_with('#'))
}

fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle)
}

#[test]
fn no_canary_survives() {
    let mut checked = 0;
    for row in rows(SECRETS) {
        for open in row.match_indices('<').map(|(at, _)| at) {
            assert!(row[open..].contains('>'), "{row}");
        }
        let row = &row.replace('^', "");
        let argv = argv_of(&row.replace(['<', '>'], ""));
        let mut bytes = record(program(&argv), &argv, 0);
        assert_eq!(redact_exec_record(&mut bytes, ArgvMode::Redacted), Ok(true), "{row}");
        let (exec, path, kept) = parts(&bytes);
        let shown = String::from_utf8_lossy(kept).replace('\0', " ");
        for secret in row.split('<').skip(1).filter_map(|rest| rest.split('>').next()) {
            assert!(!contains(kept, secret.replace("\\n", "\n").as_bytes()), "{row} kept {shown}");
            checked += 1;
        }
        assert!(contains(kept, MASK));
        assert!(exec.flags & FLAG_REDACTED != 0 && exec.argv_total_bytes as usize == argv.len());
        assert_eq!(path, program(&argv));
        assert_eq!(redact_exec_record(&mut bytes, ArgvMode::Redacted), Ok(false), "twice: {row}");
    }
    assert!(checked >= 100, "{checked} canaries");
}

#[test]
fn harmless_command_lines_stay_as_they_are() {
    let mut checked = 0;
    for row in rows(HARMLESS) {
        let argv = argv_of(row);
        let whole = record(program(&argv), &argv, 0);
        let mut bytes = whole.clone();
        assert_eq!(
            redact_exec_record(&mut bytes, ArgvMode::Redacted),
            Ok(false),
            "{row} became {}",
            String::from_utf8_lossy(parts(&bytes).2).replace('\0', " ")
        );
        assert_eq!(bytes, whole);
        checked += 1;
    }
    assert!(checked >= 50, "{checked} rows");
}

#[test]
fn class_mode_keeps_the_class_and_nothing_else() {
    for (path, argv, flags, expected) in [
        ("/usr/sbin/ipset", "ipset\0add\0KUBE\x0010.0.0.1\0", 0, "ipset\0add\0"),
        ("/usr/bin/timeout", "timeout\x005\0mysql\0-phunter2\0", 0, "timeout\0mysql\0"),
        ("/opt/sync.sh", "/bin/sh\0/opt/sync.sh\0hunter2\0", FLAG_SCRIPT, "sync.sh\0"),
        ("/bin/sh", "sh\0-c\0echo hunter2\0", 0, "sh\0-c\0"),
    ] {
        let mut bytes = record(path.as_bytes(), argv.as_bytes(), flags);
        let before = CommandLine { path: path.as_bytes(), argv: argv.as_bytes(), comm: b"", flags };
        let words = class_words(&before);
        assert_eq!(redact_exec_record(&mut bytes, ArgvMode::Class), Ok(true));
        let (exec, path, kept) = parts(&bytes);
        assert_eq!(kept, expected.as_bytes());
        assert_eq!(exec.flags, flags | FLAG_REDACTED | FLAG_CLASS_ONLY);
        assert_eq!(exec.argv_total_bytes as usize, argv.len());
        assert_eq!(class_words(&CommandLine { path, argv: kept, comm: b"", flags: exec.flags }), words);
        assert_eq!(redact_exec_record(&mut bytes, ArgvMode::Class), Ok(false), "twice");
    }
}

#[test]
fn full_mode_keeps_everything() {
    let whole = record(b"/usr/bin/mysql", b"mysql\0-phunter2\0", 0);
    let mut bytes = whole.clone();
    assert_eq!(redact_exec_record(&mut bytes, ArgvMode::Full), Ok(false));
    assert_eq!(bytes, whole);
    assert_eq!(ArgvMode::default(), ArgvMode::Redacted);
}

#[test]
fn masks_longer_than_their_secrets_do_not_break_the_limit() {
    let argv: Vec<u8> = b"x\0".iter().copied().chain(b"--pw=a\0".repeat(72)).collect();
    assert!(argv.len() <= ARGV_BYTES);
    let mut bytes = record(b"/x", &argv, 0);
    assert_eq!(redact_exec_record(&mut bytes, ArgvMode::Redacted), Ok(true));
    let (exec, _, kept) = parts(&bytes);
    assert_eq!(kept.len(), ARGV_BYTES);
    assert!(exec.flags & FLAG_ARGV_CUT != 0);
}

#[test]
fn the_cut_end_of_a_token_is_taken_too() {
    let argv = b"tool\0--config\0aGVsbG8gd29ybGQ0";
    let mut bytes = record(b"/x", argv, FLAG_ARGV_CUT);
    assert_eq!(redact_exec_record(&mut bytes, ArgvMode::Redacted), Ok(true));
    assert_eq!(parts(&bytes).2, b"tool\0--config\0***");
    let mut whole = record(b"/x", argv, 0);
    assert_eq!(redact_exec_record(&mut whole, ArgvMode::Redacted), Ok(false));
}

#[test]
fn garbled_records_are_told_and_other_kinds_left_alone() {
    let whole = record(b"/usr/bin/mysql", b"mysql\0-phunter2\0", 0);
    for mode in [ArgvMode::Class, ArgvMode::Redacted, ArgvMode::Full] {
        for length in 0..whole.len() {
            let mut cut = whole[..length].to_vec();
            assert_eq!(redact_exec_record(&mut cut, mode), Err(Garbled), "{length} bytes");
        }
        let mut longer = [whole.as_slice(), b"hunter2"].concat();
        assert_eq!(redact_exec_record(&mut longer, mode), Err(Garbled));
        let mut other = whole.clone();
        other[8..12].copy_from_slice(&(Kind::Exit as u32).to_ne_bytes());
        let before = other.clone();
        assert_eq!(redact_exec_record(&mut other, mode), Ok(false));
        assert_eq!(other, before);
    }
}

/// Words of both tables, and stray bytes, put together at random.
#[test]
fn any_argv_gives_a_sound_record() {
    let seeds: Vec<&[u8]> = [SECRETS, HARMLESS]
        .iter()
        .flat_map(|table| table.as_bytes().split(|byte| b"\t\n <>=:".contains(byte)))
        .collect();
    let mut state = 3_u64;
    let mut next = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for _ in 0..50_000 {
        let mut argv = Vec::new();
        for _ in 0..next(9) {
            argv.extend_from_slice(seeds[next(seeds.len())]);
            let stray = [b'\0', b' ', b'=', b':', b'"', b'\'', b'\\', b'@', next(256) as u8];
            argv.extend((0..next(3)).map(|_| stray[next(stray.len())]));
        }
        argv.truncate(ARGV_BYTES);
        for mode in [ArgvMode::Redacted, ArgvMode::Class] {
            let mut bytes = record(b"/bin/sh", &argv, next(16) as u32);
            redact_exec_record(&mut bytes, mode).expect("its lengths add up");
            let (_, path, kept) = parts(&bytes);
            assert_eq!(path, b"/bin/sh");
            assert!(kept.len() <= ARGV_BYTES);
        }
    }
}
