//! From the bytes of a log answer to batches.
//!
//! Where a container has no terminal, the engine sends frames: a byte that names the writer, three zeros, a length in
//! four bytes, big end first, then so many bytes. The lines of each writer are cut by themselves, so that they never
//! mix; they are given in the order in which their ends came. A frame's bytes are handed on as they arrive: whatever
//! length it claims, nothing is held but one line of each writer.

use std::sync::Arc;

use crate::record::{Batch, Line, LineLimit, Origin};
use crate::source::pods::parse::LogParser;

const HEADER: usize = 8;

/// Why an answer cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotFrames;

/// Reads one answer.
pub(super) enum LogReader {
    /// The log of a terminal: lines as they are.
    Raw(LogParser),
    /// Frames of two writers.
    Framed(Box<Framed>),
}

/// The state between two pieces of an answer.
pub(super) struct Framed {
    origin: Arc<Origin>,
    writers: [LogParser; 3],
    header: [u8; HEADER],
    /// How much of the header is there.
    filled: usize,
    /// How much of the frame is to come.
    left: usize,
    data: Vec<u8>,
    lines: Vec<Line>,
}

impl LogReader {
    /// A reader of an answer from its beginning. Lines up to `limit` are kept whole.
    pub fn new(origin: &Arc<Origin>, tty: bool, limit: LineLimit) -> Self {
        // The time before a line, and before each part of a long one, counts to it.
        let limit = LineLimit(limit.0 + 64 + limit.0 / 256);
        let parser = || LogParser::new(Arc::clone(origin), limit);
        if tty {
            return Self::Raw(parser());
        }
        Self::Framed(Box::new(Framed {
            origin: Arc::clone(origin),
            writers: [parser(), parser(), parser()],
            header: [0; HEADER],
            filled: 0,
            left: 0,
            data: Vec::new(),
            lines: Vec::new(),
        }))
    }

    /// Takes bytes as they arrived; the lines that ended with them.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Option<Arc<Batch>>, NotFrames> {
        match self {
            Self::Raw(parser) => {
                parser.push(bytes);
                Ok(parser.batch())
            }
            Self::Framed(framed) => {
                framed.push(bytes)?;
                Ok(framed.batch())
            }
        }
    }

    /// What stands at the end of a log that has ended, without a line end.
    pub fn rest(&mut self) -> Option<Arc<Batch>> {
        match self {
            Self::Raw(parser) => parser.rest(),
            Self::Framed(framed) => {
                for writer in 0..framed.writers.len() {
                    let rest = framed.writers[writer].rest();
                    framed.append(rest);
                }
                framed.batch()
            }
        }
    }
}

impl Framed {
    fn push(&mut self, mut bytes: &[u8]) -> Result<(), NotFrames> {
        while !bytes.is_empty() {
            if self.filled < HEADER {
                let taken = bytes.len().min(HEADER - self.filled);
                self.header[self.filled..self.filled + taken].copy_from_slice(&bytes[..taken]);
                self.filled += taken;
                bytes = &bytes[taken..];
                if self.filled < HEADER {
                    return Ok(());
                }
                let [writer, zeros @ .., a, b, c, d] = self.header;
                if writer > 3 || zeros != [0; 3] {
                    return Err(NotFrames);
                }
                self.left = u32::from_be_bytes([a, b, c, d]) as usize;
            }
            let taken = bytes.len().min(self.left);
            // 1 is stdout, 2 is stderr; 3 is the engine itself. 0 would be stdin, which no log has.
            let writer = usize::from(self.header[0].saturating_sub(1));
            self.writers[writer].push(&bytes[..taken]);
            self.left -= taken;
            bytes = &bytes[taken..];
            let ended = self.writers[writer].batch();
            self.append(ended);
            if self.left == 0 {
                self.filled = 0;
            }
        }
        Ok(())
    }

    fn append(&mut self, batch: Option<Arc<Batch>>) {
        let Some(batch) = batch else { return };
        for line in batch.lines() {
            let start = self.data.len();
            self.data.extend_from_slice(batch.text(line));
            self.lines.push(Line::new(start..self.data.len(), line.time, line.truncated));
        }
    }

    fn batch(&mut self) -> Option<Arc<Batch>> {
        let (data, lines) = (std::mem::take(&mut self.data), std::mem::take(&mut self.lines));
        (!lines.is_empty()).then(|| Arc::new(Batch::new(Arc::clone(&self.origin), data.into(), lines)))
    }
}
