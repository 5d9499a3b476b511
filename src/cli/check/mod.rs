//! `weir check`: the rules of a config file over the last lines of its files and containers, with what they match
//! highlighted.

mod containers;
mod print;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{IsTerminal as _, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use self::print::Printer;
use super::CliError;
use super::cluster::path;
use super::notes::colours_allowed;
use super::problems::Problems;
use super::test::{Checked, ConfigArgs, tell, verdict};
use super::watch_options::DockerArgs;
use crate::manifest::config::matching::{LineRules, Source};
use crate::manifest::config::plan::Surroundings;
use crate::manifest::held::HeldSecrets;
use crate::manifest::paths;
use crate::manifest::place::Gravity;

/// Files of one glob that are looked at.
const MOST_FILES: usize = 1000;
/// Bytes of a file's end that are looked at.
const MOST_BYTES: u64 = 64 * 1024 * 1024;
/// How much is read at a time, from the end of a file.
const BLOCK: u64 = 64 * 1024;

/// Options of `weir check`.
#[derive(Debug, clap::Args)]
pub(super) struct CheckOptions {
    #[command(flatten)]
    config: ConfigArgs,
    /// Lines of each file and container that are looked at, from its end
    #[arg(long, short = 'n', value_name = "COUNT", default_value = "100")]
    lines: String,
    /// Look at this file instead of those of the config file; may be repeated
    #[arg(long, short = 'f', value_name = "FILE", value_parser = path())]
    file: Vec<PathBuf>,
    /// Look at this container instead of those of the config file, by its name or a pattern that matches it as a whole; may be repeated
    #[arg(long, short = 'c', value_name = "NAME")]
    container: Vec<String>,
    #[command(flatten)]
    docker: DockerArgs,
}

/// What was found in everything that was looked at.
#[derive(Debug, Default)]
struct Summary {
    lines: usize,
    matched: usize,
    files: usize,
    containers: usize,
    rules: BTreeMap<String, usize>,
    failed: Vec<String>,
}

/// Looks at the last lines of files and containers, and says what matches.
pub(super) async fn check(options: &CheckOptions) -> Result<(), CliError> {
    let mut problems = Problems::default();
    let lines = problems.number("--lines", &options.lines, 1..=1_000_000_usize);
    let named = containers::patterns(&options.container, &mut problems);
    problems.none()?;
    let checked = options.config.check(&HeldSecrets::new(), Gravity::Warning)?;
    if !checked.usable {
        tell(&checked.findings);
        return verdict(&checked);
    }
    let mut out = std::io::stdout();
    let colour = out.is_terminal() && colours_allowed();
    let mut summary = Summary::default();
    let mut printer = Printer { out: &mut out, colour };
    look_at_files(options, &checked, lines, &mut printer, &mut summary)?;
    let named = if named_any(options) { named } else { containers::configured(&checked.config) };
    let socket = &options.docker.docker_socket;
    containers::look_at(socket, &named, &checked.config.rules, lines, &mut printer, &mut summary).await?;
    conclude(&mut out, &summary).map_err(CliError::output)?;
    if summary.failed.is_empty() { Ok(()) } else { Err(CliError::Failed(summary.failed.join("\n"))) }
}

fn named_any(options: &CheckOptions) -> bool {
    !options.file.is_empty() || !options.container.is_empty()
}

fn look_at_files(
    options: &CheckOptions,
    checked: &Checked,
    lines: usize,
    printer: &mut Printer<'_>,
    summary: &mut Summary,
) -> Result<(), CliError> {
    let around = Surroundings::of(&options.config.config);
    let absolute = |written: &str| paths::absolute(&around.base, written, around.home.as_deref());
    let inputs: Vec<(&str, String)> =
        checked.config.files.iter().map(|file| (file.value.as_str(), absolute(&file.value))).collect();
    let named = options.file.iter().map(|file| std::path::absolute(file).unwrap_or_else(|_| file.clone()));
    let files: Vec<PathBuf> = if named_any(options) {
        named.collect()
    } else {
        let mut files: Vec<_> = inputs.iter().flat_map(|(_, pattern)| paths::files(pattern, MOST_FILES)).collect();
        files.sort();
        files.dedup();
        files
    };
    for file in files {
        let shown = file.to_string_lossy().into_owned();
        let input = inputs.iter().find(|(_, pattern)| paths::covers(pattern, &shown)).map(|(written, _)| *written);
        let rules = LineRules::of(&checked.config.rules, Source::File(&shown, input), absolute);
        summary.files += 1;
        match last_lines(&file, lines) {
            Ok(text) => {
                printer.title(&shown, rules.len()).map_err(CliError::output)?;
                for line in text.split_inclusive(|byte| *byte == b'\n') {
                    look(&rules, line, printer, summary).map_err(CliError::output)?;
                }
            }
            Err(error) => summary.failed.push(format!("{shown} cannot be read: {error}")),
        }
    }
    Ok(())
}

/// One line, with its end or without.
fn look(rules: &LineRules<'_>, line: &[u8], printer: &mut Printer<'_>, summary: &mut Summary) -> std::io::Result<()> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let found = rules.matches(line);
    summary.lines += 1;
    if found.rules.is_empty() {
        return Ok(());
    }
    summary.matched += 1;
    for rule in &found.rules {
        *summary.rules.entry((*rule).to_owned()).or_default() += 1;
    }
    printer.line(line, &found.rules, &found.ranges)
}

