//! History of numbers: recorded from a stream, asked for over REST.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::disallowed_methods, reason = "a test's own runtime ends its tasks")]

mod rest;

use std::sync::{Arc, LazyLock};

use rest::{Endpoint, Setup, reader, start};
use rstest::rstest;
use serde_json::{Value, json};
use weir::api::{AccessKeySpec, Grant, Scope, Service};
use weir::record::{Asset, Reading, ReadingHead, Time};
use weir::stream::series::SeriesKey;
use weir::stream::{LiveStream, RingLimits, StreamName};
use weir::worker::{HistoryConfig, HistoryDisk, HistoryPlan, Job, Sight};

/// The first second of what is published: within the last hour, at the start of a minute.
static START: LazyLock<i64> = LazyLock::new(|| Time::now().0.div_euclid(60_000_000_000) * 60 - 3000);

/// The second so much later.
fn at(second: i64) -> Time {
    Time((*START + second) * 1_000_000_000)
}

/// A question for what is between these seconds.
fn span(from: i64, to: i64) -> String {
    format!("/api/v1/metrics/history?stream=shop/usage&start={}&end={}", at(from).rfc3339(), *START + to)
}

fn metrics_with(scope: Scope) -> AccessKeySpec {
    let grant = Grant { services: vec![Service::Metrics], scopes: vec![scope], ..Grant::default() };
    AccessKeySpec { grants: vec![grant], ..AccessKeySpec::default() }
}

fn usage() -> StreamName {
    StreamName::new("shop", "usage")
}

/// Declares a stream that is recorded. What it says is what the test publishes.
fn declare(endpoint: &Endpoint, uid: &str) -> Arc<LiveStream> {
    declare_as(endpoint, uid, HistoryPlan::default())
}

fn declare_as(endpoint: &Endpoint, uid: &str, plan: HistoryPlan) -> Arc<LiveStream> {
    let spec = serde_json::from_value(json!({"source": {"podLogs": {"selection": {}}}})).unwrap();
    let job = Job::new(&spec, RingLimits::default(), Sight::Selected).unwrap();
    let declared = &endpoint.services.declared;
    declared.declare(&usage(), uid, job).unwrap();
    declared.histories().check(Some(plan)).unwrap();
    declared.record(&usage(), Some(plan));
    declared.catalogue().locate(&usage()).unwrap().stream
}

/// Publishes one round each second: CPU counts up, memory stays; the second asset knows no memory.
fn publish(stream: &LiveStream, seconds: std::ops::Range<i64>) {
    let head = Arc::new(ReadingHead { names: vec!["cpu".into(), "memory".into()], ..ReadingHead::default() });
    for second in seconds {
        let asset = |name: &str, values| Asset { name: name.into(), values, ..Asset::default() };
        let assets =
            vec![asset("cart-0", vec![Some(second as f64), Some(4096.0)]), asset("cart-1", vec![Some(-0.5), None])];
        stream.publish_reading(Arc::new(Reading::new(Arc::clone(&head), at(second), assets)));
    }
}

/// Waits until so many points are recorded.
async fn until_recorded(endpoint: &Endpoint, points: u64) {
    endpoint.until_metric(&format!("weir_history_points_total{{outcome=\"stored\"}} {points}")).await;
}

