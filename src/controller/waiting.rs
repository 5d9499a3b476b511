//! Which objects wait to be looked at: the depth of a controller's queue, which kube keeps to itself.

use std::collections::HashSet;
use std::sync::Arc;

use futures::{Stream, StreamExt};
use kube::runtime::reflector::ObjectRef;
use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;

use super::guard::Guarded;
use super::objects::Object;
use super::retry::Id;
use crate::telemetry::{Kind, Metrics, Queue, QueueLabels};

/// Objects that changed, or were spoken of, and were not looked at since. Clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    ids: Arc<Mutex<HashSet<Id>>>,
    depth: Gauge,
}

impl Waiting {
    /// Nobody waits.
    pub(super) fn new(metrics: &Metrics, kind: Kind) -> Self {
        let depth = metrics.queue_depth.get_or_create_owned(&QueueLabels { queue: Queue::of(kind) });
        Self { ids: Arc::default(), depth }
    }

    /// There is a reason to look at an object.
    pub(super) fn join(&self, id: Id) {
        if self.ids.lock().insert(id) {
            self.depth.inc();
        }
    }

    /// The object is looked at now, or gone.
    pub(super) fn leave(&self, id: &Id) {
        if self.ids.lock().remove(id) {
            self.depth.dec();
        }
    }

    /// Counts the objects of a stream as they pass on their way to a controller.
    pub(super) fn noting<K: Object, S: Stream<Item = ObjectRef<Guarded<K>>> + Send>(
        &self,
        references: S,
    ) -> impl Stream<Item = ObjectRef<Guarded<K>>> + Send + use<K, S> {
        let waiting = self.clone();
        references.inspect(move |object| {
            waiting.join((object.namespace.clone().unwrap_or_default(), object.name.clone()));
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_waits_once_however_often_it_changes_until_it_is_looked_at() {
        let metrics = Metrics::new();
        let waiting = Waiting::new(&metrics, Kind::AccessKey);
        // Another place of the same kind counts together with it.
        let elsewhere = Waiting::new(&metrics, Kind::AccessKey);
        let id = |name: &str| ("shop".to_owned(), name.to_owned());
        let depth = || metrics.queue_depth.get(&QueueLabels { queue: Queue::AccessKeys }).unwrap().get();
        ["a", "b", "a"].into_iter().for_each(|name| waiting.join(id(name)));
        elsewhere.join(id("c"));
        assert_eq!(depth(), 3);
        waiting.leave(&id("a"));
        waiting.leave(&id("a"));
        assert_eq!(depth(), 2);
        waiting.leave(&id("b"));
        elsewhere.leave(&id("c"));
        assert_eq!(depth(), 0);
    }
}
