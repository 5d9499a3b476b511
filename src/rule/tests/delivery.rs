//! How alerts reach their receivers: over real sockets, to servers that refuse, hang and come back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::{Value, json};
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::{Office, PATIENCE, alert, quick, receiver, until};
use crate::record::Time;
use crate::rule::delivery::{Delivery, Receipt};
use crate::rule::{Ledger, Pace, Reach, ReceiverName, ReceiversConfig, RetryPolicy};
use crate::telemetry::{AlertKind, AlertOutcome};

const OPS: &str = "ops";

pub(super) fn ops() -> ReceiverName {
    ReceiverName::new("shop", OPS)
}

/// A ledger with an alert on its way, as the watch of a stream has it.
fn on_its_way(cooldown: Duration) -> (Arc<Mutex<Ledger>>, Arc<str>, u64) {
    let mut ledger = Ledger::new(vec![Pace { threshold: None, cooldown }]);
    let source: Arc<str> = "a".into();
    let number = ledger.matched(0, &source, Time(0), Instant::now()).unwrap();
    (Arc::new(Mutex::new(ledger)), source, number)
}

pub(super) fn delivery(message: &str) -> Delivery {
    let (ledger, source, number) = on_its_way(Duration::ZERO);
    Delivery {
        alert: Arc::new(alert(message)),
        receipt: Receipt::new(ledger, 0, source, number),
        since: Instant::now(),
    }
}

pub(super) fn webhook(server: &MockServer) -> Value {
    json!({"webhook": {"url": format!("{}/hook", server.uri())}})
}

/// Answers these in turn, the last one for ever.
pub(super) async fn answering(answers: impl IntoIterator<Item = ResponseTemplate>) -> MockServer {
    let server = MockServer::start().await;
    let answers: Vec<_> = answers.into_iter().collect();
    let last = answers.len() - 1;
    for (at, answer) in answers.into_iter().enumerate() {
        let mock = Mock::given(method("POST")).and(path("/hook")).respond_with(answer);
        let mock = if at < last { mock.up_to_n_times(1) } else { mock };
        mock.with_priority(u8::try_from(at + 1).unwrap()).mount(&server).await;
    }
    server
}

async fn messages(server: &MockServer) -> Vec<String> {
    let requests = server.received_requests().await.unwrap();
    let message = |body: &[u8]| serde_json::from_slice::<Value>(body).unwrap()["message"].as_str().unwrap().to_owned();
    requests.iter().map(|request| message(&request.body)).collect()
}

#[tokio::test]
async fn an_alert_is_posted_and_counted() {
    let (office, server) = (Office::open(quick()), answering([ResponseTemplate::new(204)]).await);
    office.receivers.set(ops(), receiver(webhook(&server)));
    office.receivers.send(&ops(), delivery("it broke"));
    office.until(AlertKind::Webhook, AlertOutcome::Delivered, 1).await;
    assert_eq!(messages(&server).await, ["it broke"]);
    let request = &server.received_requests().await.unwrap()[0];
    assert!(request.headers["user-agent"].to_str().unwrap().starts_with("weir/"));
    office.close().await;
}

#[tokio::test]
async fn what_fails_is_tried_again_until_it_is_taken_and_in_order() {
    let codes = [500, 429, 408, 425, 503, 200].map(ResponseTemplate::new);
    let (office, server) = (Office::open(quick()), answering(codes).await);
    office.receivers.set(ops(), receiver(webhook(&server)));
    office.receivers.send(&ops(), delivery("one"));
    office.receivers.send(&ops(), delivery("two"));
    office.until(AlertKind::Webhook, AlertOutcome::Delivered, 2).await;
    assert_eq!(messages(&server).await, ["one", "one", "one", "one", "one", "one", "two"]);
    assert_eq!(office.metrics.alert_retries.get(), 5);
    office.close().await;
}

#[tokio::test]
async fn a_service_that_asks_for_patience_is_left_alone_so_long() {
    let asks = ResponseTemplate::new(429).insert_header("Retry-After", "1");
    let (office, server) = (Office::open(quick()), answering([asks, ResponseTemplate::new(200)]).await);
    office.receivers.set(ops(), receiver(webhook(&server)));
    let begun = Instant::now();
    office.receivers.send(&ops(), delivery("it broke"));
    office.until(AlertKind::Webhook, AlertOutcome::Delivered, 1).await;
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
    assert_eq!(messages(&server).await.len(), 2);
    office.close().await;
}

#[tokio::test]
async fn what_is_refused_for_good_is_not_tried_again_and_redirects_are_not_followed() {
    for (code, header) in [(400, None), (401, None), (404, None), (410, None), (302, Some("/elsewhere"))] {
        let mut answer = ResponseTemplate::new(code);
        if let Some(place) = header {
            answer = answer.insert_header("Location", place);
        }
        let (office, server) = (Office::open(quick()), answering([answer]).await);
        office.receivers.set(ops(), receiver(webhook(&server)));
        office.receivers.send(&ops(), delivery("it broke"));
        office.until(AlertKind::Webhook, AlertOutcome::Refused, 1).await;
        assert_eq!(server.received_requests().await.unwrap().len(), 1, "{code}");
        office.close().await;
    }
}

#[tokio::test]
async fn an_alert_that_grew_too_old_is_given_up() {
    let retry = RetryPolicy { age: Duration::from_millis(60), ..quick().retry };
    let (office, server) =
        (Office::open(ReceiversConfig { retry, ..quick() }), answering([ResponseTemplate::new(503)]).await);
    office.receivers.set(ops(), receiver(webhook(&server)));
    office.receivers.send(&ops(), delivery("it broke"));
    office.until(AlertKind::Webhook, AlertOutcome::Expired, 1).await;
    assert!(!messages(&server).await.is_empty());
    office.close().await;
}

