//! A process that serves: its signals, its tasks, and its end. Shared by `weir run` and `weir watch`.

use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::CliError;
use crate::access::{KeyId, KeyRing};
use crate::endpoint::{Drain, Drained};
use crate::record::Time;
use crate::source::Sources;
use crate::stream::Catalogue;
use crate::telemetry::Metrics;
use crate::worker::{Declared, Histories, HistoryConfig, Supervisor, SupervisorConfig};

/// How long tasks get to stop once the endpoint has.
const LAST: Duration = Duration::from_secs(2);

/// Serves until a signal comes or a task ends that should not, then ends everything in order.
pub(super) async fn serve(
    endpoint: impl Future<Output = Drained>,
    signals: &mut Signals,
    drain: &Drain,
    tasks: &Tasks,
    grace: Duration,
) -> Result<(), CliError> {
    tokio::pin!(endpoint);
    let mut serving = true;
    let outcome = tokio::select! {
        _ = &mut endpoint => {
            serving = false;
            Err(CliError::failed("the endpoint ended by itself; please report this"))
        }
        signal = signals.next() => {
            tracing::info!(signal, ?grace, "Weir was asked to stop; a second signal would stop it at once");
            Ok(())
        }
        () = tasks.broken.cancelled() => {
            Err(CliError::failed("a part of Weir ended by itself, so all of it does; the log says which"))
        }
    };
    drain.begin();
    let ending = async {
        if serving {
            endpoint.await;
        }
        tasks.stop(Instant::now() + LAST).await;
    };
    tokio::select! {
        () = ending => {}
        signal = signals.next() => {
            tracing::warn!(signal, "Weir was asked to stop again and stops at once");
            return Err(CliError::failed("a second signal cut the end short; clients may have missed records"));
        }
    }
    tracing::info!("Weir has stopped");
    outcome
}

/// Supervisor, histories, catalogue: what keeps declared streams at work.
pub(super) fn declared(
    sources: Sources,
    supervisor: SupervisorConfig,
    history: HistoryConfig,
    metrics: &Arc<Metrics>,
    tasks: &Tasks,
) -> Arc<Declared> {
    let (tracker, cancel) = (&tasks.tracker, &tasks.cancel);
    let supervisor = Supervisor::new(sources, supervisor, Arc::clone(metrics), tracker.clone(), cancel.clone());
    let histories = Histories::new(history, Arc::clone(metrics), tracker.clone(), cancel.clone());
    Declared::with_histories(supervisor, Arc::new(Catalogue::default()), histories, tracker.clone())
}

/// Ends keys on time.
pub(super) async fn expire(keyring: Arc<KeyRing>, cancel: CancellationToken) {
    let expired = |keys: Vec<KeyId>| {
        for key in keys {
            tracing::info!(%key, "A key has expired; what ran with it is cut");
        }
    };
    keyring.run_expiry(Time::now, expired, cancel).await;
}

/// The tasks that run until the end.
#[derive(Default)]
pub(super) struct Tasks {
    /// Knows them all.
    pub tracker: TaskTracker,
    /// Ends them all.
    pub cancel: CancellationToken,
    /// Cancelled when one of the vital ones ends before its time.
    broken: CancellationToken,
}

impl Tasks {
    /// Runs a task that ends when all are cancelled, and not before.
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let (cancel, broken) = (self.cancel.clone(), self.broken.clone());
        self.tracker.spawn(async move {
            // Dropped when the task panics, too.
            let guard = broken.drop_guard();
            task.await;
            if !cancel.is_cancelled() {
                tracing::error!(task = name, "A task that lasts has ended; this is a fault of Weir");
            }
            drop(guard);
        });
    }

    async fn stop(&self, deadline: Instant) {
        self.cancel.cancel();
        self.tracker.close();
        if tokio::time::timeout_at(deadline, self.tracker.wait()).await.is_err() {
            tracing::warn!(left = self.tracker.len(), "Some tasks did not stop in time and are dropped");
        }
    }
}

/// The signals that end Weir.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Listens from now on.
    pub fn listen() -> Result<Self, CliError> {
        let on = |kind| signal(kind).map_err(|error| CliError::Failed(format!("cannot listen to signals: {error}")));
        Ok(Self { terminate: on(SignalKind::terminate())?, interrupt: on(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
