//! Numbers of declared streams on the session socket and beside it: three dialects, and who may read what.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::disallowed_methods, reason = "a test's own runtime ends its tasks")]

mod rest;

use std::sync::Arc;

use rstest::rstest;
use serde_json::{Value, json};
use weir::api::{AccessKeySpec, Service};
use weir::record::{Asset, Event, Level, Reading, ReadingHead, Signal, Time};
use weir::stream::{Located, RingLimits};

use rest::socket::{Socket, request, start_of};
use rest::{Endpoint, Setup, start};

const NAMES: [&str; 2] = ["container_memory_usage_bytes", "kwirth_container_cpu_percentage"];

/// A round of numbers of two containers; the second has no value for one of them.
fn reading(round: u32) -> Arc<Reading> {
    let head = ReadingHead {
        names: NAMES.map(str::to_owned).into(),
        namespace: "shop".into(),
        pod: "cart-0".into(),
        ..ReadingHead::default()
    };
    let asset = |container: &str, values| Asset {
        name: format!("cart-0/{container}"),
        namespace: "shop".into(),
        pod: "cart-0".into(),
        container: container.into(),
        values,
        ..Asset::default()
    };
    let assets =
        vec![asset("web", vec![Some(f64::from(round)), Some(0.5)]), asset("side", vec![Some(f64::from(round)), None])];
    Arc::new(Reading::new(Arc::new(head), Time(i64::from(round) * 60_000_000_000), assets))
}

fn numbers(endpoint: &Endpoint) -> Located {
    let located = endpoint.stream_of(Service::Metrics, "shop/numbers", RingLimits::default());
    located.stream.publish_reading(reading(1));
    located
}

fn spec(services: &[&str], scopes: &[&str]) -> AccessKeySpec {
    serde_json::from_value(json!({"grants": [{"services": services, "scopes": scopes}]})).unwrap()
}

fn about_numbers(dialect: &str, key: &str) -> Value {
    match dialect {
        "classic" => json!({"type": "metrics", "name": "shop/numbers", "accessKey": key}),
        "channel-3" => json!({"channel": "metrics", "name": "shop/numbers", "accessKey": key}),
        _ => start_of("metrics", "shop/numbers", key, json!({})),
    }
}

#[rstest]
#[case("channel-4", Some("metricsmessageresponse"))]
#[case("channel-3", None)]
#[tokio::test]
async fn the_newest_round_comes_at_once_without_a_time_and_the_next_with_its_own(
    #[case] dialect: &str,
    #[case] msgtype: Option<&str>,
) {
    let endpoint = start(Setup::default()).await;
    let (key, located) = (endpoint.key("shop/a", &spec(&["Metrics"], &["Stream"])), numbers(&endpoint));
    located.stream.publish_reading(reading(2));
    let mut socket = Socket::open(&endpoint).await;
    let accepted = socket.ask(about_numbers(dialect, &key)).await;
    assert_eq!(accepted["text"], "Instance Config accepted");
    let mut expected = json!({"channel": "metrics", "type": "data", "instance": accepted["instance"],
        "assets": [
            {"assetName": "cart-0/web", "values": [
                {"metricName": NAMES[0], "metricValue": 2}, {"metricName": NAMES[1], "metricValue": 0.5}]},
            {"assetName": "cart-0/side", "values": [{"metricName": NAMES[0], "metricValue": 2}]}],
        "timestamp": 0, "namespace": "shop", "group": "", "pod": "cart-0", "container": ""});
    if let Some(msgtype) = msgtype {
        expected["msgtype"] = json!(msgtype);
        (expected["action"], expected["flow"]) = (json!("none"), json!("unsolicited"));
    }
    assert_eq!(socket.hear().await, expected);
    located.stream.publish_reading(reading(3));
    let next = socket.hear().await;
    assert_eq!((&next["timestamp"], &next["assets"][0]["values"][0]["metricValue"]), (&json!(180_000), &json!(3)));
}

#[tokio::test]
async fn the_classic_dialect_has_a_message_an_asset_read_by_position_with_its_time_from_the_first_on() {
    let endpoint = start(Setup::default()).await;
    let (key, _located) = (endpoint.key("shop/a", &spec(&["Metrics"], &["Stream"])), numbers(&endpoint));
    let mut socket = Socket::open(&endpoint).await;
    let accepted = socket.ask(about_numbers("classic", &key)).await;
    for (container, value) in [("web", json!([1, 0.5])), ("side", json!([1, null]))] {
        let expected = json!({"type": "metrics", "instance": accepted["instance"], "namespace": "shop",
            "podName": "cart-0", "container": container, "asset": format!("cart-0/{container}"), "metrics": NAMES,
            "value": value, "timestamp": "1970-01-01T00:01:00.000000000Z"});
        assert_eq!(socket.hear().await, expected);
    }
}