fn conclude(out: &mut impl std::io::Write, summary: &Summary) -> std::io::Result<()> {
    let Summary { lines, matched, files, containers, .. } = summary;
    let counted = |count: usize, one: &str| format!("{count} {one}{}", if count == 1 { "" } else { "s" });
    let mut places = counted(*files, "file");
    if *containers > 0 {
        places = format!("{places} and {}", counted(*containers, "container"));
    }
    writeln!(out, "{matched} of {lines} lines match, in {places}")?;
    for (rule, count) in &summary.rules {
        writeln!(out, "  {rule}: {count}")?;
    }
    out.flush()
}

/// The last lines of a file, with their ends.
fn last_lines(path: &Path, lines: usize) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let mut at = file.seek(SeekFrom::End(0))?;
    let least = at.saturating_sub(MOST_BYTES);
    let (mut blocks, mut ends) = (Vec::new(), 0);
    while at > least {
        let step = BLOCK.min(at - least);
        at -= step;
        file.seek(SeekFrom::Start(at))?;
        let mut block = Vec::new();
        (&file).take(step).read_to_end(&mut block)?;
        // An end at the very end of the file begins no line.
        let last = blocks.is_empty() && block.last() == Some(&b'\n');
        ends += memchr::memchr_iter(b'\n', &block).count() - usize::from(last);
        blocks.push(block);
        if ends >= lines {
            break;
        }
    }
    blocks.reverse();
    let mut text = blocks.concat();
    let body = text.strip_suffix(b"\n").unwrap_or(&text);
    let from = memchr::memrchr_iter(b'\n', body).nth(lines - 1).map_or(0, |end| end + 1);
    text.drain(..from);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_of_a_file_are_found_whatever_its_size() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let of = |text: &[u8], lines| {
            std::fs::write(&path, text).unwrap();
            last_lines(&path, lines).unwrap()
        };
        assert_eq!(of(b"", 3), b"");
        assert_eq!(of(b"a\nb\nc\n", 2), b"b\nc\n");
        assert_eq!(of(b"a\nb\nc", 2), b"b\nc");
        assert_eq!(of(b"a\nb\n", 9), b"a\nb\n");
        assert_eq!(of(b"\n\n\n", 2), b"\n\n");
        let long: Vec<u8> = (0..50_000).flat_map(|at| format!("line {at}\n").into_bytes()).collect();
        assert_eq!(of(&long, 1), b"line 49999\n");
        assert_eq!(of(&long, 20_000).split(|byte| *byte == b'\n').count(), 20_001);
        assert_eq!(of(&long, 50_000), long);
    }
}
