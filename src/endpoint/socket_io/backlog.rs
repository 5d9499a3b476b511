//! What a client gets first: the lines that were there when it came, as one array.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::super::counted::Counted;
use super::place::is_container;
use crate::record::{Batch, Origin, Signal, Wire};
use crate::stream::{Delivery, Seq};

/// How often a reader that waits for the past looks whether it is over.
const LOOK: Duration = Duration::from_millis(50);
/// Signals that are kept until the backlog has been sent; with more, it is sent as it is.
const MOST_SIGNALS: usize = 64;

/// How much a backlog may hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) lines: usize,
    pub(super) bytes: usize,
}

/// The lines that were there when a client came, while they are gathered and then.
#[derive(Debug)]
pub(super) struct Backlog {
    /// The array, as JSON, without its end.
    json: String,
    lines: u64,
    bounds: Bounds,
    /// The number that the stream's next record had when the client came.
    until: Seq,
    /// Whether the past comes first, from before the ring.
    past: bool,
    next: Seq,
    /// The place of its last line in the ring, or right before what comes as data; none where the past was too long.
    last: Option<Place>,
    /// Signals that came between the lines.
    signals: Vec<Arc<Signal>>,
    /// What was read and did not fit, or was not there when the client came: it comes as data. With how many of its lines
    /// are in the backlog already.
    rest: Option<(Delivery, usize)>,
}

/// A backlog that has been gathered.
#[derive(Debug)]
pub(super) struct Gathered {
    /// The array, as JSON.
    pub(super) json: String,
    pub(super) lines: u64,
    pub(super) last: Option<Place>,
    pub(super) signals: Vec<Arc<Signal>>,
    pub(super) rest: Option<(Delivery, usize)>,
}

/// A place in a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Before the first record of all.
    Start,
    /// Behind this record.
    Behind(Seq),
}

impl Place {
    /// The place right before a record.
    pub(super) fn before(next: Seq) -> Self {
        next.0.checked_sub(1).map_or(Self::Start, |last| Self::Behind(Seq(last)))
    }

    /// The id by which a client goes on from here.
    pub(super) fn id(self, epoch: u64) -> String {
        match self {
            Self::Start => format!("\"{epoch}-start\""),
            Self::Behind(Seq(seq)) => format!("\"{epoch}-{seq}\""),
        }
    }
}

/// Whether what an origin writes is for a client that wants this container; without one, everything is.
pub(super) fn wants(container: Option<&str>, origin: Option<&Origin>) -> bool {
    match (container, origin) {
        (Some(id), Some(origin)) => is_container(origin, id),
        _ => true,
    }
}

impl Backlog {
    /// A backlog of what `reader` gives first, before the record `until`.
    pub(super) fn begin(reader: &Counted, until: Seq, bounds: Bounds) -> Self {
        let (next, past) = (reader.position(), !reader.is_live());
        Self {
            json: "[".to_owned(),
            lines: 0,
            bounds,
            until,
            past,
            next,
            last: Some(Place::before(next)),
            signals: Vec::new(),
            rest: None,
        }
    }

    /// Gathers until all is there. May be dropped and called again.
    pub(super) async fn gather(&mut self, reader: &mut Counted, container: Option<&str>) {
        while self.rest.is_none() && self.signals.len() < MOST_SIGNALS {
            let delivery = match self.past {
                true if reader.is_live() => return,
                true => timeout(LOOK, reader.next()).await.ok(),
                false if self.next >= self.until => return,
                false => match reader.try_next() {
                    Some(delivery) => Some(delivery),
                    None => return,
                },
            };
            let Some(delivery) = delivery else { continue };
            reader.note(&delivery);
            // The past is followed by what was written since the client came: that is data.
            let live = first(&delivery).is_some_and(|seq| self.past || seq >= self.until);
            if live || matches!(delivery, Delivery::End(_)) {
                self.rest = Some((delivery, 0));
                return;
            }
            if let Some(end) = end(&delivery) {
                self.next = end;
                self.last = Some(Place::before(end));
            }
            self.take(delivery, container);
        }
    }

    /// What was gathered.
    pub(super) fn finish(mut self) -> Gathered {
        self.json.push(']');
        let Self { json, lines, last, signals, rest, .. } = self;
        Gathered { json, lines, last, signals, rest }
    }

    fn take(&mut self, delivery: Delivery, container: Option<&str>) {
        match &delivery {
            Delivery::Signal { signal, .. } if wants(container, signal.origin.as_deref()) => {
                self.signals.push(Arc::clone(signal));
            }
            Delivery::Records { first, batch } if wants(container, Some(batch.origin())) => {
                let taken = self.take_lines(batch);
                if taken < batch.len() {
                    self.last = first.map(|first| Place::before(Seq(first.0 + taken as u64)));
                    self.rest = Some((delivery, taken));
                }
            }
            _ => {}
        }
    }

    /// Takes as many lines as fit; how many.
    fn take_lines(&mut self, batch: &Batch) -> usize {
        let room = self.bounds.lines.saturating_sub(usize::try_from(self.lines).unwrap_or(usize::MAX));
        let mut taken = 0;
        for text in batch.encoded(Wire::Text).messages().take(room) {
            if self.json.len() + text.len() > self.bounds.bytes {
                break;
            }
            if self.lines > 0 {
                self.json.push(',');
            }
            // What the encoder writes is JSON, and so UTF-8.
            self.json.push_str(std::str::from_utf8(&text).unwrap_or("\"\""));
            self.lines += 1;
            taken += 1;
        }
        taken
    }
}

fn first(delivery: &Delivery) -> Option<Seq> {
    match delivery {
        Delivery::Records { first, .. } => *first,
        Delivery::Reading { seq, .. } => Some(*seq),
        Delivery::Signal { seq, .. } => *seq,
        Delivery::End(_) => None,
    }
}

/// The number behind the last record of a delivery.
fn end(delivery: &Delivery) -> Option<Seq> {
    let count = match delivery {
        Delivery::Records { batch, .. } => batch.len() as u64,
        _ => 1,
    };
    first(delivery).map(|first| Seq(first.0 + count))
}
