//! A reader: first the past at its own pace, then the ring, with nothing lost or doubled where they meet.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use futures::StreamExt;
use tokio::sync::watch;

use super::Gate;
use super::backlog::{Backlog, BacklogItem, BacklogStream, From, Start};
use super::ring::{Entry, Held, Item, LiveStream, Located, Read, ReadFrom, Seq, StreamEnd, Watch};
use super::trail::{SeenWindow, Trail};
use crate::record::{Batch, Event, Level, Line, Origin, Reading, Signal, Time};

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
    /// A round of numbers.
    Reading {
        /// Its number.
        seq: Seq,
        /// The numbers.
        reading: Arc<Reading>,
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
    stream: Arc<Held>,
    watch: Watch,
    cursor: Seq,
    past: Option<BacklogStream>,
    again: Option<Again>,
    trails: HashMap<Arc<Origin>, Trail>,
    windows: HashMap<Arc<Origin>, SeenWindow>,
    /// Records of one delivery at most.
    most: usize,
    ready: VecDeque<Delivery>,
    missed: u64,
    ended: Option<Arc<StreamEnd>>,
    gate: Option<watch::Receiver<Option<Arc<StreamEnd>>>>,
}

/// What of the ring a reader that was rewound leaves out.
#[derive(Clone, Copy)]
struct Again {
    /// Records with lower numbers were given before.
    until: Seq,
    /// Of those, none that is older is given again.
    time: Time,
}

impl Reader {
    /// A reader of what the ring holds and gets.
    pub fn open(stream: Arc<LiveStream>, from: ReadFrom) -> Self {
        let (mut reader, located) = Self::at(&stream, from);
        // Whoever asks for a time wants what there is from then on, and may ask for any.
        if located == Located::OtherEpoch {
            reader.tell(located);
        }
        reader
    }

    /// A reader that first gets the past from `backlog`, then what the ring gets from this moment on.
    pub fn open_with_past(stream: Arc<LiveStream>, backlog: &dyn Backlog, from: From) -> Self {
        // The cursor comes first: what arrives while the past is fetched is in the ring.
        let (mut reader, _) = Self::at(&stream, ReadFrom::Now);
        if from.wants_past() {
            reader.past = Some(backlog.fetch(from));
        }
        reader
    }

    /// Begins again at `time`, for a client that did not get all that this reader gave: with the past from then on,
    /// where there is a `backlog`, and with what the ring holds beside it, of containers that are gone too. Every
    /// record that is no older comes once; none that is older and was given comes again.
    pub fn rewind(&mut self, backlog: Option<&dyn Backlog>, time: Time) {
        let number = |delivery: &Delivery| match delivery {
            Delivery::Records { first, .. } => *first,
            Delivery::Reading { seq, .. } => Some(*seq),
            Delivery::Signal { seq, .. } => *seq,
            Delivery::End(_) => None,
        };
        let until = self.ready.iter().find_map(number).unwrap_or(self.cursor);
        // The cursor comes first: what arrives while the past is fetched is in the ring.
        let (cursor, located) = self.stream.locate(ReadFrom::Time(time));
        self.cursor = cursor.min(until);
        self.again = Some(Again { until, time });
        (self.ready, self.ended) = (VecDeque::new(), None);
        (self.trails, self.windows) = (HashMap::new(), HashMap::new());
        self.past = backlog.map(|backlog| backlog.fetch(From { start: Start::At(time), ..From::default() }));
        if self.past.is_none() {
            self.tell(located);
        }
    }

    /// Tells where the ring could not begin as it was asked to.
    fn tell(&mut self, located: Located) {
        let text = match located {
            Located::Exact => return,
            Located::OtherEpoch => {
                "the stream was started anew since; it goes on with the oldest record it holds, some may be missing or \
                 come again"
            }
            Located::Younger => {
                "the stream no longer holds all that was written since then; it goes on with the oldest record it \
                 holds, some may be missing"
            }
        };
        let signal = Arc::new(Signal::new(Level::Warning, Event::Gap, Time::now(), text));
        self.ready.push_back(Delivery::Signal { seq: None, signal });
    }

    fn at(stream: &LiveStream, from: ReadFrom) -> (Self, Located) {
        let (stream, watch) = stream.join();
        let (cursor, located) = stream.locate(from);
        let reader = Self {
            stream,
            watch,
            cursor,
            past: None,
            again: None,
            trails: HashMap::new(),
            windows: HashMap::new(),
            ready: VecDeque::new(),
            missed: 0,
            most: usize::MAX,
            ended: None,
            gate: None,
        };
        (reader, located)
    }

    /// The same reader, cut when the gate closes, whatever it has not read yet.
    #[must_use]
    pub fn behind(mut self, gate: &Gate) -> Self {
        self.gate = Some(gate.watch());
        self
    }

    /// From now on no delivery holds more records than this: for readers whose rate is limited, which would overshoot
    /// by a whole batch otherwise. `None` for any number.
    pub fn deliver_at_most(&mut self, records: Option<usize>) {
        self.most = records.unwrap_or(usize::MAX).max(1);
    }

    /// Makes records ready, in pieces where one delivery may not hold them all.
    fn push_records(&mut self, first: Option<Seq>, batch: &Arc<Batch>) {
        for start in (0..batch.len()).step_by(self.most) {
            let piece = batch.slice(start..batch.len().min(start.saturating_add(self.most)));
            let first = first.map(|first| Seq(first.0 + start as u64));
            self.ready.extend(piece.map(|batch| Delivery::Records { first, batch }));
        }
    }

