//! The hub: one follow for each container run, however many selections want it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::follow::{Follow, Stage};
use super::index::PodIndex;
use super::info::Run;
use super::log_api::{ContainerLog, LogApi};
use crate::record::{Batch, LineLimit, Origin, Signal};
use crate::telemetry::Metrics;

/// How logs are followed.
#[derive(Clone, Copy, Debug)]
pub struct HubConfig {
    /// The longest line that is kept whole.
    pub line_limit: LineLimit,
    /// How long a follow may be silent before a second request asks whether it has missed something.
    pub idle_probe: Duration,
    /// The longest wait between two such questions, and so the longest time for which a follow that died unnoticed
    /// stays unnoticed.
    pub idle_probe_max: Duration,
    /// The longest wait before connecting again.
    pub backoff_max: Duration,
}

impl Default for HubConfig {
    fn default() -> Self {
        Self {
            line_limit: LineLimit::default(),
            idle_probe: Duration::from_secs(10),
            idle_probe_max: Duration::from_secs(60),
            backoff_max: Duration::from_secs(5),
        }
    }
}

/// Where a follow begins when it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RunStart {
    /// With the run's first line.
    Beginning,
    /// With what is written from now on.
    Now,
}

/// Who gets what a follow reads. Must not wait.
pub(super) trait Sink: Send + Sync {
    fn records(&self, batch: &Arc<Batch>);
    fn signal(&self, signal: Signal);
}

/// All follows of this process.
pub struct FollowHub {
    api: LogApi,
    index: Arc<PodIndex>,
    config: HubConfig,
    metrics: Arc<Metrics>,
    follows: Mutex<HashMap<Arc<Origin>, Arc<Follow>>>,
    tracker: TaskTracker,
    cancel: CancellationToken,
}

impl FollowHub {
    /// A hub whose tasks belong to `tracker` and end with `cancel`.
    pub fn new(
        client: Client,
        index: Arc<PodIndex>,
        config: HubConfig,
        metrics: Arc<Metrics>,
        tracker: TaskTracker,
        cancel: CancellationToken,
    ) -> Arc<Self> {
        let api = LogApi::new(client, Arc::clone(&metrics));
        Arc::new(Self { api, index, config, metrics, follows: Mutex::default(), tracker, cancel })
    }

    /// How many containers are followed now.
    pub fn follows(&self) -> usize {
        self.follows.lock().len()
    }

    /// The longest line that is kept whole.
    pub fn line_limit(&self) -> LineLimit {
        self.config.line_limit
    }

    /// What is counted.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The pods there are.
    pub fn index(&self) -> &Arc<PodIndex> {
        &self.index
    }

    pub(super) fn log(&self, origin: &Arc<Origin>) -> ContainerLog {
        ContainerLog { api: self.api.clone(), origin: Arc::clone(origin) }
    }

    /// Lets `sink` have what a run writes from now on. `start` counts only where nobody follows it yet; the
    /// attachment tells.
    pub(super) fn attach(
        self: &Arc<Self>,
        origin: &Arc<Origin>,
        run: &Run,
        start: RunStart,
        sink: Arc<dyn Sink>,
    ) -> Attachment {
        let mut follows = self.follows.lock();
        let existing = follows.get(origin).cloned();
        let created = existing.is_none();
        let follow = existing.unwrap_or_else(|| {
            let cancel = self.cancel.child_token();
            let metrics = Arc::clone(&self.metrics);
            let follow = Follow::new(self.log(origin), run.clone(), self.config, metrics, cancel.clone());
            let follow = Arc::new(follow);
            follows.insert(Arc::clone(origin), Arc::clone(&follow));
            self.metrics.upstream_follows.inc();
            let (task, index) = (Arc::clone(&follow), Arc::clone(&self.index));
            self.tracker.spawn(async move { cancel.run_until_cancelled(task.run(&index, start)).await });
            follow
        });
        let id = follow.add(sink);
        Attachment { hub: Arc::clone(self), follow, id, created }
    }

    fn detach(&self, follow: &Arc<Follow>, id: u64) {
        let mut follows = self.follows.lock();
        if follow.remove(id) {
            follow.cancel();
            follows.remove(follow.origin());
            self.metrics.upstream_follows.dec();
        }
    }
}

impl std::fmt::Debug for FollowHub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FollowHub").field("follows", &self.follows()).finish_non_exhaustive()
    }
}

/// A sink's hold on a follow. When the last one is dropped, the upstream connection is released.
pub(super) struct Attachment {
    hub: Arc<FollowHub>,
    follow: Arc<Follow>,
    id: u64,
    created: bool,
}

impl Attachment {
    /// Whether this attachment began the follow, so that its `start` counted.
    pub fn created(&self) -> bool {
        self.created
    }

    /// How far the follow has come.
    pub fn stage(&self) -> tokio::sync::watch::Receiver<Stage> {
        self.follow.stage()
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.hub.detach(&self.follow, self.id);
    }
}
