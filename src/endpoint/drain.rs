//! How the endpoint stops: Serving, then Draining, then Closed.
//!
//! ```text
//!  Serving ──begin()──► Draining ──all gone, or time is up──► Closed
//!  accepts              accepts nobody, readyz says no,       what is left is aborted
//!                       bodies and sockets end by themselves
//! ```

use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long clients get to take what is queued for them.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(20);

/// Where the endpoint stands between its start and its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Connections are accepted.
    Serving,
    /// No new connections; what is open may finish.
    Draining,
    /// Whatever was still open has been aborted.
    Closed,
}

/// How a shutdown went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// Everyone left by themselves.
    Clean,
    /// The time was up, and this many tasks and connections were aborted.
    Aborted(usize),
}

/// The shared handle on the endpoint's end. Clones are the same drain.
///
/// Every task of the endpoint runs on [`Drain::tracker`], and everything that may last long watches
/// [`Drain::draining`].
#[derive(Debug, Clone)]
pub struct Drain {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    draining: CancellationToken,
    closed: CancellationToken,
    tracker: TaskTracker,
}

impl Default for Drain {
    fn default() -> Self {
        Self::new()
    }
}

impl Drain {
    /// A drain in phase [`Phase::Serving`].
    pub fn new() -> Self {
        let inner =
            Inner { draining: CancellationToken::new(), closed: CancellationToken::new(), tracker: TaskTracker::new() };
        Self { inner: Arc::new(inner) }
    }

    /// Where the endpoint stands now.
    pub fn phase(&self) -> Phase {
        if self.inner.closed.is_cancelled() {
            Phase::Closed
        } else if self.inner.draining.is_cancelled() {
            Phase::Draining
        } else {
            Phase::Serving
        }
    }

    /// Cancelled when draining begins: endless bodies end, sockets close with 1001 after what is queued.
    pub fn draining(&self) -> &CancellationToken {
        &self.inner.draining
    }

    /// Cancelled when the time is up: whatever still runs stops where it is.
    pub fn closed(&self) -> &CancellationToken {
        &self.inner.closed
    }

    /// Where the endpoint's tasks run, so that the end can wait for them.
    pub fn tracker(&self) -> &TaskTracker {
        &self.inner.tracker
    }

    /// Runs a task that is waited for at the end and dropped when the time is up.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let closed = self.inner.closed.clone();
        self.inner.tracker.spawn(async move {
            closed.run_until_cancelled_owned(task).await;
        });
    }

    /// Begins to drain and returns at once. Calling it again changes nothing.
    pub fn begin(&self) {
        self.inner.draining.cancel();
    }

    /// Drains, waits up to `grace` for everyone to leave, then aborts the rest.
    pub async fn shutdown(&self, grace: Duration) -> Drained {
        self.begin();
        self.inner.tracker.close();
        let clean = tokio::time::timeout(grace, self.inner.tracker.wait()).await.is_ok();
        let left = self.inner.tracker.len();
        self.inner.closed.cancel();
        if clean {
            return Drained::Clean;
        }
        tracing::warn!(left, ?grace, "Clients did not leave in time and were cut off");
        self.settle().await;
        Drained::Aborted(left)
    }

    /// Aborted tasks need a turn of the scheduler to go; one that blocks must not hold up the exit.
    async fn settle(&self) {
        const LAST: Duration = Duration::from_secs(1);
        let _ = tokio::time::timeout(LAST, self.inner.tracker.wait()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_watches_the_drain_ends_it_cleanly() {
        let drain = Drain::new();
        let watched = drain.draining().clone();
        drain.spawn(async move { watched.cancelled().await });
        assert_eq!(drain.phase(), Phase::Serving);
        assert_eq!(drain.shutdown(DEFAULT_GRACE).await, Drained::Clean);
        assert_eq!(drain.phase(), Phase::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_never_ends_is_aborted_and_counted() {
        let drain = Drain::new();
        drain.spawn(std::future::pending());
        assert_eq!(drain.shutdown(DEFAULT_GRACE).await, Drained::Aborted(1));
        assert!(drain.tracker().is_empty());
    }
}