    /// The epoch of the stream that is read: what its sequence numbers belong to.
    pub fn epoch(&self) -> u64 {
        self.stream.epoch()
    }

    /// Where the reader stands in the ring: the number of the next record that it takes from there. Right after
    /// opening that is where it began.
    pub fn position(&self) -> Seq {
        self.cursor
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
        let Some(mut gate) = self.gate.clone() else { return self.advance().await };
        tokio::select! {
            biased;
            Ok(end) = gate.wait_for(Option::is_some) => Delivery::End(end.clone().unwrap_or_else(released)),
            delivery = self.advance() => delivery,
        }
    }

    /// Waits until the gate closes, whatever there is to read; for ever where there is no gate.
    pub fn cut(&self) -> impl Future<Output = Arc<StreamEnd>> + Send + use<> {
        let gate = self.gate.clone();
        async move {
            let Some(mut gate) = gate else { return std::future::pending().await };
            let end = gate.wait_for(Option::is_some).await.ok().map(|end| end.clone());
            match end {
                Some(end) => end.unwrap_or_else(released),
                None => std::future::pending().await,
            }
        }
    }

    async fn advance(&mut self) -> Delivery {
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
            if let Some(end) = &self.ended {
                return Delivery::End(Arc::clone(end));
            }
            self.ended = self.watch.past(self.cursor).await;
            if self.ended.is_some() {
                continue;
            }
            self.fill();
        }
    }

    /// The next delivery where one is ready now. Lets a writer gather many before it flushes. Gives nothing of
    /// the past that was not yet fetched, and never the end: [`next`](Self::next) does.
    pub fn try_next(&mut self) -> Option<Delivery> {
        if self.gate.as_ref().is_some_and(|gate| gate.borrow().is_some()) {
            return None;
        }
        while self.ready.is_empty() && self.past.is_none() && self.ended.is_none() {
            if !self.fill() {
                break;
            }
        }
        self.take_ready()
    }

    fn take_ready(&mut self) -> Option<Delivery> {
        self.ready.pop_front()
    }

    fn take_past(&mut self, item: BacklogItem) {
        match item {
            BacklogItem::Records(batch) => {
                self.trails.entry(Arc::clone(batch.origin())).or_default().note(&batch);
                self.push_records(None, &batch);
            }
            BacklogItem::Signal(signal) => self.ready.push_back(Delivery::Signal { seq: None, signal }),
        }
    }

    /// The past is over: from now on the ring speaks, less what the past has said.
    fn join(&mut self) {
        self.past = None;
        self.windows = self.trails.drain().map(|(origin, trail)| (origin, trail.window())).collect();
    }

    /// Takes what stands at the cursor; false where there is nothing.
    fn fill(&mut self) -> bool {
        match self.stream.read(self.cursor, READ_BYTES) {
            Read::Empty => return false,
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
        true
    }

    fn take_entry(&mut self, entry: Entry) {
        let before = self.cursor.0 - entry.first.0.min(self.cursor.0);
        match entry.item {
            Item::Reading(reading) => {
                self.cursor = Seq(entry.first.0 + 1);
                self.ready.push_back(Delivery::Reading { seq: entry.first, reading });
            }
            Item::Signal(signal) => {
                self.cursor = Seq(entry.first.0 + 1);
                self.ready.push_back(Delivery::Signal { seq: Some(entry.first), signal });
            }
            Item::Records(batch) => {
                let first = self.cursor.max(entry.first);
                self.cursor = Seq(entry.first.0 + batch.len() as u64);
                let batch = if before == 0 { Some(batch) } else { batch.skip(before as usize) };
                if let Some(batch) = batch {
                    self.give_unseen(first, batch);
                }
            }
        }
    }

    /// Gives the lines of a batch that the past has not given already: one delivery for each run of them, so
    /// that every line keeps its number.
    fn give_unseen(&mut self, first: Seq, batch: Arc<Batch>) {
        let again = self.again.filter(|again| first < again.until);
        let mut window = self.windows.get_mut(batch.origin());
        if again.is_none() && window.is_none() {
            return self.give(first, Some(batch));
        }
        let is_new = |(index, line): (u64, &Line)| {
            let unseen = window.as_mut().is_none_or(|window| window.is_new(line.time, batch.text(line)));
            unseen && again.is_none_or(|again| line.time >= again.time || first.0 + index >= again.until.0)
        };
        let mut new: Vec<bool> = (0..).zip(batch.lines()).map(is_new).collect();
        if window.is_some_and(|window| window.passed()) {
            self.windows.remove(batch.origin());
        }
        new.push(false);
        let mut start = None;
        for (index, new) in new.into_iter().enumerate() {
            match (start, new) {
                (None, true) => start = Some(index),
                (Some(begin), false) => {
                    start = None;
                    self.give(Seq(first.0 + begin as u64), batch.slice(begin..index));
                }
                _ => {}
            }
        }
    }

    fn give(&mut self, first: Seq, batch: Option<Arc<Batch>>) {
        batch.iter().for_each(|batch| self.push_records(Some(first), batch));
    }
}

/// The end of a stream that gives no better reason.
fn released() -> Arc<StreamEnd> {
    Arc::new(StreamEnd { text: "the stream was released".into() })
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.stream.leave();
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("cursor", &self.cursor).field("missed", &self.missed).finish_non_exhaustive()
    }
}
