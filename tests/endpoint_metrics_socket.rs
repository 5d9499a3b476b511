//! The metrics socket over real sockets: the server's own numbers and those of a declared stream.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::disallowed_methods, reason = "a test's own runtime ends its tasks")]

mod rest;

use futures::{SinkExt as _, StreamExt as _};
use rest::{Endpoint, PATIENCE, Setup, reader, start};
use rstest::rstest;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use weir::api::{AccessKeySpec, Grant, KeyLimits, Scope, Service};
use weir::endpoint::Drained;
use weir::endpoint::services::EndpointOptions;
use weir::record::{Asset, Reading, ReadingHead, Time};
use weir::stream::{Located, RingLimits, StreamName};
use weir::telemetry::{Exposition, ServiceLabels};
use weir::worker::{HistoryPlan, Job, Sight};

const FIELDS: [&str; 10] = [
    "requests_total",
    "requests_success",
    "requests_error",
    "active_connections",
    "avg_response_time",
    "success_rate",
    "streams_active",
    "records_total",
    "bytes_total",
    "gaps_total",
];

fn metrics_with(scope: Scope) -> AccessKeySpec {
    let grant = Grant { services: vec![Service::Metrics], scopes: vec![scope], ..Grant::default() };
    AccessKeySpec { grants: vec![grant], ..AccessKeySpec::default() }
}

/// Metrics and Stream on everything in reach.
fn watcher() -> AccessKeySpec {
    metrics_with(Scope::Stream)
}

struct Client(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Client {
    async fn open(endpoint: &Endpoint, query: &str, headers: &[(&'static str, String)]) -> Result<Self, u16> {
        let mut request = format!("ws://{}/ws/metrics{query}", endpoint.address).into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().append(*name, value.parse().unwrap());
        }
        match tokio_tungstenite::connect_async(request).await {
            Ok((socket, _)) => Ok(Self(socket)),
            Err(WsError::Http(response)) => Err(response.status().as_u16()),
            Err(error) => panic!("{error}"),
        }
    }

    async fn with_key(endpoint: &Endpoint, query: &str, token: &str) -> Self {
        Self::open(endpoint, query, &[("authorization", format!("Bearer {token}"))]).await.unwrap()
    }

    /// Watches the server's own numbers with a key of its own.
    async fn watching(endpoint: &Endpoint) -> Self {
        Self::with_key(endpoint, "", &endpoint.key("shop/watcher", &watcher())).await
    }

    async fn say(&mut self, message: Value) {
        self.0.send(Message::text(message.to_string())).await.unwrap();
    }

    /// The next message, and its type.
    async fn next(&mut self) -> (String, Value) {
        loop {
            match tokio::time::timeout(PATIENCE, self.0.next()).await.expect("nothing comes").unwrap().unwrap() {
                Message::Text(text) => {
                    let value: Value = serde_json::from_str(&text).unwrap();
                    return (value["type"].as_str().unwrap().to_owned(), value);
                }
                Message::Close(frame) => panic!("closed: {frame:?}"),
                _ => {}
            }
        }
    }

    /// The next message of a type, and how many came before it.
    async fn next_of(&mut self, kind: &str) -> (Value, usize) {
        let mut before = 0;
        loop {
            match self.next().await {
                (found, value) if found == kind => return (value, before),
                _ => before += 1,
            }
        }
    }

    /// What is still said, and the close.
    async fn rest(mut self) -> (Vec<Value>, u16, String) {
        let mut said = Vec::new();
        loop {
            match tokio::time::timeout(PATIENCE, self.0.next()).await.expect("it is not closed") {
                Some(Ok(Message::Text(text))) => said.push(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Close(Some(CloseFrame { code, reason })))) => {
                    return (said, code.into(), reason.to_string());
                }
                Some(Ok(_)) => {}
                other => panic!("ended without a close: {other:?}"),
            }
        }
    }
}

fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<_> = value.as_object().unwrap().keys().map(String::as_str).collect();
    keys.retain(|key| !["type", "timestamp"].contains(key));
    keys.sort_unstable();
    keys
}

