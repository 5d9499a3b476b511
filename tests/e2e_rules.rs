//! Rules, receivers and sources outside of Kubernetes on a real cluster: who is told of a line, and what the objects say.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod cluster;

use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::events::v1::Event as ClusterEvent;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use weir::api::condition::find;
use weir::api::{AlertReceiver, StreamSubscription};
use weir::record::{Event, Signal};
use weir::stream::{Delivery, ReadFrom, Reader, StreamName};
use wiremock::{Mock, MockServer, ResponseTemplate, matchers};

use cluster::{Cluster, Operator, PATIENCE, until};

/// A pod that writes a numbered error five times a second.
async fn failing_pod(cluster: &Cluster) {
    cluster.run("cart", "n=0; while true; do n=$((n+1)); echo \"ERROR $n of cart\"; sleep 0.2; done").await;
}

/// A server that takes every alert.
async fn hook() -> MockServer {
    let server = MockServer::start().await;
    Mock::given(matchers::any()).respond_with(ResponseTemplate::new(204)).mount(&server).await;
    server
}

/// The bodies of alerts that came to this path.
async fn alerts(server: &MockServer, path: &str) -> Vec<Value> {
    let requests = server.received_requests().await.unwrap();
    let here = requests.iter().filter(|request| request.url.path() == path);
    here.map(|request| serde_json::from_slice(&request.body).unwrap()).collect()
}

async fn secret(cluster: &Cluster, url: &str) {
    cluster.apply::<Secret>("hook", json!({"stringData": {"url": url}})).await;
}

async fn receiver(cluster: &Cluster) {
    let spec = json!({"spec": {"webhook": {"urlSecretRef": {"name": "hook", "key": "url"}}}});
    cluster.apply::<AlertReceiver>("ops", spec).await;
}

async fn watched(cluster: &Cluster, receivers: &[&str]) {
    let rule = json!({"name": "errors", "pattern": "ERROR (?<number>[0-9]+)", "message": "error {number} of {source}",
        "cooldown": "1s", "receivers": receivers});
    let spec = json!({"spec": {"source": {"podLogs": {"selection": {"pods": ["cart"]}}}, "rules": [rule]}});
    cluster.apply::<StreamSubscription>("watched", spec).await;
}

/// A condition of a subscription, once `wanted` accepts it: status, reason and message.
async fn condition(
    cluster: &Cluster,
    name: &str,
    condition: &str,
    wanted: impl Fn(&(String, String, String)) -> bool,
) -> (String, String, String) {
    until(&format!("{name}: the condition {condition}"), || async {
        let object = cluster.api::<StreamSubscription>().get(name).await.unwrap();
        let found = find(&object.status?.conditions, condition)?.clone();
        Some((found.status, found.reason, found.message)).filter(|found| wanted(found))
    })
    .await
}

fn reader(operator: &Operator, cluster: &Cluster, name: &str) -> Reader {
    let located = operator.declared.catalogue().locate(&StreamName::new(&cluster.namespace, name)).unwrap();
    Reader::open(located.stream, ReadFrom::Oldest)
}

/// The next signal of this kind.
async fn signal(reader: &mut Reader, event: Event) -> Arc<Signal> {
    let next = async {
        loop {
            match reader.next().await {
                Delivery::Signal { signal, .. } if signal.event == event => return signal,
                _ => {}
            }
        }
    };
    tokio::time::timeout(PATIENCE, next).await.expect("the signal comes")
}

#[tokio::test]
async fn a_rule_that_fires_tells_the_webhook_the_stream_an_event_and_the_counter() {
    let (cluster, server) = (Cluster::new("rules").await, hook().await);
    let operator = Operator::start_reaching(&cluster, &["127.0.0.1"]).await;
    secret(&cluster, &format!("{}/one", server.uri())).await;
    receiver(&cluster).await;
    cluster.kubectl(&["wait", "--for=condition=Ready", "--timeout=10s", "alertreceiver/ops"]).await;
    watched(&cluster, &["ops"]).await;
    failing_pod(&cluster).await;
    condition(&cluster, "watched", "Ready", |(status, ..)| status == "True").await;

    let mut stream = reader(&operator, &cluster, "watched");
    let fired = signal(&mut stream, Event::RuleFired).await;
    assert_eq!(fired.reason.as_deref(), Some("errors"));
    assert_eq!(fired.origin.as_ref().unwrap().pod, "cart");

    let first = until("the webhook has an alert", || async { alerts(&server, "/one").await.first().cloned() }).await;
    let source = format!("{}/cart/main", cluster.namespace);
    assert_eq!(first["rule"], "errors", "{first}");
    assert_eq!((&first["alert_name"], &first["source"]), (&json!("ops"), &json!(source)), "{first}");
    assert_eq!(first["identity"], "end-to-end-test", "{first}");
    let message = first["message"].as_str().unwrap();
    assert!(message.starts_with("error ") && message.ends_with(&format!(" of {source}")), "{message}");

    // Two more, a second apart each: the Event is one all the same.
    until("it fires again", || async { (operator.metrics.rules_fired.get() >= 3).then_some(()) }).await;
    let told = || async {
        let events = cluster.api::<ClusterEvent>().list(&Default::default()).await.ok()?;
        let fired = events.into_iter().filter(|event| event.reason.as_deref() == Some("RuleFired"));
        Some(fired.collect::<Vec<_>>()).filter(|events| !events.is_empty())
    };
    let events = until("the Event", told).await;
    assert_eq!(events.len(), 1, "one in a minute: {events:?}");
    let about = events[0].regarding.clone().unwrap();
    assert_eq!((about.kind.as_deref(), about.name.as_deref()), (Some("StreamSubscription"), Some("watched")));
    assert!(events[0].note.as_deref().unwrap().contains("The rule errors fired"), "{events:?}");
    assert_eq!(events[0].series.as_ref().map(|series| series.count), None, "and was not counted up");

    // A changed Secret is taken up with the next alert.
    secret(&cluster, &format!("{}/two", server.uri())).await;
    until("alerts come to the new address", || async { alerts(&server, "/two").await.first().cloned() }).await;
    operator.stop().await;
}

