//! History: what declared metrics streams said, what Weir's own numbers were, and, in `archives`, records on disk.
//!
//! Each declared stream of pods' metrics has a recorder: a task that reads the stream as any client does and appends what
//! comes to a [`SeriesStore`]. A gap stays a gap. A stream that is suspended or changed keeps its history; one that is
//! deleted loses it.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::archives::{ArchivePlan, Archives};
use super::history_disk::{self, DiskQueue, Occupied, Place};
use super::job::JobError;
use crate::api::duration::DurationError;
use crate::api::{FsyncPolicy, HistoryStorage, StreamSubscriptionSpec};
use crate::record::Time;
use crate::stream::archive::Archive;
use crate::stream::segment::Retention;
use crate::stream::series::disk::{self, DiskBudget};
use crate::stream::series::{Budget, SeriesOptions, SeriesStore, Tally};
use crate::stream::{Backlog, Delivery, LiveStream, ReadFrom, Reader, StreamName};
use crate::telemetry::{HistoryOutcome, Metrics};

/// How often time passes for all series.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// Every so many sweeps, files that nobody needs any longer are looked for.
const TIDY_EVERY: u64 = 60;

/// What is said where the room on disk is used up.
const FULL: &str = "the room for history on disk is used up; keep less with spec.history, or let the operator allow more with \
    --history-disk-bytes";

/// A folder for history that survives a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryDisk {
    /// The folder, which is there and can be written to; Weir's alone.
    pub folder: PathBuf,
    /// Room for all streams together, in bytes.
    pub bytes: u64,
}

/// What histories may cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryConfig {
    /// Where histories are kept that survive a restart; none where there is no such place.
    pub disk: Option<HistoryDisk>,
    /// The bounds of one stream, where its subscription does not say.
    pub series: SeriesOptions,
    /// Memory of all streams' histories together, in bytes.
    pub bytes: usize,
}

impl Default for HistoryConfig {
    fn default() -> Self {
        Self { disk: None, series: SeriesOptions::default(), bytes: 64 * 1024 * 1024 }
    }
}

/// What a subscription asks to keep of its numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HistoryPlan {
    /// Whether it is of records, on disk; else of numbers.
    records: Option<ArchivePlan>,
    /// How long; `None` for the operator's own time.
    keep: Option<Duration>,
    /// At most so many bytes; `None` for the operator's own bound.
    bytes: Option<usize>,
    /// Whether it survives a restart, and when it is made durable.
    disk: Option<FsyncPolicy>,
}

impl HistoryPlan {
    /// What a spec asks for; `None` where its source gives no numbers, and what it gives is not to be kept on disk, or is kept
    /// there by the source itself.
    ///
    /// # Errors
    /// Where the age of the history cannot be read.
    pub fn of(spec: &StreamSubscriptionSpec) -> Result<Option<Self>, DurationError> {
        let numbers = spec.source.pod_metrics.is_some();
        let Some(history) = &spec.history else { return Ok(numbers.then(Self::default)) };
        let keep = history.age.as_ref().map(|age| age.parse()).transpose()?;
        let on_disk = history.storage == HistoryStorage::Disk;
        let disk = on_disk.then(|| history.fsync.unwrap_or_default());
        if numbers {
            let bytes = history.bytes.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
            return Ok(Some(Self { keep, bytes, disk, records: None }));
        }
        let records = |fsync| {
            let keep = Retention { bytes: history.bytes, units: history.records.map(u64::from), age: keep };
            Self { disk: Some(fsync), records: Some(ArchivePlan { keep, fsync }), ..Self::default() }
        };
        Ok(disk.filter(|_| spec.source.push.is_none()).map(records))
    }

