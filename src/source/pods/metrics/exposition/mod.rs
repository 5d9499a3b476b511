//! Pages of metrics, read where they lie: the [text format 0.0.4][text] of Prometheus, with the quoted names of its
//! version 1.0.0, and [OpenMetrics 1.0][open].
//!
//! Nothing is copied and nothing is kept: a page is a slice of bytes, an entry borrows from it, and lines are found as
//! they are asked for. What a page means as a whole (that a family stands in one piece, that a histogram has all its
//! buckets) is not looked at. Time is linear in the length of the page, whatever it holds.
//!
//! Where the documents leave a choice, Prometheus' own server is followed: an escape that means nothing stays as it is
//! written, and a quoted name may stand anywhere between the braces. Where the server takes more than the documents
//! allow (no comma between labels, a line that ends with the page), the documents are.
//!
//! [text]: https://prometheus.io/docs/instrumenting/exposition_formats/
//! [open]: https://prometheus.io/docs/specs/om/open_metrics_spec/

mod labels;
mod line;
mod number;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use memchr::memchr;

use crate::record::Time;

pub use labels::{Labels, unescape};

/// How a page is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Prometheus' text format: blanks and tabs between tokens, comments, times in milliseconds.
    #[default]
    Text,
    /// OpenMetrics: one space between tokens, times in seconds, exemplars, units, and `# EOF` at the end.
    OpenMetrics,
}

impl Format {
    /// By the `Content-Type` of an answer; `None` for one that is neither.
    pub fn from_content_type(content_type: &str) -> Option<Self> {
        let kind = content_type.split(';').next().unwrap_or_default().trim();
        let is = |name: &str| kind.eq_ignore_ascii_case(name);
        match () {
            () if is("text/plain") => Some(Self::Text),
            () if is("application/openmetrics-text") => Some(Self::OpenMetrics),
            () => None,
        }
    }
}

/// A page as it is read: its entries in their order, without blank lines and comments.
///
/// A line that cannot be read is an `Err` with its number; the next call goes on with the line after it.
#[derive(Clone, Debug)]
pub struct Exposition<'a> {
    rest: &'a [u8],
    format: Format,
    line: usize,
    ended: bool,
}

/// What a line says.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry<'a> {
    /// One value.
    Sample(Sample<'a>),
    /// What a metric means.
    Help {
        /// The metric, as it is written: see [`unescape`].
        name: &'a [u8],
        /// For people; may be empty and may have several lines.
        text: Cow<'a, str>,
    },
    /// What kind a metric is of.
    Type {
        /// The metric, as it is written: see [`unescape`].
        name: &'a [u8],
        /// Its kind.
        kind: MetricType,
    },
    /// What a metric is counted in; only in OpenMetrics.
    Unit {
        /// The metric, as it is written: see [`unescape`].
        name: &'a [u8],
        /// Its unit; may be empty.
        unit: &'a str,
    },
    /// `# EOF`, the end of a whole page of OpenMetrics.
    End,
}

/// One value of one metric.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample<'a> {
    /// The metric, never empty. A quoted name is here without its quotes, but else as it is written: see [`unescape`].
    pub name: &'a [u8],
    /// What tells it from the others of its name.
    pub labels: Labels<'a>,
    /// The nearest number to what is written.
    pub value: f64,
    /// When it was measured, where the page says so. What is outside 1677–2262 is the nearest that fits, and what is
    /// finer than a nanosecond is cut off.
    pub timestamp: Option<Time>,
    /// An example of what was counted; only in OpenMetrics.
    pub exemplar: Option<Exemplar<'a>>,
}

/// An example of what a sample counts, for instance the trace of one request.
#[derive(Clone, Debug, PartialEq)]
pub struct Exemplar<'a> {
    /// Where to find it.
    pub labels: Labels<'a>,
    /// Its share in the sample's value.
    pub value: f64,
    /// When it happened, where the page says so.
    pub timestamp: Option<Time>,
}

/// The kinds of metrics of both formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the formats' own words")]
pub enum MetricType {
    Counter,
    Gauge,
    Histogram,
    GaugeHistogram,
    StateSet,
    Info,
    Summary,
    /// `unknown` in OpenMetrics, `untyped` in text.
    Unknown,
}

