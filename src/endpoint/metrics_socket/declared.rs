//! The values of a declared metrics stream: the newest reading, as often as the client wants one.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use serde::ser::{Serialize, SerializeMap, Serializer};
use tokio::time::{Instant, sleep_until};

use super::message::{Point, Series, encoded, series, timestamp, unknown};
use super::{Due, Subscription};
use crate::endpoint::counted::Counted;
use crate::endpoint::websocket::Text;
use crate::record::{Asset, Reading, Time};
use crate::stream::{Delivery, LiveStream, Located, ReadFrom, Reader, Seq, StreamName};
use crate::telemetry::Metrics;

/// How far the past reaches back, and how fine it is, in nanoseconds.
const HISTORY: i64 = 3_600 * 1_000_000_000;
const RESOLUTION: i64 = 5 * 1_000_000_000;

/// The newest snapshot of each stream and choice of metrics that some socket watches, so that each is encoded once.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    slots: Mutex<HashMap<Choice, Weak<Slot>>>,
}

/// A stream, and the metrics of it that were chosen.
type Choice = (StreamName, Vec<String>);

/// The newest snapshot: which reading of which life of the stream it is.
type Slot = Mutex<Option<((u64, Seq), Text)>>;

impl Shelf {
    fn slot(&self, name: &StreamName, metrics: &[String]) -> Arc<Slot> {
        let mut slots = self.slots.lock();
        slots.retain(|_, slot| slot.strong_count() > 0);
        let place = slots.entry((name.clone(), metrics.to_vec())).or_default();
        place.upgrade().unwrap_or_else(|| {
            let slot = Arc::new(Slot::default());
            *place = Arc::downgrade(&slot);
            slot
        })
    }
}

/// What one socket watches of a stream.
pub(super) struct Watched {
    name: StreamName,
    stream: Arc<LiveStream>,
    reader: Counted,
    metrics: Arc<Metrics>,
    shelf: Arc<Shelf>,
    slot: Arc<Slot>,
    /// Names of metrics, sorted; empty for all.
    chosen: Vec<String>,
    /// The least time between two snapshots.
    every: Duration,
    newest: Option<(Seq, Arc<Reading>)>,
    sent: Option<(Seq, Instant)>,
    missed: u64,
}

impl Watched {
    /// All metrics of a stream, each reading as it comes.
    pub fn new(name: StreamName, located: &Located, metrics: Arc<Metrics>, shelf: Arc<Shelf>) -> Self {
        // The reader comes first: what is read while we look at the ring is in both, and counts once.
        let reader = Reader::open(Arc::clone(&located.stream), ReadFrom::Now).behind(&located.gate);
        Self {
            slot: shelf.slot(&name, &[]),
            newest: located.stream.readings(Time(i64::MIN)).pop(),
            stream: Arc::clone(&located.stream),
            name,
            reader: Counted::new(reader, &metrics),
            metrics,
            shelf,
            chosen: Vec::new(),
            every: Duration::ZERO,
            sent: None,
            missed: 0,
        }
    }

    /// Watches what the client asks for from now on.
    ///
    /// # Errors
    /// Names that there are not, as far as that is known: before its first reading a stream has none.
    pub fn subscribe(&mut self, wish: &Subscription) -> Result<(), String> {
        if let Some((_, reading)) = &self.newest {
            check(&wish.metrics, reading)?;
        }
        self.choose(wish.metrics.clone());
        self.every = wish.interval.unwrap_or_default();
        Ok(())
    }

    fn choose(&mut self, mut metrics: Vec<String>) {
        metrics.sort();
        metrics.dedup();
        self.slot = self.shelf.slot(&self.name, &metrics);
        self.chosen = metrics;
    }

    /// Waits until there is something to do. Cancel-safe.
    pub async fn due(&mut self) -> Due {
        loop {
            let waits = self.newest.as_ref().map(|(seq, _)| *seq) > self.sent.map(|(seq, _)| seq);
            let turn = self.sent.filter(|_| waits).map(|(_, at)| at + self.every);
            let delivery = match turn {
                // Right after the start there is no turn to wait for.
                None if waits => return self.ready(),
                None => self.reader.next().await,
                Some(at) => tokio::select! {
                    biased;
                    () = sleep_until(at) => return self.ready(),
                    delivery = self.reader.next() => delivery,
                },
            };
            match delivery {
                Delivery::Reading { seq, reading } => {
                    if let Some(problem) = self.take(seq, reading) {
                        return Due::Problem(problem);
                    }
                }
                Delivery::End(end) => return Due::Ended(end.text.clone()),
                Delivery::Records { .. } | Delivery::Signal { .. } => {}
            }
        }
    }

    /// Takes what came while the socket was busy: only the newest counts.
    fn ready(&mut self) -> Due {
        let mut over = 0;
        while let Some(delivery) = self.reader.try_next() {
            if let Delivery::Reading { seq, reading } = delivery {
                over += 1;
                if let Some(problem) = self.take(seq, reading) {
                    return Due::Problem(problem);
                }
            }
        }
        // Whoever wants fewer than there are misses none of those in between.
        let behind = self.reader.missed() - std::mem::replace(&mut self.missed, self.reader.missed());
        Due::Snapshot { skipped: if self.every.is_zero() { over + behind } else { 0 } }
    }

