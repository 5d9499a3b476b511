//! What one controller is started with: a kind of object, in one place.

use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use kube::Client;
use kube::runtime::reflector::store::Writer;
use kube::runtime::{controller, watcher};
use tokio_util::sync::CancellationToken;

use super::ControllerConfig;
use super::guard::Guarded;
use super::objects::{self, Object, Objects, Place, id};
use super::pulse::Pulse;
use super::retry::Id;
use super::shared::Shared;
use super::waiting::Waiting;
use crate::telemetry::Metrics;

/// Changes of one object within this time are looked at together.
const DEBOUNCE: Duration = Duration::from_millis(20);

/// What one controller is started with.
pub(super) struct Start {
    pub(super) client: Client,
    pub(super) config: Arc<ControllerConfig>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) place: Place,
    pub(super) pulse: Arc<Pulse>,
    pub(super) cancel: CancellationToken,
}

impl Start {
    /// The controller's hold on the cluster.
    pub(super) fn shared<K: Object>(&self, objects: Objects<K>) -> Shared<K> {
        Shared::new(self.client.clone(), Arc::clone(&self.config), objects, Arc::clone(&self.metrics))
    }

    /// The watch of its objects; see [`objects::watch`].
    pub(super) fn watch<K: Object, G: Fn(Id) + Send + 'static>(
        &self,
        writer: Writer<Guarded<K>>,
        waiting: Waiting,
        gone: G,
    ) -> impl Stream<Item = Result<Guarded<K>, watcher::Error>> + Send + use<K, G> {
        let api = self.place.api(self.client.clone());
        objects::watch(api, writer, Arc::clone(&self.pulse), Arc::clone(&self.metrics), gone)
            .inspect(move |object| object.iter().for_each(|object| waiting.join(id(object))))
    }

    /// How reconciliations run: so many at a time, shared between the namespaces where they are watched one by one.
    pub(super) fn runtime(&self) -> controller::Config {
        let places = self.config.namespaces.as_ref().map_or(1, Vec::len).max(1);
        let share = usize::from(self.config.concurrency) / places;
        let concurrency = u16::try_from(share).unwrap_or(u16::MAX).max(1);
        controller::Config::default().concurrency(concurrency).debounce(DEBOUNCE)
    }
}
