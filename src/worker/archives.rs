//! The past of records on disk: for each declared stream that asks for it a recorder, which reads the stream as any client does
//! and writes what it gets to an [`Archive`].
//!
//! The ring is the queue before the disk: where the disk is too slow, the recorder falls behind, and what the ring gave up
//! meanwhile is a gap in the past, told and counted. The stream and its readers never wait.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{MissedTickBehavior, sleep};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::histories::HistoryDisk;
use super::history_disk::{self, Occupied};
use crate::api::FsyncPolicy;
use crate::record::{Origin, Time};
use crate::stream::archive::{Archive, ArchiveLog, Opening, Piece, Tail};
use crate::stream::segment::{OsDisk, Retention};
use crate::stream::series::disk::{self, DiskBudget};
use crate::stream::{Backlog, Delivery, From, LiveStream, ReadFrom, Reader, SeenWindow, Seq, Start, StreamName};
use crate::telemetry::{HistoryDiskOutcome, Metrics};

/// Bytes that are gathered before they are written, where more is there already.
const GATHERED: usize = 1024 * 1024;
/// How often what was written is made durable, where not after each write, and what is too old is given up.
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// The wait before a disk that failed is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// What a subscription asks to keep of its records on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ArchivePlan {
    pub(super) keep: Retention,
    pub(super) fsync: FsyncPolicy,
}

/// What is kept of one declared stream.
struct Recorded {
    uid: String,
    plan: ArchivePlan,
    stream: Arc<LiveStream>,
    archive: Arc<Archive>,
    folder: PathBuf,
    occupied: Occupied,
    cancel: CancellationToken,
}

/// All pasts on disk.
pub(super) struct Archives {
    root: Option<PathBuf>,
    budget: Arc<DiskBudget>,
    streams: Mutex<HashMap<StreamName, Recorded>>,
    metrics: Arc<Metrics>,
    tracker: TaskTracker,
    cancel: CancellationToken,
}

impl Archives {
    /// None yet. They share the room on disk with other histories.
    pub(super) fn new(
        disk: Option<&HistoryDisk>,
        budget: Arc<DiskBudget>,
        metrics: Arc<Metrics>,
        tracker: TaskTracker,
        cancel: CancellationToken,
    ) -> Self {
        let root = disk.map(|disk| disk.folder.join("records"));
        Self { root, budget, streams: Mutex::default(), metrics, tracker, cancel }
    }

    /// Keeps what goes through a stream, whose source has this past of its own; what readers are then given as the past. What
    /// was kept before under the name stays where the object is the same one. None without a disk.
    pub(super) fn record(
        &self,
        name: &StreamName,
        uid: &str,
        stream: &Arc<LiveStream>,
        past: Option<Arc<dyn Backlog>>,
        plan: ArchivePlan,
    ) -> Option<Arc<Archive>> {
        let root = self.root.as_ref()?;
        let mut streams = self.streams.lock();
        let before = streams.remove(name);
        let same = before.as_ref().filter(|before| before.uid == uid);
        if same
            .is_some_and(|same| Arc::ptr_eq(&same.stream, stream) && same.plan == plan && !same.cancel.is_cancelled())
        {
            let archive = before.as_ref().map(|before| Arc::clone(&before.archive));
            streams.extend(before.map(|before| (name.clone(), before)));
            return archive;
        }
        let (occupied_before, prior) = match before {
            Some(before) if before.uid == uid => {
                before.cancel.cancel();
                let same = Arc::ptr_eq(&before.stream, stream);
                (before.occupied, same.then_some(before.archive))
            }
            other => {
                other.into_iter().for_each(|other| self.discard(other));
                (Occupied::free(), None)
            }
        };
        let folder = disk::folder(root, &name.namespace, &name.name, uid);
        let (archive, opening) = Archive::new(Arc::clone(stream), self.tracker.clone());
        let (occupied, guard) = Occupied::next();
        let cancel = self.cancel.child_token();
        let recorder = Recorder {
            folder: folder.clone(),
            plan,
            budget: Arc::clone(&self.budget),
            stream: Arc::clone(stream),
            past,
            prior,
            metrics: Arc::clone(&self.metrics),
            tracker: self.tracker.clone(),
            cancel: cancel.clone(),
            failing: false,
            _guard: guard,
        };
        self.tracker.spawn(recorder.run(occupied_before, opening));
        let (uid, stream) = (uid.to_owned(), Arc::clone(stream));
        let recorded = Recorded { uid, plan, stream, archive: Arc::clone(&archive), folder, occupied, cancel };
        streams.insert(name.clone(), recorded);
        Some(archive)
    }

