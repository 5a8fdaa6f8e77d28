//! Lines of aligned columns, and text wrapped at words. In: cells and a width. Out: lines.

/// Blanks between columns.
const GAP: usize = 2;
/// A column that may shrink keeps at least so many characters.
const SHRUNK_MIN: usize = 12;

/// A column: its title, and how it is laid out.
#[derive(Clone, Copy)]
pub(super) enum Column {
    /// Text that may be cut to make room.
    Text(&'static str),
    /// Text that is never cut.
    Word(&'static str),
    /// A number: to the right.
    Number(&'static str),
}

impl Column {
    fn title(self) -> &'static str {
        match self {
            Column::Text(title) | Column::Word(title) | Column::Number(title) => title,
        }
    }
}

/// Rows to be aligned.
pub(super) struct Grid {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
}

impl Grid {
    pub(super) fn new(columns: &[Column]) -> Self {
        Grid { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row; it has a cell for each column.
    pub(super) fn row<const CELLS: usize>(&mut self, cells: [String; CELLS]) {
        self.rows.push(cells.to_vec());
    }

    /// Whether there are no rows.
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The rows below their titles, at most `width` characters wide as far as cutting text allows, each behind
    /// `indent` blanks. Columns in which every cell is empty are left out.
    pub(super) fn lines(&self, width: usize, indent: usize) -> Vec<String> {
        let mut lines = self.rows(width, indent);
        if !lines.is_empty() {
            lines.insert(0, self.line(&self.titles(), &self.widths(width, indent), indent));
        }
        lines
    }

    /// The rows without titles.
    pub(super) fn rows(&self, width: usize, indent: usize) -> Vec<String> {
        let widths = self.widths(width, indent);
        self.rows.iter().map(|row| self.line(row, &widths, indent)).collect()
    }

    fn titles(&self) -> Vec<String> {
        self.columns.iter().map(|column| column.title().to_uppercase()).collect()
    }

    /// Width of each column; 0 for one that is left out.
    fn widths(&self, width: usize, indent: usize) -> Vec<usize> {
        let widest = |at: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(at));
            let widest = cells.map(|cell| cell.chars().count()).max().unwrap_or(0);
            if widest == 0 { 0 } else { widest.max(self.columns[at].title().chars().count()) }
        };
        let mut widths: Vec<usize> = (0..self.columns.len()).map(widest).collect();
        let taken = |widths: &[usize]| {
            indent + widths.iter().filter(|width| **width > 0).map(|width| width + GAP).sum::<usize>()
        };
        // The widest text gives way first, a character at a time.
        while taken(&widths) > width + GAP {
            let texts = (0..widths.len()).filter(|at| matches!(self.columns[*at], Column::Text(_)));
            let Some(at) = texts.filter(|at| widths[*at] > SHRUNK_MIN).max_by_key(|at| widths[*at]) else {
                break;
            };
            widths[at] -= 1;
        }
        widths
    }

    fn line(&self, cells: &[String], widths: &[usize], indent: usize) -> String {
        let mut line = " ".repeat(indent);
        for ((column, cell), width) in
            self.columns.iter().zip(cells).zip(widths).filter(|(_, width)| **width > 0)
        {
            let cell = fit(cell, *width);
            let blanks = " ".repeat(width - cell.chars().count());
            match column {
                Column::Text(_) | Column::Word(_) => line.extend([cell, blanks]),
                Column::Number(_) => line.extend([blanks, cell]),
            }
            line.push_str(&" ".repeat(GAP));
        }
        line.trim_end().to_owned()
    }
}

/// A text cut to `width` characters, the last of which then says so.
pub(super) fn fit(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{kept}…")
}

/// A text as lines of at most `width` characters, broken at blanks but never between a number and its unit;
/// lines after the first stand behind `hang` blanks. A word that is longer than a line has one to itself.
pub(super) fn wrap(text: &str, width: usize, hang: usize) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        match words.last_mut() {
            Some(number) if is_unit(word) => number.extend([" ", word]),
            Some(_) | None => words.push(word.to_owned()),
        }
    }
    let mut lines = Vec::new();
    let mut line = String::new();
    let mut taken = 0;
    for word in words {
        let length = word.chars().count();
        if taken > 0 && taken + 1 + length > width {
            lines.push(std::mem::replace(&mut line, " ".repeat(hang)));
            taken = hang;
        } else if taken > 0 {
            line.push(' ');
            taken += 1;
        }
        line.push_str(&word);
        taken += length;
    }
    lines.push(line);
    lines
}

fn is_unit(word: &str) -> bool {
    let word = word.trim_end_matches(|c: char| c.is_ascii_punctuation() && c != '%');
    matches!(word, "%" | "ns" | "us" | "ms" | "s" | "min")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid() -> Grid {
        let mut grid = Grid::new(&[Column::Text("name"), Column::Word("empty"), Column::Number("count")]);
        grid.row(["ipset add".into(), String::new(), "4,000".into()]);
        grid.row(["a name that is longer than most".into(), String::new(), "7".into()]);
        grid
    }

    #[test]
    fn columns_align_and_empty_ones_are_left_out() {
        assert_eq!(
            grid().lines(80, 2),
            [
                "  NAME                             COUNT",
                "  ipset add                        4,000",
                "  a name that is longer than most      7",
            ]
        );
    }

    #[test]
    fn text_gives_way_to_numbers() {
        let lines = grid().lines(30, 0);
        assert_eq!(lines[2], "a name that is longer …      7");
        assert!(lines.iter().all(|line| line.chars().count() <= 30), "{lines:?}");
        assert!(grid().lines(1, 0)[1].ends_with("4,000"), "numbers stay whole");
    }

    #[test]
    fn words_wrap_behind_a_hang() {
        assert_eq!(wrap("one two three four", 9, 2), ["one two", "  three", "  four"]);
        assert_eq!(wrap("", 9, 2), [""]);
        assert_eq!(wrap("it took 12 ms, or 3 %.", 10, 0), ["it took", "12 ms, or", "3 %."]);
        assert_eq!(wrap("incomprehensibilities x", 9, 2), ["incomprehensibilities", "  x"]);
    }
}
