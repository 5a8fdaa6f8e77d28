//! pprof's protobuf, gzipped: what `go tool pprof` and everything that reads its files opens. Format: `profile.proto`
//! of github.com/google/pprof.
//!
//! Every frame has its name already, so each mapping says so: pprof would otherwise look for a program of that path
//! on the machine it runs on, and name frames by whatever it finds there.

use super::model::{Frame, Profile, Sample};
use ::pprof::protos::{self, Message};
use flate2::{Compression, write::GzEncoder};
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

/// MIME type, as Go's handlers give it.
pub const CONTENT_TYPE: &str = "application/octet-stream";

/// Writes a profile.
pub fn encode(profile: &Profile) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    let done = gzip.write_all(&message(profile).encode_to_vec()).and_then(|()| gzip.finish());
    done.expect("writing to memory does not fail")
}

fn message(profile: &Profile) -> protos::Profile {
    let mut writer = Writer::default();
    writer.text("");
    let value_type = |writer: &mut Writer, name: &str, unit: &str| protos::ValueType {
        ty: writer.text(name),
        unit: writer.text(unit),
    };
    let kind = profile.kind;
    let sample_type =
        kind.values.iter().map(|value| value_type(&mut writer, value.name, value.unit)).collect();
    let period_type = kind.period.map(|value| value_type(&mut writer, value.name, value.unit));
    let default_sample_type = writer.text(kind.values[kind.default_value].name);
    let mapping = (0..profile.modules.len()).map(|number| mapping(&mut writer, profile, number)).collect();
    let stacks: Vec<Vec<u64>> = profile.stacks.iter().map(|stack| writer.stack(profile, stack)).collect();
    let labels: Vec<Vec<protos::Label>> =
        profile.owners.iter().map(|own| writer.labels(own.labels())).collect();
    let sample = profile.samples.iter().map(|sample| protos::Sample {
        location_id: stacks[sample.stack as usize].clone(),
        value: sample.values[..kind.values.len()].iter().map(|value| saturated(*value)).collect(),
        label: [labels[sample.owner as usize].clone(), writer.labels(own_labels(profile, sample))].concat(),
    });
    let sample = sample.collect();
    let (time_nanos, duration_nanos) = covered(profile);
    let comment = comments(profile).iter().map(|line| writer.text(line)).collect();
    protos::Profile {
        sample_type,
        sample,
        mapping,
        location: writer.locations,
        function: writer.functions,
        string_table: writer.texts.iter().map(|text| text.to_string()).collect(),
        time_nanos,
        duration_nanos,
        period_type,
        period: if kind.period.is_some() { saturated(profile.period) } else { 0 },
        comment,
        default_sample_type,
        ..protos::Profile::default()
    }
}

/// The time that the samples are from, and its length: pprof divides by it. Of a window that reaches back beyond the first record
/// that is a part.
fn covered(profile: &Profile) -> (i64, i64) {
    let window = &profile.window;
    let ns = |seconds: f64| (seconds * 1e9) as i64;
    match window.seconds - window.covered_seconds {
        missing if window.covered_seconds > 0.0 && profile.begin_unix_ns > 0 => {
            (profile.begin_unix_ns.saturating_add(ns(missing)), ns(window.covered_seconds))
        }
        _ => (profile.begin_unix_ns, ns(window.seconds)),
    }
}

/// What a profile says of itself, a line each; `go tool pprof -comments` prints them.
pub fn comments(profile: &Profile) -> Vec<String> {
    let on = if profile.node.is_empty() { String::new() } else { format!(" on {}", profile.node) };
    let completeness =
        serde_json::to_string(&profile.completeness).expect("the block holds nothing that JSON cannot");
    let mut lines = vec![
        format!("slowpod {}: {}", profile.kind.name, profile.kind.about),
        format!("window: {}{on}", window_text(profile)),
        format!("completeness: {completeness}"),
    ];
    lines.extend(profile.missing().iter().map(|missing| format!("missing: {missing}")));
    lines
}

/// The profile's window in words.
pub fn window_text(profile: &Profile) -> String {
    let window = &profile.window;
    let seconds = format!("{:.3} s", window.seconds);
    match (&window.from, &window.until) {
        (Some(from), Some(until)) => format!("{seconds} from {from} to {until}"),
        _ => seconds,
    }
}

