//! The values of a declared metrics stream: the newest reading, as often as the client wants one.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use serde::ser::{Serialize, SerializeMap, Serializer};
use tokio::time::{Instant, sleep_until};

use super::history::last_hour;
use super::message::{Series, encoded, series, timestamp, unknown};
use super::{Due, Subscription};
use crate::endpoint::counted::Counted;
use crate::endpoint::services::Services;
use crate::endpoint::websocket::Text;
use crate::record::{Asset, Reading, Time};
use crate::stream::series::SeriesStore;
use crate::stream::{Delivery, Located, ReadFrom, Seq, StreamName};
use crate::telemetry::Metrics;

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
    /// What is recorded of it.
    past: Option<Arc<SeriesStore>>,
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
    /// All metrics of a stream, each reading as it comes; the newest first.
    pub fn new(name: StreamName, located: &Located, services: &Services, shelf: Arc<Shelf>) -> Self {
        let metrics = Arc::clone(&services.metrics);
        let mut watched = Self {
            slot: shelf.slot(&name, &[]),
            past: services.declared.histories().of(&name),
            reader: Counted::new(located.resume(ReadFrom::NewestReading), &metrics),
            name,
            metrics,
            shelf,
            chosen: Vec::new(),
            every: Duration::ZERO,
            newest: None,
            sent: None,
            missed: 0,
        };
        watched.ready();
        watched
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

    /// The last hour, as far as it was recorded: a series for each metric and asset, made one at a time.
    pub fn history(&self, now: Time) -> impl Iterator<Item = Text> + use<> {
        let (store, stream) = (self.past.clone(), self.name.to_string());
        let mut keys = store.as_ref().map(|store| store.series()).unwrap_or_default();
        keys.retain(|key| self.chosen.is_empty() || self.chosen.contains(&key.metric));
        keys.sort_by(|a, b| (&a.metric, &a.asset).cmp(&(&b.metric, &b.asset)));
        keys.into_iter().filter_map(move |key| {
            let data_points = last_hour(store.as_ref()?, &key, now);
            let (metric_name, stream, asset) = (&*key.metric, Some(&*stream), Some(&*key.asset));
            Some(series(Series { metric_name, stream, asset, data_points }))
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