#[rstest]
#[tokio::test]
async fn a_snapshot_is_one_reading_and_says_that_it_is_over(
    #[values("classic", "channel-3", "channel-4")] dialect: &str,
) {
    let endpoint = start(Setup::default()).await;
    // All that this key may do is to read numbers once.
    let (key, located) = (endpoint.key("shop/a", &spec(&["Metrics"], &["Snapshot"])), numbers(&endpoint));
    let mut socket = Socket::open(&endpoint).await;
    let mut start = about_numbers(dialect, &key);
    if dialect == "classic" {
        start["mode"] = json!("snapshot");
    } else {
        start["data"] = json!({"mode": "snapshot"});
    }
    let accepted = socket.ask(start).await;
    for _ in 0..if dialect == "classic" { 2 } else { 1 } {
        let message = socket.hear().await;
        assert!(message.get("assets").or(message.get("value")).is_some(), "{message}");
    }
    let over = socket.hear().await;
    assert_eq!(over["text"], "The snapshot is complete; the instance ends with it.");
    let level = if dialect == "classic" { "type" } else { "level" };
    assert_eq!(over[level], "info");
    located.stream.publish_reading(reading(2));
    endpoint.until_metric("weir_readers 0").await;
    let stopped = socket.ask_any(request("stop", "metrics", &accepted["instance"])).await;
    assert_eq!(stopped["text"], "Instance not found");
}

#[tokio::test]
async fn numbers_wait_while_paused_and_stop_says_so() {
    let endpoint = start(Setup::default()).await;
    let (key, located) = (endpoint.key("shop/a", &spec(&["Metrics"], &["Stream"])), numbers(&endpoint));
    let mut socket = Socket::open(&endpoint).await;
    let accepted = socket.ask(about_numbers("channel-4", &key)).await;
    let instance = &accepted["instance"];
    assert_eq!(socket.hear().await["timestamp"], 0);
    assert_eq!(socket.ask(request("pause", "metrics", instance)).await["text"], "Metrics paused");
    (2..5).for_each(|round| located.stream.publish_reading(reading(round)));
    assert_eq!(socket.ask_any(request("ping", "metrics", instance)).await["text"], "OK", "nothing comes between");
    assert_eq!(socket.ask_any(request("continue", "metrics", instance)).await["text"], "Metrics continued");
    for round in 2..5 {
        assert_eq!(socket.hear().await["timestamp"], round * 60_000);
    }
    assert_eq!(socket.ask(request("stop", "metrics", instance)).await["text"], "Metrics instance stopped");
}

/// Who may read what of which stream; an empty text is that it runs.
#[rstest]
#[case::numbers(&["Metrics"], &["Stream"], Service::Metrics, "metrics", "")]
#[case::numbers_more(&["Metrics"], &["Cluster"], Service::Metrics, "metrics", "")]
#[case::once_is_not_for_ever(&["Metrics"], &["Snapshot"], Service::Metrics, "metrics", "the scope `stream` of the service `metrics`")]
#[case::lines_are_no_numbers(&["Log"], &["View"], Service::Metrics, "metrics", "the service `metrics`")]
#[case::numbers_are_no_lines(&["Metrics"], &["Stream"], Service::Log, "log", "the service `log`")]
#[case::wrong_channel(&["Log", "Metrics"], &["Cluster"], Service::Metrics, "log", "carries metrics, nothing else")]
#[case::wrong_channel_too(&["Log", "Metrics"], &["Cluster"], Service::Log, "metrics", "carries log, nothing else")]
#[case::signals_of_numbers(&["Signal"], &["View"], Service::Metrics, "signal", "")]
#[case::signals_of_lines(&["Signal"], &["View"], Service::Log, "signal", "")]
#[case::who_reads_sees_signals(&["Metrics"], &["Stream"], Service::Metrics, "signal", "")]
#[case::only_signals(&["Signal"], &["View"], Service::Metrics, "metrics", "the service `metrics`")]
#[case::declared_signals(&["Signal"], &["View"], Service::Signal, "signal", "")]
#[case::declared_signals_by_name(&["Signal"], &["View"], Service::Signal, "subscription", "")]
#[case::numbers_by_name(&["Metrics"], &["Stream"], Service::Metrics, "subscription", "")]
#[case::bytes_by_name(&["Raw"], &["Stream"], Service::Raw, "subscription", "")]
#[case::bytes_as_lines(&["Raw"], &["Stream"], Service::Raw, "log", "")]
#[case::lines_are_no_bytes(&["Log"], &["View"], Service::Raw, "log", "the service `raw`")]
#[case::nothing_by_name(&["Log"], &["View"], Service::Metrics, "subscription", "the service `metrics`")]
#[tokio::test]
async fn a_key_reads_what_its_service_covers(
    #[case] services: &[&str],
    #[case] scopes: &[&str],
    #[case] carried: Service,
    #[case] channel: &str,
    #[case] refusal: &str,
) {
    let endpoint = start(Setup::default()).await;
    let key = endpoint.key("shop/a", &spec(services, scopes));
    let located = endpoint.stream_of(carried, "shop/s", RingLimits::default());
    let mut socket = Socket::open(&endpoint).await;
    let answer = socket.ask(start_of(channel, "shop/s", &key, json!({}))).await;
    assert_eq!(answer["level"] == "error", !refusal.is_empty(), "{answer}");
    assert!(answer["text"].as_str().unwrap().contains(refusal), "{answer}");
    if refusal.is_empty() {
        located.stream.signal(Signal::new(Level::Warning, Event::Restarted, Time(0), "told to all"));
        assert_eq!(socket.hear().await["text"], "told to all");
    }
}

