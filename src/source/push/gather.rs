//! What has come of an upload and is not stored yet.
//!
//! While one write is waited for, what the producer sends is gathered, and written next, all at once: the disk and the
//! connection work at the same time, and the slower of them sets the pace. Every upload may gather a little; for more, all of
//! them share so much memory.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What an upload gathers at most for one write, in bytes, give or take a piece.
const MOST: usize = 1024 * 1024;
/// What it may gather without taking from the others.
const LITTLE: usize = 16 * 1024;

/// The memory that all uploads share for what they gather.
#[derive(Clone, Debug)]
pub struct Gathering(Arc<Semaphore>);

impl Gathering {
    /// So many bytes, rounded down to whole MiB.
    pub fn new(bytes: u64) -> Self {
        let units = usize::try_from(bytes / MOST as u64).unwrap_or(usize::MAX);
        Self(Arc::new(Semaphore::new(units.min(Semaphore::MAX_PERMITS))))
    }
}

/// What one upload has gathered.
#[derive(Debug)]
pub struct Gathered {
    shared: Gathering,
    /// The first piece, for as long as it is the only one: it need not be copied.
    only: Bytes,
    joined: BytesMut,
    unit: Option<OwnedSemaphorePermit>,
}

/// What is written at once. Its place in the shared memory is free when it is dropped.
#[derive(Debug)]
pub struct Batch {
    /// The bytes.
    pub bytes: Bytes,
    _unit: Option<OwnedSemaphorePermit>,
}

impl Gathered {
    /// Nothing yet.
    pub fn new(shared: &Gathering) -> Self {
        Self { shared: shared.clone(), only: Bytes::new(), joined: BytesMut::new(), unit: None }
    }

    fn len(&self) -> usize {
        self.only.len() + self.joined.len()
    }

    /// Whether another piece may be added. Takes of the shared memory for it where that is needed.
    pub fn has_room(&mut self) -> bool {
        let len = self.len();
        if len >= LITTLE && self.unit.is_none() {
            self.unit = Arc::clone(&self.shared.0).try_acquire_owned().ok();
        }
        len < if self.unit.is_some() { MOST } else { LITTLE }
    }

    /// Adds a piece.
    pub fn push(&mut self, piece: Bytes) {
        if self.len() == 0 {
            self.only = piece;
            return;
        }
        if self.joined.is_empty() {
            // Pages that are not written to are not taken.
            self.joined.reserve(if self.unit.is_some() { MOST } else { self.only.len() + piece.len() });
            self.joined.extend_from_slice(&std::mem::take(&mut self.only));
        }
        self.joined.extend_from_slice(&piece);
    }

    /// All of it, and begins anew; `None` where there is nothing.
    pub fn take(&mut self) -> Option<Batch> {
        if self.len() == 0 {
            return None;
        }
        let only = std::mem::take(&mut self.only);
        let bytes = if only.is_empty() { std::mem::take(&mut self.joined).freeze() } else { only };
        Some(Batch { bytes, _unit: self.unit.take() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(gathered: &mut Gathered) -> usize {
        let mut pushed = 0;
        while gathered.has_room() {
            gathered.push(Bytes::from_static(&[7; 1000]));
            pushed += 1000;
        }
        pushed
    }

    #[test]
    fn pieces_are_written_in_order_and_one_alone_is_not_copied() {
        let mut gathered = Gathered::new(&Gathering::new(MOST as u64));
        assert!(gathered.take().is_none());
        let alone = Bytes::from_static(b"alone");
        gathered.push(alone.clone());
        assert_eq!(gathered.take().unwrap().bytes.as_ptr(), alone.as_ptr());
        ["one ", "", "two ", "three"].into_iter().for_each(|piece| gathered.push(piece.into()));
        assert_eq!(gathered.take().unwrap().bytes, "one two three");
        assert!(gathered.take().is_none());
    }

    #[test]
    fn an_upload_gathers_a_little_at_any_rate_and_much_while_the_shared_memory_lasts() {
        let shared = Gathering::new(MOST as u64);
        let (mut first, mut second) = (Gathered::new(&shared), Gathered::new(&shared));
        assert!((MOST..MOST + 1000).contains(&fill(&mut first)));
        assert!((LITTLE..LITTLE + 1000).contains(&fill(&mut second)));
        let batch = first.take().unwrap();
        assert!(!second.has_room(), "what is being written counts");
        drop(batch);
        assert!(fill(&mut second) > MOST - LITTLE - 1000);
    }
}
