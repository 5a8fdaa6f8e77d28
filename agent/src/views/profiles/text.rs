//! `debug=1`: a profile to read, as Go's own handlers print theirs: the values, `@` and the addresses, then a line
//! per frame behind `#`.

use super::model::{Profile, Sample};
use super::pprof::{comments, own_labels};
use std::cmp::Reverse;
use std::fmt::Write;

/// MIME type, as Go's handlers give it.
pub const CONTENT_TYPE: &str = "text/plain; charset=utf-8";

/// Writes a profile, the largest samples first, and at most so many of them.
pub fn encode(profile: &Profile, samples_max: usize) -> Vec<u8> {
    let kind = profile.kind;
    let totals: Vec<String> = kind
        .values
        .iter()
        .enumerate()
        .map(|(value, of)| format!("{} {}/{}", profile.total(value), of.name, of.unit))
        .collect();
    let mut out = format!("{} profile: total {}\n", kind.name, totals.join(", "));
    for line in comments(profile) {
        let _ = writeln!(out, "# {line}");
    }
    let mut samples: Vec<&Sample> = profile.samples.iter().collect();
    samples.sort_by_key(|sample| Reverse(sample.values[kind.default_value]));
    for sample in samples.iter().take(samples_max) {
        sample_text(profile, sample, &mut out);
    }
    if samples.len() > samples_max {
        let _ =
            writeln!(out, "\n# {} more samples; limit= says how many are shown", samples.len() - samples_max);
    }
    out.into_bytes()
}

fn sample_text(profile: &Profile, sample: &Sample, out: &mut String) {
    let values = &sample.values[..profile.kind.values.len()];
    let values: Vec<String> = values.iter().map(u64::to_string).collect();
    let _ = write!(out, "\n{} @", values.join(" "));
    for place in profile.frames_of(sample).filter_map(|frame| frame.place) {
        let _ = write!(out, " {:#x}", place.address);
    }
    let owner = &profile.owners[sample.owner as usize];
    let own = own_labels(profile, sample).map(|(name, value)| (name, value.to_owned()));
    let labels = owner.labels().chain(own).map(|(name, value)| format!("{name}={value}"));
    let _ = writeln!(out, "\n# {}", labels.collect::<Vec<_>>().join(" "));
    for frame in profile.frames_of(sample) {
        let address = frame.place.map_or_else(|| "-".to_owned(), |place| format!("{:#x}", place.address));
        let _ = write!(out, "#\t{address}\t{}", frame.name);
        if !frame.file.is_empty() {
            let _ = write!(out, "\t{}:{}", frame.file, frame.line);
        }
        out.push('\n');
    }
}
