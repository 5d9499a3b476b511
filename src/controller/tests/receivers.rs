//! What the controller of `AlertReceiver`s asks and writes.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::runtime::controller::Action;
use kube::runtime::reflector::store::Writer;
use kube::runtime::watcher::Event;
use rstest::rstest;
use serde_json::{Value, json};

use super::api_server::Scenario::{Publish, ReadSecret, Refuse, Vanish, WriteStatus};
use super::api_server::{ApiServer, Call, Scenario};
use super::streams::alarms;
use crate::api::AlertReceiver;
use crate::controller::guard::Guarded;
use crate::controller::shared::Shared;
use crate::controller::{ControllerConfig, alert_receiver};
use crate::rule::ReceiverName;
use crate::telemetry::Metrics;

/// A controller, and the API server it talks to.
struct House {
    server: ApiServer,
    context: Arc<alert_receiver::Context>,
    writer: Writer<Guarded<AlertReceiver>>,
    /// When the receiver is looked at again.
    again: Action,
}

impl House {
    fn new() -> Self {
        let (client, server) = ApiServer::new();
        let (writer, config) = (Writer::default(), Arc::new(ControllerConfig::new("weir-system")));
        let receivers = Arc::clone(alarms(&client).receivers());
        let shared = Shared::new(client, config, writer.as_reader(), Metrics::new());
        let context = Arc::new(alert_receiver::Context { shared, receivers });
        Self { server, context, writer, again: Action::await_change() }
    }

    async fn reconcile(&mut self, spec: Value, expected: impl IntoIterator<Item = Scenario>) -> Vec<Call> {
        let metadata = json!({"name": "ops", "namespace": "shop", "uid": "u", "generation": 1});
        let object: Guarded<AlertReceiver> =
            serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap();
        self.writer.apply_watcher_event(&Event::Apply(object.clone()));
        let work = alert_receiver::reconcile(Arc::new(object), Arc::clone(&self.context));
        let (outcome, calls) = self.server.expect(expected, work).await;
        self.again = outcome.unwrap();
        calls
    }

    fn is_known(&self) -> bool {
        self.context.receivers.knows(&ReceiverName::new("shop", "ops"))
    }
}

fn secret(key: &str, value: &str) -> Scenario {
    let data = [(key.to_owned(), ByteString(value.as_bytes().to_vec()))].into();
    ReadSecret(Some(Box::new(Secret { data: Some(data), ..Secret::default() })))
}

fn slack() -> Value {
    json!({"slack": {"urlSecretRef": {"name": "slack", "key": "url"}}})
}

#[tokio::test]
async fn a_valid_receiver_is_known_and_ready() {
    let mut house = House::new();
    let calls = house.reconcile(json!({"stdout": {}}), [WriteStatus, Publish("Ready")]).await;
    assert_eq!(calls[0].condition("Validated"), ("True", "Accepted"));
    assert_eq!(calls[0].condition("Ready"), ("True", "Ready"));
    assert!(house.is_known());
}

#[tokio::test]
async fn one_that_became_invalid_is_known_no_more() {
    let mut house = House::new();
    house.reconcile(json!({"stdout": {}}), [WriteStatus, Publish("Ready")]).await;
    let calls = house.reconcile(json!({}), [WriteStatus, Publish("Invalid")]).await;
    assert_eq!(calls[0].condition("Validated"), ("False", "Invalid"));
    assert!(!house.is_known());
    house.reconcile(json!({"stdout": {}}), [WriteStatus, Publish("Ready")]).await;
    let calls = house.reconcile(json!({"stdout": "yes"}), [WriteStatus, Publish("Malformed")]).await;
    assert_eq!(calls[0].condition("Validated"), ("False", "Malformed"));
    assert!(!house.is_known());
}

#[tokio::test]
async fn a_secret_that_is_missing_is_told_with_a_remedy_and_the_receiver_is_known_all_the_same() {
    let mut house = House::new();
    let missing = [ReadSecret(None), WriteStatus, Publish("SecretMissing")];
    let calls = house.reconcile(slack(), missing).await;
    assert_eq!(calls[1].condition("Ready"), ("False", "SecretMissing"));
    assert_eq!(calls[1].condition("Stalled").0, "True");
    let message = calls[1].message("Ready");
    assert!(message.contains("kubectl -n shop create secret generic slack --from-literal=url="), "{message}");
    assert!(house.is_known(), "it works from the moment on at which the Secret is there");
    for (found, says) in [(secret("other", "x"), "has no key url"), (secret("url", " "), "is empty")] {
        let calls = house.reconcile(slack(), [found, WriteStatus, Publish("SecretMissing")]).await;
        assert!(calls[1].message("Ready").contains(says), "{}", calls[1].message("Ready"));
    }
    let there = [secret("url", "https://hooks.slack.com/services/T/B/secret"), WriteStatus, Publish("Ready")];
    let calls = house.reconcile(slack(), there).await;
    assert!(!calls[1].body.to_string().contains("secret\""), "nothing of it is shown");
}

