//! One receiver's task: takes alerts from its queue, one after the other, and tries until each is accepted or given up.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::alert::Alert;
use super::error::Failure;
use super::ledger::{Ledger, Standing};
use super::receiver::{Secrets, Telling, kind_of, pack, secret_refs};
use super::receivers::{Post, ReceiverName};
use crate::api::AlertReceiverSpec;
use crate::record::Time;
use crate::telemetry::AlertOutcome;

/// An alert for one receiver.
pub(super) struct Delivery {
    pub(super) alert: Arc<Alert>,
    pub(super) receipt: Receipt,
    /// When the rule fired.
    pub(super) since: Instant,
}

/// Tells the ledger what became of an alert. Shared by the receivers of the alert: the first that accepts it settles it,
/// and the last that gives it up.
#[derive(Clone)]
pub(super) struct Receipt(Option<Arc<Open>>);

struct Open {
    ledger: Arc<Mutex<Ledger>>,
    rule: usize,
    source: Arc<str>,
    alert: u64,
    /// What is to be said where nobody accepts it.
    otherwise: Mutex<Standing>,
}

impl Receipt {
    pub(super) fn new(ledger: Arc<Mutex<Ledger>>, rule: usize, source: Arc<str>, alert: u64) -> Self {
        let otherwise = Mutex::new(Standing::Nobody);
        Self(Some(Arc::new(Open { ledger, rule, source, alert, otherwise })))
    }

    /// For an alert that no rule waits for.
    pub(super) fn unasked() -> Self {
        Self(None)
    }

    /// A receiver has the alert.
    fn accepted(&self) {
        if let Some(open) = &self.0 {
            open.settle(Standing::Accepted);
        }
    }

    /// A receiver that should take the alert does not.
    pub(super) fn failed(&self) {
        if let Some(open) = &self.0 {
            *open.otherwise.lock() = Standing::Failed;
        }
    }
}

impl Open {
    fn settle(&self, standing: Standing) {
        self.ledger.lock().settle(self.rule, &self.source, self.alert, standing, Instant::now());
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let standing = *self.otherwise.lock();
        self.settle(standing);
    }
}

/// Delivers to one receiver.
pub(super) struct Courier {
    post: Arc<Post>,
    name: ReceiverName,
    spec: Arc<ArcSwap<AlertReceiverSpec>>,
}

impl Courier {
    pub(super) fn new(post: Arc<Post>, name: ReceiverName, spec: Arc<ArcSwap<AlertReceiverSpec>>) -> Self {
        Self { post, name, spec }
    }

    /// Delivers until cancelled; what waits then is dropped and counted.
    pub(super) async fn run(self, mut deliveries: mpsc::Receiver<Delivery>, cancel: CancellationToken) {
        while let Some(Some(delivery)) = cancel.run_until_cancelled(deliveries.recv()).await {
            self.post.metrics.alerts_wait(-1);
            let outcome = cancel.run_until_cancelled(self.deliver(&delivery)).await;
            self.conclude(&delivery, outcome.unwrap_or(AlertOutcome::Stopped));
        }
        deliveries.close();
        while let Ok(delivery) = deliveries.try_recv() {
            self.post.metrics.alerts_wait(-1);
            self.conclude(&delivery, AlertOutcome::Stopped);
        }
    }

    fn conclude(&self, delivery: &Delivery, outcome: AlertOutcome) {
        self.post.metrics.alert(kind_of(&self.spec.load()), outcome);
        match outcome {
            AlertOutcome::Delivered => delivery.receipt.accepted(),
            AlertOutcome::Suspended => {}
            _ => delivery.receipt.failed(),
        }
    }

    /// Tries until the alert is accepted, refused for good, or too old.
    async fn deliver(&self, delivery: &Delivery) -> AlertOutcome {
        let (config, mut failures) = (&self.post.config, 0);
        loop {
            // Anew each time: what a person mends while an alert waits is taken up.
            let spec = self.spec.load_full();
            if spec.suspend {
                return AlertOutcome::Suspended;
            }
            if delivery.since.elapsed() > config.retry.age {
                return self.give_up(delivery, AlertOutcome::Expired, &"it has waited for too long");
            }
            let Err(failure) = self.attempt(&spec, &delivery.alert).await else {
                return AlertOutcome::Delivered;
            };
            failures += 1;
            let wait = config.retry.wait(failures, failure.wait(), rand::random());
            if !failure.may_pass() {
                let outcome = match failure {
                    Failure::NotAllowed(_) => AlertOutcome::NotAllowed,
                    _ => AlertOutcome::Refused,
                };
                return self.give_up(delivery, outcome, &failure);
            }
            if delivery.since.elapsed().saturating_add(wait) > config.retry.age {
                return self.give_up(delivery, AlertOutcome::Expired, &failure);
            }
            self.put_off(&delivery.alert, failures, &failure, wait);
            tokio::time::sleep(wait).await;
        }
    }

    async fn attempt(&self, spec: &AlertReceiverSpec, alert: &Alert) -> Result<(), Failure> {
        let timeout = self.post.config.timeout;
        let read = tokio::time::timeout(timeout, self.read_secrets(spec)).await;
        let secrets = read.unwrap_or(Err(Failure::Timeout(timeout)))?;
        let parcel = pack(spec, &secrets, Telling { alert, receiver: &self.name.name, now: Time::now() })?;
        self.post.carriers.carry(parcel, timeout).await.map_err(|failure| secrets.hide_in(failure))
    }

    async fn read_secrets(&self, spec: &AlertReceiverSpec) -> Result<Secrets, Failure> {
        let mut secrets = Secrets::default();
        for reference in secret_refs(spec) {
            secrets.insert(reference.clone(), self.post.secrets.read(&self.name.namespace, reference).await?);
        }
        Ok(secrets)
    }

    fn put_off(&self, alert: &Alert, failures: u32, failure: &Failure, wait: Duration) {
        self.post.metrics.alert_retries.inc();
        tracing::warn!(receiver = %self.name, rule = alert.rule, failures, %failure, ?wait, "An alert is tried again");
    }

    fn give_up(&self, delivery: &Delivery, outcome: AlertOutcome, why: &dyn std::fmt::Display) -> AlertOutcome {
        let outcome_text = outcome.as_str();
        tracing::error!(receiver = %self.name, rule = delivery.alert.rule, outcome = outcome_text, %why, "An alert is lost");
        outcome
    }
}
