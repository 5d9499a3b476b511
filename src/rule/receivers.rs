//! All receivers by their names, each with a queue and a task of its own.

use std::collections::HashMap;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{broadcast, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::alert::Alert;
use super::delivery::{Courier, Delivery, Receipt};
use super::error::{Failure, StartError};
use super::reach::Reach;
use super::receiver::{
    Carriers, HttpClient, Letter, Place, Printer, address_refs, kind_of, place_in, places, secret_refs,
};
use super::retry::RetryPolicy;
use crate::api::{AlertReceiverSpec, SecretError, SecretReader};
use crate::telemetry::{AlertKind, AlertOutcome, Metrics};

/// How many changes of receivers may wait for those who watch them.
const CHANGES: usize = 256;

/// By what a receiver is known.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReceiverName {
    /// Its namespace, which is that of the rules that name it.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl ReceiverName {
    /// A receiver of a namespace.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl std::fmt::Display for ReceiverName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// How much of a receiver could be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// All of it.
    Whole,
    /// Not what stands in a Secret that cannot be read now.
    Partial,
}

/// How alerts are delivered.
#[derive(Clone, Debug)]
pub struct ReceiversConfig {
    /// Which servers may be reached.
    pub reach: Reach,
    /// How many alerts wait for one receiver. One more is dropped: what came first explains what came after.
    pub queue: usize,
    /// How long one attempt may take.
    pub timeout: Duration,
    /// When it is tried again.
    pub retry: RetryPolicy,
    /// Certificates to be trusted besides those of the system, as PEM.
    pub roots: Vec<u8>,
}

impl ReceiversConfig {
    /// What is usual, for these servers.
    pub fn new(reach: Reach) -> Self {
        let (timeout, retry, roots) = (Duration::from_secs(10), RetryPolicy::default(), Vec::new());
        Self { reach, queue: 256, timeout, retry, roots }
    }
}

/// What all couriers share.
pub(super) struct Post {
    pub(super) config: ReceiversConfig,
    pub(super) secrets: Arc<dyn SecretReader>,
    pub(super) carriers: Carriers,
    pub(super) metrics: Arc<Metrics>,
}

struct Entry {
    spec: Arc<ArcSwap<AlertReceiverSpec>>,
    queue: mpsc::Sender<Delivery>,
    cancel: CancellationToken,
}

/// All receivers of this process.
pub struct Receivers {
    post: Arc<Post>,
    entries: Mutex<HashMap<ReceiverName, Entry>>,
    changes: broadcast::Sender<ReceiverName>,
    tracker: TaskTracker,
    cancel: CancellationToken,
}

impl Receivers {
    /// No receivers yet. Tasks belong to `tracker` and end with `cancel`; lines are printed on standard output.
    ///
    /// # Errors
    /// Where the certificates of the configuration or of the system cannot be used.
    pub fn new(
        config: ReceiversConfig,
        secrets: Arc<dyn SecretReader>,
        metrics: Arc<Metrics>,
        tracker: TaskTracker,
        cancel: CancellationToken,
    ) -> Result<Arc<Self>, StartError> {
        Self::printing_to(Box::new(std::io::stdout()), config, secrets, metrics, tracker, cancel)
    }

