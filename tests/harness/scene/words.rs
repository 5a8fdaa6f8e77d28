//! Lines of a scene to words. In: text. Out: words, options and times, or what is wrong with them.

use std::collections::BTreeMap;

/// One line that says something.
pub(super) struct Line {
    /// Its number in the file, from 1.
    pub(super) number: usize,
    /// Without comment and indentation.
    pub(super) text: String,
}

/// The words of one line that were not taken yet.
pub(super) struct Words {
    plain: std::collections::VecDeque<Word>,
    options: BTreeMap<String, Word>,
}

/// A word: any bytes.
#[derive(Clone, Debug)]
pub(super) struct Word(pub(super) Vec<u8>);

/// The lines of a text that say something.
pub(super) fn lines(text: &str) -> Result<Vec<Line>, String> {
    let numbered = text.lines().enumerate().map(|(index, line)| Line {
        number: index + 1,
        // A comment begins a line or stands behind a blank; `#` is a character elsewhere.
        text: line.trim_start().split(" # ").next().unwrap_or_default().trim_end().to_owned(),
    });
    let lines: Vec<Line> =
        numbered.filter(|line| !line.text.is_empty() && !line.text.starts_with('#')).collect();
    let opened = lines.iter().filter(|line| line.text.ends_with('{')).count();
    let closed = lines.iter().filter(|line| line.text == "}").count();
    if opened != closed {
        return Err(format!("{opened} blocks begin and {closed} end"));
    }
    Ok(lines)
}

/// How many lines the block that begins on the first line takes up to its end, the first one not counted.
pub(super) fn block(lines: &[Line]) -> Option<usize> {
    let mut depth = 0;
    lines.iter().position(|line| {
        depth += usize::from(line.text.ends_with('{'));
        depth -= usize::from(line.text == "}");
        depth == 0
    })
}

/// A time with its unit, in nanoseconds.
pub(super) fn time(text: &str) -> Result<u64, String> {
    let units = [("ns", 1.0), ("us", 1e3), ("ms", 1e6), ("s", 1e9)];
    let number = |suffix: &str| text.strip_suffix(suffix).and_then(|number| number.parse::<f64>().ok());
    let found = units.iter().find_map(|(suffix, scale)| Some(number(suffix)? * scale));
    found
        .filter(|ns| *ns >= 0.0)
        .map(|ns| ns.round() as u64)
        .ok_or_else(|| format!("{text:?} is no time (10ms, 1.5s, 200us)"))
}

impl Line {
    /// Its words, in this turn of its block.
    pub(super) fn words(&self, turn: u64) -> Result<Words, String> {
        let mut words = Words { plain: Default::default(), options: BTreeMap::new() };
        if self.text == "}" {
            return Ok(words);
        }
        for word in split(&self.text.replace("%i", &turn.to_string()))? {
            match word {
                (word, None) => words.plain.push_back(word),
                (word, Some(name)) => {
                    if words.options.insert(name.clone(), word).is_some() {
                        return Err(format!("{name}= is given twice"));
                    }
                }
            }
        }
        Ok(words)
    }
}

/// Words, those of the shape `name=value` with their names. JSON of a fact is one word.
fn split(text: &str) -> Result<Vec<(Word, Option<String>)>, String> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let mut word = Vec::new();
        let mut name = None;
        if rest.starts_with('{') && rest.len() > 1 {
            words.push((Word(rest.as_bytes().to_vec()), None));
            break;
        }
        let mut chars = rest.char_indices().peekable();
        let mut quoted = false;
        let mut end = rest.len();
        while let Some((at, char)) = chars.next() {
            match char {
                '"' => quoted = !quoted,
                '\\' if quoted => word.push(escape(&mut chars)?),
                ' ' if !quoted => {
                    end = at;
                    break;
                }
                '=' if !quoted && name.is_none() && is_name(&word) => {
                    name = Some(String::from_utf8_lossy(&word).into_owned());
                    word.clear();
                }
                _ => word.extend(char.encode_utf8(&mut [0; 4]).bytes()),
            }
        }
        if quoted {
            return Err("a quote is not closed".into());
        }
        words.push((Word(word), name));
        rest = rest[end..].trim_start();
    }
    Ok(words)
}

fn is_name(word: &[u8]) -> bool {
    !word.is_empty() && word.iter().all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'_' | b'.'))
}

