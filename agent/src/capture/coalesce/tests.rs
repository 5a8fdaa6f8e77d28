use super::*;
use slowpod_ebpf::abi::netlink::{NetlinkError, TYPES, TypeCount};
use slowpod_ebpf::abi::reap::Reap;

const MS: u64 = 1_000_000;

fn header(ktime_ns: u64, kind: Kind, len_bytes: usize) -> Header {
    Header { ktime_ns, kind: kind as u32, len_bytes: len_bytes as u32 }
}

fn sent(ktime_ns: u64, tgid: u32, message_type: u16) -> NetlinkSend {
    let mut types = [TypeCount::default(); TYPES];
    types[0] = TypeCount { message_type, command: 0, messages: 2 };
    NetlinkSend {
        header: header(ktime_ns, Kind::NetlinkSend, RECORD_BYTES),
        task: Task { start_ns: 5, tgid, tid: tgid },
        cgroup_id: 9,
        inside_ns: 10,
        bytes: 100,
        sends: 1,
        failed_sends: 0,
        protocol: 0,
        errno: 0,
        flags: 0,
        types,
        other_messages: 0,
        reserved: 0,
        comm: *b"router\0\0\0\0\0\0\0\0\0\0",
    }
}

fn reap(ktime_ns: u64, tgid: u32) -> Vec<u8> {
    let reap = Reap {
        header: header(ktime_ns, Kind::Reap, size_of::<Reap>()),
        parent: Task { start_ns: 5, tgid, tid: tgid + 1 },
        wait_begun_ns: 0,
        cloned_ns: 0,
        own_ns: 0,
        on_cpu_ns: 0,
        runnable_ns: 0,
        blocked_ns: 0,
        child_inner_pid: 1,
        reserved: 0,
    };
    reap.as_bytes().to_vec()
}

fn refused(ktime_ns: u64, tgid: u32) -> Vec<u8> {
    let error = NetlinkError {
        header: header(ktime_ns, Kind::NetlinkError, size_of::<NetlinkError>()),
        task: Task { start_ns: 5, tgid, tid: tgid },
        protocol: 0,
        message_type: 24,
        errno: 17,
        comm: [0; COMM_BYTES],
    };
    error.as_bytes().to_vec()
}

fn fact(ktime_ns: u64) -> Vec<u8> {
    [header(ktime_ns, Kind::Fact, 18).as_bytes(), b"{}"].concat()
}

fn batch(records: &[&[u8]]) -> Vec<u8> {
    records.concat()
}

/// Tgid, sends and messages of a send; `None` for everything else.
type Sums = Option<(u32, u32, u32)>;

/// Every record's time and sums.
fn read(mut batch: &[u8]) -> Vec<(u64, Sums)> {
    let mut records = Vec::new();
    while !batch.is_empty() {
        let header = decode::header(batch).expect("whole records");
        let send = (header.kind == Kind::NetlinkSend as u32)
            .then(|| prefix::<NetlinkSend>(batch).expect("a whole send").0)
            .map(|send| {
                let messages = send.types.iter().map(|count| count.messages).sum::<u32>();
                (send.task.tgid, send.sends, messages + send.other_messages)
            });
        records.push((header.ktime_ns, send));
        batch = &batch[header.len_bytes as usize..];
    }
    records
}

#[test]
fn sends_that_are_alike_become_one_with_their_sums() {
    let mut last = sent(3 * MS, 1, 24);
    last.task.tid = 77;
    let mut bytes = batch(&[sent(MS, 1, 24).as_bytes(), sent(2 * MS, 1, 24).as_bytes(), last.as_bytes()]);
    assert_eq!(coalesce(&mut bytes), 2);
    let (merged, rest) = prefix::<NetlinkSend>(&bytes).expect("a whole send");
    assert!(rest.is_empty());
    let mut expected = NetlinkSend { sends: 3, bytes: 300, inside_ns: 30, ..last };
    expected.types[0].messages = 6;
    assert_eq!(merged, expected);
    assert_eq!(coalesce(&mut bytes), 0);
}

#[test]
fn a_merged_record_stands_where_its_last_send_stood() {
    let mut bytes = batch(&[
        sent(1, 1, 24).as_bytes(),
        &fact(2),
        sent(3, 2, 24).as_bytes(),
        sent(4, 1, 24).as_bytes(),
        &reap(5, 3),
        sent(6, 2, 24).as_bytes(),
        sent(7, 1, 26).as_bytes(),
        b"tail",
    ]);
    assert_eq!(coalesce(&mut bytes), 2);
    assert!(bytes.ends_with(b"tail"));
    bytes.truncate(bytes.len() - 4);
    assert_eq!(
        read(&bytes),
        [(2, None), (4, Some((1, 2, 4))), (5, None), (6, Some((2, 2, 4))), (7, Some((1, 1, 2)))]
    );
}

