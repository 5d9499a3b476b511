//! The ring: what a stream remembers, bounded in records and bytes. One writer, any number of readers.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::record::{Batch, Reading, Signal, Time};

/// A record's or signal's place in its stream. Starts at 0, never skips, never repeats within one epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub u64);

/// What a stream carries.
#[derive(Clone, Debug)]
pub enum Item {
    /// Records; each takes a sequence number.
    Records(Arc<Batch>),
    /// A round of numbers; takes one sequence number.
    Reading(Arc<Reading>),
    /// A signal; takes one sequence number.
    Signal(Arc<Signal>),
}

impl Item {
    fn count(&self) -> u64 {
        match self {
            Self::Records(batch) => batch.len() as u64,
            Self::Reading(_) | Self::Signal(_) => 1,
        }
    }

    fn cost(&self) -> usize {
        match self {
            Self::Records(batch) => batch.cost(),
            Self::Reading(reading) => reading.cost(),
            Self::Signal(signal) => signal.cost(),
        }
    }

    fn newest(&self) -> Option<Time> {
        match self {
            Self::Records(batch) => batch.newest(),
            Self::Reading(reading) => Some(reading.time()),
            Self::Signal(signal) => Some(signal.time),
        }
    }
}

/// An item and the sequence number of its first record.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The number of the item's first record.
    pub first: Seq,
    /// The records or the signal.
    pub item: Item,
}

impl Entry {
    fn end(&self) -> Seq {
        Seq(self.first.0 + self.item.count())
    }
}

/// How much a ring holds. The oldest goes first; the newest item always stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RingLimits {
    /// Records and signals at most.
    pub records: u64,
    /// Bytes of text and line tables at most.
    pub bytes: usize,
    /// How old a record may be when a reader begins with it; none for any age.
    pub age: Option<Duration>,
}

impl Default for RingLimits {
    fn default() -> Self {
        Self { records: 100_000, bytes: 8 * 1024 * 1024, age: None }
    }
}

/// Why a stream ended: told to every reader before its connection closes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamEnd {
    /// A sentence for people.
    pub text: String,
}

/// Where a reader begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadFrom {
    /// With what comes next.
    Now,
    /// With the oldest that the ring holds.
    Oldest,
    /// With the record of this number, where the epoch is the stream's own.
    Seq {
        /// Which life of the stream the number belongs to.
        epoch: u64,
        /// The number.
        seq: Seq,
    },
    /// With the first record at or after this time.
    Time(Time),
    /// With the newest round of numbers, where there was one; else with what comes next.
    NewestReading,
}

impl RingLimits {
    /// The time before which records are too old, seen from `now`.
    fn horizon(self, now: Time) -> Option<Time> {
        self.age.map(|age| now.plus_nanos(-i64::try_from(age.as_nanos()).unwrap_or(i64::MAX)))
    }
}

#[derive(Debug, Default)]
struct Ring {
    entries: VecDeque<Entry>,
    next: Seq,
    records: u64,
    bytes: usize,
}

/// What readers wait on: how far the stream has come, or that it ended.
#[derive(Clone, Debug, PartialEq)]
struct Progress {
    next: Seq,
    end: Option<Arc<StreamEnd>>,
}

/// Sees every record and signal of a stream, in the task of whoever publishes: nothing escapes it however
/// full the ring is, and it must be quick. What it publishes itself comes behind the batch that it was shown.
pub trait Tap: Send + Sync + std::fmt::Debug {
    /// Records were published to `stream`.
    fn records(&self, stream: &LiveStream, batch: &Arc<Batch>);

    /// A signal was published to `stream`: one of the tap's own, too.
    fn signal(&self, _stream: &LiveStream, _signal: &Arc<Signal>) {}
}

/// Keeps a [`Tap`] at its stream until it is dropped.
#[derive(Debug)]
#[must_use = "the tap is taken off when this is dropped"]
pub struct TapGuard {
    taps: Arc<Taps>,
    tap: Arc<dyn Tap>,
}

impl Drop for TapGuard {
    fn drop(&mut self) {
        self.taps.0.rcu(|taps| -> Vec<_> { taps.iter().filter(|tap| !Arc::ptr_eq(tap, &self.tap)).cloned().collect() });
    }
}

/// The taps of a stream; hardly ever any, hardly ever changed, looked at for every batch.
#[derive(Debug, Default)]
struct Taps(ArcSwap<Vec<Arc<dyn Tap>>>);