    /// Records a stream no longer; its past stays.
    pub(super) fn pause(&self, name: &StreamName) {
        if let Some(recorded) = self.streams.lock().get(name) {
            recorded.cancel.cancel();
        }
    }

    /// Forgets the past of a stream.
    pub(super) fn forget(&self, name: &StreamName) {
        let recorded = self.streams.lock().remove(name);
        recorded.into_iter().for_each(|recorded| self.discard(recorded));
    }

    fn discard(&self, recorded: Recorded) {
        recorded.cancel.cancel();
        self.tracker.spawn(history_disk::delete(recorded.folder, recorded.occupied, self.tracker.clone()));
    }

    /// Deletes what subscriptions left that were deleted while Weir did not run, once nobody has written to it for a week.
    pub(super) fn tidy(&self) {
        let Some(root) = self.root.clone() else { return };
        let in_use: Vec<PathBuf> = self.streams.lock().values().map(|recorded| recorded.folder.clone()).collect();
        self.tracker.spawn_blocking(move || {
            if let Err(error) = disk::delete_abandoned(&root, |folder| in_use.iter().any(|used| used == folder)) {
                tracing::warn!(folder = %root.display(), %error, "The folder of histories cannot be read");
            }
        });
    }
}

/// Writes one stream to its log.
struct Recorder {
    folder: PathBuf,
    plan: ArchivePlan,
    budget: Arc<DiskBudget>,
    stream: Arc<LiveStream>,
    past: Option<Arc<dyn Backlog>>,
    /// Who wrote the same stream before.
    prior: Option<Arc<Archive>>,
    metrics: Arc<Metrics>,
    tracker: TaskTracker,
    cancel: CancellationToken,
    /// Whether it was told that nothing can be written.
    failing: bool,
    _guard: DropGuard,
}

impl Recorder {
    async fn run(mut self, before: Occupied, opening: Opening) {
        // What the ring gets while the log is opened is read from it.
        let early = Reader::open(Arc::clone(&self.stream), ReadFrom::Oldest);
        before.ended().await;
        let written = self.prior.take().and_then(|prior| prior.written());
        let Some((log, tail)) = self.open(opening, written.unwrap_or_default()).await else { return };
        let since = tail.ask_from();
        let mut windows = if written.is_some() { HashMap::new() } else { tail.windows() };
        let mut reader = match (&self.past, since) {
            _ if written.is_some() => {
                drop(early);
                let (epoch, seq) = (self.stream.epoch(), written.unwrap_or_default());
                Reader::open(Arc::clone(&self.stream), ReadFrom::Seq { epoch, seq })
            }
            // What came while nobody wrote, the source may still have.
            (Some(past), Some(since)) => {
                drop(early);
                let from = From { start: Start::At(since), ..From::default() };
                Reader::open_with_past(Arc::clone(&self.stream), past.as_ref(), from)
            }
            _ => early,
        };
        let (mut log, mut next, mut missed) = (Some(log), written.unwrap_or_default(), 0);
        let began = reader.position();
        let mut ticks = tokio::time::interval(SYNC_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let mut pieces = VecDeque::new();
            let cancel = self.cancel.clone();
            let turn = tokio::select! {
                biased;
                () = cancel.cancelled() => Turn::Last,
                _ = ticks.tick() => Turn::Tick,
                delivery = reader.next() => match delivery {
                    Delivery::End(_) => Turn::Last,
                    delivery => {
                        take(delivery, &mut windows, &mut next, &mut pieces);
                        Turn::Write
                    }
                },
            };
            let mut size = 0;
            while size < GATHERED
                && let Some(delivery) = reader.try_next()
            {
                let first = pieces.len();
                take(delivery, &mut windows, &mut next, &mut pieces);
                size += pieces.range(first..).map(Piece::size).sum::<usize>();
            }
            if reader.is_live() {
                // What the ring got before is in the past that was read.
                next = next.max(began);
            }
            self.metrics.history_records(HistoryDiskOutcome::Dropped, reader.missed() - missed);
            missed = reader.missed();
            log = self.write(log, pieces, next, turn).await;
            if turn == Turn::Last || log.is_none() {
                return;
            }
        }
    }

