//! What rules promise to those who read their stream, with real sockets on both sides.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Alarms, Declared, Job, Supervisor, SupervisorConfig};
use crate::api::{NoSecrets, StreamSubscriptionSpec};
use crate::rule::{Reach, ReceiverName, Receivers, ReceiversConfig};
use crate::source::push::Uploads;
use crate::source::{Outside, OutsidePolicy, Sources};
use crate::stream::{Catalogue, Delivery, ReadFrom, Reader, StreamName};
use crate::telemetry::{AlertKind, AlertLabels, AlertOutcome, Metrics};

/// Long enough for anything on this machine; never waited for when things are well.
const PATIENCE: Duration = Duration::from_secs(60);
/// Numbered lines, of which every one matches the rule.
const LINES: usize = 5_000;

/// Declared streams and their alarms, in a world in which everything may be reached.
struct House {
    declared: Arc<Declared>,
    alarms: Arc<Alarms>,
    metrics: Arc<Metrics>,
    tasks: TaskTracker,
    cancel: CancellationToken,
}

impl House {
    fn new() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (metrics, tasks, cancel) = (Metrics::new(), TaskTracker::new(), CancellationToken::new());
        let policy = Arc::new(OutsidePolicy::open(None));
        let outside = Outside { policy, ..Outside::closed(Arc::clone(&metrics)) };
        let uploads = Uploads::closed(Arc::clone(&metrics));
        let sources = Sources { pods: None, metrics: None, outside, uploads };
        let config = SupervisorConfig::default();
        let supervisor = Supervisor::new(sources, config, Arc::clone(&metrics), tasks.clone(), cancel.clone());
        let declared = Declared::new(supervisor, Arc::new(Catalogue::default()), tasks.clone());
        // Nothing is given up while the test runs: who hangs, hangs.
        let config = ReceiversConfig { timeout: 2 * PATIENCE, ..ReceiversConfig::new(Reach::everything()) };
        let (secrets, counted) = (Arc::new(NoSecrets), Arc::clone(&metrics));
        let receivers = Receivers::new(config, secrets, counted, tasks.clone(), cancel.clone()).unwrap();
        Self { declared, alarms: Alarms::new("here", receivers), metrics, tasks, cancel }
    }

    /// Puts a subscription to work, and reads it from its beginning.
    fn declare(&self, spec: serde_json::Value) -> Reader {
        let (spec, name) = (serde_json::from_value::<StreamSubscriptionSpec>(spec).unwrap(), StreamName::new("a", "b"));
        let job = Job::declared(&spec, self.declared.supervisor().default_ring(), &name).unwrap();
        self.declared.declare_with_rules(&name, "uid", job, &spec.rules, &self.alarms).unwrap();
        let stream = self.declared.catalogue().locate(&name).unwrap().stream;
        Reader::open(stream, ReadFrom::Oldest)
    }

    async fn end(self) {
        self.declared.delete(&StreamName::new("a", "b"), "The test is over.");
        self.cancel.cancel();
        self.tasks.close();
        tokio::time::timeout(PATIENCE, self.tasks.wait()).await.expect("all tasks end");
    }
}

#[tokio::test]
async fn a_webhook_that_hangs_delays_no_line() {
    let house = House::new();
    let (hook, log) =
        (TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let spec = json!({"webhook": {"url": format!("http://{}/", hook.local_addr().unwrap())}});
    house.alarms.receivers().set(ReceiverName::new("a", "hook"), serde_json::from_value(spec).unwrap());
    let mut reader = house.declare(json!({
        "source": {"tcp": {"address": log.local_addr().unwrap().to_string()}},
        "rules": [{"name": "any", "text": "line", "cooldown": "0s", "receivers": ["hook"]}],
    }));
    let (mut log, _) = log.accept().await.unwrap();
    log.write_all(b"line 0\n").await.unwrap();
    // It takes the connection with the alert, and never says a word.
    let held = tokio::time::timeout(PATIENCE, hook.accept()).await.expect("the alert comes").unwrap();
    let send = async {
        for number in 1..LINES {
            log.write_all(format!("line {number}\n").as_bytes()).await.unwrap();
        }
    };
    let read = async {
        let mut read = Vec::new();
        while read.len() < LINES {
            if let Delivery::Records { batch, .. } = reader.next().await {
                read.extend(batch.lines().iter().map(|line| String::from_utf8_lossy(batch.text(line)).into_owned()));
            }
        }
        read
    };
    let both = async { futures::join!(send, read).1 };
    let read = tokio::time::timeout(PATIENCE, both).await.expect("all lines come while the webhook hangs");
    assert_eq!(read, (0..LINES).map(|number| format!("line {number}")).collect::<Vec<_>>());
    let delivered = AlertLabels { receiver: AlertKind::Webhook, outcome: AlertOutcome::Delivered };
    assert_eq!(house.metrics.alerts.get_or_create(&delivered).get(), 0, "it hangs still");
    assert_eq!(house.metrics.rules_fired.get(), 1, "and nothing more is sent of this source meanwhile");
    drop(held);
    house.end().await;
}