    /// The same with lines that are printed to `out`.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn printing_to(
        out: Box<dyn Write + Send>,
        config: ReceiversConfig,
        secrets: Arc<dyn SecretReader>,
        metrics: Arc<Metrics>,
        tracker: TaskTracker,
        cancel: CancellationToken,
    ) -> Result<Arc<Self>, StartError> {
        let carriers = Carriers {
            http: HttpClient::new(config.reach.clone(), &config.roots)?,
            letters: Letter::new(config.reach.clone(), &config.roots)?,
            printer: Printer::new(out, tracker.clone()),
        };
        let post = Arc::new(Post { config, secrets, carriers, metrics });
        let changes = broadcast::channel(CHANGES).0;
        Ok(Arc::new(Self { post, entries: Mutex::default(), changes, tracker, cancel }))
    }

    /// Makes a receiver so. What waits for it is delivered as the spec says then.
    pub fn set(&self, name: ReceiverName, spec: AlertReceiverSpec) {
        let mut entries = self.entries.lock();
        if let Some(entry) = entries.get(&name) {
            if **entry.spec.load() != spec {
                entry.spec.store(Arc::new(spec));
            }
            return;
        }
        let spec = Arc::new(ArcSwap::from_pointee(spec));
        let (queue, deliveries) = mpsc::channel(self.post.config.queue.max(1));
        let cancel = self.cancel.child_token();
        let courier = Courier::new(Arc::clone(&self.post), name.clone(), Arc::clone(&spec));
        self.tracker.spawn(courier.run(deliveries, cancel.clone()));
        entries.insert(name.clone(), Entry { spec, queue, cancel });
        drop(entries);
        // Nobody may be watching.
        let _ = self.changes.send(name);
    }

    /// Removes a receiver. What waits for it is dropped and counted.
    pub fn remove(&self, name: &ReceiverName) {
        let entry = self.entries.lock().remove(name);
        if let Some(entry) = entry {
            entry.cancel.cancel();
            let _ = self.changes.send(name.clone());
        }
    }

    /// Whether there is such a receiver.
    pub fn knows(&self, name: &ReceiverName) -> bool {
        self.entries.lock().contains_key(name)
    }

    /// The names of receivers that came or went. One that lags must look at all.
    pub fn changes(&self) -> broadcast::Receiver<ReceiverName> {
        self.changes.subscribe()
    }

    /// What keeps a spec from being delivered to, as far as that can be known without delivering: its secrets and its host,
    /// also where the host stands in a secret.
    ///
    /// # Errors
    /// The first thing that does. It names a secret, and repeats nothing of it.
    pub async fn check(&self, namespace: &str, spec: &AlertReceiverSpec) -> Result<Sight, Failure> {
        let (addresses, mut sight) = (address_refs(spec), Sight::Whole);
        for reference in secret_refs(spec) {
            match self.post.secrets.read(namespace, reference).await {
                Ok(secret) if addresses.contains(&reference) => {
                    let allowed = place_in(&secret).and_then(|place| self.reaches(&place));
                    allowed.map_err(|failure| failure.of_address_in(reference))?;
                }
                Ok(_) => {}
                Err(SecretError::Unavailable(_)) => sight = Sight::Partial,
                Err(error) => return Err(error.into()),
            }
        }
        places(spec)?.iter().try_for_each(|place| self.reaches(place))?;
        Ok(sight)
    }

    fn reaches(&self, Place { host, port, tls }: &Place) -> Result<(), Failure> {
        self.post.config.reach.check(host, *port, *tls)
    }

    /// Tells a receiver of something that no rule found, such as a check that failed. Never waits: what finds no room is
    /// counted and told in the log.
    pub fn tell(&self, name: &ReceiverName, alert: Arc<Alert>) {
        self.send(name, Delivery { alert, receipt: Receipt::unasked(), since: Instant::now() });
    }

    /// Puts an alert into a receiver's queue, without waiting.
    pub(super) fn send(&self, name: &ReceiverName, delivery: Delivery) {
        let metrics = &self.post.metrics;
        let entry = self.entries.lock().get(name).map(|entry| (entry.spec.load_full(), entry.queue.clone()));
        let Some((spec, queue)) = entry else {
            tracing::warn!(receiver = %name, rule = delivery.alert.rule, "A rule names a receiver that does not exist");
            return metrics.alert(AlertKind::Unknown, AlertOutcome::NoReceiver);
        };
        let kind = kind_of(&spec);
        if spec.suspend {
            return metrics.alert(kind, AlertOutcome::Suspended);
        }
        metrics.alerts_wait(1);
        let (delivery, outcome) = match queue.try_send(delivery) {
            Ok(()) => return,
            Err(TrySendError::Full(delivery)) => (delivery, AlertOutcome::QueueFull),
            Err(TrySendError::Closed(delivery)) => (delivery, AlertOutcome::Stopped),
        };
        metrics.alerts_wait(-1);
        metrics.alert(kind, outcome);
        delivery.receipt.failed();
        let outcome = outcome.as_str();
        tracing::warn!(receiver = %name, rule = delivery.alert.rule, outcome, "An alert is dropped before it was tried");
    }

    pub(super) fn metrics(&self) -> &Arc<Metrics> {
        &self.post.metrics
    }
}

impl std::fmt::Debug for Receivers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receivers").field("receivers", &self.entries.lock().len()).finish_non_exhaustive()
    }
}