#[tokio::test]
async fn a_receiver_that_there_is_not_is_told_on_the_subscription_until_it_comes() {
    let (cluster, server) = (Cluster::new("unknown").await, hook().await);
    let operator = Operator::start_reaching(&cluster, &["127.0.0.1"]).await;
    watched(&cluster, &["ops"]).await;
    let names_it = |(_, _, message): &(String, String, String)| message.contains("not there or not valid: ops");
    let (status, _, message) = condition(&cluster, "watched", "Ready", names_it).await;
    assert_eq!(status, "True", "its stream can be read all the same");
    assert!(message.contains("create or mend them"), "{message}");

    secret(&cluster, &server.uri()).await;
    receiver(&cluster).await;
    condition(&cluster, "watched", "Ready", |found| found.0 == "True" && !names_it(found)).await;
    cluster.delete::<AlertReceiver>("ops").await;
    condition(&cluster, "watched", "Ready", names_it).await;
    operator.stop().await;
}

#[tokio::test]
async fn an_alert_to_a_host_that_is_not_listed_is_refused_and_its_receiver_says_so() {
    let (cluster, server) = (Cluster::new("confined").await, hook().await);
    let operator = Operator::start(&cluster).await;
    let ready = async |reason: &str| {
        until(&format!("the receiver is {reason}"), || async {
            let object = cluster.api::<AlertReceiver>().get("ops").await.unwrap();
            find(&object.status?.conditions, "Ready").filter(|ready| ready.reason == reason).cloned()
        })
        .await
    };
    let spec = json!({"spec": {"webhook": {"url": server.uri()}}});
    cluster.apply::<AlertReceiver>("ops", spec).await;
    let told = ready("NotAllowed").await;
    assert_eq!(told.status, "False");
    assert!(!told.message.contains("127.0.0.1"), "an address may be a secret: {}", told.message);
    assert!(server.received_requests().await.unwrap().is_empty());

    // The same where the address stands in a Secret, from the moment on at which it stands there.
    secret(&cluster, "https://hooks.slack.com/services/T/B/x").await;
    receiver(&cluster).await;
    ready("Ready").await;
    secret(&cluster, &server.uri()).await;
    let told = ready("NotAllowed").await;
    assert!(told.message.contains("the Secret hook (key url)"), "{}", told.message);
    assert!(!told.message.contains("127.0.0.1"), "{}", told.message);
    operator.stop().await;
}

#[tokio::test]
async fn a_source_outside_of_kubernetes_is_refused_with_a_remedy_until_its_host_is_listed() {
    let cluster = Cluster::new("outside").await;
    let log = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = log.local_addr().unwrap().to_string();
    let subscription = json!({"spec": {"source": {"tcp": {"address": address, "reconnectDelay": "1s"}}}});

    let operator = Operator::start(&cluster).await;
    cluster.apply::<StreamSubscription>("lines", subscription).await;
    let (status, _, message) = condition(&cluster, "lines", "Ready", |found| found.1 == "NotAllowed").await;
    assert_eq!(status, "False");
    assert!(message.contains(&address) && message.contains("--outside-hosts"), "{message}");
    let (stalled, ..) = condition(&cluster, "lines", "Stalled", |found| found.1 == "NotAllowed").await;
    assert_eq!(stalled, "True", "a person must act");
    assert!(operator.declared.list().is_empty(), "nothing is connected to");
    operator.stop().await;

    let operator = Operator::start_reaching(&cluster, &[&address]).await;
    let (mut sender, _) = tokio::time::timeout(PATIENCE, log.accept()).await.expect("it connects").unwrap();
    sender.write_all(b"first\nsecond\n").await.unwrap();
    let (_, _, message) = condition(&cluster, "lines", "Streaming", |found| found.0 == "True").await;
    assert_eq!(message, "The remote end is connected.");
    let mut stream = reader(&operator, &cluster, "lines");
    let mut lines = Vec::new();
    while lines.len() < 2 {
        let next = tokio::time::timeout(PATIENCE, stream.next()).await.expect("records come");
        if let Delivery::Records { batch, .. } = next {
            lines.extend(batch.lines().iter().map(|line| String::from_utf8_lossy(batch.text(line)).into_owned()));
        }
    }
    assert_eq!(lines, ["first", "second"]);

    drop((sender, log));
    let (_, reason, message) = condition(&cluster, "lines", "Streaming", |found| found.0 == "False").await;
    assert_eq!(reason, "SourceUnavailable");
    assert!(message.contains("goes on trying"), "{message}");
    operator.stop().await;
}
