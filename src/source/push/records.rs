//! What is uploaded, as records too: the bytes are cut into lines while they are stored, and readers of the declared stream
//! and its rules see those.
//!
//! ```text
//!   producer ──► ByteStream ──► readers of /stream, byte for byte
//!                    │ looks on
//!                    └──► lines ──► filter ──► the declared stream ──► rules, readers
//! ```
//!
//! A line that a lost producer left in its middle waits for its rest: the producer may go on. After a while, or when the upload
//! is over, it is given as it is, with the mark of one that was cut.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::uploads::Upload;
use crate::api::PushFraming;
use crate::record::Origin;
use crate::source::Sieve;
use crate::source::feed::Feed;
use crate::stream::byte_stream::{Onlooker, Piece, State};
use crate::stream::{LiveStream, StreamName};
use crate::telemetry::Metrics;

/// How long the beginning of a line waits for its rest once its producer was lost.
const PATIENCE: Duration = Duration::from_secs(10);

/// How uploads to one name become records.
#[derive(Clone, Debug)]
pub struct Framing {
    /// How they are cut.
    pub kind: PushFraming,
    /// Which lines are kept, and how much of each.
    pub sieve: Arc<Sieve>,
}

/// The records of one name.
pub struct Records {
    framing: Framing,
    stream: Arc<LiveStream>,
    origin: Arc<Origin>,
    metrics: Arc<Metrics>,
    cutting: Mutex<Option<Cutting>>,
}

/// The upload that is cut now.
struct Cutting {
    generation: u64,
    feed: Feed,
    /// Since when there is no producer.
    lost: Option<Instant>,
}

impl Records {
    /// Records of uploads to `name`, for `stream`.
    pub(super) fn new(
        framing: Framing,
        stream: Arc<LiveStream>,
        name: &StreamName,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        let origin = Origin { pod: name.name.clone(), container: "push".to_owned(), ..Origin::default() };
        Arc::new(Self { framing, stream, origin: Arc::new(origin), metrics, cutting: Mutex::default() })
    }

    /// Cuts what is appended to an upload from now on, which stood in `state` so far. What came before is known, but for the
    /// beginning of a line where this process has not seen it: that is read again.
    pub(super) async fn join(self: &Arc<Self>, upload: &Upload, state: State) {
        let generation = upload.generation;
        let known = self.cutting.lock().as_ref().is_some_and(|cutting| cutting.generation == generation);
        // The last line of a complete one was given, with or without its end.
        let begins = known || state == State::Complete;
        let before = if begins { Vec::new() } else { self.beginning_of_line(upload).await };
        let mut cutting = self.cutting.lock();
        match cutting.as_mut().filter(|cutting| cutting.generation == generation) {
            Some(cutting) => cutting.lost = None,
            None => {
                let mut feed = self.feed();
                feed.prime(&before);
                let old = cutting.replace(Cutting { generation, feed, lost: None });
                old.into_iter().for_each(|mut old| old.feed.finish(true));
            }
        }
        drop(cutting);
        upload.bytes.show(Some(Arc::new(Looking { records: Arc::clone(self), generation })));
    }

    fn feed(&self) -> Feed {
        let sieve = Arc::clone(&self.framing.sieve);
        let feed = Feed::new(Arc::clone(&self.stream), Arc::clone(&self.origin), sieve, &self.metrics);
        if self.framing.kind == PushFraming::Ndjson { feed.of_json() } else { feed }
    }

    /// As many bytes from an upload's end as the longest line has, and its line end.
    async fn beginning_of_line(&self, upload: &Upload) -> Vec<u8> {
        let extent = upload.bytes.extent();
        let from = extent.len.saturating_sub(self.framing.sieve.limit().0 as u64 + 2).max(extent.start);
        let (mut reader, mut bytes) = (upload.bytes.read(from, Some(extent.len)), Vec::new());
        loop {
            match reader.next().await {
                Piece::Bytes(piece) => bytes.extend_from_slice(&piece),
                Piece::End(_) => return bytes,
                // Then a line may lack its beginning.
                Piece::Behind(_) | Piece::Failed(_) => return Vec::new(),
            }
        }
    }

    /// Gives the beginning of a line whose producer was lost long ago.
    pub(super) fn give_up_rest(&self, now: Instant) {
        if let Some(cutting) = self.cutting.lock().as_mut()
            && cutting.lost.is_some_and(|lost| now.saturating_duration_since(lost) >= PATIENCE)
        {
            cutting.lost = None;
            cutting.feed.finish(true);
        }
    }

    /// The upload is no more: what is left of it is given.
    pub(super) fn over(&self, generation: u64) {
        let old = self.cutting.lock().take_if(|cutting| cutting.generation == generation);
        old.into_iter().for_each(|mut old| old.feed.finish(true));
    }

    fn with(&self, generation: u64, act: impl FnOnce(&mut Cutting)) {
        if let Some(cutting) = self.cutting.lock().as_mut().filter(|cutting| cutting.generation == generation) {
            act(cutting);
        }
    }
}

impl std::fmt::Debug for Records {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Records").field("framing", &self.framing.kind).finish_non_exhaustive()
    }
}

/// Looks on while one upload is written.
struct Looking {
    records: Arc<Records>,
    generation: u64,
}

impl Onlooker for Looking {
    fn appended(&self, bytes: &[u8]) {
        self.records.with(self.generation, |cutting| cutting.feed.push(bytes));
    }

    fn finished(&self, state: State) {
        self.records.with(self.generation, |cutting| match state {
            State::Complete => cutting.feed.finish(false),
            _ => cutting.lost = Some(Instant::now()),
        });
    }
}