/// A live stream: the ring and who waits for it. Readers do not keep it alive: when the last handle is
/// dropped they get what is left, then the end.
#[derive(Debug)]
pub struct LiveStream {
    held: Arc<Held>,
    progress: watch::Sender<Progress>,
    taps: Arc<Taps>,
}

/// The part of a stream that its readers hold.
#[derive(Debug)]
pub(super) struct Held {
    epoch: u64,
    limits: RingLimits,
    ring: Mutex<Ring>,
    readers: AtomicUsize,
}

/// What a reader found at its cursor.
pub(super) enum Read {
    /// Entries from the cursor on; the first may begin before it.
    Entries(Vec<Entry>),
    /// The cursor was behind the ring: how many records are gone.
    Gap(u64),
    /// Nothing yet.
    Empty,
}

impl LiveStream {
    /// A new stream. The epoch tells its lives apart, so that a number of an earlier life is never taken for one
    /// of this: its start in milliseconds since the Unix epoch is a good one.
    pub fn new(limits: RingLimits, epoch: u64) -> Self {
        let (progress, _) = watch::channel(Progress { next: Seq(0), end: None });
        let held = Held { epoch, limits, ring: Mutex::default(), readers: AtomicUsize::new(0) };
        Self { held: Arc::new(held), progress, taps: Arc::default() }
    }

    /// Which life of the stream its sequence numbers belong to.
    pub fn epoch(&self) -> u64 {
        self.held.epoch
    }

    /// The number that the next record will have.
    pub fn next_seq(&self) -> Seq {
        self.held.ring.lock().next
    }

    /// How many readers follow the stream.
    pub fn readers(&self) -> usize {
        self.held.readers.load(Ordering::Relaxed)
    }

    /// What a reader follows.
    pub(super) fn join(&self) -> (Arc<Held>, Watch) {
        self.held.readers.fetch_add(1, Ordering::Relaxed);
        (Arc::clone(&self.held), Watch(self.progress.subscribe()))
    }

    /// Adds records. Never waits for a reader.
    pub fn publish(&self, batch: Arc<Batch>) {
        if batch.is_empty() {
            return;
        }
        self.push(Item::Records(Arc::clone(&batch)));
        for tap in self.taps.0.load().iter() {
            tap.records(self, &batch);
        }
    }

    /// Shows all that is published from now on to `tap`, for as long as the guard is kept.
    pub fn tap(&self, tap: Arc<dyn Tap>) -> TapGuard {
        self.taps.0.rcu(|taps| taps.iter().chain([&tap]).cloned().collect::<Vec<_>>());
        TapGuard { taps: Arc::clone(&self.taps), tap }
    }

    /// Adds a round of numbers. Never waits for a reader.
    pub fn publish_reading(&self, reading: Arc<Reading>) {
        self.push(Item::Reading(reading));
    }

    /// Adds a signal. Never waits for a reader.
    pub fn signal(&self, signal: Signal) {
        let signal = Arc::new(signal);
        self.push(Item::Signal(Arc::clone(&signal)));
        for tap in self.taps.0.load().iter() {
            tap.signal(self, &signal);
        }
    }

    /// Ends the stream: readers get what is left, then the end. The first reason given stays.
    pub fn end(&self, text: impl Into<String>) {
        let end = Arc::new(StreamEnd { text: text.into() });
        self.progress.send_if_modified(|progress| {
            let first = progress.end.is_none();
            progress.end.get_or_insert(end);
            first
        });
    }

    /// Why the stream ended, where it did.
    pub fn ended(&self) -> Option<Arc<StreamEnd>> {
        self.progress.borrow().end.clone()
    }

    fn push(&self, item: Item) {
        let next = {
            let mut ring = self.held.ring.lock();
            let entry = Entry { first: ring.next, item };
            ring.next = entry.end();
            ring.records += entry.item.count();
            ring.bytes += entry.item.cost();
            ring.entries.push_back(entry);
            ring.evict(self.held.limits);
            ring.next
        };
        self.progress.send_modify(|progress| progress.next = progress.next.max(next));
    }

    /// The items that the ring holds now, oldest first.
    pub fn snapshot(&self) -> Vec<Entry> {
        self.held.ring.lock().entries.iter().cloned().collect()
    }