    /// Notes a reading; what is wrong with the choice of metrics, where that could not be known before.
    fn take(&mut self, seq: Seq, reading: Arc<Reading>) -> Option<String> {
        let first = self.newest.is_none();
        self.newest = self.newest.take().filter(|(newest, _)| *newest > seq).or(Some((seq, reading)));
        let (_, reading) = self.newest.as_ref().filter(|_| first)?;
        let problem = check(&self.chosen, reading).err()?;
        self.choose(Vec::new());
        Some(problem)
    }

    /// The newest reading, where there is one.
    pub fn snapshot(&mut self) -> Option<Text> {
        let (seq, reading) = self.newest.as_ref()?;
        self.sent = Some((*seq, Instant::now()));
        let id = (self.reader.epoch(), *seq);
        let mut slot = self.slot.lock();
        if let Some((_, text)) = slot.as_ref().filter(|(shown, _)| *shown == id) {
            return Some(text.clone());
        }
        self.metrics.snapshots_encoded.inc();
        let text = encoded(&Snapshot { name: &self.name, chosen: &self.chosen, reading });
        *slot = Some((id, text.clone()));
        Some(text)
    }

    /// The past that the stream holds: a series for each metric and asset, made one at a time.
    pub fn history(&self, now: Time) -> impl Iterator<Item = Text> + use<> {
        let readings = self.stream.readings(now.plus_nanos(-HISTORY));
        let readings: Vec<Arc<Reading>> = thinned(readings.into_iter().map(|(_, reading)| reading));
        let mut places: HashMap<String, Vec<(usize, usize)>> = HashMap::new();
        let mut wanted = Vec::new();
        for (at, reading) in readings.iter().enumerate() {
            for (index, asset) in reading.assets().iter().enumerate() {
                let place = places.entry(asset.name.clone()).or_default();
                if place.is_empty() {
                    wanted.push(asset.name.clone());
                }
                place.push((at, index));
            }
        }
        let names = readings.last().map(|reading| reading.head().names.clone()).unwrap_or_default();
        let chosen = self.chosen.clone();
        let metrics = names.into_iter().enumerate().filter(move |(_, name)| chosen.is_empty() || chosen.contains(name));
        let stream = self.name.to_string();
        metrics.flat_map(move |(metric, name)| {
            let past = (stream.clone(), readings.clone());
            let assets: Vec<_> = wanted.iter().map(|asset| (asset.clone(), places[asset].clone())).collect();
            assets.into_iter().map(move |(asset, places)| {
                let (stream, readings) = &past;
                let value = |(at, index): (usize, usize)| {
                    let value = readings[at].assets()[index].values.get(metric).copied().flatten()?;
                    Some(Point::new(readings[at].time(), value))
                };
                let data_points = places.into_iter().filter_map(value).collect();
                series(Series { metric_name: &name, stream: Some(stream), asset: Some(&asset), data_points })
            })
        })
    }

    /// Waits until the stream is cut off, whatever there is to read.
    pub fn cut(&self) -> impl Future<Output = String> + Send + use<> {
        let cut = self.reader.cut();
        async move { cut.await.text.clone() }
    }
}

fn check(metrics: &[String], reading: &Reading) -> Result<(), String> {
    unknown(metrics, reading.head().names.iter().map(String::as_str)).map_or(Ok(()), Err)
}

/// The last reading of each five seconds.
fn thinned(readings: impl Iterator<Item = Arc<Reading>>) -> Vec<Arc<Reading>> {
    let mut kept: Vec<Arc<Reading>> = Vec::new();
    for reading in readings {
        let slot = |reading: &Reading| reading.time().0.div_euclid(RESOLUTION);
        if kept.last().is_some_and(|last| slot(last) == slot(&reading)) {
            kept.pop();
        }
        kept.push(reading);
    }
    kept
}

/// A reading as a snapshot of the metrics that were chosen.
struct Snapshot<'a> {
    name: &'a StreamName,
    chosen: &'a [String],
    reading: &'a Reading,
}

impl Serialize for Snapshot<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let assets = self.reading.assets().iter().map(|asset| Shown { snapshot: self, asset });
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("type", "Snapshot")?;
        map.serialize_entry("timestamp", &timestamp(self.reading.time()))?;
        map.serialize_entry("stream", &self.name.to_string())?;
        map.serialize_entry("assets", &assets.collect::<Vec<_>>())?;
        map.end()
    }
}

/// An asset and its values.
struct Shown<'a> {
    snapshot: &'a Snapshot<'a>,
    asset: &'a Asset,
}

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let asset = self.asset;
        let place = [
            ("namespace", &asset.namespace),
            ("group", &asset.group),
            ("pod", &asset.pod),
            ("container", &asset.container),
        ];
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("asset", &asset.name)?;
        for (key, value) in place.into_iter().filter(|(_, value)| !value.is_empty()) {
            map.serialize_entry(key, value)?;
        }
        map.serialize_entry("metrics", &Values(self))?;
        map.end()
    }
}

/// The values by the names of their metrics; one that is not known is left out.
struct Values<'a>(&'a Shown<'a>);

impl Serialize for Values<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Shown { snapshot, asset } = self.0;
        let values = snapshot.reading.head().names.iter().zip(&asset.values);
        let chosen = values.filter(|(name, _)| snapshot.chosen.is_empty() || snapshot.chosen.contains(name));
        serializer.collect_map(chosen.filter_map(|(name, value)| Some((name, (*value)?))))
    }
}