/// A line that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct LineError {
    /// Its number, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: Reason,
}

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// Bytes that are no UTF-8.
    #[error("is not UTF-8")]
    NotUtf8,
    /// The page ends without a line feed: what stands there may be a part of what was meant.
    #[error("the page ends within this line: it was cut off")]
    CutOff,
    /// The line would be good without its last byte.
    #[error("ends in a carriage return: lines end in a line feed alone")]
    CarriageReturn,
    /// A blank line in OpenMetrics.
    #[error("is blank, which OpenMetrics does not allow")]
    Blank,
    /// A comment in OpenMetrics that is none of its own.
    #[error("OpenMetrics knows only the comments # HELP, # TYPE, # UNIT and # EOF")]
    Comment,
    /// No metric's name where one has to be.
    #[error("expected a metric's name, which is of letters, digits, `_` and `:`, or stands in quotes")]
    Name,
    /// A name before the braces and one between them, or two between them.
    #[error("has two names of metrics")]
    SecondName,
    /// A name within an exemplar's braces.
    #[error("an exemplar has labels, not a name")]
    ExemplarName,
    /// No label's name where one has to be.
    #[error("expected a label's name, which is of letters, digits and `_`, or stands in quotes")]
    LabelName,
    /// No `=` between a label's name and its value.
    #[error("expected `=` after a label's name")]
    Equals,
    /// A label's value without its first quote.
    #[error("expected a label's value in double quotes")]
    Quote,
    /// A quote that the line does not close.
    #[error("a double quote is not closed")]
    OpenQuote,
    /// Neither of what may stand after a label.
    #[error("expected `,` or `}}` after a label")]
    Separator,
    /// A label's name twice: it has no one value.
    #[error("has a label twice")]
    DuplicateLabel,
    /// No value, or in OpenMetrics not exactly one space before it.
    #[error("expected a value after a blank")]
    NoValue,
    /// A value that is no number of the format.
    #[error("the value is no decimal number, nor `NaN`, `+Inf` or `-Inf`")]
    Value,
    /// A finite value above what a 64-bit float can say.
    #[error("the value is greater than a 64-bit float can be")]
    ValueRange,
    /// A timestamp that is none of the format.
    #[error("the timestamp is neither whole milliseconds (text) nor seconds (OpenMetrics)")]
    Timestamp,
    /// More than there may be.
    #[error("has more behind its end")]
    Trailing,
    /// An exemplar that does not begin with `# {`.
    #[error("expected an exemplar, ` # {{labels}} value`")]
    Exemplar,
    /// A kind that the format does not know.
    #[error("the format knows no such kind of metric")]
    Type,
    /// A `# HELP` or `# UNIT` of OpenMetrics without the space behind the name.
    #[error("expected one space and a text after the metric's name")]
    NoText,
    /// A unit that cannot be part of a name.
    #[error("a unit is of letters, digits, `_` and `:`")]
    Unit,
    /// Bytes behind `# EOF`.
    #[error("has something behind # EOF")]
    AfterEnd,
    /// OpenMetrics without `# EOF`: the page may be a part of what was meant.
    #[error("the page ends without # EOF: it was cut off")]
    NoEnd,
}

impl<'a> Exposition<'a> {
    /// Reads Prometheus' text format.
    pub fn new(page: &'a [u8]) -> Self {
        Self::with_format(page, Format::Text)
    }

    /// Reads `format`.
    pub fn with_format(page: &'a [u8], format: Format) -> Self {
        Self { rest: page, format, line: 0, ended: false }
    }

    /// The end of the page, with what is wrong about it.
    fn finish(&mut self) -> Option<Result<Entry<'a>, LineError>> {
        let missing = self.format == Format::OpenMetrics && !self.ended;
        self.ended = true;
        missing.then(|| Err(LineError { line: self.line + 1, reason: Reason::NoEnd }))
    }

    /// What stands behind `# EOF`, once.
    fn after_end(&mut self) -> Option<Result<Entry<'a>, LineError>> {
        let more = !std::mem::take(&mut self.rest).is_empty();
        more.then(|| Err(LineError { line: self.line + 1, reason: Reason::AfterEnd }))
    }
}

impl<'a> Iterator for Exposition<'a> {
    type Item = Result<Entry<'a>, LineError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return self.after_end();
        }
        while !self.rest.is_empty() {
            let end = memchr(b'\n', self.rest);
            let line = &self.rest[..end.unwrap_or(self.rest.len())];
            self.rest = &self.rest[end.map_or(self.rest.len(), |end| end + 1)..];
            self.line += 1;
            match line::read(line, self.format, end.is_some()) {
                Ok(None) => {}
                Ok(Some(entry)) => {
                    self.ended = matches!(entry, Entry::End);
                    return Some(Ok(entry));
                }
                Err(reason) => {
                    self.ended = reason == Reason::CutOff;
                    return Some(Err(LineError { line: self.line, reason }));
                }
            }
        }
        self.finish()
    }
}
