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
/// Characters of a line below the title: more would hang over both sides of the picture, whose notes hold it all.
const LINE_CHARS: usize = 150;

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
    options.notes = notes(profile);
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

/// The window, and all that is missing: a comment in the file, in which two hyphens would be its end.
fn notes(profile: &Profile) -> String {
    let missing = profile.missing();
    let missing = if missing.is_empty() { "nothing".to_owned() } else { missing.join(", ") };
    format!("{}; missing: {missing}", window_text(profile)).replace("--", "- -")
}

fn title(profile: &Profile) -> String {
    let on = if profile.node.is_empty() { String::new() } else { format!(" on {}", profile.node) };
    format!("{}{on}, {:.3} s", profile.kind.name, profile.window.seconds)
}

fn subtitle(profile: &Profile, differential: bool) -> String {
    // To the second: the notes have the rest.
    let second =
        |until: &str| until.split_once('.').map_or(until.to_owned(), |(second, _)| format!("{second}Z"));
    let until = profile.window.until.as_deref().map(|until| format!("until {}; ", second(until)));
    let colours = if differential { "red: more than before, blue: less; " } else { "" };
    let mut line = format!("{}{colours}", until.unwrap_or_default());
    let missing = profile.missing();
    if missing.is_empty() {
        return line + "complete";
    }
    line += "missing: ";
    for (at, what) in missing.iter().enumerate() {
        let rest = missing.len() - at;
        let more = format!("and {rest} more");
        // What is said of the rest has to fit behind it.
        if line.chars().count() + what.chars().count() + 2 + more.len() > LINE_CHARS {
            return line + &more;
        }
        line += what;
        line += if rest > 1 { ", " } else { "" };
    }
    line
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
    fn the_line_below_the_title_fits_and_counts_what_it_leaves_out() {
        let mut profile = made();
        profile.window.until = Some("2026-11-22T14:36:27.288838589Z".to_owned());
        profile.flaws.cut_stacks = 1;
        let line = subtitle(&profile, false);
        assert_eq!(line, "until 2026-11-22T14:36:27Z; missing: 1 stacks cut short");
        profile.completeness.degraded =
            (0..9).map(|rung| format!("probe {rung} is on a lower rung")).collect();
        let line = subtitle(&profile, true);
        assert!(line.chars().count() <= LINE_CHARS && line.ends_with(", and 8 more"), "{line}");
        profile.completeness.degraded.push("--> <rung>".to_owned());
        let drawn = String::from_utf8(encode(&profile, None, Style::default())).unwrap();
        assert!(drawn.contains("probe 8 is on a lower rung, - -"), "{drawn}");
        assert!(!drawn.contains("--> <rung>"), "{drawn}");
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
