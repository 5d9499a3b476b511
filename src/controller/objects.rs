//! The watch of one kind of object: what there is, what is gone, and whether the watch works.
//!
//! ```text
//!   watcher ──► store ──► Roster ──► Controller
//!     │ errors              └─► gone: at once, also what vanished while the watch was down
//!     └─► Pulse
//! ```

use std::collections::{HashMap, HashSet};
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use k8s_openapi::NamespaceResourceScope;
use kube::core::object::HasStatus;
use kube::runtime::reflector::{ObjectRef, Store, store::Writer};
use kube::runtime::utils::{Backoff, ResetTimerBackoff};
use kube::runtime::watcher::{self, Event, watcher};
use kube::runtime::{WatchStreamExt, reflector};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::guard::Guarded;
use super::pulse::Pulse;
use super::retry::{self, Id};
use super::status::ObjectStatus;
use crate::telemetry::{Kind, Metrics, ObjectLabels, Readiness};

/// A kind of object that a controller looks after.
pub(super) trait Object:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + HasStatus<Status: ObjectStatus>
    + Serialize
    + DeserializeOwned
    + Clone
    + Debug
    + Send
    + Sync
    + 'static
{
    /// Its label in metrics.
    const KIND: Kind;
    /// Who writes its status.
    const MANAGER: &'static str;
}

/// What is known of all objects of a kind.
pub(super) type Objects<K> = Store<Guarded<K>>;

/// Where objects are watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In all namespaces.
    Cluster,
    /// In one.
    Namespace(String),
}

impl Place {
    /// The API for watching there.
    pub(super) fn api<K>(&self, client: Client) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        match self {
            Self::Cluster => Api::all(client),
            Self::Namespace(namespace) => Api::namespaced(client, namespace),
        }
    }
}

/// Namespace and name.
pub(super) fn id(object: &impl ResourceExt) -> Id {
    (object.namespace().unwrap_or_default(), object.name_any())
}

/// How a controller finds an object by its id.
pub(super) fn reference<K: Object>((namespace, name): &Id) -> ObjectRef<Guarded<K>> {
    ObjectRef::new(name).within(namespace)
}

/// Watches `api`: fills the store behind `writer` and hands on each object that is new or changed.
///
/// `gone` is called at once for each object that is no more, after the store knows. Errors are noted in `pulse` and
/// not handed on, so that a watch that is down holds up nothing else.
pub(super) fn watch<K: Object>(
    api: Api<Guarded<K>>,
    writer: Writer<Guarded<K>>,
    pulse: Arc<Pulse>,
    metrics: Arc<Metrics>,
    gone: impl Fn(Id) + Send + 'static,
) -> impl Stream<Item = Result<Guarded<K>, watcher::Error>> + Send {
    let mut roster = Roster::<K>::new(metrics);
    watcher(api, watcher::Config::default())
        .backoff(backoff())
        .modify(|object| object.managed_fields_mut().clear())
        .reflect(writer)
        .map(move |event| {
            pulse.feel(&event);
            let (changed, missing) = event.map(|event| roster.take(event)).unwrap_or_default();
            missing.into_iter().for_each(&gone);
            stream::iter(changed.into_iter().map(Ok))
        })
        .flatten()
}

/// An empty store and what fills it.
pub(super) fn store<K: Object>() -> (Objects<K>, Writer<Guarded<K>>) {
    reflector::store()
}

/// Retries soon and then every ten seconds: an API server that comes back is noticed quickly, and a handful of
/// watches are no burden to it.
pub(super) fn backoff() -> impl Backoff {
    ResetTimerBackoff::new(WatchBackoff(0), Duration::from_secs(60))
}

struct WatchBackoff(u32);

impl Iterator for WatchBackoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let wait = retry::wait(self.0, rand::random());
        self.0 = self.0.saturating_add(1);
        Some(wait.min(Duration::from_secs(10)))
    }
}

impl Backoff for WatchBackoff {
    fn reset(&mut self) {
        self.0 = 0;
    }
}

/// Which objects there are, to notice those that are gone after a watch was down, and to count them.
struct Roster<K> {
    known: HashMap<Id, Readiness>,
    /// What a list in progress has brought. It is handed on when the list is complete, because only then does the
    /// store hold it.
    listing: Vec<Guarded<K>>,
    metrics: Arc<Metrics>,
}

