//! The same records give the same bytes: again, in other batches, from a tape, and from the flight recorder.

use harness::check::{Records, fold, render, snapshot};
use harness::scene::{self, Scene};
use slowpod::capture::recent::Bounds;
use slowpod::capture::tape::{Reader, Writer};
use slowpod::decode;
use slowpod::fold::{Snapshot, Window};
use slowpod::pipeline::{self, Hub, KernelPulse, Live};
use slowpod::views::{JSON, VIEWS};

/// Every JSON view's answer.
fn answers(snapshot: &Snapshot) -> Vec<(&'static str, String)> {
    let views = VIEWS.iter().filter(|view| view.content_type == JSON);
    let render = |name| String::from_utf8(render(snapshot, name, "limit=500")).expect("UTF-8");
    views.map(|view| (view.name, render(view.name))).collect()
}

#[test]
fn a_second_time_and_in_other_batches() {
    for name in scene::all() {
        let scene = Scene::load(&name);
        let first = answers(&snapshot(&scene));
        assert_eq!(first, answers(&snapshot(&Scene::load(&name))), "{name}");
        assert_eq!(first, answers(&fold(&mut Records::new(&scene.records, 1), scene.window)), "{name}");
    }
}

#[test]
fn through_a_tape() {
    for name in scene::all() {
        let scene = Scene::load(&name);
        let mut writer = Writer::new(Vec::new()).unwrap();
        writer.write(&scene.records).unwrap();
        let tape = writer.finish().unwrap();
        let mut reader = Reader::new(tape.as_slice()).unwrap();
        let replayed = answers(&fold(&mut reader, scene.window));
        assert_eq!(reader.damage, None);
        assert_eq!(answers(&snapshot(&scene)), replayed, "{name}");
    }
}

#[test]
fn through_the_flight_recorder() {
    for name in scene::all() {
        let scene = Scene::load(&name);
        let live = answers(&recorded(&scene.records, scene.window));
        for (one, other) in answers(&snapshot(&scene)).into_iter().zip(live) {
            // Keyframes are records too, and the finding about losses says how many were seen.
            if one.0 != "findings" {
                assert_eq!(one, other, "{name}");
            }
        }
    }
}

/// The answer of an agent that took the records in as they came, a tenth of a second at a time.
pub(crate) fn recorded(records: &[u8], window: Window) -> Snapshot {
    let hub = Hub::new(Bounds::default());
    let mut live = Live::new(&hub);
    let mut rest = records;
    while let Ok(first) = decode::header(rest) {
        let until_ns = first.ktime_ns + 100_000_000;
        let (mut length, mut newest_ns) = (0, 0);
        while let Ok(header) = decode::header(&rest[length..]) {
            if header.ktime_ns >= until_ns {
                break;
            }
            newest_ns = header.ktime_ns;
            length += header.len_bytes as usize;
        }
        live.take(newest_ns, &rest[..length], KernelPulse::default);
        rest = &rest[length..];
    }
    pipeline::answer(&hub.excerpt(&window), window)
}