#[test]
fn alternating_types_merge_each_with_its_own() {
    let mut bytes: Vec<u8> =
        (0..10_u16).flat_map(|at| sent(u64::from(at), 1, 24 + at % 2).as_bytes().to_vec()).collect();
    assert_eq!(coalesce(&mut bytes), 8);
    assert_eq!(read(&bytes), [(8, Some((1, 5, 10))), (9, Some((1, 5, 10)))]);
}

#[test]
fn what_differs_stays_apart() {
    let one = sent(1, 1, 24);
    let changes: [fn(&mut NetlinkSend); 10] = [
        |send| send.task.tgid = 2,
        |send| send.task.start_ns = 6,
        |send| send.cgroup_id = 8,
        |send| send.protocol = 12,
        |send| send.types[0].message_type = 25,
        |send| send.types[0].command = 1,
        |send| send.errno = 17,
        |send| send.flags = 4,
        |send| send.comm[0] = b'R',
        |send| send.header.ktime_ns = 2 + SPAN_NS,
    ];
    for (at, change) in changes.iter().enumerate() {
        let mut two = sent(2, 1, 24);
        change(&mut two);
        let mut bytes = batch(&[one.as_bytes(), two.as_bytes()]);
        let before = bytes.clone();
        assert_eq!(coalesce(&mut bytes), 0, "change {at}");
        assert_eq!(bytes, before);
    }
}

#[test]
fn sends_of_several_types_pass_and_end_the_run() {
    let mut several = sent(2, 1, 24);
    several.types[1] = TypeCount { message_type: 25, command: 0, messages: 1 };
    let mut more = sent(2, 1, 24);
    more.other_messages = 1;
    for middle in [several, more] {
        let mut bytes = batch(&[sent(1, 1, 24).as_bytes(), middle.as_bytes(), sent(3, 1, 24).as_bytes()]);
        assert_eq!(coalesce(&mut bytes), 0);
    }
}

#[test]
fn what_the_process_does_in_between_ends_its_runs() {
    for middle in [reap(2, 1), refused(2, 1)] {
        let mut bytes = batch(&[sent(1, 1, 24).as_bytes(), &middle, sent(3, 1, 24).as_bytes()]);
        assert_eq!(coalesce(&mut bytes), 0);
    }
}

#[test]
fn a_run_ends_after_its_span_and_another_begins() {
    let mut bytes: Vec<u8> = (0..30).flat_map(|at| sent(at * 10 * MS, 1, 24).as_bytes().to_vec()).collect();
    assert_eq!(coalesce(&mut bytes), 27);
    assert_eq!(
        read(&bytes),
        [(100 * MS, Some((1, 11, 22))), (210 * MS, Some((1, 11, 22))), (290 * MS, Some((1, 8, 16)))]
    );
}

#[test]
fn sums_do_not_overflow() {
    let mut full = sent(1, 1, 24);
    full.sends = u32::MAX;
    let mut bytes = batch(&[full.as_bytes(), sent(2, 1, 24).as_bytes(), sent(3, 1, 24).as_bytes()]);
    assert_eq!(coalesce(&mut bytes), 1);
    assert_eq!(read(&bytes), [(1, Some((1, u32::MAX, 2))), (3, Some((1, 2, 4)))]);
}

/// More processes at once than runs are kept: sums and order hold all the same.
#[test]
fn sums_and_order_survive_any_mix() {
    let mut state = 5_u64;
    let mut next = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    for processes in [1, 3, RUNS_MAX as u64 * 2] {
        let (mut bytes, mut now_ns, mut sends, mut others) = (Vec::new(), 0, vec![0; 200], 0);
        for _ in 0..5_000 {
            now_ns += next(MS);
            let tgid = next(processes) as u32;
            match next(20) {
                0 => bytes.extend(reap(now_ns, tgid)),
                1 => bytes.extend(fact(now_ns)),
                _ => {
                    bytes.extend_from_slice(sent(now_ns, tgid, 24 + next(2) as u16).as_bytes());
                    sends[tgid as usize] += 1;
                    continue;
                }
            }
            others += 1;
        }
        let merged = coalesce(&mut bytes);
        let records = read(&bytes);
        assert!(records.is_sorted_by_key(|(ktime_ns, _)| *ktime_ns));
        assert_eq!(records.iter().filter(|(_, send)| send.is_none()).count(), others);
        assert_eq!(records.len() as u64 + merged, 5_000);
        assert!(merged > 0);
        let mut seen = vec![0; 200];
        for (tgid, count, messages) in records.iter().filter_map(|(_, send)| *send) {
            seen[tgid as usize] += count;
            assert_eq!(messages, 2 * count);
        }
        assert_eq!(seen, sends);
    }
}

#[test]
fn bytes_that_are_no_records_stay_as_they_are() {
    for bytes in [&b""[..], b"abc", &[0xff; 300]] {
        let mut kept = bytes.to_vec();
        assert_eq!(coalesce(&mut kept), 0);
        assert_eq!(kept, bytes);
    }
    let whole = sent(1, 1, 24);
    let mut cut = batch(&[whole.as_bytes(), &whole.as_bytes()[..100]]);
    let before = cut.clone();
    assert_eq!(coalesce(&mut cut), 0);
    assert_eq!(cut, before);
}
