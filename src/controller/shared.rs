//! What every controller needs for its reconciliations, whatever the kind of object.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use kube::runtime::controller::Action;
use kube::{Api, Client, Resource};

use super::ControllerConfig;
use super::errors::Error;
use super::events::{Announcer, Gravity, News};
use super::guard::{Guarded, Malformed};
use super::objects::{Object, Objects, id, reference};
use super::retry::{Failures, Id};
use super::status::{self, ObjectStatus, Verdict};
use super::waiting::Waiting;
use crate::api::condition::{Reason, Status, reason};
use crate::telemetry::{Metrics, ReconcileErrorLabels};

/// One controller's hold on the cluster.
#[derive(Debug)]
pub(super) struct Shared<K: Object> {
    pub(super) client: KubeClient,
    pub(super) config: Arc<ControllerConfig>,
    pub(super) objects: Objects<K>,
    pub(super) announcer: Announcer,
    pub(super) metrics: Arc<Metrics>,
    pub(super) failures: Failures,
    pub(super) waiting: Waiting,
}

/// The client; it has nothing to show in a log.
#[derive(Clone)]
pub(super) struct KubeClient(pub(super) Client);

impl std::fmt::Debug for KubeClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Client")
    }
}

impl<K: Object> Shared<K> {
    /// A hold on the cluster through `client`, where `objects` is what the watch fills.
    pub(super) fn new(
        client: Client,
        config: Arc<ControllerConfig>,
        objects: Objects<K>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let announcer = Announcer::new(client.clone(), config.instance.clone());
        let waiting = Waiting::new(&metrics, K::KIND);
        let failures = Failures::default();
        Self { client: KubeClient(client), config, objects, announcer, metrics, failures, waiting }
    }

