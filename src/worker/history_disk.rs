//! History on disk: one writer for each stream that asks for it, fed by its recorder through a queue.
//!
//! The recorder never waits for the disk. When the queue is full, or nothing can be written, memory goes on and what is not on
//! disk is counted; a later snapshot brings what memory still holds.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::api::FsyncPolicy;
use crate::record::Reading;
use crate::stream::series::SeriesStore;
use crate::stream::series::disk::{self, DiskBudget, SeriesLog};
use crate::telemetry::{HistoryDiskOutcome, Metrics};

/// Readings that wait for the disk at most. The ring holds most of them anyway.
const QUEUE: usize = 64;
/// How often what was written is made durable, where not after each write.
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// The wait before a disk that failed is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(10);

/// Where and how the history of one stream is kept on disk.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) folder: PathBuf,
    pub(super) keep: Duration,
    pub(super) fsync: FsyncPolicy,
    pub(super) budget: Arc<DiskBudget>,
}

/// Someone who writes to a folder, or did: the next one waits for its end.
#[derive(Clone, Debug)]
pub(super) struct Occupied(CancellationToken);

impl Occupied {
    /// Nobody.
    pub(super) fn free() -> Self {
        let token = CancellationToken::new();
        token.cancel();
        Self(token)
    }

    /// The next one who writes to the folder; until the guard is dropped.
    pub(super) fn next() -> (Self, DropGuard) {
        let token = CancellationToken::new();
        (Self(token.clone()), token.drop_guard())
    }

    /// Waits until nobody writes there any longer.
    pub(super) async fn ended(&self) {
        self.0.cancelled().await;
    }
}

/// The end of the queue that a recorder holds. When it is dropped, what is queued is written and the writer ends.
pub(super) struct DiskQueue {
    readings: Sender<Arc<Reading>>,
    metrics: Arc<Metrics>,
    full: bool,
}

impl DiskQueue {
    /// Sends a reading to the disk; where too many wait, it is left out there.
    pub(super) fn send(&mut self, reading: Arc<Reading>) {
        match self.readings.try_send(reading) {
            Ok(()) => self.full = false,
            Err(error) => {
                self.metrics.history_on_disk(HistoryDiskOutcome::Dropped, points(&error.into_inner()));
                if !std::mem::replace(&mut self.full, true) {
                    tracing::warn!("The disk is slower than what is to be kept as history; some is in memory alone");
                }
            }
        }
    }
}

/// Brings a store back from disk, then writes what is queued until the queue's other end is dropped. Opens after whoever
/// wrote to the folder before has ended.
pub(super) async fn open(
    place: Place,
    before: Occupied,
    guard: DropGuard,
    store: Arc<SeriesStore>,
    metrics: Arc<Metrics>,
    tracker: TaskTracker,
) -> DiskQueue {
    before.ended().await;
    let (sender, receiver) = mpsc::channel(QUEUE);
    let mut writer = Writer {
        log: None,
        store,
        place,
        metrics: Arc::clone(&metrics),
        next_try: Instant::now(),
        failing: false,
        _guard: guard,
    };
    let opened = tracker.spawn_blocking(move || {
        writer.open();
        writer
    });
    match opened.await {
        Ok(writer) => drop(tracker.spawn(write(writer, receiver, tracker.clone()))),
        Err(error) => tracing::error!(%error, "History on disk could not be read; this is a fault of Weir"),
    }
    DiskQueue { readings: sender, metrics, full: false }
}

/// Deletes a folder once nobody writes to it.
pub(super) async fn delete(folder: PathBuf, occupied: Occupied, tracker: TaskTracker) {
    occupied.ended().await;
    let deleting = tracker.spawn_blocking(move || disk::delete(&folder).map_err(|error| (folder, error)));
    if let Ok(Err((folder, error))) = deleting.await {
        tracing::warn!(folder = %folder.display(), %error, "History of a deleted subscription is still on disk; \
            it is deleted when it is too old");
    }
}

