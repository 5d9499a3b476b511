//! A reader as Weir's own metrics see it: that it is there, and what it missed.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use crate::record::Event;
use crate::stream::{Delivery, Reader};
use crate::telemetry::{Dropped, DroppedLabels, Metrics};

/// A reader that is counted for as long as it lives.
#[derive(Debug)]
pub(super) struct Counted {
    reader: Reader,
    metrics: Arc<Metrics>,
    missed: u64,
}

impl Counted {
    /// Counts a reader from now on.
    pub(super) fn new(reader: Reader, metrics: &Arc<Metrics>) -> Self {
        metrics.readers.inc();
        Self { reader, metrics: Arc::clone(metrics), missed: 0 }
    }

    /// Goes on with another reader in place of this one.
    pub(super) fn replace(&mut self, reader: Reader) {
        (self.reader, self.missed) = (reader, 0);
    }

    /// Counts a delivery of the reader where it tells of a gap, and how many records were missed since the last.
    pub(super) fn note(&mut self, delivery: &Delivery) {
        // A gap in the source itself is about a container, and counted there.
        let told = |seq: &Option<_>, event, of_all| seq.is_none() && event == Event::Gap && of_all;
        if !matches!(delivery, Delivery::Signal { seq, signal } if told(seq, signal.event, signal.origin.is_none())) {
            return;
        }
        let missed = self.reader.missed();
        self.metrics.gaps.inc();
        let labels = DroppedLabels { reason: Dropped::ReaderBehind };
        self.metrics.dropped.get_or_create(&labels).inc_by(missed - self.missed);
        self.missed = missed;
    }
}

impl Deref for Counted {
    type Target = Reader;

    fn deref(&self) -> &Reader {
        &self.reader
    }
}

impl DerefMut for Counted {
    fn deref_mut(&mut self) -> &mut Reader {
        &mut self.reader
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.metrics.readers.dec();
    }
}
