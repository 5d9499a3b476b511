//! History of numbers: what declared metrics streams said, and what Weir's own numbers were.
//!
//! Each declared stream of pods' metrics has a recorder: a task that reads the stream as any client does and appends what
//! comes to a [`SeriesStore`]. A gap stays a gap. A stream that is suspended or changed keeps its history; one that is
//! deleted loses it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api::StreamSubscriptionSpec;
use crate::api::duration::DurationError;
use crate::record::Time;
use crate::stream::series::{Budget, SeriesOptions, SeriesStore, Tally};
use crate::stream::{Delivery, LiveStream, ReadFrom, Reader, StreamName};
use crate::telemetry::{HistoryOutcome, Metrics};

/// How often time passes for all series.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// What histories may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryConfig {
    /// The bounds of one stream, where its subscription does not say.
    pub series: SeriesOptions,
    /// Memory of all streams' histories together, in bytes.
    pub bytes: usize,
}

impl Default for HistoryConfig {
    fn default() -> Self {
        Self { series: SeriesOptions::default(), bytes: 64 * 1024 * 1024 }
    }
}

/// What a subscription asks to keep of its numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HistoryPlan {
    /// How long; `None` for the operator's own time.
    keep: Option<Duration>,
    /// At most so many bytes; `None` for the operator's own bound.
    bytes: Option<usize>,
}

impl HistoryPlan {
    /// What a spec asks for; `None` where its source gives no numbers.
    ///
    /// # Errors
    /// Where the age of the history cannot be read.
    pub fn of(spec: &StreamSubscriptionSpec) -> Result<Option<Self>, DurationError> {
        if spec.source.pod_metrics.is_none() {
            return Ok(None);
        }
        let Some(history) = &spec.history else { return Ok(Some(Self::default())) };
        let keep = history.age.as_ref().map(|age| age.parse()).transpose()?;
        let bytes = history.bytes.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
        Ok(Some(Self { keep, bytes }))
    }

    fn options(&self, usual: SeriesOptions) -> SeriesOptions {
        SeriesOptions { keep: self.keep.unwrap_or(usual.keep), bytes: self.bytes.unwrap_or(usual.bytes), ..usual }
    }
}

/// The history of one declared stream.
struct Recorded {
    uid: String,
    plan: HistoryPlan,
    store: Arc<SeriesStore>,
    /// What is read now; none while the stream is suspended.
    recorder: Option<Recorder>,
}

struct Recorder {
    stream: Arc<LiveStream>,
    cancel: CancellationToken,
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

/// All histories of numbers.
pub struct Histories {
    config: HistoryConfig,
    own: Arc<SeriesStore>,
    budget: Arc<Budget>,
    streams: Mutex<HashMap<StreamName, Recorded>>,
    metrics: Arc<Metrics>,
    tracker: TaskTracker,
    cancel: CancellationToken,
}

impl Histories {
    /// No histories yet. Tasks belong to `tracker` and end with `cancel`.
    pub fn new(
        config: HistoryConfig,
        metrics: Arc<Metrics>,
        tracker: TaskTracker,
        cancel: CancellationToken,
    ) -> Arc<Self> {
        let budget = Budget::new(config.bytes);
        let (own, streams) = (Arc::new(SeriesStore::new(config.series)), Mutex::default());
        let histories = Arc::new(Self { config, own, budget, streams, metrics, tracker, cancel });
        histories.tracker.spawn(Arc::clone(&histories).sweep_until_cancelled());
        histories
    }

    /// The history of Weir's own numbers, whose series have an empty asset.
    pub fn own(&self) -> &Arc<SeriesStore> {
        &self.own
    }

    /// The history of a declared stream, where it has one.
    pub fn of(&self, name: &StreamName) -> Option<Arc<SeriesStore>> {
        self.streams.lock().get(name).map(|recorded| Arc::clone(&recorded.store))
    }

