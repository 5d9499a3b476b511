//! One line.

use super::{Entry, Exemplar, Format, Labels, MetricType, Reason, Sample, labels, number};
use crate::record::Time;

/// What a line without its line feed says; `None` for blank lines and comments. `whole` where the line feed was there.
pub(super) fn read(line: &[u8], format: Format, whole: bool) -> Result<Option<Entry<'_>>, Reason> {
    let text = std::str::from_utf8(line).map_err(|_| if whole { Reason::NotUtf8 } else { Reason::CutOff })?;
    let entry = match format {
        Format::Text => read_text(text),
        Format::OpenMetrics => read_open_metrics(text).map(Some),
    };
    match entry {
        // Only this line says by itself that it is whole, and only these say nothing.
        Ok(None | Some(Entry::End)) => entry,
        _ if !whole => Err(Reason::CutOff),
        Err(_) if text.ends_with('\r') => Err(Reason::CarriageReturn),
        _ => entry,
    }
}

fn read_text(line: &str) -> Result<Option<Entry<'_>>, Reason> {
    let mut cursor = Cursor::new(line, Format::Text);
    cursor.skip_blanks();
    match cursor.peek() {
        None => Ok(None),
        Some(b'#') => {
            cursor.skip(1);
            cursor.skip_blanks();
            match cursor.token() {
                "HELP" => read_help(&mut cursor).map(Some),
                "TYPE" => read_type(&mut cursor).map(Some),
                _ => Ok(None),
            }
        }
        Some(_) => read_sample(&mut cursor).map(Some),
    }
}

fn read_open_metrics(line: &str) -> Result<Entry<'_>, Reason> {
    let mut cursor = Cursor::new(line, Format::OpenMetrics);
    match cursor.peek() {
        None => return Err(Reason::Blank),
        Some(b'#') => {}
        Some(_) => return read_sample(&mut cursor),
    }
    cursor.skip(1);
    if !cursor.separate() {
        return Err(Reason::Comment);
    }
    match cursor.token() {
        "HELP" => read_help(&mut cursor),
        "TYPE" => read_type(&mut cursor),
        "UNIT" => read_unit(&mut cursor),
        "EOF" if cursor.is_done() => Ok(Entry::End),
        _ => Err(Reason::Comment),
    }
}

fn read_help<'a>(cursor: &mut Cursor<'a>) -> Result<Entry<'a>, Reason> {
    let name = described(cursor)?;
    let text = match cursor.format() {
        Format::Text => {
            if !cursor.is_done() && !cursor.separate() {
                return Err(Reason::Name);
            }
            labels::unescape_with(cursor.remaining(), false)
        }
        Format::OpenMetrics if !cursor.separate() => return Err(Reason::NoText),
        Format::OpenMetrics => labels::unescape(cursor.remaining()),
    };
    Ok(Entry::Help { name, text })
}

fn read_type<'a>(cursor: &mut Cursor<'a>) -> Result<Entry<'a>, Reason> {
    use Format::{OpenMetrics, Text};
    let name = described(cursor)?;
    if !cursor.separate() {
        return Err(Reason::Type);
    }
    let kind = match (cursor.token(), cursor.format()) {
        ("counter", _) => MetricType::Counter,
        ("gauge", _) => MetricType::Gauge,
        ("histogram", _) => MetricType::Histogram,
        ("summary", _) => MetricType::Summary,
        ("untyped", Text) | ("unknown", OpenMetrics) => MetricType::Unknown,
        ("gaugehistogram", OpenMetrics) => MetricType::GaugeHistogram,
        ("stateset", OpenMetrics) => MetricType::StateSet,
        ("info", OpenMetrics) => MetricType::Info,
        _ => return Err(Reason::Type),
    };
    finish(cursor)?;
    Ok(Entry::Type { name, kind })
}

fn read_unit<'a>(cursor: &mut Cursor<'a>) -> Result<Entry<'a>, Reason> {
    let name = described(cursor)?;
    if !cursor.separate() {
        return Err(Reason::NoText);
    }
    let unit = cursor.remaining();
    if !unit.bytes().all(is_name) {
        return Err(Reason::Unit);
    }
    Ok(Entry::Unit { name, unit })
}

/// The metric that a comment is about.
fn described<'a>(cursor: &mut Cursor<'a>) -> Result<&'a [u8], Reason> {
    if !cursor.separate() {
        return Err(Reason::Name);
    }
    let name = if cursor.peek() == Some(b'"') { labels::quoted_text(cursor)? } else { cursor.metric_name() };
    if name.is_empty() { Err(Reason::Name) } else { Ok(name.as_bytes()) }
}

fn read_sample<'a>(cursor: &mut Cursor<'a>) -> Result<Entry<'a>, Reason> {
    let outside = cursor.metric_name();
    cursor.skip_blanks();
    let (labels, inside) = if cursor.eat(b'{') { labels::read(cursor)? } else { (Labels::default(), None) };
    let name = match (outside, inside) {
        ("", None) => return Err(Reason::Name),
        ("", Some(name)) | (name, None) => name,
        (_, Some(_)) => return Err(Reason::SecondName),
    };
    let value = read_value(cursor)?;
    let mut sample = Sample { name: name.as_bytes(), labels, value, timestamp: None, exemplar: None };
    match cursor.format() {
        Format::Text => {
            cursor.skip_blanks();
            if !cursor.is_done() {
                sample.timestamp = Some(number::millis(cursor.token())?);
            }
        }
        Format::OpenMetrics => {
            sample.timestamp = read_seconds(cursor)?;
            if cursor.eat(b' ') {
                sample.exemplar = Some(read_exemplar(cursor)?);
            }
        }
    }
    finish(cursor)?;
    Ok(Entry::Sample(sample))
}

