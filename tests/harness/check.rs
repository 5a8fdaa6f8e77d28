//! Scenes through the pipeline, and answers against what is written down. In: a scene. Out: snapshots,
//! answers, and a panic that shows the first difference.

use crate::scene::{Scene, data_folder};
use serde_json::Value;
use slowpod::capture::{CaptureError, Progress, Source};
use slowpod::cli::tables;
use slowpod::fold::{Limits, Snapshot, State, Window};
use slowpod::views::{self, Query, profiles};
use slowpod::{decode, pipeline};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

/// Set to rewrite the golden files from what the code says now; then read the difference.
const UPDATE: &str = "UPDATE_GOLDEN";
/// Lines shown before a difference.
const CONTEXT: usize = 8;

/// Records as a source, a few at a time.
pub struct Records<'a> {
    rest: &'a [u8],
    at_once: usize,
}

impl<'a> Records<'a> {
    /// Hands out `at_once` records at a time.
    pub fn new(records: &'a [u8], at_once: usize) -> Self {
        Records { rest: records, at_once }
    }
}

impl Source for Records<'_> {
    fn read(&mut self, batch: &mut Vec<u8>) -> Result<Progress, CaptureError> {
        for _ in 0..self.at_once {
            let Ok(header) = decode::header(self.rest) else { return Ok(Progress::End) };
            let (record, rest) = self.rest.split_at(header.len_bytes as usize);
            batch.extend_from_slice(record);
            self.rest = rest;
        }
        Ok(Progress::More)
    }
}

/// Folds what a source gives, as `slowpod replay` does.
pub fn fold(source: &mut dyn Source, window: Window) -> Snapshot {
    let mut state = State::new(window, Limits::WINDOW);
    pipeline::fold_all(source, &mut state).expect("scenes have no I/O errors");
    let until_ns = state.covered.1.min(window.until_ns);
    state.finish(until_ns)
}

/// The snapshot a scene asks for.
pub fn snapshot(scene: &Scene) -> Snapshot {
    fold(&mut Records::new(&scene.records, 1_000), scene.window)
}

/// A view's answer about a snapshot; `query` as in a URL.
pub fn render(snapshot: &Snapshot, view: &str, query: &str) -> Vec<u8> {
    let view = views::named(view).unwrap_or_else(|| panic!("there is no view {view:?}"));
    let query = Query::parse(query, view.params).unwrap_or_else(|error| panic!("{query}: {error}"));
    (view.render)(snapshot, &query)
}

/// A profile of a snapshot, `folded` or as `text`; `query` as in a URL.
pub fn render_profile(snapshot: &Snapshot, kind: &str, format: &str, query: &str) -> Vec<u8> {
    let kind = profiles::named(kind).unwrap_or_else(|| panic!("there is no profile {kind:?}"));
    let query =
        Query::parse(query, profiles::params::FLAMEGRAPH).unwrap_or_else(|error| panic!("{query}: {error}"));
    let profile = profiles::profile(kind, snapshot, &query);
    let value = profiles::params::value(kind, &query).unwrap_or_else(|error| panic!("{error}"));
    match format {
        "folded" => profiles::folded::encode(&profile, value),
        "text" => profiles::text::encode(&profile, query.rows()),
        other => panic!("no golden file holds {other}"),
    }
}

/// A view's answer about a scene, as JSON.
pub fn answer(scene: &Scene, view: &str, query: &str) -> Value {
    serde_json::from_slice(&render(&snapshot(scene), view, query)).expect("answers are JSON")
}

/// A view's answer about the scene of this name, which is played once for all tests.
pub fn answer_of(name: &str, view: &str, query: &str) -> Value {
    static PLAYED: Mutex<BTreeMap<String, Arc<Snapshot>>> = Mutex::new(BTreeMap::new());
    let known = PLAYED.lock().expect("no test panics in here").get(name).cloned();
    let snapshot = known.unwrap_or_else(|| {
        let played = Arc::new(snapshot(&Scene::load(name)));
        PLAYED.lock().expect("no test panics in here").insert(name.to_owned(), played.clone());
        played
    });
    serde_json::from_slice(&render(&snapshot, view, query)).expect("answers are JSON")
}

/// Compares every answer that a scene shows with its golden file.
///
/// # Panics
/// With the first difference, and how to accept it.
pub fn check(name: &str) {
    let scene = Scene::load(name);
    assert!(!scene.shows.is_empty(), "{name}.scene shows nothing");
    let snapshot = snapshot(&scene);
    for (view, query) in &scene.shows {
        let now = match view.split_once('.') {
            Some((kind, format)) => render_profile(&snapshot, kind, format, query),
            None => render(&snapshot, view, query),
        };
        compare(&shown_path(name, view), &String::from_utf8(now).expect("answers are UTF-8"));
    }
    for (view, width, query) in &scene.prints {
        let table = tables::render(view, &render(&snapshot, view, query), *width).expect("answers are JSON");
        compare(&golden_path(name, view, "txt"), &table);
    }
}

/// Golden files that no scene shows or prints.
pub fn orphans() -> Vec<String> {
    let mut known = BTreeSet::new();
    for name in crate::scene::all() {
        let scene = Scene::load(&name);
        known.extend(scene.shows.iter().map(|(view, _)| shown_path(&name, view)));
        known.extend(scene.prints.iter().map(|(view, ..)| golden_path(&name, view, "txt")));
    }
    let folder = data_folder().join("golden");
    let files = std::fs::read_dir(&folder).expect("the folder of golden files");
    let paths = files.map(|entry| entry.expect("a readable folder").path());
    paths.filter(|path| !known.contains(path)).map(|path| path.display().to_string()).collect()
}

/// Where what is shown of a scene is written down: a view as JSON, a profile in its own format.
fn shown_path(scene: &str, view: &str) -> PathBuf {
    match view.split_once('.') {
        Some((kind, format)) => golden_path(scene, kind, format),
        None => golden_path(scene, view, "json"),
    }
}

fn golden_path(scene: &str, view: &str, suffix: &str) -> PathBuf {
    data_folder().join("golden").join(format!("{scene}.{view}.{suffix}"))
}

/// Compares a text with a golden file.
///
/// # Panics
/// With the first difference.
pub fn compare(path: &PathBuf, now: &str) {
    if std::env::var_os(UPDATE).is_some() {
        std::fs::write(path, now).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        return;
    }
    let golden = std::fs::read_to_string(path)
        .unwrap_or_else(|error| panic!("{}: {error}; {UPDATE}=1 writes it", path.display()));
    if golden == now {
        return;
    }
    let at = golden.lines().zip(now.lines()).take_while(|(one, other)| one == other).count();
    let shown = |text: &str| {
        let lines = text.lines().enumerate().skip(at.saturating_sub(CONTEXT)).take(CONTEXT + 4);
        let lines = lines.map(|(index, line)| format!("{} {line}", if index == at { '>' } else { ' ' }));
        lines.collect::<Vec<_>>().join("\n")
    };
    panic!(
        "{} differs at line {}\n--- golden\n{}\n--- now\n{}\nIf that is right: {UPDATE}=1 cargo test -p slowpod-tests --test replay",
        path.display(),
        at + 1,
        shown(&golden),
        shown(now)
    );
}
