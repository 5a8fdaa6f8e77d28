//! How long the agent takes to name places in a large Go program that it meets for the first time, and how much memory
//! that takes at once.
//!
//! The program is as large as a kubelet and made here: some ten thousand functions of its own in many packages, with
//! generated data beside them, as it is built and stripped of symbols and debug information.

use super::Bench;
use super::figure::Figure;
use crate::sh;
use anyhow::{Context, bail};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The issue's limit, and the size it is for.
const MAX_FIRST_S: f64 = 1.0;
const LEAST_BYTES: f64 = 100e6;
/// What reading a program may take at once, what is kept of it included: ARCHITECTURE.md says what is usual.
const MAX_PEAK_MIB: f64 = 4.0;
/// Of the program made. Each function and its helper are 1.2 KB of code and tables, and as much debug information.
const PACKAGES: u64 = 32;
const FUNCTIONS: u64 = 1_000;
/// Bytes of data built in, as programs have that carry files along.
const DATA_BYTES: usize = 68 << 20;
/// Runs of each; odd, so that the median is one of them.
const RUNS: usize = 9;

/// Both builds of the program.
pub(super) fn measure(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let directory = sh::target_dir().join("bench-symbols");
    write_sources(&directory, FUNCTIONS / bench.scale, DATA_BYTES / bench.scale as usize)?;
    let mut figures = Vec::new();
    for (name, options) in [("stripped", "-ldflags=-s -w"), ("unstripped", "-ldflags=")] {
        let program = build(&directory, name, options)?;
        let runs: Vec<serde_json::Value> =
            (0..RUNS).map(|_| symbolise(&bench.workload, &program)).collect::<anyhow::Result<_>>()?;
        let all = |field: &str, unit: f64| -> anyhow::Result<Vec<f64>> {
            let number = |run: &serde_json::Value| Some(run[field].as_f64()? / unit);
            runs.iter().map(number).collect::<Option<_>>().with_context(|| format!("no {field}: {runs:?}"))
        };
        let bytes = all("file_bytes", 1.0)?[0];
        if bench.scale == 1 && bytes < LEAST_BYTES {
            bail!("{} has {bytes} bytes only", program.display());
        }
        let what = format!("{:.0} MB Go program, {name}", bytes / 1e6);
        figures.push(Figure::new(
            format!("{what}: first stack named, s"),
            Some(MAX_FIRST_S),
            all("first_ns", 1e9)?,
        ));
        figures.push(Figure::new(format!("{what}: the same again, s"), None, all("again_ns", 1e9)?));
        let mib = f64::from(1 << 20);
        figures.push(Figure::new(
            format!("{what}: peak of memory, MiB"),
            Some(MAX_PEAK_MIB),
            all("peak_bytes", mib)?,
        ));
        figures.push(Figure::new(format!("{what}: memory kept, MiB"), None, all("held_bytes", mib)?));
    }
    Ok(figures)
}

/// One run of the workload: nothing is remembered from one to the next.
fn symbolise(workload: &Path, program: &Path) -> anyhow::Result<serde_json::Value> {
    let answer = sh::read(Command::new(workload).args(["symbolise", "--program"]).arg(program))?;
    serde_json::from_str(&answer).with_context(|| format!("the workload says {answer:?}"))
}

fn build(directory: &Path, name: &str, options: &str) -> anyhow::Result<PathBuf> {
    let program = directory.join(name);
    let go = sh::on_path("go").context("no go here: apt-get install golang-go")?;
    let mut command = Command::new(go);
    command.args(["build", "-trimpath", "-buildvcs=false", options, "-o"]).arg(&program).arg(".");
    command.current_dir(directory.join("source")).env("CGO_ENABLED", "0").env("GOPROXY", "off");
    command.env("GOFLAGS", "-mod=mod").env("GOCACHE", directory.join("cache"));
    sh::run(command.env("GOPATH", directory.join("path")))?;
    Ok(program)
}

fn write_sources(directory: &Path, functions: u64, data_bytes: usize) -> anyhow::Result<()> {
    let source = directory.join("source");
    let file = |name: &str, text: &[u8]| -> anyhow::Result<()> {
        let path = source.join(name);
        fs::create_dir_all(path.parent().context("a folder")?)?;
        fs::write(&path, text).with_context(|| path.display().to_string())
    };
    file("go.mod", b"module slowpod.test/large\n\ngo 1.19\n")?;
    file("data.bin", &vec![7; data_bytes])?;
    let (mut imports, mut calls) = (String::new(), String::new());
    for package in 0..PACKAGES {
        writeln!(imports, "\t\"slowpod.test/large/p{package}\"")?;
        writeln!(calls, "\tsum += p{package}.All(sum)")?;
        file(&format!("p{package}/p.go"), of_package(package, functions)?.as_bytes())?;
    }
    let main = format!(
        "package main\n\nimport (\n\t_ \"embed\"\n{imports})\n\n//go:embed data.bin\nvar data string\n\n\
         func main() {{\n\tsum := len(data)\n{calls}\tprintln(sum)\n}}\n"
    );
    file("main.go", main.as_bytes())
}

/// Functions with calls, loops, maps and strings, each different, and with a helper that is inlined.
fn of_package(package: u64, functions: u64) -> anyhow::Result<String> {
    let all: Vec<String> = (0..functions).map(|number| format!("Work{number}")).collect();
    let mut text = format!(
        "package p{package}\n\nimport \"strconv\"\n\nvar table = []func(int) int{{{}}}\n\n\
         func All(n int) int {{\n\tfor _, work := range table {{\n\t\tn += work(n)\n\t}}\n\treturn n\n}}\n",
        all.join(", ")
    );
    for number in 0..functions {
        let digit = number % 10;
        write!(
            text,
            r#"
func Work{number}(n int) int {{
	text := strconv.Itoa(n + {number})
	sum := 0
	for i, letter := range text {{
		switch {{
		case letter == '{digit}':
			sum += i * {number}
		case letter > '5':
			text += strconv.Itoa(sum) + "{package}-{number}"
		default:
			sum ^= help{number}(i, int(letter))
		}}
	}}
	numbers := map[string]int{{text: sum, "{number}": n}}
	for key, value := range numbers {{
		sum += len(key) * value
	}}
	return sum
}}

func help{number}(a, b int) int {{
	if a > {number} {{
		return a*b + {package}
	}}
	return a - b
}}
"#
        )?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_function_of_a_package_is_written_once_and_listed() {
        let text = of_package(3, 20).expect("text");
        assert!(text.starts_with("package p3\n"));
        assert_eq!(text.matches("\nfunc Work").count(), 20);
        assert!(text.contains("Work18, Work19}"));
    }
}
