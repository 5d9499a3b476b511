//! What rules promise, and what receivers are told.

mod delivery;
mod ledger;
mod matching;
mod payloads;
mod proxy;
mod reach;
mod retry;
mod watching;

use std::collections::HashMap;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Alert, Reach, Receivers, ReceiversConfig, RetryPolicy};
use crate::api::{AlertReceiverSpec, RuleSpec, SecretError, SecretKeyRef, SecretReader};
use crate::record::Time;
use crate::telemetry::{AlertKind, AlertLabels, AlertOutcome, Metrics};

/// The longest that anything may take here before the test fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// 2026-11-03 09:30:00.123 UTC.
const WRITTEN: Time = Time(1_793_698_200_123_000_000);

fn rule(fields: Value) -> RuleSpec {
    let mut spec = json!({"name": "oops", "receivers": ["ops"], "cooldown": "0s"});
    spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    serde_json::from_value(spec).unwrap()
}

fn receiver(spec: Value) -> AlertReceiverSpec {
    serde_json::from_value(spec).unwrap()
}

fn alert(message: &str) -> Alert {
    Alert {
        identity: "weir-0".to_owned(),
        rule: "oops".to_owned(),
        message: message.to_owned(),
        time: WRITTEN,
        stream: "shop/carts".to_owned(),
        source: "shop/cart-1/web".to_owned(),
    }
}

/// Secrets that a test may change.
#[derive(Default)]
struct Vault(Mutex<HashMap<String, String>>);

impl Vault {
    fn put(&self, key: &str, value: impl Into<String>) {
        self.0.lock().insert(key.to_owned(), value.into());
    }
}

impl SecretReader for Vault {
    fn read<'a>(&'a self, _: &'a str, secret: &'a SecretKeyRef) -> BoxFuture<'a, Result<SecretString, SecretError>> {
        let found = self.0.lock().get(&secret.key).cloned();
        let missing = || SecretError::Missing(format!("the secret {} has no key {}", secret.name, secret.key));
        Box::pin(async move { found.map(SecretString::from).ok_or_else(missing) })
    }
}

/// An output that a test can read.
#[derive(Clone, Default)]
struct Paper(Arc<Mutex<Vec<u8>>>);

impl Paper {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().clone()).unwrap()
    }
}

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Receivers, and all that a test wants to see of them.
struct Office {
    receivers: Arc<Receivers>,
    vault: Arc<Vault>,
    paper: Paper,
    metrics: Arc<Metrics>,
    tracker: TaskTracker,
    cancel: CancellationToken,
}

/// Quick enough for tests.
fn quick() -> ReceiversConfig {
    let millis = Duration::from_millis;
    let retry = RetryPolicy { first: millis(5), longest: millis(20), age: PATIENCE };
    ReceiversConfig { retry, ..ReceiversConfig::new(Reach::everything()) }
}

impl Office {
    fn open(config: ReceiversConfig) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (vault, paper, metrics) = (Arc::<Vault>::default(), Paper::default(), Metrics::new());
        let (tracker, cancel) = (TaskTracker::new(), CancellationToken::new());
        let receivers = Receivers::printing_to(
            Box::new(paper.clone()),
            config,
            Arc::clone(&vault) as _,
            Arc::clone(&metrics),
            tracker.clone(),
            cancel.clone(),
        );
        Self { receivers: receivers.unwrap(), vault, paper, metrics, tracker, cancel }
    }

    fn counted(&self, receiver: AlertKind, outcome: AlertOutcome) -> u64 {
        self.metrics.alerts.get_or_create(&AlertLabels { receiver, outcome }).get()
    }

    /// Waits until so many alerts have come to this end.
    async fn until(&self, receiver: AlertKind, outcome: AlertOutcome, count: u64) {
        until(|| self.counted(receiver, outcome) >= count).await;
        assert_eq!(self.counted(receiver, outcome), count);
    }

    async fn close(self) {
        self.cancel.cancel();
        self.tracker.close();
        tokio::time::timeout(PATIENCE, self.tracker.wait()).await.expect("all tasks end");
    }
}

/// Waits until something holds.
async fn until(holds: impl Fn() -> bool) {
    let looking = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.expect("it takes too long");
}
