//! From bytes to records in the stream: cuts, stamps with the time of arrival, filters, publishes, counts.

use std::sync::Arc;

use bytes::Bytes;
use prometheus_client::metrics::counter::Counter;
use serde::de::IgnoredAny;

use super::Sieve;
use crate::record::cutter::Piece;
use crate::record::{Batch, Cut, Event, Level, Line, LineCutter, Origin, Signal, Time};
use crate::stream::LiveStream;
use crate::telemetry::{Metrics, Service, ServiceLabels};

/// As much is cut at once: what arrives in larger pieces does not cost more memory than this and a line.
const PIECE: usize = 64 * 1024;
/// Whole records that are gathered are published when they are as large as this.
const GATHERED: usize = 256 * 1024;

/// What is done where each line is to be a JSON value.
#[derive(Clone, Copy, Debug, Default)]
struct Json {
    /// Whether it was told of one that is none.
    told: bool,
}

/// One origin's way into a stream.
pub(super) struct Feed {
    stream: Arc<LiveStream>,
    origin: Arc<Origin>,
    sieve: Arc<Sieve>,
    cutter: LineCutter,
    gathered: Vec<u8>,
    lines: Vec<Line>,
    json: Option<Json>,
    records: Counter,
    bytes: Counter,
}

impl Feed {
    pub fn new(stream: Arc<LiveStream>, origin: Arc<Origin>, sieve: Arc<Sieve>, metrics: &Metrics) -> Self {
        let raw = ServiceLabels { service: Service::Raw };
        let records = metrics.records.get_or_create_owned(&raw);
        let bytes = metrics.bytes.get_or_create_owned(&raw);
        let cutter = LineCutter::new(sieve.limit());
        Self { stream, origin, sieve, cutter, gathered: Vec::new(), lines: Vec::new(), json: None, records, bytes }
    }

    /// The same for lines of JSON: blank ones are none, and of the first that is no JSON a signal tells. It is a record all
    /// the same.
    pub fn of_json(self) -> Self {
        Self { json: Some(Json::default()), ..self }
    }

    /// Bytes that came before, of which only the beginning of a line at their end matters: nothing is published.
    pub fn prime(&mut self, bytes: &[u8]) {
        self.cutter.push(bytes);
        let _ = self.cutter.cut();
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

    fn publish_cut(&mut self, mut cut: Cut, truncated: bool) {
        if let Some(json) = &mut self.json {
            let text = |piece: &Piece| &cut.data[piece.range.clone()];
            cut.pieces.retain(|piece| !text(piece).trim_ascii().is_empty());
            let is_none =
                |piece: &Piece| !piece.truncated && serde_json::from_slice::<IgnoredAny>(text(piece)).is_err();
            if !json.told && cut.pieces.iter().any(is_none) {
                json.told = true;
                let text = "A line is no JSON value; it and others like it are given as they are.";
                self.stream.signal(Signal::new(Level::Warning, Event::SourceError, Time::now(), text));
            }
            if cut.pieces.is_empty() {
                return;
            }
        }
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