    /// Records a stream from what its ring holds on. What was recorded before under the name stays where the object is
    /// the same one.
    pub(super) fn record(&self, name: &StreamName, uid: &str, stream: &Arc<LiveStream>, plan: HistoryPlan) {
        let options = plan.options(self.config.series);
        let mut streams = self.streams.lock();
        let recorded = match streams.remove(name).filter(|recorded| recorded.uid == uid) {
            Some(recorded) if recorded.reads(stream) && recorded.plan == plan => recorded,
            Some(recorded) => {
                self.count(recorded.store.set_options(options));
                let recorder = Some(self.start(stream, &recorded.store));
                Recorded { plan, recorder, ..recorded }
            }
            None => {
                let store = Arc::new(SeriesStore::within(options, Arc::clone(&self.budget)));
                let recorder = Some(self.start(stream, &store));
                Recorded { uid: uid.to_owned(), plan, store, recorder }
            }
        };
        streams.insert(name.clone(), recorded);
    }

    /// Records a stream no longer; its history stays.
    pub(super) fn pause(&self, name: &StreamName) {
        if let Some(recorded) = self.streams.lock().get_mut(name) {
            recorded.recorder = None;
        }
    }

    /// Forgets the history of a stream.
    pub(super) fn forget(&self, name: &StreamName) {
        self.streams.lock().remove(name);
    }

    fn start(&self, stream: &Arc<LiveStream>, store: &Arc<SeriesStore>) -> Recorder {
        let cancel = self.cancel.child_token();
        let reader = Reader::open(Arc::clone(stream), ReadFrom::Oldest);
        let task = record(reader, Arc::clone(store), Arc::clone(&self.metrics));
        self.tracker.spawn(cancel.clone().run_until_cancelled_owned(task));
        Recorder { stream: Arc::clone(stream), cancel }
    }

    fn count(&self, tally: Tally) {
        count(&self.metrics, tally);
    }

    async fn sweep_until_cancelled(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(SWEEP_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while self.cancel.run_until_cancelled(ticks.tick()).await.is_some() {
            self.sweep(Time::now());
        }
    }

    /// Lets the time pass for all histories, and says in the metrics how much there is.
    fn sweep(&self, now: Time) {
        let streams = self.streams.lock().values().map(|recorded| Arc::clone(&recorded.store)).collect::<Vec<_>>();
        let (mut series, mut bytes) = (0, 0);
        for store in streams.iter().chain([&self.own]) {
            self.count(store.sweep(now));
            let (more_series, _, more_bytes) = store.held();
            (series, bytes) = (series + more_series, bytes + more_bytes);
        }
        self.metrics.history_series.set(i64::try_from(series).unwrap_or(i64::MAX));
        self.metrics.history_memory.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}

impl Recorded {
    fn reads(&self, stream: &Arc<LiveStream>) -> bool {
        self.recorder.as_ref().is_some_and(|recorder| Arc::ptr_eq(&recorder.stream, stream))
    }
}

impl std::fmt::Debug for Histories {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Histories").field("streams", &self.streams.lock().len()).finish_non_exhaustive()
    }
}

/// Appends what a stream says to its history, until it ends.
async fn record(mut reader: Reader, store: Arc<SeriesStore>, metrics: Arc<Metrics>) {
    loop {
        match reader.next().await {
            Delivery::Reading { reading, .. } => count(&metrics, store.append_reading(&reading)),
            Delivery::End(_) => return,
            Delivery::Records { .. } | Delivery::Signal { .. } => {}
        }
    }
}

fn count(metrics: &Metrics, tally: Tally) {
    let outcomes = [
        (HistoryOutcome::Stored, tally.stored),
        (HistoryOutcome::Replaced, tally.replaced),
        (HistoryOutcome::Late, tally.late),
        (HistoryOutcome::Refused, tally.refused),
        (HistoryOutcome::Evicted, tally.evicted),
    ];
    outcomes.into_iter().for_each(|(outcome, points)| metrics.history(outcome, points));
}