impl<K: Object> Roster<K> {
    fn new(metrics: Arc<Metrics>) -> Self {
        Self { known: HashMap::new(), listing: Vec::new(), metrics }
    }

    /// The objects that changed, and the ids of those that are gone.
    fn take(&mut self, event: Event<Guarded<K>>) -> (Vec<Guarded<K>>, Vec<Id>) {
        match event {
            Event::Init => self.listing.clear(),
            Event::InitApply(object) => self.listing.push(object),
            Event::InitDone => return self.listed(),
            Event::Apply(object) => {
                self.count(id(&object), Some(readiness(&object)));
                return (vec![object], Vec::new());
            }
            Event::Delete(object) => {
                self.count(id(&object), None);
                return (Vec::new(), vec![id(&object)]);
            }
        }
        (Vec::new(), Vec::new())
    }

    fn listed(&mut self) -> (Vec<Guarded<K>>, Vec<Id>) {
        let objects = std::mem::take(&mut self.listing);
        let there: HashSet<Id> = objects.iter().map(id).collect();
        let missing: Vec<Id> = self.known.keys().filter(|id| !there.contains(*id)).cloned().collect();
        for id in &missing {
            self.count(id.clone(), None);
        }
        for object in &objects {
            self.count(id(object), Some(readiness(object)));
        }
        (objects, missing)
    }

    fn count(&mut self, id: Id, now: Option<Readiness>) {
        let before = match now {
            Some(ready) => self.known.insert(id, ready),
            None => self.known.remove(&id),
        };
        let gauge = |ready| self.metrics.objects.get_or_create_owned(&ObjectLabels { kind: K::KIND, ready });
        if let Some(before) = before {
            gauge(before).dec();
        }
        if let Some(now) = now {
            gauge(now).inc();
        }
    }
}

fn readiness<K: Object>(object: &Guarded<K>) -> Readiness {
    use crate::api::condition::{READY, Status, find};
    let conditions = match object {
        Guarded::Readable(object) => object.status().map(ObjectStatus::conditions).unwrap_or_default(),
        Guarded::Malformed(malformed) => &malformed.conditions,
    };
    match find(conditions, READY).map(|ready| ready.status.as_str()) {
        Some(status) if status == Status::True.as_str() => Readiness::Ready,
        Some(status) if status == Status::False.as_str() => Readiness::NotReady,
        _ => Readiness::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{AccessKey, AccessKeySpec};

    fn key(name: &str) -> Guarded<AccessKey> {
        let mut key = AccessKey::new(name, AccessKeySpec::default());
        key.metadata.namespace = Some("shop".to_owned());
        Guarded::Readable(key)
    }

    fn names(objects: &[Guarded<AccessKey>]) -> Vec<String> {
        objects.iter().map(ResourceExt::name_any).collect()
    }

    fn known(metrics: &Metrics) -> i64 {
        let labels = ObjectLabels { kind: Kind::AccessKey, ready: Readiness::Unknown };
        metrics.objects.get_or_create(&labels).get()
    }

    #[test]
    fn what_vanished_while_the_watch_was_down_is_noticed_when_the_list_is_complete() {
        let metrics = Metrics::new();
        let mut roster = Roster::new(Arc::clone(&metrics));
        for event in [Event::Init, Event::InitApply(key("a")), Event::InitApply(key("b"))] {
            let (changed, gone) = roster.take(event);
            assert!(changed.is_empty() && gone.is_empty());
        }
        assert_eq!(names(&roster.take(Event::InitDone).0), ["a", "b"]);
        assert_eq!(known(&metrics), 2);

        roster.take(Event::Init);
        roster.take(Event::InitApply(key("c")));
        roster.take(Event::Init);
        roster.take(Event::InitApply(key("b")));
        let (changed, gone) = roster.take(Event::InitDone);
        assert_eq!(names(&changed), ["b"]);
        assert_eq!(gone, [("shop".to_owned(), "a".to_owned())]);
        assert_eq!(known(&metrics), 1);
    }

    #[test]
    fn a_deletion_is_told_at_once() {
        let metrics = Metrics::new();
        let mut roster = Roster::new(Arc::clone(&metrics));
        assert_eq!(names(&roster.take(Event::Apply(key("a"))).0), ["a"]);
        assert_eq!(roster.take(Event::Delete(key("a"))).1.len(), 1);
        assert_eq!(known(&metrics), 0);
    }
}
