//! How lines that match are shown to people.

use std::io::Write;
use std::ops::Range;

use anstyle::{AnsiColor, Style};

const HIT: Style = AnsiColor::Red.on_default().bold();
const RULE: Style = AnsiColor::Cyan.on_default();
const TITLE: Style = Style::new().bold();

/// Writes for people: control characters of a line are shown, not sent to the terminal.
pub(super) struct Printer<'o> {
    /// Where to.
    pub out: &'o mut dyn Write,
    /// Whether it is a terminal that shows colours.
    pub colour: bool,
}

impl Printer<'_> {
    /// What is looked at, and with how many rules.
    pub fn title(&mut self, title: &str, rules: usize) -> std::io::Result<()> {
        let rules = format!(" ({rules} {})", if rules == 1 { "rule" } else { "rules" });
        self.styled(TITLE, title)?;
        writeln!(self.out, "{rules}")
    }

    /// A line, which rules it matches, and where.
    pub fn line(&mut self, line: &[u8], rules: &[&str], ranges: &[Range<usize>]) -> std::io::Result<()> {
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
