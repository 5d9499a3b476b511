//! Reading a stream of bytes: what is there, then what comes.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{ByteStream, Extent, RECORD, State, Store};
use crate::stream::segment::{Found, SegmentView, record_bytes};

/// How much is given to a reader of memory at a time, in bytes.
const PIECE: usize = 256 * 1024;
/// How much is read from disk at a time, in bytes: two whole records.
const READ: usize = 2 * record_bytes(RECORD) as usize;
/// Pieces from disk that are shorter are joined, so that many small ones cost a reader no more than a few large ones.
const SHORT: usize = 32 * 1024;

/// What comes next.
#[derive(Debug)]
pub enum Piece {
    /// Bytes, at least one.
    Bytes(Bytes),
    /// That was all, or all that was wanted.
    End(State),
    /// The next byte is kept no longer; the oldest that is has this offset.
    Behind(u64),
    /// The disk cannot be read.
    Failed(io::Error),
}

/// A reader with an offset of its own.
#[derive(Debug)]
pub struct ByteReader {
    stream: Arc<ByteStream>,
    at: u64,
    until: Option<u64>,
    extent: watch::Receiver<Extent>,
    /// What was read from disk already.
    ahead: VecDeque<Bytes>,
    /// What is being read from disk meanwhile: what comes after it.
    reading: Option<JoinHandle<io::Result<Read>>>,
}

/// What was read from disk.
#[derive(Debug)]
enum Read {
    Pieces(VecDeque<Bytes>),
    /// It is kept no longer; the oldest that is has this offset.
    Gap(u64),
}

impl ByteReader {
    pub(super) fn new(stream: Arc<ByteStream>, at: u64, until: Option<u64>) -> Self {
        let extent = stream.watch();
        Self { stream, at, until, extent, ahead: VecDeque::new(), reading: None }
    }

    /// The offset of the next byte.
    pub fn offset(&self) -> u64 {
        self.at
    }

    /// Whether it ends at an offset that was known before.
    pub fn is_measured(&self) -> bool {
        self.until.is_some()
    }

    /// What comes next; waits for the producer where nothing is there. Cancel-safe.
    pub async fn next(&mut self) -> Piece {
        loop {
            let extent = *self.extent.borrow_and_update();
            if extent.state == State::Gone {
                return Piece::End(State::Gone);
            }
            if self.until.is_some_and(|until| self.at >= until) {
                return Piece::End(extent.state);
            }
            if self.at < extent.start && self.ahead.is_empty() {
                return Piece::Behind(extent.start);
            }
            if self.at < extent.len {
                if let Some(piece) = self.take(extent.len).await {
                    return piece;
                }
                continue;
            }
            if extent.state != State::Live {
                return Piece::End(extent.state);
            }
            // The sender lives in the stream.
            let _ = self.extent.changed().await;
        }
    }

    /// Some of what is there, none where it has gone meanwhile.
    async fn take(&mut self, len: u64) -> Option<Piece> {
        let end = self.until.map_or(len, |until| until.min(len));
        let most = usize::try_from(end - self.at).unwrap_or(usize::MAX).min(PIECE);
        match &self.stream.store {
            Store::Memory(blocks) => {
                let blocks = blocks.lock();
                if blocks.bounds().0 > self.at {
                    return None;
                }
                let bytes = blocks.read(self.at, most);
                self.at += bytes.len() as u64;
                (!bytes.is_empty()).then_some(Piece::Bytes(bytes))
            }
            Store::Disk { .. } => {
                if self.ahead.is_empty() {
                    match self.read().await {
                        Ok(Read::Pieces(pieces)) => self.ahead = pieces,
                        Ok(Read::Gap(next)) => return Some(Piece::Behind(next)),
                        Err(error) => return Some(Piece::Failed(error)),
                    }
                    // While these are sent, the disk reads on.
                    let next = self.at + self.ahead.iter().map(|piece| piece.len() as u64).sum::<u64>();
                    self.reading = if next < end { self.read_from(next) } else { None };
                }
                let mut bytes = self.ahead.pop_front()?;
                if bytes.len() > most {
                    self.ahead.push_front(bytes.split_off(most));
                }
                self.at += bytes.len() as u64;
                Some(Piece::Bytes(bytes))
            }
        }
    }

    /// Reads on from disk, unless that was begun already. Cancel-safe.
    async fn read(&mut self) -> io::Result<Read> {
        if self.reading.is_none() {
            self.reading = self.read_from(self.at);
        }
        let Some(reading) = &mut self.reading else { return Ok(Read::Pieces(VecDeque::new())) };
        let read = reading.await;
        self.reading = None;
        read.map_err(io::Error::other)?
    }

    fn read_from(&self, at: u64) -> Option<JoinHandle<io::Result<Read>>> {
        let Store::Disk { view, tracker, .. } = &self.stream.store else { return None };
        let view = view.clone();
        Some(tracker.spawn_blocking(move || pieces(&view, at)))
    }
}

/// The bytes from an offset on that are read at a time.
fn pieces(view: &SegmentView, from: u64) -> io::Result<Read> {
    let found = view.read(from, READ)?;
    if let Some(Found::Gap { next }) = found.first() {
        return Ok(Read::Gap(*next));
    }
    let (mut pieces, mut joined) = (VecDeque::new(), BytesMut::new());
    for piece in found.into_iter().filter_map(|found| wanted(found, from)) {
        if piece.len() < SHORT {
            joined.extend_from_slice(&piece);
            continue;
        }
        if !joined.is_empty() {
            pieces.push_back(joined.split().freeze());
        }
        pieces.push_back(piece);
    }
    if !joined.is_empty() {
        pieces.push_back(joined.freeze());
    }
    Ok(Read::Pieces(pieces))
}

/// The bytes of a record from an offset on; none of a mark, which is no part of the stream.
fn wanted(found: Found, from: u64) -> Option<Bytes> {
    let Found::Record { place, units: 1.., data, .. } = found else { return None };
    let skip = usize::try_from(from.saturating_sub(place)).unwrap_or(usize::MAX);
    (skip < data.len()).then(|| data.slice(skip..))
}