fn escape(chars: &mut impl Iterator<Item = (usize, char)>) -> Result<u8, String> {
    let mut next = || chars.next().map(|(_, char)| char);
    match next() {
        Some('n') => Ok(b'\n'),
        Some('t') => Ok(b'\t'),
        Some('0') => Ok(0),
        Some(char @ ('"' | '\\')) => Ok(char as u8),
        Some('x') => {
            let digits: String = [next(), next()].into_iter().flatten().collect();
            u8::from_str_radix(&digits, 16).map_err(|_| format!("\\x{digits} is no byte"))
        }
        other => Err(format!("\\{} means nothing", other.unwrap_or(' '))),
    }
}

impl Word {
    /// As text.
    pub(super) fn text(&self) -> Result<String, String> {
        String::from_utf8(self.0.clone()).map_err(|_| "this word has to be text".into())
    }
}

impl Words {
    /// The next word, if it is plain text.
    pub(super) fn first(&self) -> Option<&str> {
        self.plain.front().and_then(|word| std::str::from_utf8(&word.0).ok())
    }

    /// Takes the next word as text.
    pub(super) fn next(&mut self) -> Option<String> {
        self.plain.pop_front().and_then(|word| word.text().ok())
    }

    /// Takes the next word as bytes.
    pub(super) fn bytes(&mut self, what: &str) -> Result<Vec<u8>, String> {
        self.plain.pop_front().map(|word| word.0).ok_or_else(|| format!("{what} is missing"))
    }

    /// Takes the next word, which must be there.
    pub(super) fn must(&mut self, what: &str) -> Result<String, String> {
        self.next().ok_or_else(|| format!("{what} is missing"))
    }

    /// Takes the next word, which must be this one.
    pub(super) fn expect(&mut self, word: &str) -> Result<(), String> {
        let got = self.must(word)?;
        if got == word { Ok(()) } else { Err(format!("{word:?} should stand where {got:?} does")) }
    }

    /// Takes the next word as a number.
    pub(super) fn number<T: std::str::FromStr>(&mut self) -> Result<T, String> {
        let word = self.must("a number")?;
        word.parse().map_err(|_| format!("{word:?} is no number"))
    }

    /// Takes the next word as a time.
    pub(super) fn time(&mut self) -> Result<u64, String> {
        time(&self.must("a time")?)
    }

    /// Takes the option of this name.
    pub(super) fn option(&mut self, name: &str) -> Option<Word> {
        self.options.remove(name)
    }

    /// Takes the option of this name as text.
    pub(super) fn text(&mut self, name: &str) -> Result<Option<String>, String> {
        self.option(name).map(|word| word.text()).transpose()
    }

    /// Takes the option of this name as a number, or gives `default`.
    pub(super) fn count<T: std::str::FromStr>(&mut self, name: &str, default: T) -> Result<T, String> {
        match self.text(name)? {
            Some(text) => text.parse().map_err(|_| format!("{name}={text} is no number")),
            None => Ok(default),
        }
    }

    /// Takes the option of this name as a time.
    pub(super) fn span(&mut self, name: &str) -> Result<Option<u64>, String> {
        self.text(name)?.map(|text| time(&text)).transpose()
    }

    /// Takes all options that begin so, without that beginning, as times.
    pub(super) fn spans(&mut self, prefix: &str) -> Result<Vec<(String, u64)>, String> {
        let names: Vec<String> =
            self.options.keys().filter(|name| name.starts_with(prefix)).cloned().collect();
        let mut spans = Vec::new();
        for name in names {
            spans.push((name[prefix.len()..].to_owned(), self.span(&name)?.unwrap_or_default()));
        }
        Ok(spans)
    }

    /// Takes all options, as the query of a URL.
    pub(super) fn query(&mut self) -> Result<String, String> {
        let options = std::mem::take(&mut self.options);
        let pairs = options.iter().map(|(name, value)| Ok(format!("{name}={}", value.text()?)));
        Ok(pairs.collect::<Result<Vec<String>, String>>()?.join("&"))
    }

    /// Takes a word that may stand anywhere; whether it was there.
    pub(super) fn flag(&mut self, name: &str) -> bool {
        let found = self.plain.iter().position(|word| word.0 == name.as_bytes());
        found.map(|at| self.plain.remove(at)).is_some()
    }

    /// Nothing may be left.
    pub(super) fn end(&self) -> Result<(), String> {
        let plain = self.plain.iter().map(|word| String::from_utf8_lossy(&word.0).into_owned());
        let left: Vec<String> = plain.chain(self.options.keys().map(|name| format!("{name}="))).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("this means nothing here: {}", left.join(" "))) }
    }
}