#[tokio::test]
async fn a_service_that_hangs_is_given_up_on_in_time_and_what_is_too_much_for_the_queue_is_dropped() {
    let hangs = ResponseTemplate::new(200).set_delay(PATIENCE);
    let server = answering([hangs]).await;
    let config = ReceiversConfig { queue: 2, timeout: Duration::from_millis(50), ..quick() };
    let office = Office::open(config);
    office.receivers.set(ops(), receiver(webhook(&server)));
    office.receivers.send(&ops(), delivery("first"));
    until(|| office.metrics.alert_retries.get() > 0).await;
    let begun = Instant::now();
    for _ in 0..10 {
        office.receivers.send(&ops(), delivery("more"));
    }
    assert!(begun.elapsed() < Duration::from_secs(1), "whoever sends never waits");
    office.until(AlertKind::Webhook, AlertOutcome::QueueFull, 8).await;
    let metrics = Arc::clone(&office.metrics);
    let stopped = || metrics.encode(crate::telemetry::Exposition::Prometheus);
    office.close().await;
    assert!(stopped().contains("weir_alerts_total{receiver=\"webhook\",outcome=\"stopped\"} 3\n"), "{}", stopped());
    assert!(stopped().contains("weir_queue_depth{queue=\"alerts\"} 0\n"), "{}", stopped());
}

#[tokio::test]
async fn a_receiver_that_is_mended_gets_what_waits_for_it() {
    let (office, server) = (Office::open(quick()), answering([ResponseTemplate::new(200)]).await);
    let secret = json!({"webhook": {"urlSecretRef": {"name": "s", "key": "url"}}});
    office.receivers.set(ops(), receiver(secret.clone()));
    assert!(office.receivers.check("shop", &receiver(secret)).await.is_err());
    office.receivers.send(&ops(), delivery("it broke"));
    until(|| office.metrics.alert_retries.get() > 0).await;
    office.vault.put("url", format!("{}/hook", server.uri()));
    office.until(AlertKind::Webhook, AlertOutcome::Delivered, 1).await;
    office.receivers.set(ops(), receiver(json!({"stdout": {}})));
    office.receivers.send(&ops(), delivery("again"));
    office.until(AlertKind::Stdout, AlertOutcome::Delivered, 1).await;
    assert_eq!(office.paper.text(), "[2026-11-03 09:30:00 UTC] ALERT [weir-0] [oops]: again\n");
    office.close().await;
}

#[tokio::test]
async fn what_a_suspended_receiver_or_one_that_is_not_there_would_get_is_counted() {
    let office = Office::open(quick());
    office.receivers.send(&ops(), delivery("nobody"));
    assert_eq!(office.counted(AlertKind::Unknown, AlertOutcome::NoReceiver), 1);
    office.receivers.set(ops(), receiver(json!({"stdout": {}, "suspend": true})));
    office.receivers.send(&ops(), delivery("held back"));
    assert_eq!(office.counted(AlertKind::Stdout, AlertOutcome::Suspended), 1);
    office.receivers.remove(&ops());
    assert!(!office.receivers.knows(&ops()));
    office.receivers.send(&ops(), delivery("gone"));
    assert_eq!(office.counted(AlertKind::Unknown, AlertOutcome::NoReceiver), 2);
    assert_eq!(office.paper.text(), "");
    office.close().await;
}

#[tokio::test]
async fn a_cooldown_begins_with_the_delivery_and_a_failed_one_begins_none() {
    let (ledger, source, number) = on_its_way(Duration::from_secs(3600));
    let send = |office: &Office, receivers: &[&str]| {
        let receipt = Receipt::new(Arc::clone(&ledger), 0, Arc::clone(&source), number);
        for name in receivers {
            let delivery = Delivery { alert: Arc::new(alert("x")), receipt: receipt.clone(), since: Instant::now() };
            office.receivers.send(&ReceiverName::new("shop", *name), delivery);
        }
    };
    let office = Office::open(quick());
    let server = answering([ResponseTemplate::new(404)]).await;
    office.receivers.set(ReceiverName::new("shop", "broken"), receiver(webhook(&server)));
    office.receivers.set(ReceiverName::new("shop", "good"), receiver(json!({"stdout": {}})));
    send(&office, &["broken", "good", "missing"]);
    office.until(AlertKind::Stdout, AlertOutcome::Delivered, 1).await;
    office.until(AlertKind::Webhook, AlertOutcome::Refused, 1).await;
    let fires = |seconds| {
        let now = Instant::now() + Duration::from_secs(seconds);
        ledger.lock().matched(0, &source, Time(0), now).is_some()
    };
    assert!(!fires(3590), "one has it");
    assert!(fires(3601));
    office.close().await;
}

#[tokio::test]
async fn in_a_cluster_nothing_is_sent_to_this_machine_and_no_address_is_shown() {
    let server = answering([ResponseTemplate::new(200)]).await;
    let office = Office::open(ReceiversConfig { reach: Reach::public_and(vec![]), ..quick() });
    let spec = receiver(webhook(&server));
    let refused = office.receivers.check("shop", &spec).await.unwrap_err().to_string();
    assert!(refused.contains("--alert-hosts") && !refused.contains("127.0.0.1"), "{refused}");
    office.receivers.set(ops(), spec);
    office.receivers.send(&ops(), delivery("it broke"));
    office.until(AlertKind::Webhook, AlertOutcome::NotAllowed, 1).await;
    assert!(server.received_requests().await.unwrap().is_empty());
    office.close().await;
}