#[rstest]
#[case::numbers(&["Metrics"], &["Stream"], 200, true)]
#[case::once_is_not_for_ever(&["Metrics"], &["Snapshot"], 403, false)]
#[case::lines_are_no_numbers(&["Log"], &["View"], 403, false)]
#[case::signals(&["Signal"], &["View"], 200, false)]
#[tokio::test]
async fn events_and_lines_ask_for_the_same_service(
    #[case] services: &[&str],
    #[case] scopes: &[&str],
    #[case] status: u16,
    #[case] records: bool,
) {
    let endpoint = start(Setup::default()).await;
    let (key, located) = (endpoint.key("shop/a", &spec(services, scopes)), numbers(&endpoint));
    located.stream.signal(Signal::new(Level::Info, Event::Added, Time(0), "hello"));
    located.stream.end("done");
    for path in ["/api/v1/streams/shop/numbers", "/api/v1/streams/shop/numbers/events"] {
        let mut answer = endpoint.get(&format!("{path}?fromStart=true"), &key).await;
        assert_eq!(answer.status, status, "{path}");
        let body = answer.rest().await;
        let value = format!("\"{}\":1", NAMES[0]);
        assert_eq!((body.contains(&value), body.contains("hello")), (records, status == 200), "{path}: {body}");
    }
}

#[tokio::test]
async fn a_key_that_loses_the_service_loses_the_stream() {
    let endpoint = start(Setup::default()).await;
    let (key, located) = (endpoint.key("shop/a", &spec(&["Log", "Metrics"], &["Cluster"])), numbers(&endpoint));
    let mut socket = Socket::open(&endpoint).await;
    socket.ask(about_numbers("channel-4", &key)).await;
    assert_eq!(socket.hear().await["timestamp"], 0);
    endpoint.key("shop/a", &spec(&["Log"], &["Cluster"]));
    let cut = socket.hear().await;
    assert_eq!(cut["level"], "error");
    assert!(cut["text"].as_str().unwrap().contains("does not grant the service `metrics`"), "{cut}");
    located.stream.publish_reading(reading(2));
    assert_eq!(socket.ask_any(request("ping", "metrics", &json!(""))).await["text"], "OK", "nothing comes after it");
}

#[rstest]
#[case(json!({"mode": "film"}), "", "The mode is not known: snapshot or stream.")]
#[case(json!({"mode": "stream"}), "snapshot", "The scope snapshot reads numbers once")]
#[case(json!({}), "view", "the scope is not known: metrics has snapshot, stream or cluster")]
#[tokio::test]
async fn a_start_of_numbers_that_makes_no_sense_is_told_why(
    #[case] data: Value,
    #[case] scope: &str,
    #[case] problem: &str,
) {
    let endpoint = start(Setup::default()).await;
    let (key, _located) = (endpoint.key("shop/a", &spec(&["Metrics"], &["Cluster"])), numbers(&endpoint));
    let mut message = start_of("metrics", "shop/numbers", &key, data);
    message["scope"] = json!(scope);
    let answer = Socket::open(&endpoint).await.ask(message).await;
    assert!(answer["text"].as_str().unwrap().contains(problem), "{answer}");
}

#[tokio::test]
async fn what_is_declared_is_not_modified_by_those_who_read_it() {
    let endpoint = start(Setup::default()).await;
    let (key, located) = (endpoint.key("shop/a", &spec(&["Metrics"], &["Stream"])), numbers(&endpoint));
    let mut socket = Socket::open(&endpoint).await;
    let accepted = socket.ask(about_numbers("channel-4", &key)).await;
    let mut modify = request("modify", "metrics", &accepted["instance"]);
    modify["data"] = json!({"metrics": ["other"], "interval": 5});
    let answer = socket.ask(modify).await;
    assert_eq!((&answer["action"], &answer["level"]), (&json!("modify"), &json!("error")));
    assert!(answer["text"].as_str().unwrap().contains("change its subscription"), "{answer}");
    located.stream.publish_reading(reading(2));
    assert_eq!(socket.until_data().await["timestamp"], 120_000, "it goes on as it was");
}
