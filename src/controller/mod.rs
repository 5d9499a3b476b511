//! Objects from a cluster: watched, validated, made true, and told about in their status. Never touches a byte of a
//! stream.
//!
//! ```text
//!   AccessKey ──────────► access_key ─────► KeyRing        + the token's Secret
//!   StreamSubscription ─► subscription ───► Declared
//!   AlertReceiver ──────► alert_receiver ─► Receivers
//!         ▲                    │
//!         └── status, Events ──┘
//! ```
//!
//! Each of these files is one controller and reads from top to bottom: `Context`, `reconcile`, `error_policy`, `run`.
//!
//! What is promised:
//! - A deletion takes effect at once and without finalizers; what vanished while the watch was down goes when the
//!   watch is back.
//! - While the API server is away, keys and streams go on as they were last declared.
//! - A malformed object is reported on itself and holds up nothing.
//! - A status is written when it changed, by server-side apply, with one field manager per controller.
//! - What cannot be used works not at all: a key whose spec became invalid stops, a subscription is withdrawn.

mod access_key;
mod alert_receiver;
mod command;
mod errors;
mod events;
mod firings;
mod guard;
mod install;
mod nudges;
mod objects;
mod owner;
mod pulse;
mod retry;
mod secret;
mod secret_reader;
mod secret_watch;
mod shared;
mod start;
mod status;
mod subscription;
mod targets;
#[cfg(test)]
mod tests;
mod waiting;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use errors::Error;
pub use owner::ClusterOwner;
pub use secret_reader::ClusterSecrets;

use crate::access::KeyRing;
use crate::api::{AccessKey, AlertReceiver, StreamSubscription};
use crate::telemetry::Metrics;
use crate::worker::{Alarms, Declared};
use objects::{Object, Place};
use pulse::Pulse;
use start::Start;

/// Annotation of an `AccessKey`: any new value gives it a new token.
pub const ROTATE: &str = "weir.dev/rotate";

/// Readiness check: the definitions are installed.
pub const CHECK_DEFINITIONS: &str = "definitions";
/// Readiness check: all `AccessKey`s are known and watched.
pub const CHECK_ACCESS_KEYS: &str = "access-keys";
/// Readiness check: all `StreamSubscription`s are known and watched.
pub const CHECK_SUBSCRIPTIONS: &str = "stream-subscriptions";
/// Readiness check: all `AlertReceiver`s are known and watched.
pub const CHECK_ALERT_RECEIVERS: &str = "alert-receivers";
/// Readiness check: the Secrets of keys and receivers are watched.
pub const CHECK_SECRETS: &str = "secrets";
/// All readiness checks of the controllers.
pub const CHECKS: [&str; 5] =
    [CHECK_DEFINITIONS, CHECK_ACCESS_KEYS, CHECK_SUBSCRIPTIONS, CHECK_ALERT_RECEIVERS, CHECK_SECRETS];

