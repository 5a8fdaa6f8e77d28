//! Every scene's answers against its golden files.

use harness::{check, scene};

#[test]
fn every_scene_answers_as_written_down() {
    let scenes = scene::all();
    assert!(scenes.len() >= 20, "{scenes:?}");
    let failed: Vec<String> = scenes
        .iter()
        .filter_map(|name| std::panic::catch_unwind(|| check::check(name)).err().map(|_| name.clone()))
        .collect();
    assert!(failed.is_empty(), "scenes that differ: {failed:?}");
}

#[test]
fn every_golden_file_belongs_to_a_scene() {
    assert_eq!(check::orphans(), Vec::<String>::new());
}
