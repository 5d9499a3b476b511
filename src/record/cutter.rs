//! Cuts a stream of bytes into lines. Never waits, never holds more than one line and what was just read.

use std::ops::Range;

use bytes::{Buf, Bytes, BytesMut};

/// The longest line that is kept whole, in bytes without the line end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineLimit(pub usize);

impl Default for LineLimit {
    fn default() -> Self {
        Self(64 * 1024)
    }
}

/// One line within the bytes of a [`Cut`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Where the line stands, without its line end (`\n` or `\r\n`).
    pub range: Range<usize>,
    /// Whether the line was over the limit: its end is gone, and was counted.
    pub truncated: bool,
}

/// Whole lines that were cut off together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// The bytes the lines stand in.
    pub data: Bytes,
    /// The lines, in order.
    pub pieces: Vec<Piece>,
}

/// Below this, the bytes of a cut are copied, so that a short line does not keep a long buffer alive.
const COPY_BELOW: usize = 4 * 1024;

/// Cuts bytes into lines at `\n`.
///
/// Guarantees: the same bytes give the same lines however they were split on arrival; a line over the limit
/// is given once, cut to the limit and marked, as soon as the limit is passed, and the rest of it is never
/// stored; memory is at most the limit and what was pushed since the last [`cut`](Self::cut).
#[derive(Debug)]
pub struct LineCutter {
    limit: LineLimit,
    buffer: BytesMut,
    /// How much of the buffer is known to hold no line end.
    scanned: usize,
    /// Inside the rest of a line whose beginning was given already.
    discarding: bool,
    discarded: u64,
}

impl LineCutter {
    /// A cutter that keeps lines up to `limit` whole.
    pub fn new(limit: LineLimit) -> Self {
        Self { limit, buffer: BytesMut::new(), scanned: 0, discarding: false, discarded: 0 }
    }

    /// Adds bytes as they arrived.
    pub fn push(&mut self, mut bytes: &[u8]) {
        if self.discarding {
            match memchr::memchr(b'\n', bytes) {
                Some(end) => {
                    self.discarded += end as u64;
                    self.discarding = false;
                    bytes = &bytes[end + 1..];
                }
                None => {
                    self.discarded += bytes.len() as u64;
                    return;
                }
            }
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// How many bytes wait for the end of their line.
    pub fn pending(&self) -> usize {
        self.buffer.len()
    }

    /// How many bytes of overlong lines were thrown away so far.
    pub fn discarded(&self) -> u64 {
        self.discarded
    }

    /// All whole lines that have arrived, `None` where there are none.
    pub fn cut(&mut self) -> Option<Cut> {
        let mut pieces = Vec::new();
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', &self.buffer[self.scanned..]) {
            let end = self.scanned + end;
            pieces.push(self.piece(start, end));
            start = end + 1;
        }
        let rest = self.buffer.len() - start;
        // One byte more than the limit may still be the `\r` of a line end.
        if rest > self.limit.0 + 1 {
            pieces.push(Piece { range: start..start + self.limit.0, truncated: true });
            self.discarded += (rest - self.limit.0) as u64;
            self.discarding = true;
            start = self.buffer.len();
        }
        self.discarded += pieces_over(&pieces, self.limit);
        self.scanned = self.buffer.len() - start;
        if pieces.is_empty() { None } else { Some(Cut { data: self.take(start), pieces: clip(pieces, self.limit) }) }
    }

    /// The last line, where the bytes ended without a line end. The cutter is empty afterwards.
    pub fn finish(&mut self) -> Option<Cut> {
        self.discarding = false;
        self.scanned = 0;
        if self.buffer.is_empty() {
            return None;
        }
        let end = self.buffer.len();
        let pieces = vec![self.piece(0, end)];
        self.discarded += pieces_over(&pieces, self.limit);
        Some(Cut { data: self.take(end), pieces: clip(pieces, self.limit) })
    }

    fn piece(&self, start: usize, end: usize) -> Piece {
        let end = if end > start && self.buffer[end - 1] == b'\r' { end - 1 } else { end };
        Piece { range: start..end, truncated: end - start > self.limit.0 }
    }

    fn take(&mut self, len: usize) -> Bytes {
        if len >= COPY_BELOW {
            return self.buffer.split_to(len).freeze();
        }
        let copy = Bytes::copy_from_slice(&self.buffer[..len]);
        self.buffer.advance(len);
        copy
    }
}

/// How many bytes the pieces have beyond the limit.
fn pieces_over(pieces: &[Piece], limit: LineLimit) -> u64 {
    pieces.iter().map(|piece| piece.range.len().saturating_sub(limit.0) as u64).sum()
}

/// The pieces, none longer than the limit.
fn clip(mut pieces: Vec<Piece>, limit: LineLimit) -> Vec<Piece> {
    for piece in pieces.iter_mut().filter(|piece| piece.truncated) {
        piece.range.end = piece.range.start + limit.0.min(piece.range.len());
    }
    pieces
}
