//! From bytes to records in the stream: cuts, stamps with the time of arrival, filters, publishes, counts.

use std::sync::Arc;

use bytes::Bytes;
use prometheus_client::metrics::counter::Counter;

use crate::record::{Batch, Cut, Line, LineCutter, Origin, Time};
use crate::source::Sieve;
use crate::stream::LiveStream;
use crate::telemetry::{Metrics, Service, ServiceLabels};

/// As much is cut at once: what arrives in larger pieces does not cost more memory than this and a line.
const PIECE: usize = 64 * 1024;
/// Whole records that are gathered are published when they are as large as this.
const GATHERED: usize = 256 * 1024;

/// One origin's way into a stream.
pub(super) struct Feed {
    stream: Arc<LiveStream>,
    origin: Arc<Origin>,
    sieve: Arc<Sieve>,
    cutter: LineCutter,
    gathered: Vec<u8>,
    lines: Vec<Line>,
    records: Counter,
    bytes: Counter,
}

impl Feed {
    pub fn new(stream: Arc<LiveStream>, origin: Arc<Origin>, sieve: Arc<Sieve>, metrics: &Metrics) -> Self {
        let raw = ServiceLabels { service: Service::Raw };
        let records = metrics.records.get_or_create_owned(&raw);
        let bytes = metrics.bytes.get_or_create_owned(&raw);
        let cutter = LineCutter::new(sieve.limit());
        Self { stream, origin, sieve, cutter, gathered: Vec::new(), lines: Vec::new(), records, bytes }
    }

    /// The longest record, in bytes.
    pub fn limit(&self) -> usize {
        self.sieve.limit().0
    }

    /// Bytes of lines, as they arrived. Lines that they complete are published.
    pub fn push(&mut self, bytes: &[u8]) {
        // What was gathered came before.
        self.flush();
        for piece in bytes.chunks(PIECE) {
            self.cutter.push(piece);
            if let Some(cut) = self.cutter.cut() {
                self.publish_cut(cut, false);
            }
        }
    }

    /// Whether there is the beginning of a line that has not ended.
    pub fn has_rest(&self) -> bool {
        self.cutter.pending() > 0
    }

    /// Makes a record of what has no line end. It is marked as cut where the connection broke in its middle.
    pub fn finish(&mut self, broken: bool) {
        self.flush();
        if let Some(cut) = self.cutter.finish() {
            self.publish_cut(cut, broken);
        }
    }

    /// Adds a whole record, to be published with the next [`flush`](Self::flush).
    pub fn record(&mut self, text: &[u8], truncated: bool) {
        let start = self.gathered.len();
        self.gathered.extend_from_slice(text);
        self.lines.push(Line::new(start..self.gathered.len(), Time::now(), truncated));
        if self.gathered.len() >= GATHERED {
            self.flush();
        }
    }

    /// Publishes what was gathered.
    pub fn flush(&mut self) {
        if !self.lines.is_empty() {
            let (data, lines) = (std::mem::take(&mut self.gathered), std::mem::take(&mut self.lines));
            self.publish(data.into(), lines);
        }
    }

    fn publish_cut(&self, cut: Cut, truncated: bool) {
        let now = Time::now();
        let lines = cut.pieces.into_iter().map(|piece| Line::new(piece.range, now, truncated || piece.truncated));
        self.publish(cut.data, lines.collect());
    }

    fn publish(&self, data: Bytes, lines: Vec<Line>) {
        let batch = Arc::new(Batch::new(Arc::clone(&self.origin), data, lines));
        self.records.inc_by(batch.len() as u64);
        self.bytes.inc_by(batch.text_len() as u64);
        if let Some(kept) = self.sieve.apply(&batch) {
            self.stream.publish(kept);
        }
    }
}
