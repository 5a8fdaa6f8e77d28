//! The scenarios' command lines: `--name value` and `--name`, each at most once, nothing left over.

use std::ffi::OsString;
use std::str::FromStr;

use anyhow::{Context, Result, bail};

/// What followed the scenario's name. Each getter takes its option out; [`Args::finish`] refuses the rest.
pub(crate) struct Args {
    left: Vec<String>,
}

impl Args {
    /// Options must be UTF-8: the bytes that scenarios pass on are made inside them.
    pub(crate) fn new(words: impl Iterator<Item = OsString>) -> Result<Args> {
        let left = words
            .map(|word| word.into_string().map_err(|word| anyhow::anyhow!("not UTF-8: {}", word.display())))
            .collect::<Result<_>>()?;
        Ok(Args { left })
    }

    /// The value of `name`, or `default` when the option is absent.
    pub(crate) fn value<T>(&mut self, name: &str, default: T) -> Result<T>
    where
        T: FromStr,
        T::Err: std::error::Error + Send + Sync + 'static,
    {
        match self.take(name)? {
            None => Ok(default),
            Some(text) => text.parse().with_context(|| format!("{name} {text}")),
        }
    }

    /// The value of `name` as text.
    pub(crate) fn text(&mut self, name: &str, default: &str) -> Result<String> {
        Ok(self.take(name)?.unwrap_or_else(|| default.to_owned()))
    }

    /// A number within bounds.
    pub(crate) fn count(&mut self, name: &str, default: u64, most: u64) -> Result<u64> {
        let count = self.value(name, default)?;
        if count == 0 || count > most {
            bail!("{name} must be 1 to {most}, not {count}");
        }
        Ok(count)
    }

    /// Whether the option without a value is there.
    pub(crate) fn flag(&mut self, name: &str) -> bool {
        let at = self.left.iter().position(|word| word == name);
        at.map(|at| self.left.remove(at)).is_some()
    }

    /// The first word that is no option.
    pub(crate) fn word(&mut self) -> Option<String> {
        match self.left.first() {
            Some(word) if !word.starts_with("--") => Some(self.left.remove(0)),
            _ => None,
        }
    }

    /// Refuses whatever no getter took.
    pub(crate) fn finish(self) -> Result<()> {
        match self.left.first() {
            None => Ok(()),
            Some(word) => bail!("unknown or repeated: {word}"),
        }
    }

    fn take(&mut self, name: &str) -> Result<Option<String>> {
        let Some(at) = self.left.iter().position(|word| word == name) else { return Ok(None) };
        if at + 1 == self.left.len() {
            bail!("{name} needs a value");
        }
        self.left.remove(at);
        Ok(Some(self.left.remove(at)))
    }
}