    /// The API for anything in a namespace.
    pub(super) fn api<T>(&self, namespace: &str) -> Api<T>
    where
        T: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.0.clone(), namespace)
    }

    /// Whether the object is still there, and is the same one.
    ///
    /// A reconciliation may hold an object that was deleted meanwhile. Whoever puts something into a table on
    /// behalf of an object asks this *afterwards* and takes it out again: the store learns of a deletion before
    /// the table is cleared of it, so one of the two always comes last.
    pub(super) fn is_there(&self, metadata: &ObjectMeta) -> bool {
        let id = (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default());
        self.objects.get(&reference::<K>(&id)).is_some_and(|object| object.meta().uid == metadata.uid)
    }

    /// Brings the status in line with the verdict, and tells of it in an Event where `Ready` changed. Does nothing
    /// where nothing changed.
    pub(super) async fn report(&self, object: &K, verdict: &Verdict, status: K::Status) -> Result<(), Error> {
        let before = object.status();
        let conditions = before.map(ObjectStatus::conditions).unwrap_or_default();
        let generation = object.meta().generation;
        let status = status.with(verdict.conditions(conditions, generation, Timestamp::now()), generation);
        if before == Some(&status) {
            return Ok(());
        }
        status::write::<K>(&self.api(&namespace(object.meta())), object.meta(), &status).await?;
        self.announce(object.meta(), conditions, verdict).await;
        Ok(())
    }

    /// Reports an object that cannot be read on itself.
    pub(super) async fn report_malformed(&self, malformed: &Malformed) -> Result<(), Error> {
        let metadata = &malformed.metadata;
        let message = format!(
            "The object cannot be read: {}. Correct that field and apply the object again; if it is right, \
             it needs a newer version of Weir.",
            malformed.error
        );
        let verdict = Verdict::refused(reason::MALFORMED, message);
        let before = &malformed.conditions;
        let conditions = verdict.conditions(before, metadata.generation, Timestamp::now());
        if conditions == *before {
            return Ok(());
        }
        let status = K::Status::default().with(conditions, metadata.generation);
        let written = status::write::<K>(&self.api(&namespace(metadata)), metadata, &status).await;
        self.announce(metadata, before, &verdict).await;
        match written {
            // The server's schema refuses the object as it is now, and so any change of its status.
            Err(error) if error.needs_a_person() => {
                tracing::warn!(%error, object = malformed.error, "A malformed object cannot carry its status");
                Ok(())
            }
            written => written,
        }
    }

    async fn announce(&self, metadata: &ObjectMeta, before: &[Condition], verdict: &Verdict) {
        let ready = &verdict.ready;
        if !verdict.is_news(before) || ready.reason == reason::PROGRESSING {
            return;
        }
        let gravity = if verdict.stalled { Gravity::Warning } else { Gravity::Normal };
        self.tell(metadata, gravity, "Reconcile", ready.reason, ready.message.clone()).await;
    }

    /// Publishes an Event about an object.
    pub(super) async fn tell(
        &self,
        metadata: &ObjectMeta,
        gravity: Gravity,
        action: &'static str,
        reason: Reason,
        note: String,
    ) {
        let about = ObjectReference {
            api_version: Some(K::api_version(&()).into_owned()),
            kind: Some(K::kind(&()).into_owned()),
            name: metadata.name.clone(),
            namespace: metadata.namespace.clone(),
            uid: metadata.uid.clone(),
            ..ObjectReference::default()
        };
        self.announcer.tell(&about, News { gravity, action, reason, note }).await;
    }

    /// Takes note that a reconciliation begins; when that was.
    pub(super) fn begin(&self, object: &Guarded<K>) -> Instant {
        self.waiting.leave(&id(object));
        Instant::now()
    }

    /// Takes note of how a reconciliation ended. An error is put into the status where that can be done.
    pub(super) async fn finish(
        &self,
        object: &Guarded<K>,
        started: Instant,
        result: Result<Action, Error>,
    ) -> Result<Action, Error> {
        self.metrics.reconciled(K::KIND, started.elapsed());
        match &result {
            Ok(_) => self.failures.forget(&id(object)),
            Err(error) => {
                let labels = ReconcileErrorLabels { controller: K::KIND, category: error.category() };
                self.metrics.reconcile_errors.get_or_create(&labels).inc();
                self.report_failure(object, error).await;
            }
        }
        result
    }

    /// The API server's refusals are shown on the object; while it is away nothing can be written, so nothing is tried.
    async fn report_failure(&self, object: &Guarded<K>, error: &Error) {
        let Guarded::Readable(object) = object else { return };
        if !error.needs_a_person() {
            return;
        }
        let status = object.status().cloned().unwrap_or_default();
        if let Err(error) = self.report(object, &Verdict::failed(error), status).await {
            tracing::debug!(%error, "A failure could not be written into the status");
        }
    }

    /// When an object that failed is tried again.
    pub(super) fn try_again(&self, object: &Guarded<K>, error: &Error) -> Action {
        let (namespace, name) = id(object);
        tracing::warn!(kind = %K::kind(&()), namespace, name, %error, "An object could not be reconciled; it is tried again");
        self.failures.again((namespace, name))
    }

    /// Forgets an object that is gone.
    pub(super) fn forget(&self, id: &Id) {
        self.waiting.leave(id);
        self.failures.forget(id);
    }
}

/// The namespace of an object; all of ours have one.
pub(super) fn namespace(metadata: &ObjectMeta) -> String {
    metadata.namespace.clone().unwrap_or_default()
}

/// Whether an object is on its way out.
pub(super) fn is_leaving(metadata: &ObjectMeta) -> bool {
    metadata.deletion_timestamp.is_some()
}

/// The verdict on an object on its way out.
pub(super) fn leaving() -> Verdict {
    let message = "The object is being deleted; finalizers of others hold it.";
    let mut verdict = Verdict::not_ready(reason::DELETING, message, false);
    verdict.validated.status = Status::True;
    verdict
}

/// Longest time without looking at an object that will change by itself: the wall clock may jump.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// Look again in this time.
pub(super) fn in_time(wait: Duration) -> Action {
    Action::requeue(wait.min(LONGEST_WAIT))
}
