//! `top`: who takes the CPUs, waits for them, blocks, and makes children; asked of a running agent again and again.

use super::filters::Filters;
use super::options::{self, Format};
use super::{Failure, tables};
use crate::client;
use crate::views::top::{SORTS, VIEW};
use clap::builder::PossibleValuesParser;
use std::io::IsTerminal;
use std::time::Duration;

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where the agent listens.
    #[arg(long, default_value = "127.0.0.1:6060", value_name = "ADDR")]
    listen: String,
    /// Length of the window that each picture is about. What little-busy processes do is told every five seconds.
    #[arg(
        short = 'd',
        long = "duration",
        visible_alias = "seconds",
        default_value = "10",
        value_name = "SPAN"
    )]
    duration: String,
    /// How long to wait between two pictures.
    #[arg(short, long, default_value = "2", value_name = "SPAN", value_parser = options::duration)]
    interval: Duration,
    /// How many pictures; without it, until interrupted.
    #[arg(short = 'n', long, value_name = "PICTURES", value_parser = clap::value_parser!(u32).range(1..))]
    count: Option<u32>,
    /// One picture: the same as `-n 1`.
    #[arg(long, conflicts_with = "count")]
    once: bool,
    /// What the largest comes first of.
    #[arg(long, default_value = SORTS[0], value_parser = PossibleValuesParser::new(SORTS))]
    sort: String,
    /// Most rows of each table (default: what the terminal has room for, or 20).
    #[arg(long)]
    limit: Option<u32>,
    /// Whose.
    #[command(flatten)]
    filters: Filters,
    /// Output: table, or json with one answer per line.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// Rows of each table where there is no terminal.
const ROWS: u32 = 20;
/// Lines of a picture that are no rows.
const LINES_BESIDE: u32 = 8;

/// Asks and prints.
///
/// # Errors
/// When no agent answers, or the agent refuses the question.
pub fn run(args: Args) -> Result<(), Failure> {
    let pictures = if args.once { Some(1) } else { args.count };
    let redrawn = std::io::stdout().is_terminal() && args.output == Format::Table && pictures != Some(1);
    for picture in 1.. {
        let body = client::get(&args.listen, &args.path())?;
        let mut text = if redrawn { b"\x1b[H\x1b[2J".to_vec() } else { Vec::new() };
        match args.output {
            Format::Table => text.extend(tables::text(VIEW.name, body, args.output)?),
            Format::Json => text.extend(one_line(&body)?),
        }
        if !options::print_on(&text)? || pictures == Some(picture) {
            break;
        }
        std::thread::sleep(args.interval);
    }
    Ok(())
}

/// An answer as one line, so that a reader can part one from the next.
fn one_line(body: &[u8]) -> Result<Vec<u8>, Failure> {
    let answer: serde_json::Value = serde_json::from_slice(body)
        .map_err(|error| Failure::Failed(format!("the answer does not parse: {error}")))?;
    Ok(format!("{answer}\n").into_bytes())
}

impl Args {
    fn path(&self) -> String {
        let lines = options::height().map(|lines| lines.saturating_sub(LINES_BESIDE) / 2);
        let limit = self.limit.or(lines).unwrap_or(ROWS).max(1).to_string();
        let own = [("seconds", &self.duration), ("limit", &limit), ("sort", &self.sort)];
        let filters: Vec<_> = self.filters.pairs().collect();
        let own = own.iter().map(|(name, value)| (*name, value.as_str()));
        let filters = filters.iter().map(|(name, value)| (*name, value.as_str()));
        VIEW.url(&own.chain(filters).collect::<Vec<_>>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn parsed(words: &[&str]) -> Result<Args, String> {
        let words = ["top"].iter().chain(words);
        Cli::try_parse_from(words).map(|cli| cli.args).map_err(|error| error.to_string())
    }

    #[test]
    fn options_become_the_views_parameters() {
        let args = parsed(&["--sort", "spawn_cost", "-d", "5s", "--limit", "7", "--pod", "a b"]).unwrap();
        assert_eq!(args.path(), "/api/v1/top?seconds=5s&limit=7&sort=spawn_cost&pod=a+b");
        assert_eq!(args.interval, Duration::from_secs(2));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        assert!(parsed(&["--sort", "colour"]).unwrap_err().contains("spawn_cost"));
        for words in [&["-n", "0"][..], &["--once", "-n", "3"], &["--interval", "soon"]] {
            assert!(parsed(words).is_err(), "{words:?}");
        }
    }

    #[test]
    fn json_comes_a_line_at_a_time() {
        assert_eq!(one_line(b"{\n \"cpus\": 2\n}\n").unwrap(), b"{\"cpus\":2}\n");
        assert!(one_line(b"<html>").is_err());
    }
}