fn sorted(names: &[&'static str]) -> Vec<&'static str> {
    let mut names = names.to_vec();
    names.sort_unstable();
    names
}

#[tokio::test]
async fn a_snapshot_comes_at_once_and_then_one_every_second() {
    let endpoint = start(Setup::default()).await;
    for path in ["/healthz", "/livez", "/nowhere"] {
        endpoint.send("GET", path, &[], "").await;
    }
    let labels = ServiceLabels { service: weir::telemetry::Service::Log };
    endpoint.services.metrics.records.get_or_create(&labels).inc_by(7);
    let mut client = Client::watching(&endpoint).await;
    let (kind, first) = client.next().await;
    assert_eq!((kind.as_str(), keys(&first)), ("Snapshot", sorted(&FIELDS)));
    assert!(FIELDS.iter().all(|field| first[field].is_number()), "{first}");
    // Its own upgrade is a request, too.
    let counts = [&first["requests_total"], &first["requests_success"], &first["requests_error"]];
    assert_eq!(counts, [&json!(4), &json!(3), &json!(1)], "{first}");
    assert_eq!((&first["success_rate"], &first["records_total"]), (&json!(75.0), &json!(7)));
    let mut times = vec![first["timestamp"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap()];
    assert!(first["timestamp"].as_str().unwrap().ends_with('Z'));
    for _ in 0..3 {
        let (kind, snapshot) = client.next().await;
        assert_eq!(kind, "Snapshot");
        times.push(snapshot["timestamp"].as_str().unwrap().parse().unwrap());
    }
    let whole = times[3].duration_since(times[1]).as_millis();
    assert!((1900..4000).contains(&whole), "two seconds between three snapshots, and it was {whole} ms");
}

#[tokio::test]
async fn a_subscription_chooses_fields_and_gets_the_past_then_a_snapshot_at_once() {
    let endpoint = start(Setup::default()).await;
    let mut client = Client::watching(&endpoint).await;
    client.next_of("Snapshot").await;
    let names = ["gaps_total", "success_rate"];
    client.say(json!({"metrics": names, "interval_seconds": 60, "include_history": true})).await;
    let mut series = Vec::new();
    let snapshot = loop {
        match client.next().await {
            (kind, value) if kind == "TimeSeries" => series.push(value),
            // The one that was due while the subscription was on its way.
            (_, value) if keys(&value).len() == FIELDS.len() => assert!(series.is_empty()),
            (_, value) => break value,
        }
    };
    assert_eq!(keys(&snapshot), names);
    let mut told: Vec<_> = series.iter().map(|value| value["metric_name"].as_str().unwrap()).collect();
    told.sort_unstable();
    assert_eq!(told, names);
    for value in &series {
        let points = value["data_points"].as_array().unwrap();
        assert!(!points.is_empty(), "the numbers are noted from the start on");
        assert!(points[0]["value"].is_number() && points[0]["timestamp"].as_str().unwrap().ends_with('Z'));
    }
    client.say(json!({"metrics": []})).await;
    assert_eq!(keys(&client.next_of("Snapshot").await.0), sorted(&FIELDS), "all again, and without the past");
}

#[tokio::test]
async fn what_cannot_be_understood_is_told_and_changes_nothing() {
    let endpoint = start(Setup::default()).await;
    let mut client = Client::watching(&endpoint).await;
    client.say(json!({"metrics": ["gaps_total"]})).await;
    let wrong = [
        (r#"{"interval_seconds":5}"#, "Invalid subscription: missing field `metrics`"),
        (r#"{"metrics":[],"interval_seconds":0}"#, "Invalid subscription: `interval_seconds` is from 1 to 60"),
        (r#"{"metrics":[],"interval_seconds":61}"#, "Invalid subscription: `interval_seconds` is from 1 to 60"),
        (r#"{"metrics":["gaps_total","cpu"]}"#, "Invalid subscription: unknown metric `cpu`; there are requests_total"),
        ("hello", "Invalid subscription: expected value at line 1 column 1"),
        ("[[[[", "Invalid subscription: EOF"),
    ];
    for (text, told) in wrong {
        client.0.send(Message::text(text)).await.unwrap();
        let message = client.next_of("Error").await.0;
        assert!(message["message"].as_str().unwrap().starts_with(told), "{text}: {message}");
    }
    client.0.send(Message::binary(vec![1, 2, 3])).await.unwrap();
    assert!(client.next_of("Error").await.0["message"].as_str().unwrap().contains("send text"));
    for _ in 0..2 {
        assert_eq!(keys(&client.next_of("Snapshot").await.0), ["gaps_total"], "the old subscription stays");
    }
}

#[tokio::test]
async fn a_heartbeat_fills_the_silence_between_snapshots() {
    let options = EndpointOptions { heartbeat: Duration::from_millis(200), ..EndpointOptions::default() };
    let endpoint = start(Setup { options: Some(options), ..Setup::default() }).await;
    let mut client = Client::watching(&endpoint).await;
    client.say(json!({"metrics": ["gaps_total"], "interval_seconds": 60})).await;
    while keys(&client.next_of("Snapshot").await.0) != ["gaps_total"] {}
    for _ in 0..3 {
        let (kind, heartbeat) = client.next().await;
        assert_eq!(kind, "Heartbeat");
        assert!(heartbeat["timestamp"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
    }
}

/// Which key, from where, with which query; the status, or none where the socket opens.
#[rstest]
#[case::no_key(false, None, None, "", Some(401))]
#[case::a_key_for_logs(false, Some("logs"), None, "", Some(403))]
#[case::a_key_for_metrics(false, Some("metrics"), None, "", None)]
#[case::as_subprotocol(false, Some("protocol"), None, "", None)]
#[case::unknown(false, Some("unknown"), None, "", Some(401))]
#[case::strange_page(false, Some("metrics"), Some("https://evil.example"), "", Some(403))]
#[case::public(true, None, None, "", None)]
#[case::public_to_a_strange_page(true, None, Some("https://evil.example"), "", Some(403))]
#[case::public_means_the_server_alone(true, None, None, "?stream=shop/cpu", Some(401))]
#[case::with_the_least_scope(false, Some("least"), None, "", None)]
#[case::a_stream_with_the_least_scope(false, Some("least"), None, "?stream=shop/cpu", Some(403))]
#[case::a_stream(false, Some("metrics"), None, "?stream=shop/cpu", None)]
#[case::a_stream_with_a_key_for_logs(false, Some("logs"), None, "?stream=shop/cpu", Some(403))]
#[case::a_stream_out_of_reach(false, Some("metrics"), None, "?stream=other/cpu", Some(403))]
#[case::a_stream_that_is_not(false, Some("metrics"), None, "?stream=shop/none", Some(404))]
#[case::a_stream_of_logs(false, Some("metrics"), None, "?stream=shop/logs", Some(400))]
#[case::no_stream_name(false, Some("metrics"), None, "?stream=cpu", Some(400))]
#[case::key_in_url(false, None, None, "?access_token=x", Some(400))]
#[tokio::test]
async fn who_may_watch(
    #[case] public_metrics: bool,
    #[case] key: Option<&str>,
    #[case] origin: Option<&str>,
    #[case] query: &str,
    #[case] refused: Option<u16>,
) {
    let options = EndpointOptions { public_metrics, ..EndpointOptions::default() };
    let endpoint = start(Setup { options: Some(options), ..Setup::default() }).await;
    endpoint.stream_of(Service::Metrics, "shop/cpu", RingLimits::default());
    endpoint.stream("shop/logs", RingLimits::default());
    endpoint.stream_of(Service::Metrics, "other/cpu", RingLimits::default());
    let (logs, metrics) = (endpoint.key("shop/logs", &reader()), endpoint.key("shop/metrics", &watcher()));
    let least = endpoint.key("shop/least", &metrics_with(Scope::Snapshot));
    let mut headers = match key {
        None => vec![],
        Some("logs") => vec![("authorization", format!("Bearer {logs}"))],
        Some("protocol") => vec![("sec-websocket-protocol", format!("bearer.{metrics}"))],
        Some("least") => vec![("authorization", format!("Bearer {least}"))],
        Some("unknown") => vec![("authorization", format!("Bearer {}", "x".repeat(40)))],
        Some(_) => vec![("authorization", format!("Bearer {metrics}"))],
    };
    headers.extend(origin.map(|origin| ("origin", origin.to_owned())));
    let opened = Client::open(&endpoint, query, &headers).await;
    assert_eq!(opened.err(), refused);
}

#[tokio::test]
async fn a_ticket_opens_it_once() {
    let endpoint = start(Setup::default()).await;
    let bearer = format!("Bearer {}", endpoint.key("shop/watcher", &watcher()));
    let mut answer = endpoint.send("POST", "/api/v1/tickets", &[("authorization", &bearer)], "").await;
    let ticket: Value = serde_json::from_str(&answer.rest().await).unwrap();
    let query = format!("?ticket={}", ticket["ticket"].as_str().unwrap());
    let mut client = Client::open(&endpoint, &query, &[]).await.unwrap();
    assert_eq!(client.next().await.0, "Snapshot");
    assert_eq!(Client::open(&endpoint, &query, &[]).await.err(), Some(401));
}

#[tokio::test]
async fn it_is_served_below_the_further_path_too() {
    let options = EndpointOptions { public_metrics: true, ..EndpointOptions::default() };
    let endpoint = start(Setup { options: Some(options), ..Setup::default() }).await;
    let url = format!("ws://{}/kwirth/ws/metrics", endpoint.address);
    let mut client = Client(tokio_tungstenite::connect_async(url).await.unwrap().0);
    assert_eq!(client.next().await.0, "Snapshot");
}

#[tokio::test]
async fn a_key_that_ends_is_told_and_the_socket_closed() {
    let endpoint = start(Setup::default()).await;
    for (spec, told) in [
        (AccessKeySpec { suspend: true, ..watcher() }, "suspended"),
        (reader(), "does not grant the service `metrics`"),
        (AccessKeySpec { ttl: Some("1ms".into()), ..watcher() }, "expired"),
    ] {
        let mut client = Client::watching(&endpoint).await;
        client.next_of("Snapshot").await;
        // A change that takes nothing away goes unnoticed.
        endpoint.key("shop/watcher", &AccessKeySpec { limits: Some(KeyLimits::default()), ..watcher() });
        client.next_of("Snapshot").await;
        endpoint.key("shop/watcher", &spec);
        let (said, code, reason) = client.rest().await;
        let last = said.last().unwrap();
        assert_eq!((code, &last["type"]), (1008, &json!("Error")));
        assert!(last["message"].as_str().unwrap().contains(told), "{last}");
        assert!(last["message"].as_str().unwrap().starts_with(&reason), "{reason}");
    }
}

#[tokio::test]
async fn draining_says_so_and_closes_with_1001() {
    let endpoint = start(Setup::default()).await;
    let mut client = Client::watching(&endpoint).await;
    client.next_of("Snapshot").await;
    endpoint.services.drain.begin();
    let (said, code, reason) = client.rest().await;
    assert_eq!((code, reason.contains("connect again")), (1001, true));
    assert_eq!(said.last().unwrap()["type"], "Error");
    let mut endpoint = endpoint;
    assert_eq!((&mut endpoint.running).await.unwrap(), Drained::Clean);
}

#[tokio::test]
async fn the_limits_are_those_of_any_socket() {
    let endpoint = start(Setup::default()).await;
    let limits = KeyLimits { connections: Some(2), ..KeyLimits::default() };
    let token = endpoint.key("shop/watcher", &AccessKeySpec { limits: Some(limits), ..watcher() });
    let bearer = [("authorization", format!("Bearer {token}"))];
    let mut first = Client::open(&endpoint, "", &bearer).await.unwrap();
    let second = Client::open(&endpoint, "", &bearer).await.unwrap();
    assert_eq!(Client::open(&endpoint, "", &bearer).await.err(), Some(429));
    first.0.send(Message::text("x".repeat(70_000))).await.unwrap();
    assert_eq!(first.rest().await.1, 1009);
    drop(second);
    endpoint.until_metric("weir_connections{transport=\"websocket\"} 0").await;
    assert!(Client::open(&endpoint, "", &bearer).await.is_ok());
}

#[tokio::test]
async fn a_key_with_a_rate_gets_no_more_than_that() {
    let endpoint = start(Setup::default()).await;
    // A snapshot is about 250 bytes: one a second is four times too much.
    let limits = KeyLimits { bytes_per_second: Some(60), ..KeyLimits::default() };
    let token = endpoint.key("shop/watcher", &AccessKeySpec { limits: Some(limits), ..watcher() });
    let mut client = Client::with_key(&endpoint, "", &token).await;
    for _ in 0..3 {
        client.next_of("Snapshot").await;
    }
    let metrics = endpoint.services.metrics.encode(Exposition::Prometheus);
    let skipped = metrics.lines().find_map(|l| l.strip_prefix("weir_dropped_records_total{reason=\"rate_limit\"} "));
    assert!(skipped.unwrap().parse::<u64>().unwrap() >= 1, "{metrics}");
}

#[tokio::test]
async fn many_sockets_that_ask_for_the_same_share_every_snapshot() {
    const SOCKETS: u64 = 60;
    let endpoint = start(Setup::default()).await;
    let token = endpoint.key("shop/watcher", &watcher());
    let mut clients = Vec::new();
    for _ in 0..SOCKETS {
        clients.push(Client::with_key(&endpoint, "", &token).await);
    }
    let began = tokio::time::Instant::now();
    let metrics = &endpoint.services.metrics;
    let (encoded, sent) = (metrics.snapshots_encoded.get(), metrics.snapshots_sent.get());
    let mut shown = std::collections::HashSet::new();
    for _ in 0..3 {
        for client in &mut clients {
            shown.insert(client.next_of("Snapshot").await.0.to_string());
        }
    }
    let seconds = began.elapsed().as_secs() + 1;
    let (encoded, sent) = (metrics.snapshots_encoded.get() - encoded, metrics.snapshots_sent.get() - sent);
    assert!(encoded <= seconds, "{encoded} snapshots were encoded in {seconds} s for {SOCKETS} sockets");
    assert!(sent >= 2 * SOCKETS, "{sent} were sent");
    assert!(shown.len() as u64 <= encoded + 2, "{} different ones for {encoded}", shown.len());
}

/// A reading of these assets; each metric's value is the number.
fn reading(names: &[&str], assets: &[&str], second: i64, number: f64) -> Arc<Reading> {
    let head = ReadingHead { names: names.iter().map(|&name| name.to_owned()).collect(), ..ReadingHead::default() };
    let asset = |name: &&str| Asset {
        name: (*name).to_owned(),
        namespace: "shop".into(),
        values: names.iter().map(|_| Some(number)).collect(),
        ..Asset::default()
    };
    Arc::new(Reading::new(head.into(), Time(second * 1_000_000_000), assets.iter().map(asset).collect()))
}

async fn metrics_stream(endpoint: &Endpoint) -> (Located, Client) {
    let located = endpoint.stream_of(Service::Metrics, "shop/cpu", RingLimits::default());
    let client = Client::with_key(endpoint, "?stream=shop/cpu", &endpoint.key("shop/watcher", &watcher())).await;
    (located, client)
}

#[tokio::test]
async fn a_stream_shows_each_reading_of_all_its_assets() {
    let endpoint = start(Setup::default()).await;
    let (located, mut client) = metrics_stream(&endpoint).await;
    located.stream.publish_reading(reading(&["cpu", "memory"], &["cart", "pay"], 60, 1.5));
    let (kind, snapshot) = client.next().await;
    assert_eq!(kind, "Snapshot");
    let expected = json!({"type": "Snapshot", "timestamp": "1970-01-01T00:01:00.000Z", "stream": "shop/cpu", "assets": [
        {"asset": "cart", "namespace": "shop", "metrics": {"cpu": 1.5, "memory": 1.5}},
        {"asset": "pay", "namespace": "shop", "metrics": {"cpu": 1.5, "memory": 1.5}},
    ]});
    assert_eq!(snapshot, expected);
    // Whoever comes later begins with the newest.
    let mut late = Client::with_key(&endpoint, "?stream=shop/cpu", &endpoint.key("shop/late", &watcher())).await;
    assert_eq!(late.next().await.1, expected);
    endpoint.until_metric("weir_readers 2").await;
    drop(late);
    client.say(json!({"metrics": ["memory", "disk"]})).await;
    let told = client.next_of("Error").await.0;
    assert_eq!(told["message"], "Invalid subscription: unknown metric `disk`; there are cpu, memory");
    client.say(json!({"metrics": ["memory"]})).await;
    let chosen = client.next_of("Snapshot").await.0;
    assert_eq!(chosen["assets"][1]["metrics"], json!({"memory": 1.5}));
    located.stream.publish_reading(reading(&["cpu", "memory"], &["cart"], 61, 2.0));
    assert_eq!(client.next_of("Snapshot").await.0["assets"][0]["metrics"], json!({"memory": 2.0}));
    endpoint.until_metric("weir_readers 1").await;
}

#[tokio::test]
async fn the_interval_of_a_stream_only_thins() {
    let endpoint = start(Setup::default()).await;
    let (located, mut client) = metrics_stream(&endpoint).await;
    client.say(json!({"metrics": [], "interval_seconds": 1})).await;
    for number in 0..60 {
        located.stream.publish_reading(reading(&["cpu"], &["cart"], number, number as f64));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut seen = Vec::new();
    while seen.last() != Some(&59.0) {
        seen.push(client.next_of("Snapshot").await.0["assets"][0]["metrics"]["cpu"].as_f64().unwrap());
    }
    // The subscription itself may show again what was there already.
    assert!(seen.len() <= 10, "{seen:?}");
    assert!(seen.windows(2).skip(1).all(|pair| pair[0] < pair[1]), "{seen:?}");
}

#[tokio::test]
async fn names_that_a_stream_turns_out_not_to_have_are_told_with_its_first_reading() {
    let endpoint = start(Setup::default()).await;
    let (located, mut client) = metrics_stream(&endpoint).await;
    client.say(json!({"metrics": ["cpu", "disk"]})).await;
    // Heard before the reading: a broken message is answered behind it.
    client.say(json!({})).await;
    assert!(client.next_of("Error").await.0["message"].as_str().unwrap().contains("missing field"));
    located.stream.publish_reading(reading(&["cpu", "memory"], &["cart"], 60, 1.0));
    let told = client.next_of("Error").await.0;
    assert_eq!(told["message"], "Invalid subscription: unknown metric `disk`; there are cpu, memory");
    let snapshot = client.next_of("Snapshot").await.0;
    assert_eq!(snapshot["assets"][0]["metrics"], json!({"cpu": 1.0, "memory": 1.0}), "all are shown instead");
}

/// A declared stream whose history is kept. What it says is what the test publishes.
fn recorded_stream(endpoint: &Endpoint) -> Located {
    let (declared, name) = (&endpoint.services.declared, StreamName::new("shop", "cpu"));
    let spec = serde_json::from_value(json!({"source": {"podLogs": {"selection": {}}}})).unwrap();
    declared.declare(&name, "uid", Job::new(&spec, RingLimits::default(), Sight::Selected).unwrap()).unwrap();
    declared.record(&name, Some(HistoryPlan::default()));
    let located = Located { service: Service::Metrics, ..declared.catalogue().locate(&name).unwrap() };
    declared.catalogue().insert(name, located.clone());
    located
}

#[tokio::test]
async fn the_past_of_a_stream_is_a_series_for_each_metric_and_asset() {
    let endpoint = start(Setup::default()).await;
    let located = recorded_stream(&endpoint);
    let token = endpoint.key("shop/watcher", &watcher());
    let mut client = Client::with_key(&endpoint, "?stream=shop/cpu", &token).await;
    let now = Time::now().0 / 5_000_000_000 * 5;
    for (ago, number) in [(7200, 1.0), (20, 2.0), (11, 3.0), (10, 4.0), (9, 5.0)] {
        located.stream.publish_reading(reading(&["cpu", "memory"], &["cart", "pay"], now - ago, number));
    }
    endpoint.until_metric("weir_history_points_total{outcome=\"stored\"} 20").await;
    client.next_of("Snapshot").await;
    client.say(json!({"metrics": ["cpu"], "include_history": true})).await;
    let mut told = Vec::new();
    loop {
        match client.next().await {
            (kind, value) if kind == "TimeSeries" => told.push(value),
            (_, value) if told.is_empty() => assert_eq!(value["type"], "Snapshot"),
            _ => break,
        }
    }
    let names: Vec<_> = told.iter().map(|value| (&value["metric_name"], &value["asset"], &value["stream"])).collect();
    let (cpu, stream) = (&json!("cpu"), &json!("shop/cpu"));
    assert_eq!(names, [(cpu, &json!("cart"), stream), (cpu, &json!("pay"), stream)]);
    let values: Vec<_> = told[1]["data_points"].as_array().unwrap().iter().map(|point| &point["value"]).collect();
    assert_eq!(values, [2.0, 3.0, 5.0], "the last hour, the last of each five seconds");
}

#[tokio::test]
async fn a_stream_that_ends_is_told_and_the_socket_closed_in_good_order() {
    let endpoint = start(Setup::default()).await;
    for gate in [true, false] {
        let (located, client) = metrics_stream(&endpoint).await;
        if gate {
            located.gate.close("The subscription was changed; connect again.");
        } else {
            located.stream.end("The subscription was changed; connect again.");
        }
        let (said, code, reason) = client.rest().await;
        assert_eq!((code, reason.as_str()), (1000, "The subscription was changed; connect again."));
        assert_eq!(said, [json!({"type": "Error", "message": reason})]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_client_gets_the_newest_and_what_it_skipped_is_counted() {
    const READINGS: i64 = 150;
    let endpoint = start(Setup::default()).await;
    let located = endpoint.stream_of(
        Service::Metrics,
        "shop/cpu",
        RingLimits { bytes: 256 * 1024 * 1024, ..RingLimits::default() },
    );
    let token = endpoint.key("shop/watcher", &watcher());
    let mut slow = Client::with_key(&endpoint, "?stream=shop/cpu", &token).await;
    let mut quick = Client::with_key(&endpoint, "?stream=shop/cpu", &token).await;
    let names: Vec<String> = (0..4000).map(|number| format!("{number}-{}", "a".repeat(100))).collect();
    let assets: Vec<&str> = names.iter().map(String::as_str).collect();
    for number in 0..READINGS {
        located.stream.publish_reading(reading(&["cpu"], &assets, number, number as f64));
        let value = quick.next_of("Snapshot").await.0;
        assert_eq!(value["assets"][0]["metrics"]["cpu"], number as f64, "the quick one gets each, whoever is slow");
    }
    let encoded = endpoint.services.metrics.snapshots_encoded.get();
    assert_eq!(encoded, READINGS as u64, "each is encoded once, for both");
    let mut seen = Vec::new();
    while seen.last() != Some(&((READINGS - 1) as f64)) {
        seen.push(slow.next_of("Snapshot").await.0["assets"][0]["metrics"]["cpu"].as_f64().unwrap());
    }
    assert!(seen.len() < READINGS as usize, "the slow one got all {}", seen.len());
    let skipped = READINGS as usize - seen.len();
    endpoint.until_metric(&format!("weir_dropped_records_total{{reason=\"superseded\"}} {skipped}")).await;
}