    /// Opens the log, as often as it takes; none when that is not wanted any more.
    async fn open(&mut self, opening: Opening, seq: Seq) -> Option<(ArchiveLog, Tail)> {
        let opening = Arc::new(opening);
        loop {
            let (folder, keep, budget) = (self.folder.clone(), self.plan.keep, Arc::clone(&self.budget));
            let opener = Arc::clone(&opening);
            let opened = self
                .tracker
                .spawn_blocking(move || ArchiveLog::open(Arc::new(OsDisk), &folder, keep, budget, &opener, seq))
                .await
                .ok()?;
            match opened {
                Ok((log, tail, damaged)) => {
                    if damaged > 0 {
                        let folder = self.folder.display();
                        tracing::warn!(%folder, bytes = damaged, "The end of a history on disk was torn or damaged");
                    }
                    return Some((log, tail));
                }
                Err(error) => self.failed(&error),
            }
            let cancel = self.cancel.clone();
            cancel.run_until_cancelled(sleep(TRY_AGAIN)).await?;
        }
    }

    /// Writes pieces, as often as it takes. The log, unless it is a fault of Weir's own.
    async fn write(
        &mut self,
        mut log: Option<ArchiveLog>,
        mut pieces: VecDeque<Piece>,
        next: Seq,
        turn: Turn,
    ) -> Option<ArchiveLog> {
        let due = match self.plan.fsync {
            FsyncPolicy::Always => !pieces.is_empty() || turn == Turn::Last,
            FsyncPolicy::Interval => turn != Turn::Write,
            FsyncPolicy::Never => false,
        };
        let count = |pieces: &VecDeque<Piece>| pieces.iter().map(|piece| u64::from(piece.units())).sum::<u64>();
        let all = count(&pieces);
        loop {
            let mut writing = log?;
            let work = move || {
                let written = writing.write(&mut pieces);
                if written.is_ok() {
                    // What was kept before is left out, and is written all the same.
                    writing.passed(next);
                }
                let written = written.and_then(|()| if due { writing.sync() } else { Ok(()) });
                if turn == Turn::Tick {
                    writing.give_up_old(Time::now());
                }
                (writing, pieces, written)
            };
            let (back, left, written) = match self.tracker.spawn_blocking(work).await {
                Ok(done) => done,
                Err(error) => {
                    tracing::error!(%error, "History is no longer written to disk; this is a fault of Weir");
                    return None;
                }
            };
            (log, pieces) = (Some(back), left);
            let Err(error) = written else { break };
            self.failed(&error);
            // A sync that failed leaves nothing to be written again.
            let over = pieces.is_empty() || turn == Turn::Last;
            let cancel = self.cancel.clone();
            if over || cancel.run_until_cancelled(sleep(TRY_AGAIN)).await.is_none() {
                break;
            }
        }
        let left = count(&pieces);
        self.metrics.history_records(HistoryDiskOutcome::Written, all - left);
        self.metrics.history_records(HistoryDiskOutcome::Dropped, left);
        self.metrics.history_disk.set(i64::try_from(self.budget.used()).unwrap_or(i64::MAX));
        if left == 0 && all > 0 && std::mem::take(&mut self.failing) {
            tracing::info!(folder = %self.folder.display(), "History is written to disk again");
        }
        log
    }