async fn refused(endpoint: &Endpoint, query: &str, token: &str) -> (u16, String) {
    let mut answer = endpoint.get(&format!("/api/v1/metrics/history?{query}"), token).await;
    let body: Value = serde_json::from_str(&answer.rest().await).unwrap();
    (answer.status, body["error"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn what_a_stream_said_can_be_asked_for_until_its_subscription_is_deleted() {
    let endpoint = start(Setup::default()).await;
    let token = endpoint.key("shop/metrics", &metrics_with(Scope::Stream));
    let stream = declare(&endpoint, "uid-1");
    publish(&stream, 0..10);
    until_recorded(&endpoint, 30).await;
    let path = &format!("{}&name=cpu&asset=cart-0", span(0, 9));
    let whole = json!([{
        "name": "cpu", "asset": "cart-0", "aggregate": "avg", "interval_seconds": 5.0,
        "data_points": [
            {"timestamp": at(0).rfc3339(), "value": 2.0},
            {"timestamp": at(5).rfc3339(), "value": 7.0},
        ],
    }]);
    assert_eq!(endpoint.json(path, &token).await, whole);
    endpoint.services.declared.withdraw(&usage(), "suspended");
    assert_eq!(endpoint.json(path, &token).await, whole, "a suspended subscription keeps its history");
    let stream = declare(&endpoint, "uid-1");
    publish(&stream, 20..21);
    until_recorded(&endpoint, 33).await;
    let answer = endpoint.json(&format!("{}&interval=1m&aggregate=count", span(0, 30)), &token).await;
    let counts: Vec<_> = answer.as_array().unwrap().iter().map(|one| &one["data_points"][0]["value"]).collect();
    assert_eq!(counts, [11.0, 11.0, 11.0], "all series, and before and after the gap is one history");
    endpoint.services.declared.delete(&usage(), "deleted");
    assert_eq!(refused(&endpoint, "stream=shop/usage", &token).await.0, 404);
    declare(&endpoint, "uid-2");
    assert_eq!(endpoint.json("/api/v1/metrics/history?stream=shop/usage", &token).await, json!([]), "another object");
}

#[tokio::test]
async fn an_object_of_the_same_name_does_not_inherit_history() {
    let endpoint = start(Setup::default()).await;
    let token = endpoint.key("shop/metrics", &metrics_with(Scope::Stream));
    publish(&declare(&endpoint, "uid-1"), 0..10);
    until_recorded(&endpoint, 30).await;
    endpoint.services.declared.withdraw(&usage(), "it was deleted while nobody looked");
    declare(&endpoint, "uid-2");
    assert_eq!(endpoint.json(&span(0, 30), &token).await, json!([]));
}

#[tokio::test]
async fn the_servers_own_numbers_are_there_for_any_key_with_metrics() {
    let endpoint = start(Setup::default()).await;
    let token = endpoint.key("shop/least", &metrics_with(Scope::Snapshot));
    let now = Time::now();
    endpoint.services.declared.histories().own().append(&SeriesKey::new("", "made_up"), now, 7.0);
    let answer = endpoint.json("/api/v1/metrics/history?name=made_up", &token).await;
    assert_eq!(
        (&answer[0]["asset"], &answer[0]["data_points"][0]["value"]),
        (&json!(""), &json!(7.0)),
        "the last hour"
    );
    let answer = endpoint.json("/api/v1/metrics/history?name=requests_total&aggregate=last", &token).await;
    assert!(answer[0]["data_points"][0]["value"].is_number(), "what the socket shows is there, too: {answer}");
    let logs = endpoint.key("shop/logs", &reader());
    assert_eq!(refused(&endpoint, "", &logs).await.0, 403);
    assert_eq!(endpoint.send("GET", "/api/v1/metrics/history", &[], "").await.status, 401);
}

#[rstest]
#[case::metric("stream=shop/usage&name=gpu", 404, "there is history of: cpu, memory")]
#[case::asset("stream=shop/usage&asset=cart-2", 404, "there is history of: cart-0, cart-1")]
#[case::stream("stream=shop/none", 404, "/api/v1/subscriptions")]
#[case::not_a_name("stream=usage", 400, "namespace/name")]
#[case::another_namespace("stream=bank/usage", 403, "bank")]
#[case::start("stream=shop/usage&start=yesterday", 400, "2026-11-03T09:30:00Z")]
#[case::nan("stream=shop/usage&end=NaN", 400, "2026-11-03T09:30:00Z")]
#[case::backwards("stream=shop/usage&start=10&end=9", 400, "before the start")]
#[case::interval("stream=shop/usage&interval=-5", 400, "500ms, 30s or 5m")]
#[case::no_interval("stream=shop/usage&interval=0", 400, "500ms, 30s or 5m")]
#[case::aggregate("stream=shop/usage&aggregate=median", 400, "avg, min, max, sum, count, last")]
#[case::too_many("stream=shop/usage&interval=0.5&start=0&end=99999999999", 400, "s fits")]
#[tokio::test]
async fn what_cannot_be_answered_is_refused_with_a_remedy(
    #[case] query: &str,
    #[case] status: u16,
    #[case] remedy: &str,
) {
    let endpoint = start(Setup::default()).await;
    let token = endpoint.key("shop/metrics", &metrics_with(Scope::Stream));
    publish(&declare(&endpoint, "uid-1"), 0..3600);
    until_recorded(&endpoint, 3 * 3600).await;
    let (found, text) = refused(&endpoint, query, &token).await;
    assert_eq!(found, status, "{text}");
    assert!(text.contains(remedy), "{text}");
}

#[tokio::test]
async fn the_least_scope_does_not_read_the_history_of_a_stream() {
    let endpoint = start(Setup::default()).await;
    let token = endpoint.key("shop/least", &metrics_with(Scope::Snapshot));
    declare(&endpoint, "uid-1");
    assert_eq!(refused(&endpoint, "stream=shop/usage", &token).await.0, 403);
}

/// What a subscription with history on disk asks for.
fn on_disk() -> HistoryPlan {
    let spec = json!({"source": {"podMetrics": {}}, "history": {"storage": "Disk", "fsync": "Always"}});
    HistoryPlan::of(&serde_json::from_value(spec).unwrap()).unwrap().unwrap()
}

async fn with_disk(folder: &std::path::Path) -> Endpoint {
    let disk = Some(HistoryDisk { folder: folder.to_owned(), bytes: 100_000_000 });
    start(Setup { history: HistoryConfig { disk, ..HistoryConfig::default() }, ..Setup::default() }).await
}

fn folders(root: &std::path::Path) -> usize {
    std::fs::read_dir(root).unwrap().count()
}

#[tokio::test]
async fn history_on_disk_survives_a_restart_and_goes_with_its_subscription() {
    let root = tempfile::tempdir().unwrap();
    let before = with_disk(root.path()).await;
    publish(&declare_as(&before, "uid-1", on_disk()), 0..10);
    before.until_metric("weir_history_disk_points_total{outcome=\"written\"} 30").await;
    drop(before);
    let endpoint = with_disk(root.path()).await;
    let token = endpoint.key("shop/metrics", &metrics_with(Scope::Stream));
    let stream = declare_as(&endpoint, "uid-1", on_disk());
    publish(&stream, 10..15);
    endpoint.until_metric("weir_history_disk_points_total{outcome=\"written\"} 15").await;
    let path = format!("{}&name=cpu&asset=cart-0&interval=1", span(0, 14));
    let answer = endpoint.json(&path, &token).await;
    let values: Vec<_> = answer[0]["data_points"].as_array().unwrap().iter().map(|p| p["value"].as_f64()).collect();
    assert_eq!(values, (0..15).map(|second| Some(f64::from(second))).collect::<Vec<_>>());
    let declared = &endpoint.services.declared;
    declared.withdraw(&usage(), "suspended");
    declare_as(&endpoint, "uid-1", on_disk());
    declared.record(&usage(), Some(HistoryPlan::default()));
    until(|| folders(root.path()) == 0, "memory alone needs no files").await;
    declare_as(&endpoint, "uid-1", on_disk());
    until(|| folders(root.path()) == 1, "and disk has them again").await;
    assert_eq!(endpoint.json(&path, &token).await, answer, "through all of that it stays the same");
    declared.delete(&usage(), "deleted");
    until(|| folders(root.path()) == 0, "what is deleted leaves nothing").await;
}

async fn until(condition: impl Fn() -> bool, what: &str) {
    let met = async {
        while !condition() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(rest::PATIENCE, met).await.unwrap_or_else(|_| panic!("never: {what}"));
}

#[tokio::test]
async fn without_a_folder_history_on_disk_is_refused_with_what_to_set() {
    let endpoint = start(Setup::default()).await;
    let error = endpoint.services.declared.histories().check(Some(on_disk())).unwrap_err().to_string();
    assert!(error.contains("persistence.enabled") && error.contains("--data-dir"), "{error}");
}

#[test]
fn only_streams_of_numbers_are_recorded_and_their_own_history_counts() {
    let plan = |spec: Value| HistoryPlan::of(&serde_json::from_value(spec).unwrap());
    assert_eq!(plan(json!({"source": {"podLogs": {}}, "history": {"age": "2h"}})).unwrap(), None);
    let usual = plan(json!({"source": {"podMetrics": {}}})).unwrap();
    assert_eq!(usual, Some(HistoryPlan::default()));
    assert_ne!(plan(json!({"source": {"podMetrics": {}}, "history": {"age": "2h"}})).unwrap(), usual);
    assert!(plan(json!({"source": {"podMetrics": {}}, "history": {"age": "2 hours"}})).is_err());
}
