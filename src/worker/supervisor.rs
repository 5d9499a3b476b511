//! The supervisor: keeps one worker for each job that someone holds a lease on.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::FutureExt;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::job::{Job, JobError};
use crate::record::{Event, Level, Origin, Signal, Time};
use crate::source::{Source, Sources};
use crate::stream::{Backlog, LiveStream, RingLimits};
use crate::telemetry::Metrics;

/// How workers run.
#[derive(Clone, Copy, Debug)]
pub struct SupervisorConfig {
    /// What a stream holds where its spec does not say.
    pub ring: RingLimits,
    /// The wait before a worker that failed is started again.
    pub restart_after: Duration,
}

impl Default for SupervisorConfig {
    fn default() -> Self {
        Self { ring: RingLimits::default(), restart_after: Duration::from_secs(1) }
    }
}

/// All workers of this process.
pub struct Supervisor {
    sources: Sources,
    config: SupervisorConfig,
    metrics: Arc<Metrics>,
    workers: Mutex<HashMap<Job, Arc<Worker>>>,
    tracker: TaskTracker,
    cancel: CancellationToken,
    last_epoch: AtomicU64,
}

/// One job at work.
struct Worker {
    job: Job,
    stream: Arc<LiveStream>,
    source: Arc<dyn Source>,
    cancel: CancellationToken,
    leases: AtomicU64,
}

impl Supervisor {
    /// A supervisor whose tasks belong to `tracker` and end with `cancel`.
    pub fn new(
        sources: Sources,
        config: SupervisorConfig,
        metrics: Arc<Metrics>,
        tracker: TaskTracker,
        cancel: CancellationToken,
    ) -> Arc<Self> {
        let (workers, last_epoch) = (Mutex::default(), AtomicU64::new(0));
        let supervisor = Arc::new(Self { sources, config, metrics, workers, tracker, cancel, last_epoch });
        let watched = Arc::downgrade(&supervisor);
        supervisor.metrics.before_scrape(move |metrics| watched.upgrade().map(|all| all.weigh(metrics)).is_some());
        supervisor
    }

    /// Notes what all rings hold together.
    fn weigh(&self, metrics: &Metrics) {
        let held: Vec<_> = self.workers.lock().values().map(|worker| worker.stream.held()).collect();
        metrics.ring_records.set(held.iter().map(|(records, _)| i64::try_from(*records).unwrap_or(i64::MAX)).sum());
        metrics.ring_bytes.set(held.iter().map(|(_, bytes)| i64::try_from(*bytes).unwrap_or(i64::MAX)).sum());
    }

    /// What a stream holds where its spec does not say.
    pub fn default_ring(&self) -> RingLimits {
        self.config.ring
    }

    /// What workers are made with.
    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    pub(super) fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// What ends with the supervisor, or before.
    pub(super) fn child_token(&self) -> CancellationToken {
        self.cancel.child_token()
    }

    /// How many workers run.
    pub fn workers(&self) -> usize {
        self.workers.lock().len()
    }

    /// Makes sure that the job is at work, for as long as the lease is held.
    ///
    /// # Errors
    /// Where a pattern or time of the job is wrong, or the process is ending.
    pub fn ensure(self: &Arc<Self>, job: Job) -> Result<Lease, JobError> {
        self.ensure_with(job, |_| ())
    }

    /// The same, with something that is done to the stream before the worker publishes its first record, where the
    /// worker is a new one.
    ///
    /// # Errors
    /// As [`ensure`](Self::ensure).
    pub(super) fn ensure_with(
        self: &Arc<Self>,
        job: Job,
        prepare: impl FnOnce(&LiveStream),
    ) -> Result<Lease, JobError> {
        if self.cancel.is_cancelled() {
            return Err(JobError::Stopping);
        }
        let mut workers = self.workers.lock();
        if let Some(worker) = workers.get(&job) {
            worker.leases.fetch_add(1, Ordering::Relaxed);
            prepare(&worker.stream);
            job.update(&*worker.source);
            return Ok(Lease { supervisor: Arc::clone(self), worker: Arc::clone(worker) });
        }
        let worker = Arc::new(self.start(job, prepare)?);
        workers.insert(worker.job.clone(), Arc::clone(&worker));
        self.metrics.streams.inc();
        Ok(Lease { supervisor: Arc::clone(self), worker })
    }