    /// Whether records are to be kept, and not numbers.
    pub(super) fn is_of_records(&self) -> bool {
        self.records.is_some()
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
    /// Its folder, where it is kept on disk, and who writes there.
    files: Option<(PathBuf, Occupied)>,
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
    disk_budget: Arc<DiskBudget>,
    archives: Archives,
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
        let disk_budget = DiskBudget::new(config.disk.as_ref().map_or(0, |disk| disk.bytes), FULL);
        let (own, streams) = (Arc::new(SeriesStore::new(config.series)), Mutex::default());
        let archives = Archives::new(
            config.disk.as_ref(),
            Arc::clone(&disk_budget),
            Arc::clone(&metrics),
            tracker.clone(),
            cancel.clone(),
        );
        let histories =
            Arc::new(Self { config, own, budget, disk_budget, archives, streams, metrics, tracker, cancel });
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

    /// Whether what a subscription asks for can be had.
    ///
    /// # Errors
    /// [`JobError::NoDisk`] where it shall survive a restart and there is no folder for that.
    pub fn check(&self, plan: Option<HistoryPlan>) -> Result<(), JobError> {
        let on_disk = plan.is_some_and(|plan| plan.disk.is_some());
        if on_disk && self.config.disk.is_none() { Err(JobError::NoDisk) } else { Ok(()) }
    }

    /// Keeps the records of a stream on disk, where the plan says so; what readers are then given as the past.
    pub(super) fn archive(
        &self,
        name: &StreamName,
        uid: &str,
        stream: &Arc<LiveStream>,
        past: Option<Arc<dyn Backlog>>,
        plan: HistoryPlan,
    ) -> Option<Arc<Archive>> {
        let numbers = self.streams.lock().remove(name);
        numbers.into_iter().for_each(|numbers| self.discard(numbers.files));
        self.archives.record(name, uid, stream, past, plan.records?)
    }

    /// Records a stream of numbers from what its ring holds on. What was recorded before under the name stays where the object is
    /// the same one.
    pub(super) fn record(&self, name: &StreamName, uid: &str, stream: &Arc<LiveStream>, plan: HistoryPlan) {
        self.archives.forget(name);
        let mut streams = self.streams.lock();
        let before = streams.remove(name);
        let (before, other) = match before {
            Some(before) if before.uid == uid => (Some(before), None),
            other => (None, other),
        };
        other.into_iter().for_each(|other| self.discard(other.files));
        let recorded = match before {
            Some(recorded) if recorded.reads(stream) && recorded.plan == plan => recorded,
            before => self.begin(name, uid, stream, plan, before),
        };
        streams.insert(name.clone(), recorded);
    }

    /// Begins to record, or goes on.
    fn begin(
        &self,
        name: &StreamName,
        uid: &str,
        stream: &Arc<LiveStream>,
        plan: HistoryPlan,
        before: Option<Recorded>,
    ) -> Recorded {
        let options = plan.options(self.config.series);
        let (store, files) = match before {
            Some(before) => {
                self.count(before.store.set_options(options));
                (Arc::clone(&before.store), before.files.clone())
            }
            None => (Arc::new(SeriesStore::within(options, Arc::clone(&self.budget))), None),
        };
        let reader = Reader::open(Arc::clone(stream), ReadFrom::Oldest);
        let cancel = self.cancel.child_token();
        let metrics = Arc::clone(&self.metrics);
        let files = match (plan.disk, &self.config.disk) {
            (Some(fsync), Some(disk)) => {
                let folder = disk::folder(&disk.folder, &name.namespace, &name.name, uid);
                let before = files.map_or_else(Occupied::free, |(_, occupied)| occupied);
                let (occupied, guard) = Occupied::next();
                let budget = Arc::clone(&self.disk_budget);
                let place = Place { folder: folder.clone(), keep: options.keep, fsync, budget };
                let tracker = self.tracker.clone();
                let open = history_disk::open(place, before, guard, Arc::clone(&store), Arc::clone(&metrics), tracker);
                let recording = Arc::clone(&store);
                let task = async move { record(reader, recording, metrics, Some(open.await)).await };
                self.tracker.spawn(cancel.clone().run_until_cancelled_owned(task));
                Some((folder, occupied))
            }
            _ => {
                self.discard(files);
                let task = record(reader, Arc::clone(&store), metrics, None);
                self.tracker.spawn(cancel.clone().run_until_cancelled_owned(task));
                None
            }
        };
        let recorder = Some(Recorder { stream: Arc::clone(stream), cancel });
        Recorded { uid: uid.to_owned(), plan, store, recorder, files }
    }

    /// Deletes the files of a history, once nobody writes to them.
    fn discard(&self, files: Option<(PathBuf, Occupied)>) {
        if let Some((folder, occupied)) = files {
            self.tracker.spawn(history_disk::delete(folder, occupied, self.tracker.clone()));
        }
    }

    /// Records a stream no longer; its history stays.
    pub(super) fn pause(&self, name: &StreamName) {
        self.archives.pause(name);
        if let Some(recorded) = self.streams.lock().get_mut(name) {
            recorded.recorder = None;
        }
    }

    /// Forgets the history of a stream.
    pub(super) fn forget(&self, name: &StreamName) {
        self.archives.forget(name);
        let recorded = self.streams.lock().remove(name);
        recorded.into_iter().for_each(|recorded| self.discard(recorded.files));
    }

    fn count(&self, tally: Tally) {
        count(&self.metrics, tally);
    }

    async fn sweep_until_cancelled(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(SWEEP_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut sweeps = 0;
        while self.cancel.run_until_cancelled(ticks.tick()).await.is_some() {
            self.sweep(Time::now());
            if sweeps % TIDY_EVERY == 0 {
                self.tidy();
            }
            sweeps += 1;
        }
    }

    /// Deletes what was left on disk by subscriptions that were deleted while Weir did not run, once it is too old anyway.
    fn tidy(&self) {
        let Some(disk) = &self.config.disk else { return };
        self.archives.tidy();
        let root = disk.folder.clone();
        let in_use: HashSet<PathBuf> =
            self.streams.lock().values().filter_map(|recorded| Some(recorded.files.as_ref()?.0.clone())).collect();
        self.tracker.spawn_blocking(move || {
            match disk::delete_expired(&root, SystemTime::now(), |folder: &Path| in_use.contains(folder)) {
                Ok(0) => {}
                Ok(folders) => tracing::info!(folders, "History of subscriptions that are no more was deleted"),
                Err(error) => {
                    tracing::warn!(folder = %root.display(), %error, "The folder of histories cannot be read")
                }
            }
        });
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
async fn record(mut reader: Reader, store: Arc<SeriesStore>, metrics: Arc<Metrics>, mut disk: Option<DiskQueue>) {
    loop {
        match reader.next().await {
            Delivery::Reading { reading, .. } => {
                count(&metrics, store.append_reading(&reading));
                if let Some(disk) = &mut disk {
                    disk.send(reading);
                }
            }
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
