//! Flame graphs: interactive SVG by inferno. In: a profile, and another one to compare it with. Out: a picture that a
//! browser opens, with zoom and search.

use super::flame::{Pair, Tree};
use super::model::Profile;
use super::pprof::window_text;
use inferno::flamegraph::{self, Direction, Options, Palette, color::MultiPalette};

/// MIME type.
pub const CONTENT_TYPE: &str = "image/svg+xml";
/// A frame narrower than this part of the picture is not drawn: a tenth of a pixel on a wide screen.
const NARROWEST: f64 = 0.000_05;
/// Shown of what is missing.
const MISSING_SHOWN: usize = 3;

/// How to draw.
#[derive(Clone, Copy, Debug, Default)]
pub struct Style {
    /// Which of the kind's values the widths are.
    pub value: usize,
    /// From top to bottom.
    pub icicle: bool,
    /// Innermost functions first: what calls them stands above.
    pub reverse: bool,
}

/// Draws a profile; with `base`, coloured by what became more (red) and less (blue) since.
pub fn encode(profile: &Profile, base: Option<&Profile>, style: Style) -> Vec<u8> {
    let mut tree = Tree::new();
    tree.add(profile, style.value, 1);
    if let Some(base) = base {
        tree.add(base, style.value, 0);
    }
    let [before, now] = tree.total();
    let least = (before.max(now) as f64 * NARROWEST) as u64;
    let mut lines = Vec::new();
    tree.lines(least, |stack, [before, now]: Pair| {
        lines.push(match base {
            Some(_) => format!("{stack} {before} {now}"),
            None => format!("{stack} {now}"),
        });
    });
    if now == 0 {
        return nothing(profile, "No samples in this window.");
    }
    // The order of a tree, which is not that of its lines as text: `f;a`, `f.g;a`. As a flame chart, whose lines go from right to
    // left, inferno takes them as they are; it would refuse them as not sorted, and sort the same function apart.
    lines.reverse();
    let mut out = Vec::new();
    let mut options = options(profile, base.is_some(), style);
    let drawn = flamegraph::from_lines(&mut options, lines.iter().map(String::as_str), &mut out);
    match drawn {
        Ok(()) => out,
        Err(error) => nothing(profile, &format!("This cannot be drawn: {error}.")),
    }
}

fn options(profile: &Profile, differential: bool, style: Style) -> Options<'static> {
    let kind = profile.kind;
    let value = kind.values[style.value];
    let mut options = Options::default();
    options.title = title(profile);
    options.subtitle = Some(subtitle(profile, differential));
    options.notes = window_text(profile);
    options.count_name = if value.is_time() { "ns".into() } else { value.name.into() };
    options.name_type = "Frame:".into();
    options.colors = Palette::Multi(MultiPalette::Java);
    options.direction = if style.icicle { Direction::Inverted } else { Direction::Straight };
    options.reverse_stack_order = style.reverse;
    // By name: the same picture twice, and functions that keep their colour from one to the next.
    options.hash = true;
    options.min_width = NARROWEST * 100.0;
    options.flame_chart = !style.reverse;
    options
}

fn title(profile: &Profile) -> String {
    let on = if profile.node.is_empty() { String::new() } else { format!(" on {}", profile.node) };
    format!("{}{on}, {:.3} s", profile.kind.name, profile.window.seconds)
}

fn subtitle(profile: &Profile, differential: bool) -> String {
    let until = profile.window.until.as_deref().map(|until| format!("until {until}; ")).unwrap_or_default();
    let missing = profile.missing();
    let complete = match &missing[..] {
        [] => "complete".to_owned(),
        [..] if missing.len() > MISSING_SHOWN => {
            format!("missing: {}, and more", missing[..MISSING_SHOWN].join(", "))
        }
        [..] => format!("missing: {}", missing.join(", ")),
    };
    let colours = if differential { "red: more than before, blue: less; " } else { "" };
    format!("{until}{colours}{complete}")
}

/// A picture that says why there is nothing to show, in place of none.
fn nothing(profile: &Profile, why: &str) -> Vec<u8> {
    let lines = [title(profile), why.to_owned(), subtitle(profile, false)];
    let text = lines.iter().enumerate().map(|(line, text)| {
        format!(
            "<text x=\"20\" y=\"{}\" font-family=\"monospace\" font-size=\"14\">{}</text>\n",
            30 + 24 * line,
            xml(text)
        )
    });
    format!(
        "<?xml version=\"1.0\" standalone=\"no\"?>\n<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"1200\" height=\"110\" \
         viewBox=\"0 0 1200 110\">\n{}</svg>\n",
        text.collect::<String>()
    )
    .into_bytes()
}

fn xml(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fold::{Limits, State, Window};
    use crate::views::Query;
    use crate::views::profiles::model::{Frame, Sample};
    use crate::views::profiles::owner::Owner;

    /// Two functions of which one's name begins the other's, each with callees of its own.
    fn made() -> Profile {
        let snapshot = State::new(Window::ALL, Limits::WINDOW).finish(0);
        let empty = crate::views::profiles::profile(
            &crate::views::profiles::profile::KIND,
            &snapshot,
            &Query::default(),
        );
        let frame = |name: &str| Frame { name: name.into(), ..Frame::default() };
        let sample = |stack| Sample { owner: 0, thread: None, cause: None, stack, values: [1, 10, 0] };
        Profile {
            frames: ["main", "main.sync", "main.sync.func1", "write"].map(frame).into(),
            stacks: vec![[1, 0].into(), [3, 1, 0].into(), [3, 2, 0].into(), [2, 0].into()],
            owners: vec![Owner::default()],
            samples: (0..4).map(sample).collect(),
            ..empty
        }
    }

    #[test]
    fn a_function_whose_name_begins_another_s_is_drawn_once_and_whole() {
        let picture = |style: Style| String::from_utf8(encode(&made(), None, style)).unwrap();
        let style = Style { value: 1, ..Style::default() };
        let drawn = picture(style);
        assert_eq!(drawn.matches("<title>main.sync (").count(), 1, "{drawn}");
        assert!(drawn.contains("<title>main.sync (20 ns, 50.00%)"), "{drawn}");
        assert!(drawn.contains("<title>main.sync.func1 (20 ns, 50.00%)"), "{drawn}");
        assert!(picture(Style { reverse: true, ..style }).contains("<title>write (20 ns, 50.00%)"));
        let changed = String::from_utf8(encode(&made(), Some(&made()), style)).unwrap();
        assert_eq!(changed.matches("<title>main.sync (").count(), 1, "{changed}");
    }
}