    fn start(&self, job: Job, prepare: impl FnOnce(&LiveStream)) -> Result<Worker, JobError> {
        let now = Time::now();
        let source = job.source(&self.sources, now)?;
        let stream = Arc::new(LiveStream::new(job.ring(), self.next_epoch(now)));
        prepare(&stream);
        let cancel = self.cancel.child_token();
        let task = supervise(Arc::clone(&source), Arc::clone(&stream), cancel.clone(), self.config.restart_after);
        self.tracker.spawn(task);
        Ok(Worker { job, stream, source, cancel, leases: AtomicU64::new(1) })
    }

    /// Milliseconds since the Unix epoch, moved on where two streams start in the same one.
    fn next_epoch(&self, now: Time) -> u64 {
        let now = u64::try_from(now.millis()).unwrap_or_default();
        let next = |last: u64| Some(now.max(last + 1));
        let last = self.last_epoch.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        now.max(last.unwrap_or_default() + 1)
    }

    fn release(&self, worker: &Arc<Worker>) {
        let mut workers = self.workers.lock();
        if worker.leases.fetch_sub(1, Ordering::Relaxed) > 1 {
            return;
        }
        worker.cancel.cancel();
        workers.remove(&worker.job);
        self.metrics.streams.dec();
    }
}

impl std::fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Supervisor").field("workers", &self.workers()).finish_non_exhaustive()
    }
}

/// Runs a source until it is cancelled. A panic in it is a bug: it is reported, and the source starts again.
async fn supervise(
    source: Arc<dyn Source>,
    stream: Arc<LiveStream>,
    cancel: CancellationToken,
    restart_after: Duration,
) {
    loop {
        let run = Arc::clone(&source).run(Arc::clone(&stream), cancel.clone());
        let outcome = AssertUnwindSafe(run).catch_unwind().await;
        if cancel.is_cancelled() {
            break;
        }
        if outcome.is_err() {
            tracing::error!(?source, "a worker panicked; it is started again, records may be missing");
            let text = "The worker behind this stream failed and is started again; records may be missing.";
            stream.signal(Signal::new(Level::Error, Event::SourceError, Time::now(), text));
        }
        if cancel.run_until_cancelled(tokio::time::sleep(restart_after)).await.is_none() {
            break;
        }
    }
    stream.end("Nobody asks for the stream any longer, or Weir is shutting down.");
}

/// Someone's hold on a worker. When the last lease on it is dropped, the worker and its upstream connections are
/// released.
pub struct Lease {
    supervisor: Arc<Supervisor>,
    worker: Arc<Worker>,
}

impl Lease {
    /// What the worker makes.
    pub fn stream(&self) -> &Arc<LiveStream> {
        &self.worker.stream
    }

    /// The stream's past from before its ring, where its source has one.
    pub fn backlog(&self) -> Option<Arc<dyn Backlog>> {
        Arc::clone(&self.worker.source).past()
    }

    /// How many containers are followed, and every change of that.
    pub fn targets(&self) -> watch::Receiver<usize> {
        self.worker.source.targets()
    }

    /// Whether the worker knows what there is to follow.
    pub fn listed(&self) -> watch::Receiver<bool> {
        self.worker.source.listed()
    }

    /// The containers that are followed now.
    pub fn roster(&self) -> Vec<Arc<Origin>> {
        self.worker.source.roster()
    }

    /// Tells the worker what of an equal job is taken up as it runs.
    pub(super) fn update(&self, job: &Job) {
        job.update(&*self.worker.source);
    }

    /// What the worker does.
    pub fn job(&self) -> &Job {
        &self.worker.job
    }
}

impl Clone for Lease {
    fn clone(&self) -> Self {
        self.worker.leases.fetch_add(1, Ordering::Relaxed);
        Self { supervisor: Arc::clone(&self.supervisor), worker: Arc::clone(&self.worker) }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.supervisor.release(&self.worker);
    }
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lease").field("job", &self.worker.job).finish_non_exhaustive()
    }
}