/// A module. Addresses are those the code is linked at, so that the same code has the same address in every profile:
/// the mapping begins at 0.
fn mapping(writer: &mut Writer, profile: &Profile, number: usize) -> protos::Mapping {
    let module = &profile.modules[number];
    protos::Mapping {
        id: number as u64 + 1,
        filename: writer.text(&module.path),
        build_id: writer.text(&module.build_id),
        has_functions: true,
        has_filenames: true,
        has_line_numbers: true,
        has_inline_frames: true,
        ..protos::Mapping::default()
    }
}

/// Labels of a sample beside those of its process.
pub(super) fn own_labels<'a>(
    profile: &'a Profile,
    sample: &Sample,
) -> impl Iterator<Item = (&'static str, &'a str)> {
    let thread = sample.thread.map(|number| &*profile.threads[number as usize]);
    [("thread.name", thread), ("cause", sample.cause)]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
}

fn saturated(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Puts the message's tables together.
#[derive(Default)]
struct Writer {
    numbers: BTreeMap<Arc<str>, i64>,
    texts: Vec<Arc<str>>,
    functions: Vec<protos::Function>,
    by_name: BTreeMap<(i64, i64), u64>,
    locations: Vec<protos::Location>,
    by_frames: BTreeMap<Vec<u32>, u64>,
}

impl Writer {
    /// The number of a string.
    fn text(&mut self, text: &str) -> i64 {
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        let (text, number): (Arc<str>, _) = (text.into(), self.texts.len() as i64);
        self.texts.push(text.clone());
        self.numbers.insert(text, number);
        number
    }

    fn labels<'a, T: AsRef<str>>(
        &mut self,
        labels: impl Iterator<Item = (&'a str, T)>,
    ) -> Vec<protos::Label> {
        let label = |(name, value): (&str, T)| protos::Label {
            key: self.text(name),
            str: self.text(value.as_ref()),
            ..protos::Label::default()
        };
        labels.map(label).collect()
    }

    /// The locations of a stack: functions inlined into each other are one.
    fn stack(&mut self, profile: &Profile, stack: &[u32]) -> Vec<u64> {
        let mut locations = Vec::new();
        let mut rest = stack;
        while !rest.is_empty() {
            let inlined = rest.iter().take_while(|number| profile.frames[**number as usize].inlined).count();
            let (place, after) = rest.split_at((inlined + 1).min(rest.len()));
            locations.push(self.location(profile, place));
            rest = after;
        }
        locations
    }

    fn location(&mut self, profile: &Profile, frames: &[u32]) -> u64 {
        if let Some(id) = self.by_frames.get(frames) {
            return *id;
        }
        let id = self.locations.len() as u64 + 1;
        let line = frames.iter().map(|number| {
            let frame = &profile.frames[*number as usize];
            protos::Line { function_id: self.function(frame), line: i64::from(frame.line) }
        });
        let line = line.collect();
        let place = frames.first().and_then(|number| profile.frames[*number as usize].place);
        let mapping_id = place.and_then(|place| place.module).map_or(0, |number| u64::from(number) + 1);
        let address = place.map_or(0, |place| place.address);
        self.locations.push(protos::Location { id, mapping_id, address, line, is_folded: false });
        self.by_frames.insert(frames.to_vec(), id);
        id
    }

    fn function(&mut self, frame: &Frame) -> u64 {
        let (name, filename) = (self.text(&frame.name), self.text(&frame.file));
        if let Some(id) = self.by_name.get(&(name, filename)) {
            return *id;
        }
        let id = self.functions.len() as u64 + 1;
        self.functions.push(protos::Function { id, name, system_name: name, filename, start_line: 0 });
        self.by_name.insert((name, filename), id);
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::enrich::symbols::Module;
    use crate::fold::{Limits, State, Window};
    use crate::views::Query;
    use crate::views::completeness::WindowBlock;
    use crate::views::profiles::model::Place;
    use crate::views::profiles::owner::Owner;
    use std::io::Read;

    /// A function that is inlined into another, both called by a third, in one sample of two.
    fn made() -> Profile {
        let snapshot = State::new(Window::ALL, Limits::WINDOW).finish(0);
        let empty = crate::views::profiles::profile(
            &crate::views::profiles::profile::KIND,
            &snapshot,
            &Query::default(),
        );
        let frame = |name: &str, address, inlined| Frame {
            name: name.into(),
            file: "/src/main.go".into(),
            line: 7,
            place: Some(Place { module: Some(0), address }),
            inlined,
            ..Frame::default()
        };
        let note = Frame { name: "[note]".into(), ..Frame::default() };
        let sample =
            |stack, value| Sample { owner: 0, thread: Some(0), cause: None, stack, values: [1, value, 0] };
        Profile {
            begin_unix_ns: 1_767_323_045_000_000_000,
            period: 10_101_010,
            modules: vec![Arc::new(Module { path: "/bin/proxy".into(), build_id: "abcd".into() })],
            frames: vec![
                frame("inner", 0x100, true),
                frame("outer", 0x100, false),
                frame("main", 0x200, false),
                note,
            ],
            stacks: vec![[0, 1, 2].into(), [3, 2].into()],
            owners: vec![Owner {
                pid: 7,
                process: "proxy".into(),
                pod_uid: Some("u".into()),
                ..Owner::default()
            }],
            threads: vec!["worker".into()],
            samples: vec![sample(0, 30), sample(1, u64::MAX)],
            ..empty
        }
    }

    fn decoded(bytes: &[u8]) -> protos::Profile {
        let mut message = Vec::new();
        flate2::read::GzDecoder::new(bytes).read_to_end(&mut message).unwrap();
        protos::Profile::decode(message.as_slice()).unwrap()
    }

    #[test]
    fn inlined_functions_are_lines_of_one_location_with_its_mapping() {
        let read = decoded(&encode(&made()));
        let text = |number: i64| read.string_table[number as usize].as_str();
        let location = |id: u64| &read.location[id as usize - 1];
        let name = |line: &protos::Line| text(read.function[line.function_id as usize - 1].name);
        let [first, second] = &read.sample[..] else { panic!("{:?}", read.sample) };
        let [place, main] = first.location_id[..] else { panic!("{first:?}") };
        let lines: Vec<_> = location(place).line.iter().map(|line| (name(line), line.line)).collect();
        assert_eq!(lines, [("inner", 7), ("outer", 7)]);
        assert_eq!((location(place).address, location(place).mapping_id), (0x100, 1));
        assert_eq!((text(read.mapping[0].filename), text(read.mapping[0].build_id)), ("/bin/proxy", "abcd"));
        assert_eq!(second.location_id[1], main, "a place is told once");
        assert_eq!((location(second.location_id[0]).mapping_id, second.value[1]), (0, i64::MAX));
        let labels: Vec<_> = first.label.iter().map(|label| (text(label.key), text(label.str))).collect();
        let expected = [
            ("k8s.pod.uid", "u"),
            ("process.executable.name", "proxy"),
            ("process.pid", "7"),
            ("thread.name", "worker"),
        ];
        assert_eq!(labels, expected);
    }

    #[test]
    fn it_lasted_as_long_as_there_are_records_of_it() {
        let length = |seconds, covered_seconds| {
            let made = made();
            let window = WindowBlock { seconds, covered_seconds, ..made.window.clone() };
            let read = decoded(&encode(&Profile { window, ..made }));
            (read.time_nanos - 1_767_323_045_000_000_000, read.duration_nanos)
        };
        const S: i64 = 1_000_000_000;
        assert_eq!(length(60.0, 60.0), (0, 60 * S));
        assert_eq!(length(60.0, 24.5), (35 * S + S / 2, 24 * S + S / 2), "pprof divides by it");
        assert_eq!(length(60.0, 0.0), (0, 60 * S), "of nothing");
    }

    #[test]
    fn it_says_what_its_values_are_when_it_was_taken_and_what_is_missing() {
        let read = decoded(&encode(&made()));
        let text = |number: i64| read.string_table[number as usize].as_str();
        assert_eq!(text(0), "", "the first string is the empty one");
        let types: Vec<_> = read.sample_type.iter().map(|of| (text(of.ty), text(of.unit))).collect();
        assert_eq!(types, [("samples", "count"), ("cpu", "nanoseconds")]);
        assert_eq!(text(read.default_sample_type), "cpu");
        assert_eq!((read.period, read.time_nanos), (10_101_010, 1_767_323_045_000_000_000));
        let comments: Vec<_> = read.comment.iter().map(|number| text(*number)).collect();
        assert!(comments.iter().any(|line| line.starts_with("completeness: {\"complete\":")), "{comments:?}");
        assert!(comments.iter().any(|line| line.starts_with("window: ")), "{comments:?}");
    }
}