/// In text the braces part as well as a blank does; in OpenMetrics there is one space.
fn read_value(cursor: &mut Cursor<'_>) -> Result<f64, Reason> {
    let parted = cursor.separate() || cursor.format() == Format::Text;
    match cursor.token() {
        text if parted && !text.is_empty() => number::value(text),
        _ => Err(Reason::NoValue),
    }
}

/// The time behind a value of OpenMetrics, unless an exemplar or nothing is there.
fn read_seconds(cursor: &mut Cursor<'_>) -> Result<Option<Time>, Reason> {
    if matches!(cursor.rest(), [] | [b' ', b'#', ..]) {
        return Ok(None);
    }
    if !cursor.separate() {
        return Err(Reason::Trailing);
    }
    number::seconds(cursor.token()).map(Some)
}

fn read_exemplar<'a>(cursor: &mut Cursor<'a>) -> Result<Exemplar<'a>, Reason> {
    if !(cursor.eat(b'#') && cursor.eat(b' ') && cursor.eat(b'{')) {
        return Err(Reason::Exemplar);
    }
    let (labels, name) = labels::read(cursor)?;
    if name.is_some() {
        return Err(Reason::ExemplarName);
    }
    let value = read_value(cursor)?;
    Ok(Exemplar { labels, value, timestamp: read_seconds(cursor)? })
}

fn finish(cursor: &mut Cursor<'_>) -> Result<(), Reason> {
    cursor.skip_blanks();
    if cursor.is_done() { Ok(()) } else { Err(Reason::Trailing) }
}

/// A place in a line. It stands between characters whenever a text is taken.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'a> {
    text: &'a str,
    at: usize,
    format: Format,
}

impl<'a> Cursor<'a> {
    pub fn new(text: &'a str, format: Format) -> Self {
        Self { text, at: 0, format }
    }

    pub fn format(&self) -> Format {
        self.format
    }

    pub fn at(&self) -> usize {
        self.at
    }

    pub fn rest(&self) -> &'a [u8] {
        &self.text.as_bytes()[self.at..]
    }

    pub fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    pub fn is_done(&self) -> bool {
        self.at == self.text.len()
    }

    /// No more than there is.
    pub fn skip(&mut self, count: usize) {
        self.at += count;
    }

    pub fn eat(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    /// Blanks and tabs, which may stand between the tokens of text.
    pub fn skip_blanks(&mut self) {
        while self.format == Format::Text && matches!(self.peek(), Some(b' ' | b'\t')) {
            self.at += 1;
        }
    }

    /// What parts two tokens: at least one blank or tab in text, exactly one space in OpenMetrics. Whether it is there.
    pub fn separate(&mut self) -> bool {
        let blank = self.eat(b' ') || (self.format == Format::Text && self.eat(b'\t'));
        self.skip_blanks();
        blank
    }

    /// From `start` to here, without the last `less` bytes.
    pub fn since(&self, start: usize, less: usize) -> &'a str {
        &self.text[start..self.at - less]
    }

    /// To the end of the line.
    pub fn remaining(&mut self) -> &'a str {
        self.take(|_| true)
    }

    /// To the next blank or tab; may be empty.
    pub fn token(&mut self) -> &'a str {
        self.take(|byte| byte != b' ' && byte != b'\t')
    }

    /// May be empty.
    pub fn metric_name(&mut self) -> &'a str {
        if self.peek().is_some_and(|byte| byte.is_ascii_digit()) { "" } else { self.take(is_name) }
    }

    pub fn label_name(&mut self) -> Option<&'a str> {
        let first = self.peek()?;
        let name = self.take(|byte| CLASSES[usize::from(byte)] & IN_LABEL_NAME != 0);
        (!name.is_empty() && !first.is_ascii_digit()).then_some(name)
    }

    fn take(&mut self, wanted: impl Fn(u8) -> bool) -> &'a str {
        let start = self.at;
        let rest = self.rest();
        self.at += rest.iter().position(|&byte| !wanted(byte)).unwrap_or(rest.len());
        self.since(start, 0)
    }
}

/// Whether a byte may stand in a metric's name.
fn is_name(byte: u8) -> bool {
    CLASSES[usize::from(byte)] & IN_NAME != 0
}

const IN_NAME: u8 = 1;
const IN_LABEL_NAME: u8 = 2;

/// Where each byte may stand: names are read byte by byte, and looking it up is the quickest.
static CLASSES: [u8; 256] = {
    let (mut classes, mut byte) = ([0; 256], 0u8);
    while byte < 128 {
        if byte.is_ascii_alphanumeric() || byte == b'_' {
            classes[byte as usize] = IN_NAME | IN_LABEL_NAME;
        }
        byte += 1;
    }
    classes[b':' as usize] = IN_NAME;
    classes
};
