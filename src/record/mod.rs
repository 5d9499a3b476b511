//! What flows: records in batches, the origin they share, and the signals that explain them.
//! Nothing here is async and nothing here knows where bytes come from.
//!
//! ```text
//!   bytes ──► LineCutter ──► Batch { origin, data, lines } ──► Wire encoders (once per format)
//! ```

pub mod cutter;
pub mod encode;
mod origin;
mod reading;
mod signal;
mod time;

#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

pub use cutter::{Cut, LineCutter, LineLimit};
pub use encode::{Encoded, Wire};
pub use origin::{ContainerKind, Origin, node_name};
pub use reading::{Asset, Reading, ReadingHead};
pub use signal::{Event, Level, REASON_BYTES, Regarding, Signal, cut_text};
pub use time::{Time, TimeParser};

/// One line of a [`Batch`]: where its text stands in the batch's bytes, and when it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    start: u32,
    len: u32,
    /// When the line was written, by the clock of whoever wrote it.
    pub time: Time,
    /// Whether the line was longer than the limit and lost its end.
    pub truncated: bool,
}

impl Line {
    /// A line whose text is `range` of the batch's bytes.
    pub fn new(range: Range<usize>, time: Time, truncated: bool) -> Self {
        Self { start: range.start as u32, len: (range.end - range.start) as u32, time, truncated }
    }

    fn range(&self) -> Range<usize> {
        let start = self.start as usize;
        start..start + self.len as usize
    }
}

/// Records of one origin that arrived together: the unit that is stored, shared and encoded.
///
/// Lines keep the order in which they were written. The bytes are as they came, UTF-8 or not, without
/// line ends. A batch never changes after it was made, so that each wire format is encoded once and
/// shared by all readers.
#[derive(Debug)]
pub struct Batch {
    origin: Arc<Origin>,
    data: Bytes,
    lines: Vec<Line>,
    text_len: usize,
    oldest: Option<Time>,
    newest: Option<Time>,
    encoded: [OnceLock<Encoded>; Wire::COUNT],
}

/// What a line costs beyond its text while a stream holds it, in bytes.
const LINE_COST: usize = size_of::<Line>();

impl Batch {
    /// A batch of `lines` that stand in `data`. The lines' ranges must lie within `data`.
    pub fn new(origin: Arc<Origin>, data: Bytes, lines: Vec<Line>) -> Self {
        debug_assert!(lines.iter().all(|line| line.range().end <= data.len()));
        let text_len = lines.iter().map(|line| line.len as usize).sum();
        let oldest = lines.iter().map(|line| line.time).min();
        let newest = lines.iter().map(|line| line.time).max();
        Self { origin, data, lines, text_len, oldest, newest, encoded: Default::default() }
    }

    /// A batch of one line, for sources that make their text themselves, and for tests.
    pub fn of_text(origin: Arc<Origin>, time: Time, text: impl Into<Bytes>) -> Self {
        let data = text.into();
        let line = Line::new(0..data.len(), time, false);
        Self::new(origin, data, vec![line])
    }

    /// Who wrote the lines.
    pub fn origin(&self) -> &Arc<Origin> {
        &self.origin
    }

    /// How many records the batch holds.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether the batch holds no record.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The lines' places and times, in the order in which they were written.
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// The text of one of this batch's lines, without its line end.
    pub fn text(&self, line: &Line) -> &[u8] {
        &self.data[line.range()]
    }

    /// What the batch costs to hold, in bytes: its text and its table of lines.
    pub fn cost(&self) -> usize {
        self.text_len + self.lines.len() * LINE_COST
    }

    /// How many bytes of text the batch carries.
    pub fn text_len(&self) -> usize {
        self.text_len
    }

    /// The oldest of the lines' times.
    pub fn oldest(&self) -> Option<Time> {
        self.oldest
    }

    /// The newest of the lines' times: not always the last one's, where two wrote to one log.
    pub fn newest(&self) -> Option<Time> {
        self.newest
    }

    /// The batch's lines that `keep` wants: the batch itself when that is all of them, `None` when it is
    /// none. They share the batch's bytes where they are at least half of them, so that a line that a filter
    /// let through does not keep alive a thousand that it did not.
    pub fn retain(self: &Arc<Self>, mut keep: impl FnMut(&Line, &[u8]) -> bool) -> Option<Arc<Self>> {
        let kept: Vec<Line> = self.lines.iter().filter(|line| keep(line, self.text(line))).copied().collect();
        match kept.len() {
            0 => None,
            n if n == self.lines.len() => Some(Arc::clone(self)),
            _ => Some(Arc::new(self.with_lines(kept))),
        }
    }

    /// The batch's lines of these indices, `None` when there are none.
    pub fn slice(self: &Arc<Self>, range: Range<usize>) -> Option<Arc<Self>> {
        let kept = self.lines.get(range)?;
        match kept.len() {
            0 => None,
            n if n == self.lines.len() => Some(Arc::clone(self)),
            _ => Some(Arc::new(self.with_lines(kept.to_vec()))),
        }
    }

    fn with_lines(&self, mut lines: Vec<Line>) -> Self {
        let text_len: usize = lines.iter().map(|line| line.len as usize).sum();
        if text_len >= self.data.len() / 2 {
            return Self::new(Arc::clone(&self.origin), self.data.clone(), lines);
        }
        let mut data = Vec::with_capacity(text_len);
        for line in &mut lines {
            let start = data.len();
            data.extend_from_slice(self.text(line));
            line.start = start as u32;
        }
        Self::new(Arc::clone(&self.origin), data.into(), lines)
    }

    /// The batch with no line longer than `limit`: the batch itself where none is.
    pub fn clip(self: Arc<Self>, limit: LineLimit) -> Arc<Self> {
        if self.lines.iter().all(|line| line.len as usize <= limit.0) {
            return self;
        }
        let clip = |line: &Line| {
            let over = line.len as usize > limit.0;
            Line { len: line.len.min(limit.0 as u32), truncated: line.truncated || over, ..*line }
        };
        let lines = self.lines.iter().map(clip).collect();
        Arc::new(self.with_lines(lines))
    }

    /// The batch without its first `n` lines; `None` when nothing is left.
    pub fn skip(self: &Arc<Self>, n: usize) -> Option<Arc<Self>> {
        self.slice(n..self.lines.len())
    }

    /// The batch in a wire format: encoded by the first who asks, shared by all who ask later.
    pub fn encoded(&self, wire: Wire) -> &Encoded {
        self.encoded[wire as usize].get_or_init(|| encode::batch(self, wire))
    }
}
