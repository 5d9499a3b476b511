//! A run of rows in the order of their times: complete chunks, the one being written, and the newest row, which may
//! still change.

use std::collections::VecDeque;

use super::chunk::{Chunk, Encoder, Row};

/// After so many rows a chunk is complete.
pub(super) const CHUNK_ROWS: u32 = 120;

#[derive(Clone, Debug)]
pub(super) struct Run<const K: usize> {
    sealed: VecDeque<Chunk<K>>,
    open: Option<Encoder<K>>,
    last: Option<Row<K>>,
    /// What the complete chunks cost.
    sealed_cost: usize,
}

impl<const K: usize> Default for Run<K> {
    fn default() -> Self {
        Self { sealed: VecDeque::new(), open: None, last: None, sealed_cost: 0 }
    }
}

impl<const K: usize> Run<K> {
    /// The newest row. Takes it out of its chunk where that is complete.
    pub(super) fn last(&mut self) -> Option<&mut Row<K>> {
        if self.last.is_none()
            && let Some(chunk) = self.sealed.pop_back()
        {
            self.sealed_cost -= chunk.cost();
            chunk.rows().for_each(|row| self.push(row, i64::MAX));
        }
        self.last.as_mut()
    }

    /// Appends a row, which must be newer than the newest. A chunk is complete after [`CHUNK_ROWS`], or when it spans
    /// `span` milliseconds, so that slow rows leave in time, too.
    pub(super) fn push(&mut self, row: Row<K>, span: i64) {
        let Some(before) = self.last.replace(row) else { return };
        let open = match &mut self.open {
            Some(open) => {
                open.push(&before);
                open
            }
            None => self.open.insert(Encoder::new(&before)),
        };
        if open.count() >= CHUNK_ROWS || before.time.saturating_sub(open.start()) >= span {
            let chunk = open.to_chunk();
            self.open = None;
            self.seal(chunk);
        }
    }

    /// Appends a chunk, all of which must be newer than the newest row.
    pub(super) fn push_chunk(&mut self, chunk: Chunk<K>) {
        self.flush();
        self.seal(chunk);
    }

    fn seal(&mut self, chunk: Chunk<K>) {
        self.sealed_cost += chunk.cost();
        self.sealed.push_back(chunk);
    }

    /// Makes a complete chunk of what is not one yet.
    pub(super) fn flush(&mut self) {
        let rest = self.rest();
        (self.open, self.last) = (None, None);
        if let Some(chunk) = rest {
            self.seal(chunk);
        }
    }

    /// What is in no complete chunk yet, as one.
    fn rest(&self) -> Option<Chunk<K>> {
        let last = self.last.as_ref()?;
        let mut open = match &self.open {
            Some(open) => open.clone(),
            None => return Some(Encoder::new(last).to_chunk()),
        };
        open.push(last);
        Some(open.to_chunk())
    }

    /// The oldest complete chunk.
    pub(super) fn oldest(&self) -> Option<&Chunk<K>> {
        self.sealed.front()
    }

    /// Takes the oldest complete chunk out.
    pub(super) fn pop(&mut self) -> Option<Chunk<K>> {
        let chunk = self.sealed.pop_front()?;
        self.sealed_cost -= chunk.cost();
        if self.sealed.is_empty() {
            self.sealed = VecDeque::new();
        }
        Some(chunk)
    }

    /// The complete chunks, oldest first.
    pub(super) fn sealed(&self) -> impl Iterator<Item = &Chunk<K>> {
        self.sealed.iter()
    }

    /// Everything that may hold rows from `start` to `end`, both included, as chunks that are shared, not copied.
    pub(super) fn chunks(&self, start: i64, end: i64) -> Vec<Chunk<K>> {
        let from = self.sealed.partition_point(|chunk| chunk.end < start);
        let mut chunks: Vec<_> = self.sealed.range(from..).take_while(|chunk| chunk.start <= end).cloned().collect();
        chunks.extend(self.rest().filter(|rest| rest.end >= start && rest.start <= end));
        chunks
    }

    /// How many rows there are.
    pub(super) fn rows(&self) -> u64 {
        let sealed: u64 = self.sealed.iter().map(|chunk| u64::from(chunk.count)).sum();
        sealed + self.open.as_ref().map_or(0, |open| u64::from(open.count())) + u64::from(self.last.is_some())
    }

    /// Whether it holds no row.
    pub(super) fn is_empty(&self) -> bool {
        self.last.is_none() && self.sealed.is_empty()
    }

    /// What it costs to hold beside itself, in bytes.
    pub(super) fn cost(&self) -> usize {
        let room = (self.sealed.capacity() - self.sealed.len()) * size_of::<Chunk<K>>();
        self.sealed_cost + room + self.open.as_ref().map_or(0, Encoder::cost)
    }
}
