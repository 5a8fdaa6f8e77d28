//! Records that lie: whatever bytes come in, answers come out.

use crate::{MS, class, daemon};
use harness::check::{Records, answer, fold, render, snapshot};
use harness::scene::{self, Scene};
use slowpod::cli::tables;
use slowpod::decode;
use slowpod::fold::{Limits, State};
use slowpod::views::{JSON, VIEWS};
use slowpod_ebpf::abi::Header;

/// Scenes spoilt per run; each has up to a few hundred records.
const SPOILT: usize = 12;
/// Larger scenes have the same records over and over.
const RECORDS_BYTES_MAX: usize = 200_000;

/// Numbers that look random and are the same each time (Knuth's MMIX generator).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % below
    }
}

/// Changes one field or byte in every third record, lengths and kinds left alone, so that the fold gets it.
fn spoil(records: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut spoilt = records.to_vec();
    let mut at = 0;
    while let Ok(header) = decode::header(&records[at..]) {
        let length = header.len_bytes as usize;
        if dice.roll(3) == 0 && length > size_of::<Header>() {
            let body = at + size_of::<Header>()..at + length;
            let word = body.start + dice.roll(body.len().div_ceil(8)) * 8;
            match dice.roll(4) {
                0 => {
                    spoilt[at..at + 8].copy_from_slice(&(u64::MAX - dice.roll(1 << 20) as u64).to_le_bytes())
                }
                1 => spoilt[word..(word + 8).min(body.end)].fill(0xff),
                2 => spoilt[word..(word + 8).min(body.end)].fill(0),
                _ => spoilt[body.start + dice.roll(body.len())] ^= 1 << dice.roll(8),
            }
        }
        at += length;
    }
    spoilt
}

#[test]
fn spoilt_records_give_answers_and_no_panic() {
    let mut dice = Dice(1);
    for name in scene::all() {
        let scene = Scene::load(&name);
        if scene.records.len() > RECORDS_BYTES_MAX {
            continue;
        }
        for _ in 0..SPOILT {
            let records = spoil(&scene.records, &mut dice);
            let snapshot = fold(&mut Records::new(&records, 64), scene.window);
            for view in VIEWS.iter().filter(|view| view.content_type == JSON) {
                let body = render(&snapshot, view.name, "limit=1000");
                tables::render(view.name, &body, 100).expect("answers are JSON");
            }
        }
    }
}

#[test]
fn bytes_that_are_no_records_are_counted() {
    let mut dice = Dice(2);
    for _ in 0..20_000 {
        let mut state = State::new(slowpod::fold::Window::ALL, Limits::LIVE);
        let mut bytes: Vec<u8> = (0..dice.roll(200)).map(|_| dice.roll(256) as u8).collect();
        // Half of them claim to be a record of a real kind.
        if bytes.len() >= size_of::<Header>() && dice.roll(2) == 0 {
            bytes[8..12].copy_from_slice(&(1 + dice.roll(11) as u32).to_le_bytes());
            let length = bytes.len() as u32;
            bytes[12..16].copy_from_slice(&length.to_le_bytes());
        }
        let whole = decode::event(&bytes).is_ok();
        state.step(&bytes);
        assert_eq!(state.loss.garbled, u64::from(!whole), "{bytes:x?}");
    }
}

#[test]
fn a_wait_whose_parts_are_more_than_it_is_cut_to_the_whole() {
    // Seen on a live kernel: a thread began to wait inside the switch that ended its last block.
    let text =
        "process d pid=100\nat 1s spawn d->a\n+2ms exec a /bin/a\n+1ms exit a\n+1ms reap d a waited=2ms";
    let mut scene = Scene::parse("waits", text);
    let reap = scene.records.len() - 72;
    let parts: [u64; 3] = [0, 683_005, 1_820_769];
    for (index, part) in parts.into_iter().enumerate() {
        let at = reap + 40 + index * 8;
        scene.records[at..at + 8].copy_from_slice(&part.to_le_bytes());
    }
    let answer = answer(&scene, "storms", "");
    let waits = &daemon(&answer, "d")["latest_loops"][0]["waits"];
    assert_eq!(waits["wall_ns"], 2 * MS);
    let part = |name: &str| waits[name].as_u64().unwrap();
    assert_eq!(part("on_cpu_ns") + part("runnable_ns") + part("blocked_ns"), 2 * MS, "{waits}");
}

#[test]
fn absurd_sums_stop_at_the_largest_number() {
    let text = "process d pid=100
        at 1s spawn d->a
        +1ms exec a /bin/a
        +1ms netlink a ROUTE RTM_NEWROUTE bytes=18446744073709551615
        +0ms netlink a ROUTE RTM_NEWROUTE bytes=18446744073709551615
        +1ms exit a
        +1ms flood d a spawns=18446744073709551615 from=1s until=1.1s
        +1ms flood d a spawns=18446744073709551615 from=1s until=1.1s";
    let scene = Scene::parse("absurd", text);
    let own = answer(&scene, "storms", "");
    let own = &daemon(&own, "d")["latest_loops"][0];
    assert_eq!(own["spawns"], u64::MAX);
    assert_eq!(class(own, "a")["netlink"]["total"]["bytes"], u64::MAX);
    let snapshot = snapshot(&scene);
    for view in VIEWS.iter().filter(|view| view.content_type == JSON) {
        tables::render(view.name, &render(&snapshot, view.name, ""), 100).unwrap();
    }
}
