//! A reader: first the past at its own pace, then the ring, with nothing lost or doubled where they meet.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use futures::StreamExt;

use super::backlog::{Backlog, BacklogItem, BacklogStream, From};
use super::ring::{Entry, Item, LiveStream, Located, Read, ReadFrom, Seq, StreamEnd, Watch};
use super::trail::{SeenWindow, Trail};
use crate::record::{Batch, Event, Level, Origin, Signal, Time};

/// How much a reader takes from the ring at a time, in bytes of cost.
const READ_BYTES: usize = 256 * 1024;

/// What a reader is given.
#[derive(Clone, Debug)]
pub enum Delivery {
    /// Records. Their sequence numbers begin at `first`; records of the past have none.
    Records {
        /// The number of the first record, where they came through the ring.
        first: Option<Seq>,
        /// The records.
        batch: Arc<Batch>,
    },
    /// A signal, with its number where it came through the ring.
    Signal {
        /// The signal's number.
        seq: Option<Seq>,
        /// The signal.
        signal: Arc<Signal>,
    },
    /// The stream ended; nothing follows.
    End(Arc<StreamEnd>),
}

/// Follows one stream with a cursor of its own. Dropping it releases everything.
pub struct Reader {
    stream: Arc<LiveStream>,
    watch: Watch,
    cursor: Seq,
    past: Option<BacklogStream>,
    trails: HashMap<Arc<Origin>, Trail>,
    windows: HashMap<Arc<Origin>, SeenWindow>,
    ready: VecDeque<Delivery>,
    missed: u64,
}

impl Reader {
    /// A reader of what the ring holds and gets.
    pub fn open(stream: Arc<LiveStream>, from: ReadFrom) -> Self {
        let (cursor, located) = stream.locate(from);
        let mut reader = Self::at(stream, cursor);
        if located == Located::OtherEpoch {
            let text = "the stream was started anew since; it goes on with the oldest record it holds, some may be \
                        missing or come again";
            let signal = Arc::new(Signal::new(Level::Warning, Event::Gap, Time::now(), text));
            reader.ready.push_back(Delivery::Signal { seq: None, signal });
        }
        reader
    }

    /// A reader that first gets the past from `backlog`, then what the ring gets from this moment on.
    pub fn open_with_past(stream: Arc<LiveStream>, backlog: &dyn Backlog, from: From) -> Self {
        // The cursor comes first: what arrives while the past is fetched is in the ring.
        let (cursor, _) = stream.locate(ReadFrom::Now);
        let mut reader = Self::at(stream, cursor);
        if from.wants_past() {
            reader.past = Some(backlog.fetch(from));
        }
        reader
    }

    fn at(stream: Arc<LiveStream>, cursor: Seq) -> Self {
        stream.count_reader(true);
        let watch = stream.watch();
        Self {
            stream,
            watch,
            cursor,
            past: None,
            trails: HashMap::new(),
            windows: HashMap::new(),
            ready: VecDeque::new(),
            missed: 0,
        }
    }

    /// The stream that is read.
    pub fn stream(&self) -> &Arc<LiveStream> {
        &self.stream
    }

    /// How many records this reader has missed because it was too slow.
    pub fn missed(&self) -> u64 {
        self.missed
    }

    /// Whether the past has been delivered, so that what comes next is live.
    pub fn is_live(&self) -> bool {
        self.past.is_none()
    }

    /// The next delivery; waits for it. Cancel-safe: what was not returned comes with the next call.
    pub async fn next(&mut self) -> Delivery {
        loop {
            if let Some(delivery) = self.take_ready() {
                return delivery;
            }
            if let Some(past) = &mut self.past {
                match past.next().await {
                    Some(item) => self.take_past(item),
                    None => self.join(),
                }
                continue;
            }
            if let Some(end) = self.watch.past(self.cursor).await {
                return Delivery::End(end);
            }
            self.fill();
        }
    }

    /// The next delivery where one is ready now. Lets a writer gather many before it flushes.
    pub fn try_next(&mut self) -> Option<Delivery> {
        if self.ready.is_empty() && self.past.is_none() {
            self.fill();
        }
        self.take_ready()
    }

    fn take_ready(&mut self) -> Option<Delivery> {
        self.ready.pop_front()
    }

    fn take_past(&mut self, item: BacklogItem) {
        self.ready.push_back(match item {
            BacklogItem::Records(batch) => {
                self.trails.entry(Arc::clone(batch.origin())).or_default().note(&batch);
                Delivery::Records { first: None, batch }
            }
            BacklogItem::Signal(signal) => Delivery::Signal { seq: None, signal },
        });
    }

    /// The past is over: from now on the ring speaks, less what the past has said.
    fn join(&mut self) {
        self.past = None;
        self.windows = self.trails.drain().map(|(origin, trail)| (origin, trail.window())).collect();
    }

    fn fill(&mut self) {
        match self.stream.read(self.cursor, READ_BYTES) {
            Read::Empty => {}
            Read::Gap(missed) => {
                self.cursor = Seq(self.cursor.0 + missed);
                self.missed += missed;
                let signal = Arc::new(Signal::gap(missed, Time::now()));
                self.ready.push_back(Delivery::Signal { seq: None, signal });
            }
            Read::Entries(entries) => {
                for entry in entries {
                    self.take_entry(entry);
                }
            }
        }
    }

    fn take_entry(&mut self, entry: Entry) {
        let before = self.cursor.0 - entry.first.0.min(self.cursor.0);
        match entry.item {
            Item::Signal(signal) => {
                self.cursor = Seq(entry.first.0 + 1);
                self.ready.push_back(Delivery::Signal { seq: Some(entry.first), signal });
            }
            Item::Records(batch) => {
                let first = self.cursor.max(entry.first);
                self.cursor = Seq(entry.first.0 + batch.len() as u64);
                let batch = if before == 0 { Some(batch) } else { batch.skip(before as usize) };
                if let Some((first, batch)) = batch.and_then(|batch| self.unseen(first, batch)) {
                    self.ready.push_back(Delivery::Records { first: Some(first), batch });
                }
            }
        }
    }

    /// The lines of a batch that the past has not given already.
    fn unseen(&mut self, first: Seq, batch: Arc<Batch>) -> Option<(Seq, Arc<Batch>)> {
        let Some(window) = self.windows.get_mut(batch.origin()) else { return Some((first, batch)) };
        let admitted = window.admit(&batch);
        if window.passed() {
            self.windows.remove(batch.origin());
        }
        // Numbers follow the last line: what was left out stands before it but for lines written out of order.
        admitted.map(|admitted| (Seq(first.0 + (batch.len() - admitted.len()) as u64), admitted))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.stream.count_reader(false);
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("cursor", &self.cursor).field("missed", &self.missed).finish_non_exhaustive()
    }
}