#[tokio::test]
async fn where_weir_may_not_read_secrets_it_says_so_and_where_it_cannot_now_it_hopes() {
    let mut house = House::new();
    let calls = house.reconcile(slack(), [Refuse(403), WriteStatus, Publish("Forbidden")]).await;
    assert_eq!(calls[1].condition("Ready"), ("False", "Forbidden"));
    let calls = house.reconcile(slack(), [Vanish, WriteStatus, Publish("Ready")]).await;
    assert_eq!(calls[1].condition("Ready"), ("True", "Ready"));
    assert_eq!(house.again, Action::requeue(Duration::from_secs(30)), "and looks again soon");
    house.reconcile(slack(), [secret("url", "https://hooks.slack.com/x"), WriteStatus, Publish("Ready")]).await;
    assert_eq!(house.again, Action::requeue(Duration::from_secs(600)));
}

#[tokio::test]
async fn a_host_that_alerts_are_not_sent_to_is_told() {
    let mut house = House::new();
    for url in ["http://10.0.0.1/hook", "https://kubernetes.default.svc/", "http://169.254.169.254/latest"] {
        let calls = house.reconcile(json!({"webhook": {"url": url}}), [WriteStatus, Publish("NotAllowed")]).await;
        assert_eq!(calls[0].condition("Ready"), ("False", "NotAllowed"), "{url}");
    }
}

#[rstest]
#[case::not_listed("https://hooks.internal/T0P", "NotAllowed", "config.alertHosts")]
#[case::not_over_tls("http://hooks.slack.com/T0P", "NotAllowed", "--alert-hosts")]
#[case::on_another_port("https://hooks.slack.com:8443/T0P", "NotAllowed", "--alert-hosts")]
#[case::of_the_clouds_metadata("http://169.254.169.254/T0P", "NotAllowed", "never sent to")]
#[case::with_a_line_end("http://169.254.169.254/T0P\n", "NotAllowed", "never sent to")]
#[case::of_another_kind("ftp://hooks.slack.com/T0P", "Invalid", "https://")]
#[case::that_is_no_address("T0P", "Invalid", "https://")]
#[tokio::test]
async fn an_address_in_a_secret_is_told_without_showing_it(
    #[case] address: &str,
    #[case] reason: &'static str,
    #[case] remedy: &str,
    #[values("slack", "discord", "webhook")] kind: &str,
) {
    let mut house = House::new();
    let spec = json!({kind: {"urlSecretRef": {"name": "vault", "key": "hook"}}});
    let calls = house.reconcile(spec, [secret("hook", address), WriteStatus, Publish(reason)]).await;
    assert_eq!(calls[1].condition("Ready"), ("False", reason));
    assert_eq!(calls[1].condition("Stalled").0, "True", "a person must act");
    let message = calls[1].message("Ready");
    assert!(message.contains("the Secret vault (key hook)") && message.contains(remedy), "{message}");
    for written in &calls[1..] {
        let written = written.body.to_string();
        let shown = ["T0P", "hooks.", "169.254"].into_iter().find(|part| written.contains(part));
        assert_eq!(shown, None, "{written}");
    }
    assert!(house.is_known(), "it works from the moment on at which the operator allows it");
}

#[tokio::test]
async fn a_secret_that_is_mended_is_seen_and_one_that_is_spoilt_too() {
    let mut house = House::new();
    let good = || secret("url", "https://hooks.slack.com/services/T/B/x");
    let bad = || secret("url", "https://kubernetes.default.svc/");
    for (there, status, reason) in
        [(bad(), "False", "NotAllowed"), (good(), "True", "Ready"), (bad(), "False", "NotAllowed")]
    {
        let calls = house.reconcile(slack(), [there, WriteStatus, Publish(reason)]).await;
        assert_eq!(calls[1].condition("Ready"), (status, reason));
    }
}

#[tokio::test]
async fn a_suspended_one_says_so_and_is_known_so_that_its_alerts_are_counted() {
    let mut house = House::new();
    let spec = json!({"stdout": {}, "suspend": true});
    let calls = house.reconcile(spec, [WriteStatus, Publish("Suspended")]).await;
    assert_eq!(calls[0].condition("Ready"), ("False", "Suspended"));
    assert_eq!(calls[0].condition("Stalled").0, "False");
    assert!(house.is_known());
}