/// Hears of each change of a check in [`CHECKS`]: it passes, or the reason why not. The reason may be public.
pub type Readiness = Arc<dyn Fn(&'static str, Result<(), String>) + Send + Sync>;

/// How the controllers run.
#[derive(Clone, Debug)]
pub struct ControllerConfig {
    /// Where the operator itself lives: objects there may reach every namespace, others only their own.
    pub operator_namespace: String,
    /// The namespaces whose objects count; `None` for all. Name the operator's own where its objects shall count.
    pub namespaces: Option<Vec<String>>,
    /// How many objects of a kind are worked on at a time.
    pub concurrency: u16,
    /// Least time between two reports of a subscription's targets, so that a storm of pods is no storm of writes.
    pub status_interval: Duration,
    /// The name of this process in Events, such as its pod's.
    pub instance: Option<String>,
}

impl ControllerConfig {
    /// The defaults, for an operator that lives in `operator_namespace` and looks after the whole cluster.
    pub fn new(operator_namespace: impl Into<String>) -> Self {
        Self {
            operator_namespace: operator_namespace.into(),
            namespaces: None,
            concurrency: 8,
            status_interval: Duration::from_secs(1),
            instance: None,
        }
    }

    fn places(&self) -> Vec<Place> {
        match &self.namespaces {
            None => vec![Place::Cluster],
            Some(names) => names.iter().cloned().map(Place::Namespace).collect(),
        }
    }
}

/// The three controllers and what they work on.
pub struct Controllers {
    /// The way to the API server. A half-open connection is noticed only where the client has a read timeout; it must
    /// be longer than the 5 minutes of a quiet watch.
    pub client: Client,
    /// How they run.
    pub config: ControllerConfig,
    /// Where keys go.
    pub keyring: Arc<KeyRing>,
    /// Where subscriptions go.
    pub declared: Arc<Declared>,
    /// Where receivers go, and what watches streams with their rules.
    pub alarms: Arc<Alarms>,
    /// Where reconciliations are counted.
    pub metrics: Arc<Metrics>,
    /// Who hears whether all is well.
    pub readiness: Readiness,
}

impl Controllers {
    /// Waits until the definitions are installed, then looks after the objects until cancelled.
    ///
    /// All tasks belong to `tracker`; reconciliations in progress are finished before it returns.
    pub async fn run(self, tracker: TaskTracker, cancel: CancellationToken) {
        let installed = install::wait_until_installed(&self.client, &self.readiness);
        if cancel.run_until_cancelled(installed).await.is_none() {
            return;
        }
        let nudges = broadcast::channel(1024).0;
        let config = Arc::new(self.config.clone());
        let mut running = Vec::new();
        let (mut keys, mut secrets, mut subscriptions, mut receivers) = <(Vec<_>, Vec<_>, Vec<_>, Vec<_>)>::default();
        for place in config.places() {
            let changes = broadcast::channel(1024).0;
            let start = self.start::<AccessKey>(&config, &place, &cancel, &mut keys);
            let keys_run = access_key::run(start, changes.subscribe(), Arc::clone(&self.keyring), nudges.clone());
            running.push(tracker.spawn(keys_run));
            let start = self.start::<StreamSubscription>(&config, &place, &cancel, &mut subscriptions);
            running.push(tracker.spawn(subscription::run(start, Arc::clone(&self.declared), Arc::clone(&self.alarms))));
            let start = self.start::<AlertReceiver>(&config, &place, &cancel, &mut receivers);
            let receivers_run = alert_receiver::run(start, changes.subscribe(), Arc::clone(self.alarms.receivers()));
            running.push(tracker.spawn(receivers_run));
            let pulse = Pulse::new::<Secret>(&self.client, &place);
            secrets.push(Arc::clone(&pulse));
            let telling = secret_watch::tell(place.api(self.client.clone()), pulse, changes);
            tracker.spawn(cancel.clone().run_until_cancelled_owned(telling));
        }
        let checks = [
            (CHECK_ACCESS_KEYS, keys),
            (CHECK_SECRETS, secrets),
            (CHECK_SUBSCRIPTIONS, subscriptions),
            (CHECK_ALERT_RECEIVERS, receivers),
        ];
        for (check, pulses) in checks {
            let telling = pulse::tell(pulses, check, Arc::clone(&self.readiness));
            tracker.spawn(cancel.clone().run_until_cancelled_owned(telling));
        }
        for outcome in futures::future::join_all(running).await {
            if let Err(error) = outcome {
                tracing::error!(%error, "A controller ended in a way it must not");
            }
        }
    }

    /// What the controller of a kind of object in one place starts with; its pulse goes to the others of that kind.
    fn start<K: Object>(
        &self,
        config: &Arc<ControllerConfig>,
        place: &Place,
        cancel: &CancellationToken,
        pulses: &mut Vec<Arc<Pulse>>,
    ) -> Start {
        let pulse = Pulse::new::<K>(&self.client, place);
        pulses.push(Arc::clone(&pulse));
        Start {
            client: self.client.clone(),
            config: Arc::clone(config),
            metrics: Arc::clone(&self.metrics),
            place: place.clone(),
            pulse,
            cancel: cancel.clone(),
        }
    }
}

impl std::fmt::Debug for Controllers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Controllers").field("config", &self.config).finish_non_exhaustive()
    }
}
