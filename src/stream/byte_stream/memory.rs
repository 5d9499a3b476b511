//! Bytes in memory: blocks that are shared with readers, the newest of which still grows.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};

use super::AppendError;

/// The memory that all streams share.
#[derive(Debug)]
pub struct Pool {
    most: u64,
    used: AtomicU64,
}

impl Pool {
    /// So many bytes.
    pub fn new(most: u64) -> Arc<Self> {
        Arc::new(Self { most, used: AtomicU64::new(0) })
    }

    /// How many are in use.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: usize) -> bool {
        let fits = |used: u64| used.checked_add(bytes as u64).filter(|used| *used <= self.most);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes as u64, Ordering::Relaxed);
    }
}

/// The longest block, in bytes: what is given up at a time, and given to a reader without a copy.
const BLOCK: usize = 64 * 1024;
/// What is kept consists of at least so many blocks, so that giving up one does not take all.
const BLOCKS: usize = 8;

/// The newest bytes of one stream.
#[derive(Debug)]
pub(super) struct Blocks {
    most: usize,
    pool: Arc<Pool>,
    /// Whole blocks with the offsets at which they begin.
    whole: VecDeque<(u64, Bytes)>,
    tail: BytesMut,
    len: u64,
    held: usize,
}

impl Blocks {
    pub(super) fn new(most: usize, pool: Arc<Pool>) -> Self {
        let room = usize::try_from(pool.most).unwrap_or(usize::MAX);
        Self { most: most.min(room).max(1), pool, whole: VecDeque::new(), tail: BytesMut::new(), len: 0, held: 0 }
    }

    /// The oldest byte that is kept, and how many have come.
    pub(super) fn bounds(&self) -> (u64, u64) {
        (self.len - self.held as u64, self.len)
    }

    /// Appends bytes, and gives up the oldest for them where they are too many. Without memory nothing is appended.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), AppendError> {
        let block = (self.most / BLOCKS).clamp(1, BLOCK);
        let mut rest = bytes;
        while !rest.is_empty() {
            let take = rest.len().min(block - self.tail.len().min(block - 1));
            while self.held + take > self.most && self.give_up() {}
            while !self.pool.take(take) {
                if !self.give_up() {
                    // What was appended of them already stays: it is told by the length.
                    return if rest.len() == bytes.len() { Err(AppendError::NoMemory) } else { self.undo(bytes, rest) };
                }
            }
            let (now, later) = rest.split_at(take);
            self.tail.extend_from_slice(now);
            self.len += take as u64;
            self.held += take;
            if self.tail.len() >= block {
                self.freeze();
            }
            rest = later;
        }
        Ok(())
    }

    /// Takes off what was appended of `bytes` before memory ran out, so that all of them can be tried again.
    fn undo(&mut self, bytes: &[u8], rest: &[u8]) -> Result<(), AppendError> {
        let mut appended = bytes.len() - rest.len();
        self.freeze();
        while appended > 0 {
            let Some((at, block)) = self.whole.pop_back() else { break };
            let off = block.len().min(appended);
            appended -= off;
            self.len -= off as u64;
            self.held -= off;
            self.pool.give_back(off);
            if off < block.len() {
                self.whole.push_back((at, block.slice(..block.len() - off)));
            }
        }
        Err(AppendError::NoMemory)
    }

    /// Gives up the oldest block; `false` where there is none, or nothing would be left to read.
    fn give_up(&mut self) -> bool {
        if self.whole.is_empty() {
            self.freeze();
        }
        let Some((_, block)) = self.whole.pop_front() else { return false };
        self.held -= block.len();
        self.pool.give_back(block.len());
        true
    }

    fn freeze(&mut self) {
        if !self.tail.is_empty() {
            let at = self.len - self.tail.len() as u64;
            self.whole.push_back((at, std::mem::take(&mut self.tail).freeze()));
        }
    }

    /// Nothing more comes for now: memory that was kept ready for it goes.
    pub(super) fn rest(&mut self) {
        if !self.tail.is_empty() {
            let at = self.len - self.tail.len() as u64;
            self.whole.push_back((at, Bytes::copy_from_slice(&self.tail)));
        }
        self.tail = BytesMut::new();
    }

    pub(super) fn clear(&mut self) {
        while self.give_up() {}
    }

    /// Bytes from an offset on, up to `most`; empty at the end. The offset must be within the bounds.
    pub(super) fn read(&self, from: u64, most: usize) -> Bytes {
        let after = self.whole.partition_point(|(at, _)| *at <= from);
        let block = after.checked_sub(1).and_then(|at| self.whole.get(at));
        let within = |at: u64| usize::try_from(from.saturating_sub(at)).unwrap_or(usize::MAX);
        if let Some((at, block)) = block.filter(|(at, block)| within(*at) < block.len()) {
            let start = within(*at);
            return block.slice(start..block.len().min(start.saturating_add(most)));
        }
        let start = within(self.len - self.tail.len() as u64).min(self.tail.len());
        let end = self.tail.len().min(start.saturating_add(most));
        Bytes::copy_from_slice(&self.tail[start..end])
    }
}

impl Drop for Blocks {
    fn drop(&mut self) {
        self.pool.give_back(self.held);
    }
}
