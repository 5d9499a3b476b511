//! The source: while it runs, producers may upload to its name.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::policy::Policy;
use super::records::{Framing, Records};
use super::uploads::Uploads;
use crate::api::FsyncPolicy;
use crate::record::Origin;
use crate::source::Source;
use crate::stream::{Backlog, LiveStream, StreamName};

/// What a subscription says of uploads to its name.
#[derive(Clone, Debug)]
pub struct PushConfig {
    /// Most bytes of one upload.
    pub most: Option<u64>,
    /// Whether an upload may take the place of another.
    pub replace: bool,
    /// Bytes that are kept.
    pub bytes: Option<u64>,
    /// How long an upload is kept after its end.
    pub keep: Option<Duration>,
    /// Whether it is kept on disk, and when that is made durable.
    pub disk: Option<FsyncPolicy>,
    /// How it becomes records, too, where it does.
    pub framing: Option<Framing>,
}

/// A name that is declared.
#[derive(Debug)]
pub struct Declared {
    uploads: Arc<Uploads>,
    name: StreamName,
    config: PushConfig,
    targets: watch::Sender<usize>,
    listed: watch::Sender<bool>,
}

impl Declared {
    /// Declares a name for as long as it runs.
    pub fn new(uploads: Arc<Uploads>, name: StreamName, config: PushConfig) -> Arc<Self> {
        let (targets, listed) = (watch::channel(1).0, watch::channel(true).0);
        Arc::new(Self { uploads, name, config, targets, listed })
    }
}

impl Source for Declared {
    fn run(self: Arc<Self>, stream: Arc<LiveStream>, cancel: CancellationToken) -> BoxFuture<'static, ()> {
        let PushConfig { most, replace, bytes, keep, disk, framing } = self.config.clone();
        let closed = cancel.child_token();
        let metrics = Arc::clone(self.uploads.metrics());
        let records = framing.map(|framing| Records::new(framing, Arc::clone(&stream), &self.name, metrics));
        let policy = Policy { most, replace, bytes, keep, disk, closed, told: Some(stream), records };
        self.uploads.declare(&self.name, policy.clone());
        async move {
            cancel.cancelled().await;
            self.uploads.withdraw(&self.name, &policy);
        }
        .boxed()
    }

    fn past(self: Arc<Self>) -> Option<Arc<dyn Backlog>> {
        None
    }

    fn targets(&self) -> watch::Receiver<usize> {
        self.targets.subscribe()
    }

    fn listed(&self) -> watch::Receiver<bool> {
        self.listed.subscribe()
    }

    fn roster(&self) -> Vec<Arc<Origin>> {
        Vec::new()
    }
}