async fn write(mut writer: Writer, mut readings: Receiver<Arc<Reading>>, tracker: TaskTracker) {
    let mut ticks = tokio::time::interval(SYNC_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let mut batch = Vec::new();
        let turn = tokio::select! {
            count = readings.recv_many(&mut batch, QUEUE) => if count == 0 { Turn::Last } else { Turn::Write },
            _ = ticks.tick() => Turn::Sync,
        };
        let written = tracker.spawn_blocking(move || {
            writer.turn(&batch, turn);
            writer
        });
        match written.await {
            Ok(back) => writer = back,
            Err(error) => {
                tracing::error!(%error, "History is no longer written to disk; this is a fault of Weir");
                return;
            }
        }
        if turn == Turn::Last {
            return;
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Write,
    Sync,
    Last,
}

/// What writes; waits for the disk.
struct Writer {
    log: Option<SeriesLog>,
    store: Arc<SeriesStore>,
    place: Place,
    metrics: Arc<Metrics>,
    next_try: Instant,
    /// Whether it was told that nothing can be written.
    failing: bool,
    _guard: DropGuard,
}

impl Writer {
    fn open(&mut self) {
        let (place, folder) = (&self.place, self.place.folder.display());
        match SeriesLog::open(&place.folder, place.keep, Arc::clone(&place.budget), &self.store) {
            Ok((log, found)) => {
                if found.damaged > 0 || found.incomplete {
                    let bytes = found.damaged;
                    tracing::warn!(%folder, bytes, "Some history on disk was torn or damaged and is left out");
                }
                tracing::debug!(%folder, records = found.records, "History was read from disk");
                self.log = Some(log);
                self.snapshot();
            }
            Err(error) => self.failed(&error),
        }
    }

    fn turn(&mut self, batch: &[Arc<Reading>], turn: Turn) {
        if self.log.is_none() && Instant::now() >= self.next_try {
            self.open();
        }
        if self.log.as_ref().is_some_and(SeriesLog::wants_snapshot) && Instant::now() >= self.next_try {
            self.snapshot();
        }
        let count: u64 = batch.iter().map(|reading| points(reading)).sum();
        let Some(log) = &mut self.log else {
            return self.metrics.history_on_disk(HistoryDiskOutcome::Dropped, count);
        };
        let due = match self.place.fsync {
            FsyncPolicy::Always => true,
            FsyncPolicy::Interval => turn != Turn::Write,
            FsyncPolicy::Never => false,
        };
        let written = if batch.is_empty() { Ok(disk::Written::default()) } else { log.write(batch) };
        let outcome = written.and_then(|written| if due { log.sync().map(|()| written) } else { Ok(written) });
        match outcome {
            Ok(written) => {
                self.metrics.history_on_disk(HistoryDiskOutcome::Written, written.points);
                self.metrics.history_on_disk(HistoryDiskOutcome::Dropped, written.skipped);
            }
            Err(error) => {
                self.metrics.history_on_disk(HistoryDiskOutcome::Dropped, count);
                self.failed(&error);
            }
        }
        self.tell_room();
    }

    fn snapshot(&mut self) {
        let Some(log) = &mut self.log else { return };
        match log.snapshot(&self.store) {
            Ok(()) => {
                if std::mem::take(&mut self.failing) {
                    tracing::info!(folder = %self.place.folder.display(), "History is written to disk again");
                }
            }
            Err(error) => self.failed(&error),
        }
        self.tell_room();
    }

    /// Tells once of a failure, and says when to try again.
    fn failed(&mut self, error: &std::io::Error) {
        self.next_try = Instant::now() + TRY_AGAIN;
        if !std::mem::replace(&mut self.failing, true) {
            let folder = self.place.folder.display();
            tracing::warn!(%folder, %error, "History cannot be written to disk; memory goes on, and it is tried again");
        }
    }

    fn tell_room(&self) {
        self.metrics.history_disk.set(i64::try_from(self.place.budget.used()).unwrap_or(i64::MAX));
    }
}

fn points(reading: &Reading) -> u64 {
    reading.assets().iter().map(|asset| asset.values.iter().flatten().count() as u64).sum()
}