    /// Tells once of a failure.
    fn failed(&mut self, error: &std::io::Error) {
        if !std::mem::replace(&mut self.failing, true) {
            let folder = self.folder.display();
            tracing::warn!(%folder, %error, "History cannot be written to disk; readers go on, and it is tried again");
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Write,
    Tick,
    Last,
}

/// Makes pieces of what a reader was given, less what is kept already. `next` is how far the stream has come.
fn take(
    delivery: Delivery,
    windows: &mut HashMap<Arc<Origin>, SeenWindow>,
    next: &mut Seq,
    pieces: &mut VecDeque<Piece>,
) {
    match delivery {
        Delivery::Records { first, batch } => {
            let numbers = first.map_or(next.0..next.0, |first| first.0..first.0 + batch.len() as u64);
            *next = Seq(numbers.end);
            let new = match windows.get_mut(batch.origin()) {
                None => Some(Arc::clone(&batch)),
                Some(window) => {
                    let new = window.admit(&batch);
                    if window.passed() {
                        windows.remove(batch.origin());
                    }
                    new
                }
            };
            pieces.extend(new.iter().flat_map(|batch| Piece::of_batch(batch, numbers.clone())));
        }
        Delivery::Signal { seq, signal } => {
            *next = seq.map_or(*next, |seq| Seq(seq.0 + 1));
            pieces.push_back(Piece::of_signal(&signal, *next));
        }
        Delivery::Reading { .. } | Delivery::End(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;
    use futures::stream;

    use super::*;
    use crate::record::Batch;
    use crate::stream::{BacklogItem, BacklogStream, RingLimits};
    use crate::telemetry::Exposition;

    const PLAN: ArchivePlan =
        ArchivePlan { keep: Retention { bytes: None, units: None, age: None }, fsync: FsyncPolicy::Always };

    /// What a node still has of a container's log: a line a second.
    #[derive(Debug)]
    struct Node(std::ops::Range<i64>);

    fn line(second: i64) -> Arc<Batch> {
        let origin = Origin { pod: "cart-1".into(), container: "main".into(), ..Origin::default() };
        let text = format!("line {second}");
        Arc::new(Batch::of_text(Arc::new(origin), Time(second * 1_000_000_000), text))
    }

    impl Backlog for Node {
        fn fetch(&self, from: From) -> BacklogStream {
            let Start::At(time) = from.start else { return stream::empty().boxed() };
            let young = self.0.clone().filter(|second| second * 1_000_000_000 >= time.0);
            stream::iter(young.map(line).map(BacklogItem::Records).collect::<Vec<_>>()).boxed()
        }
    }

    struct Life {
        archives: Archives,
        stream: Arc<LiveStream>,
        archive: Arc<Archive>,
        metrics: Arc<Metrics>,
        tracker: TaskTracker,
        cancel: CancellationToken,
    }

    fn name() -> StreamName {
        StreamName::new("shop", "logs")
    }

    impl Life {
        fn begin(folder: &std::path::Path, node: std::ops::Range<i64>) -> Self {
            let (metrics, tracker, cancel) = (Metrics::new(), TaskTracker::new(), CancellationToken::new());
            let disk = HistoryDisk { folder: folder.to_owned(), bytes: 1 << 20 };
            let budget = DiskBudget::new(disk.bytes, "full");
            let archives = Archives::new(Some(&disk), budget, Arc::clone(&metrics), tracker.clone(), cancel.clone());
            let stream = Arc::new(LiveStream::new(RingLimits::default(), 1));
            let archive = archives.record(&name(), "uid", &stream, Some(Arc::new(Node(node))), PLAN).unwrap();
            Self { archives, stream, archive, metrics, tracker, cancel }
        }

        async fn written(&self, records: u64) {
            let wanted = format!("weir_history_disk_records_total{{outcome=\"written\"}} {records}");
            while !self.metrics.encode(Exposition::Prometheus).lines().any(|line| line == wanted) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }

        async fn past(&self) -> Vec<String> {
            let items = self.archive.fetch(From { start: Start::Beginning, ..From::default() });
            let texts = |item| match item {
                BacklogItem::Records(batch) => {
                    batch.lines().iter().map(|line| String::from_utf8_lossy(batch.text(line)).into_owned()).collect()
                }
                BacklogItem::Signal(signal) => vec![signal.text.clone()],
            };
            items.map(texts).collect::<Vec<_>>().await.concat()
        }

        async fn end(self) {
            self.cancel.cancel();
            self.tracker.close();
            self.tracker.wait().await;
        }
    }

    fn lines(seconds: std::ops::Range<i64>) -> Vec<String> {
        seconds.map(|second| format!("line {second}")).collect()
    }

    #[tokio::test]
    async fn what_came_while_nobody_wrote_is_asked_of_the_source_and_each_line_is_kept_once() {
        let folder = tempfile::tempdir().unwrap();
        let life = Life::begin(folder.path(), 0..0);
        (0..10).for_each(|second| life.stream.publish(line(second)));
        life.written(10).await;
        assert_eq!(life.past().await, lines(0..10));
        life.end().await;
        // The node has forgotten the first lines, and has some that nobody saw.
        let life = Life::begin(folder.path(), 5..20);
        life.written(10).await;
        // What is followed begins again with what the past has given.
        (18..25).for_each(|second| life.stream.publish(line(second)));
        life.written(15).await;
        assert_eq!(life.past().await, lines(0..25));
        life.end().await;
    }

    #[tokio::test]
    async fn what_is_forgotten_is_deleted_and_another_object_of_the_name_begins_with_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let life = Life::begin(folder.path(), 0..0);
        life.stream.publish(line(1));
        life.written(1).await;
        let files = || std::fs::read_dir(folder.path().join("records")).unwrap().count();
        assert_eq!(files(), 1);
        life.archives.pause(&name());
        let again = life.archives.record(&name(), "uid", &life.stream, None, PLAN).unwrap();
        let items: Vec<_> = again.fetch(From { start: Start::Beginning, ..From::default() }).collect().await;
        assert_eq!(items.len(), 1, "a pause keeps the past, and what the ring holds of it does not come again");
        life.archives.forget(&name());
        while files() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        life.end().await;
    }
}
