//! JSON bodies: what every answer has, around what one view has.

use super::completeness::{CompletenessBlock, WindowBlock, completeness, window};
use crate::fold::Snapshot;
use serde::Serialize;

/// An answer: window, completeness, and the view's own fields beside them.
#[derive(Serialize)]
struct Answer<T: Serialize> {
    window: WindowBlock,
    completeness: CompletenessBlock,
    #[serde(flatten)]
    own: T,
}

/// Renders a view's own fields as the JSON of an answer, ended by a newline.
pub fn json<T: Serialize>(snapshot: &Snapshot, own: T) -> Vec<u8> {
    let answer = Answer { window: window(snapshot), completeness: completeness(snapshot), own };
    let mut bytes = serde_json::to_vec_pretty(&answer).expect("answers hold nothing that JSON cannot");
    bytes.push(b'\n');
    bytes
}
