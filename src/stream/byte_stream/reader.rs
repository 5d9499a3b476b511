//! Reading a stream of bytes: what is there, then what comes.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;

use super::{ByteStream, Extent, State, Store};
use crate::stream::segment::Found;

/// How much is read at a time, in bytes.
const PIECE: usize = 256 * 1024;

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
}

impl ByteReader {
    pub(super) fn new(stream: Arc<ByteStream>, at: u64, until: Option<u64>) -> Self {
        let extent = stream.watch();
        Self { stream, at, until, extent, ahead: VecDeque::new() }
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
            Store::Disk { view, tracker, .. } => {
                if self.ahead.is_empty() {
                    let (view, at) = (view.clone(), self.at);
                    let found = tracker.spawn_blocking(move || view.read(at, PIECE)).await;
                    match found.map_err(io::Error::other).and_then(|found| found) {
                        Ok(found) => {
                            if let Some(Found::Gap { next }) = found.first() {
                                return Some(Piece::Behind(*next));
                            }
                            self.ahead.extend(found.into_iter().filter_map(|one| wanted(one, at)));
                        }
                        Err(error) => return Some(Piece::Failed(error)),
                    }
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
}

/// The bytes of a record from an offset on; none of a mark, which is no part of the stream.
fn wanted(found: Found, from: u64) -> Option<Bytes> {
    let Found::Record { place, units: 1.., data, .. } = found else { return None };
    let skip = usize::try_from(from.saturating_sub(place)).unwrap_or(usize::MAX);
    (skip < data.len()).then(|| data.slice(skip..))
}
