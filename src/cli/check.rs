//! `weir check`: the rules of a config file over the last lines of its files, with what they match highlighted.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{IsTerminal as _, Read as _, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anstyle::{AnsiColor, Style};

use super::CliError;
use super::cluster::path;
use super::problems::Problems;
use super::test::{Checked, ConfigArgs, tell, verdict};
use crate::manifest::config::matching::{LineRules, Source};
use crate::manifest::config::plan::Surroundings;
use crate::manifest::held::HeldSecrets;
use crate::manifest::paths;

/// Files of one glob that are looked at.
const MOST_FILES: usize = 1000;
/// Bytes of a file's end that are looked at.
const MOST_BYTES: u64 = 64 * 1024 * 1024;
/// How much is read at a time, from the end of a file.
const BLOCK: u64 = 64 * 1024;

const HIT: Style = AnsiColor::Red.on_default().bold();
const RULE: Style = AnsiColor::Cyan.on_default();
const TITLE: Style = Style::new().bold();

/// Options of `weir check`.
#[derive(Debug, clap::Args)]
pub(super) struct CheckOptions {
    #[command(flatten)]
    config: ConfigArgs,
    /// Lines of each file that are looked at, from its end
    #[arg(long, short = 'n', value_name = "COUNT", default_value = "100")]
    lines: String,
    /// Look at this file instead of those of the config file; may be repeated
    #[arg(long, short = 'f', value_name = "FILE", value_parser = path())]
    file: Vec<PathBuf>,
    /// Look at this container instead of those of the config file; may be repeated
    #[arg(long, short = 'c', value_name = "NAME")]
    container: Vec<String>,
}

/// What was found in all files.
#[derive(Debug, Default)]
struct Summary {
    lines: usize,
    matched: usize,
    files: usize,
    rules: BTreeMap<String, usize>,
    failed: Vec<String>,
}

/// Looks at the last lines of files, and says what matches.
pub(super) fn check(options: &CheckOptions) -> Result<(), CliError> {
    let mut problems = Problems::default();
    let lines = problems.number("--lines", &options.lines, 1..=1_000_000_usize);
    problems.none()?;
    let checked = options.config.check(&HeldSecrets::new())?;
    if !checked.usable {
        tell(&checked.findings);
        return verdict(&checked);
    }
    let mut out = std::io::stdout().lock();
    let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let mut summary = Summary::default();
    look_at_files(options, &checked, lines, &mut Printer { out: &mut out, colour }, &mut summary)?;
    let containers = checked.config.containers.iter().map(|name| name.value.as_str());
    let asked = options.container.iter().map(String::as_str);
    let all: Vec<_> = if named_any(options) { asked.collect() } else { containers.collect() };
    let unread = all.iter().map(|name| format!("the container {name} is not looked at: this version reads none"));
    summary.failed.extend(unread);
    conclude(&mut out, &summary).map_err(CliError::output)?;
    drop(out);
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
            Ok(text) => look(&rules, &shown, &text, printer, summary).map_err(CliError::output)?,
            Err(error) => summary.failed.push(format!("{shown} cannot be read: {error}")),
        }
    }
    Ok(())
}

fn look(
    rules: &LineRules<'_>,
    title: &str,
    text: &[u8],
    printer: &mut Printer<'_>,
    summary: &mut Summary,
) -> std::io::Result<()> {
    printer.title(title, rules.len())?;
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let found = rules.matches(line);
        summary.lines += 1;
        if found.rules.is_empty() {
            continue;
        }
        summary.matched += 1;
        for rule in &found.rules {
            *summary.rules.entry((*rule).to_owned()).or_default() += 1;
        }
        printer.line(line, &found.rules, &found.ranges)?;
    }
    Ok(())
}

fn conclude(out: &mut impl Write, summary: &Summary) -> std::io::Result<()> {
    let Summary { lines, matched, files, .. } = summary;
    writeln!(out, "{matched} of {lines} lines match, in {files} {}", if *files == 1 { "file" } else { "files" })?;
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
    let (mut text, mut ends) = (Vec::new(), 0);
    while at > least {
        let step = BLOCK.min(at - least);
        at -= step;
        file.seek(SeekFrom::Start(at))?;
        let mut block = Vec::new();
        (&file).take(step).read_to_end(&mut block)?;
        // An end at the very end of the file begins no line.
        let last = text.is_empty() && block.last() == Some(&b'\n');
        ends += memchr::memchr_iter(b'\n', &block).count() - usize::from(last);
        block.append(&mut text);
        text = block;
        if ends >= lines {
            break;
        }
    }
    let body = text.strip_suffix(b"\n").unwrap_or(&text);
    let from = memchr::memrchr_iter(b'\n', body).nth(lines - 1).map_or(0, |end| end + 1);
    text.drain(..from);
    Ok(text)
}

/// Writes for people: control characters of a line are shown, not sent to the terminal.
struct Printer<'o> {
    out: &'o mut dyn Write,
    colour: bool,
}

impl Printer<'_> {
    fn title(&mut self, title: &str, rules: usize) -> std::io::Result<()> {
        let rules = format!(" ({rules} {})", if rules == 1 { "rule" } else { "rules" });
        self.styled(TITLE, title)?;
        writeln!(self.out, "{rules}")
    }

    fn line(&mut self, line: &[u8], rules: &[&str], ranges: &[std::ops::Range<usize>]) -> std::io::Result<()> {
        self.out.write_all(b"  ")?;
        self.styled(RULE, &format!("[{}]", rules.join(", ")))?;
        self.out.write_all(b" ")?;
        let mut at = 0;
        for range in ranges {
            self.out.write_all(shown(&line[at..range.start]).as_bytes())?;
            self.styled(HIT, &shown(&line[range.clone()]))?;
            at = range.end;
        }
        writeln!(self.out, "{}", shown(&line[at..]))
    }

    fn styled(&mut self, style: Style, text: &str) -> std::io::Result<()> {
        match self.colour {
            true => write!(self.out, "{style}{text}{style:#}"),
            false => self.out.write_all(text.as_bytes()),
        }
    }
}

fn shown(bytes: &[u8]) -> String {
    let plain = |c: char| if c.is_control() && c != '\t' { char::REPLACEMENT_CHARACTER } else { c };
    String::from_utf8_lossy(bytes).chars().map(plain).collect()
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

    #[test]
    fn what_matches_is_highlighted_and_control_characters_are_not_sent() {
        let printed = |colour| {
            let mut out = Vec::new();
            let mut printer = Printer { out: &mut out, colour };
            printer.line(b"an ERROR\x1b[2J", &["errors"], std::slice::from_ref(&(3..8))).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(printed(false), "  [errors] an ERROR\u{fffd}[2J\n");
        assert!(printed(true).contains("\u{1b}[1m\u{1b}[31mERROR\u{1b}[0m"), "{:?}", printed(true));
    }
}