    /// What the ring holds now: records and signals, and their cost in bytes.
    pub fn held(&self) -> (u64, usize) {
        let ring = self.held.ring.lock();
        (ring.records, ring.bytes)
    }
}

impl Held {
    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    pub(super) fn leave(&self) {
        self.readers.fetch_sub(1, Ordering::Relaxed);
    }

    /// The number at which a reader begins, and how many records it will have missed where it asked for more
    /// than there is.
    pub(super) fn locate(&self, from: ReadFrom) -> (Seq, Located) {
        let ring = self.ring.lock();
        let young = self.limits.horizon(Time::now()).map(|horizon| ring.at_time(horizon));
        let oldest = ring.oldest().max(young.unwrap_or_default());
        match from {
            ReadFrom::Now => (ring.next, Located::Exact),
            ReadFrom::Oldest => (oldest, Located::Exact),
            ReadFrom::Seq { epoch, seq } if epoch == self.epoch => (seq.min(ring.next), Located::Exact),
            ReadFrom::Seq { .. } => (oldest, Located::OtherEpoch),
            ReadFrom::NewestReading => (ring.newest_reading(), Located::Exact),
            ReadFrom::Time(time) => {
                let seq = ring.at_time(time);
                // Where the oldest held is wanted already, what was wanted may have stood before it.
                let cut = seq == ring.oldest() && seq > Seq(0);
                (seq.max(oldest), if cut { Located::Younger } else { Located::Exact })
            }
        }
    }

    /// What stands at `cursor`, at most about `max_bytes` of it.
    pub(super) fn read(&self, cursor: Seq, max_bytes: usize) -> Read {
        let ring = self.ring.lock();
        let oldest = ring.oldest();
        if cursor < oldest {
            return Read::Gap(oldest.0 - cursor.0);
        }
        if cursor >= ring.next {
            return Read::Empty;
        }
        let start = ring.entries.partition_point(|entry| entry.end() <= cursor);
        let mut cost = 0;
        let fits = |entry: &&Entry| {
            let first = cost == 0;
            cost += entry.item.cost();
            first || cost <= max_bytes
        };
        Read::Entries(ring.entries.range(start..).take_while(fits).cloned().collect())
    }
}

/// How a [`ReadFrom`] was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Located {
    Exact,
    /// The number was of another life of the stream; reading begins with the oldest held.
    OtherEpoch,
    /// The ring may not reach back to the time any more; reading begins with the oldest held.
    Younger,
}

impl Ring {
    fn oldest(&self) -> Seq {
        self.entries.front().map_or(self.next, |entry| entry.first)
    }

    fn evict(&mut self, limits: RingLimits) {
        while self.entries.len() > 1 && (self.records > limits.records || self.bytes > limits.bytes) {
            let Some(entry) = self.entries.pop_front() else {
                return;
            };
            self.records -= entry.item.count();
            self.bytes -= entry.item.cost();
        }
    }

    /// The newest round of numbers; what comes next where there is none.
    fn newest_reading(&self) -> Seq {
        let reading = self.entries.iter().rev().find(|entry| matches!(entry.item, Item::Reading(_)));
        reading.map_or(self.next, |entry| entry.first)
    }

    /// The first record at or after `time`. Sources interleave, so every entry is looked at.
    fn at_time(&self, time: Time) -> Seq {
        let entry = self.entries.iter().find(|entry| entry.item.newest().is_some_and(|newest| newest >= time));
        let Some(entry) = entry else { return self.next };
        match &entry.item {
            Item::Reading(_) | Item::Signal(_) => entry.first,
            Item::Records(batch) => {
                let before = batch.lines().iter().take_while(|line| line.time < time).count();
                Seq(entry.first.0 + before as u64)
            }
        }
    }
}

/// Wakes a reader when there is something new.
pub(super) struct Watch(watch::Receiver<Progress>);

impl Watch {
    /// Waits until the stream has come past `cursor` or has ended there; the end, where it is that.
    pub(super) async fn past(&mut self, cursor: Seq) -> Option<Arc<StreamEnd>> {
        match self.0.wait_for(|progress| progress.next > cursor || progress.end.is_some()).await {
            Ok(progress) if progress.next > cursor => None,
            Ok(progress) => progress.end.clone(),
            // The stream was dropped without an end, so there is no better reason to give.
            Err(_) => Some(Arc::new(StreamEnd { text: "the stream was released".into() })),
        }
    }
}
