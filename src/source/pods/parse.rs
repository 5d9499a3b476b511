//! From the bytes of a log request to batches: cuts lines and takes the kubelet's time off each.

use std::sync::Arc;

use bytes::Bytes;

use crate::record::{Batch, Cut, Line, LineCutter, LineLimit, Origin, Time, TimeParser};

/// The runtime writes long lines in parts of this size (containerd's `max_container_log_line_size`), and older
/// kubelets put a time before each part.
const PART: usize = 16 * 1024;

/// Turns one answer of the log endpoint into batches.
#[derive(Debug)]
pub(in crate::source) struct LogParser {
    origin: Arc<Origin>,
    cutter: LineCutter,
    times: TimeParser,
    /// What a line without a time of its own gets: the one before it.
    last: Option<Time>,
}

impl LogParser {
    pub fn new(origin: Arc<Origin>, limit: LineLimit) -> Self {
        Self { origin, cutter: LineCutter::new(limit), times: TimeParser::default(), last: None }
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.cutter.push(bytes);
    }

    /// The whole lines that have arrived.
    pub fn batch(&mut self) -> Option<Arc<Batch>> {
        let cut = self.cutter.cut()?;
        Some(self.parse(cut))
    }

    /// The last line, where the log ended without a line end.
    pub fn rest(&mut self) -> Option<Arc<Batch>> {
        let cut = self.cutter.finish()?;
        Some(self.parse(cut))
    }

    fn parse(&mut self, cut: Cut) -> Arc<Batch> {
        if cut.pieces.iter().any(|piece| piece.range.len() > PART) {
            return self.parse_long(cut);
        }
        let mut lines = Vec::with_capacity(cut.pieces.len());
        for piece in cut.pieces {
            let (time, text) = self.split(&cut.data[piece.range.clone()]);
            lines.push(Line::new(piece.range.start + text..piece.range.end, time, piece.truncated));
        }
        Arc::new(Batch::new(Arc::clone(&self.origin), cut.data, lines))
    }

    /// The slow way, for a cut with a line that may carry times within: such a line is put together anew.
    fn parse_long(&mut self, cut: Cut) -> Arc<Batch> {
        let mut data = Vec::with_capacity(cut.data.len());
        let mut lines = Vec::with_capacity(cut.pieces.len());
        for piece in cut.pieces {
            let line = &cut.data[piece.range];
            let (time, text) = self.split(line);
            let start = data.len();
            self.push_parts(&mut data, &line[text..]);
            lines.push(Line::new(start..data.len(), time, piece.truncated));
        }
        Arc::new(Batch::new(Arc::clone(&self.origin), Bytes::from(data), lines))
    }

    /// Appends the parts of a long line without the times between them.
    fn push_parts(&mut self, out: &mut Vec<u8>, mut text: &[u8]) {
        while text.len() > PART {
            let (part, rest) = text.split_at(PART);
            out.extend_from_slice(part);
            text = match self.times.split(rest) {
                Some((_, at)) => &rest[at..],
                None => rest,
            };
        }
        out.extend_from_slice(text);
    }

    fn split(&mut self, line: &[u8]) -> (Time, usize) {
        match self.times.split(line) {
            Some((time, text)) => {
                self.last = Some(time);
                (time, text)
            }
            // The kubelet's own words, such as "unable to retrieve container logs", carry no time.
            None => (*self.last.get_or_insert_with(Time::now), 0),
        }
    }
}
