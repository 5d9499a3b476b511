//! Declared streams as server-sent events and as lines, over real sockets.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::disallowed_methods, reason = "a test's own runtime ends its tasks")]

mod rest;

use rest::{Setup, line, lines, reader, start};
use std::sync::Arc;
use std::time::{Duration, Instant};
use weir::api::{AccessKeySpec, Grant, Scope, Service};
use weir::endpoint::Drained;
use weir::record::{Event, Level, Signal, Time};
use weir::stream::{Backlog, BacklogItem, BacklogStream, Located, RingLimits, StreamName};

const EVENTS: &str = "/api/v1/streams/shop/logs/events";

#[tokio::test]
async fn records_have_ids_and_the_place_is_told_before_the_first() {
    let endpoint = start(Setup::default()).await;
    let token = endpoint.key("shop/a", &reader());
    let located = endpoint.stream("shop/logs", RingLimits::default());
    let mut answer = endpoint.get(EVENTS, &token).await;
    assert_eq!(answer.headers["content-type"], "text/event-stream; charset=utf-8");
    assert_eq!(answer.piece("\n\n").await.unwrap(), "retry: 2000");
    assert_eq!(answer.piece("\n\n").await.unwrap(), "id: 7-start");
    located.stream.publish(lines(["a".into(), "b \"c\"".into()]));
    located.stream.signal(Signal::new(Level::Info, Event::Added, Time(0), "hello"));
    let record = |id: u8, text: &str| {
        format!(
            r#"id: 7-{id}
data: {{"namespace":"shop","pod":"cart-1","container":"main","time":"1970-01-01T00:00:01.000000000Z","text":"{text}"}}"#
        )
    };
    assert_eq!(answer.piece("\n\n").await.unwrap(), record(0, "a"));
    assert_eq!(answer.piece("\n\n").await.unwrap(), record(1, r#"b \"c\""#));
    let signal = answer.piece("\n\n").await.unwrap();
    assert!(signal.starts_with("event: signal\nid: 7-2\ndata: {\"level\":\"info\",\"event\":\"added\""), "{signal}");
    endpoint.until_metric("weir_readers 1").await;
    drop(answer);
    endpoint.until_metric("weir_readers 0").await;
}

#[tokio::test]
async fn lines_are_whole_json_objects_signals_and_the_end_too() {
    let endpoint = start(Setup::default()).await;
    let token = endpoint.key("shop/a", &reader());
    let located = endpoint.stream("shop/logs", RingLimits::default());
    located.stream.publish(line("a"));
    located.stream.signal(Signal::new(Level::Info, Event::Added, Time(0), "hello"));
    located.stream.end("all \"done\"");
    let mut answer = endpoint.get("/api/v1/streams/shop/logs?fromStart=true", &token).await;
    assert_eq!(answer.headers["content-type"], "application/x-ndjson");
    let body = answer.rest().await;
    let objects: Vec<serde_json::Value> = body.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(objects.len(), 3, "{body}");
    assert_eq!(objects[0]["text"], "a");
    assert_eq!(objects[1]["signal"]["text"], "hello");
    assert_eq!(objects[2]["end"]["text"], "all \"done\"");
}

#[tokio::test]
async fn a_client_that_reconnects_many_times_gets_every_line_once_and_in_order() {
    const LINES: usize = 3000;
    let endpoint = start(Setup::default()).await;
    let token = endpoint.key("shop/a", &reader());
    let located = endpoint.stream("shop/logs", RingLimits::default());
    let stream = Arc::clone(&located.stream);
    let publisher = tokio::spawn(async move {
        let mut next = 0;
        while next < LINES {
            let size = (1 + next % 7).min(LINES - next);
            stream.publish(lines((next..next + size).map(|number| number.to_string())));
            if next % 10 == 0 {
                stream.signal(Signal::new(Level::Info, Event::Added, Time(0), "between"));
            }
            next += size;
            tokio::time::sleep(Duration::from_micros(300)).await;
        }
    });
    let (mut seen, mut last, mut connections) = (0, None::<String>, 0);
    while seen < LINES {
        let path = last.as_ref().map_or(EVENTS.to_owned(), |_| format!("{EVENTS}?tail=50"));
        let (bearer, id) = (format!("Bearer {token}"), last.clone().unwrap_or_default());
        let headers = [("authorization", bearer.as_str()), ("last-event-id", id.as_str())];
        let path = if connections == 0 { format!("{EVENTS}?fromStart") } else { path };
        let mut answer = endpoint.send("GET", &path, &headers, "").await;
        assert_eq!(answer.status, 200);
        connections += 1;
        // Any number of events, none among them: then only the place is known.
        for _ in 0..(connections * 37) % 101 + 1 {
            let event = answer.event().await.unwrap();
            last = event.id.or(last);
            if event.name.is_empty() && !event.data.is_null() {
                assert_eq!(event.data["text"], seen.to_string(), "after {connections} connections");
                seen += 1;
            }
            if seen == LINES {
                break;
            }
        }
    }
    publisher.await.unwrap();
    assert!(connections > 20, "{connections}");
}

#[tokio::test]
async fn a_reader_that_is_behind_the_ring_is_told_how_much_it_missed() {
    let endpoint = start(Setup::default()).await;
    let token = endpoint.key("shop/a", &reader());
    let located = endpoint.stream("shop/logs", RingLimits { records: 10, bytes: 1 << 20, age: None });
    for number in 0..100 {
        located.stream.publish(line(number.to_string()));
    }
    let mut answer = endpoint.get(&format!("{EVENTS}?lastEventId=7-39"), &token).await;
    let gap = answer.named("signal").await;
    assert_eq!(gap.data["event"], "gap");
    assert!(gap.data["text"].as_str().unwrap().starts_with("50 records"), "{gap:?}");
    assert_eq!(answer.named("").await.data["text"], "90");
    endpoint.until_metric("weir_gaps_total 1").await;
    endpoint.until_metric("weir_dropped_records_total{reason=\"reader_behind\"} 50").await;
    let mut other = endpoint.get(&format!("{EVENTS}?lastEventId=6-39"), &token).await;
    assert!(other.named("signal").await.data["text"].as_str().unwrap().contains("started anew"));
}

#[tokio::test]
async fn a_closed_gate_ends_the_response_with_its_reason() {
    let endpoint = start(Setup::default()).await;
    let token = endpoint.key("shop/a", &reader());
    let located = endpoint.stream("shop/logs", RingLimits::default());
    let mut answer = endpoint.get(EVENTS, &token).await;
    located.gate.close("The subscription was deleted.");
    assert_eq!(answer.named("end").await.data["text"], "The subscription was deleted.");
    assert!(answer.event().await.is_none());
}

#[tokio::test]
async fn readers_of_a_key_that_ends_are_told_why_and_cut_within_a_second() {
    let suspended = AccessKeySpec { suspend: true, ..reader() };
    let elsewhere = Grant { streams: vec!["other".into()], ..reader().grants[0].clone() };
    let elsewhere = AccessKeySpec { grants: vec![elsewhere], ..reader() };
    let table: [(&str, Option<&AccessKeySpec>, &str); 3] = [
        ("deleted", None, "deleted"),
        ("suspended", Some(&suspended), "suspended"),
        ("grants", Some(&elsewhere), "does not grant"),
    ];
    let endpoint = start(Setup::default()).await;
    let located = endpoint.stream("shop/logs", RingLimits::default());
    for (name, change, reason) in table {
        let id = format!("shop/{name}");
        let token = endpoint.key(&id, &reader());
        let mut answer = endpoint.get(EVENTS, &token).await;
        located.stream.publish(line("before"));
        answer.named("").await;
        let since = Instant::now();
        match change {
            None => drop(endpoint.services.keyring.remove("shop", name)),
            Some(spec) => drop(endpoint.key(&id, spec)),
        }
        let signal = answer.named("signal").await;
        assert!(signal.data["text"].as_str().unwrap().contains(reason), "{signal:?}");
        assert!(answer.named("end").await.data["text"].as_str().unwrap().contains(reason));
        assert!(answer.event().await.is_none());
        assert!(since.elapsed() < Duration::from_secs(1), "{name}: {:?}", since.elapsed());
    }
}

#[tokio::test]
async fn a_key_that_expires_cuts_its_readers() {
    let endpoint = start(Setup::default()).await;
    endpoint.stream("shop/logs", RingLimits::default());
    let brief = AccessKeySpec { ttl: Some("1s".into()), ..reader() };
    let token = endpoint.key("shop/a", &brief);
    let mut answer = endpoint.get(EVENTS, &token).await;
    assert!(answer.named("end").await.data["text"].as_str().unwrap().contains("expired"));
}

#[tokio::test]
async fn a_changed_key_that_still_grants_the_stream_reads_on() {
    let endpoint = start(Setup::default()).await;
    let token = endpoint.key("shop/a", &reader());
    let located = endpoint.stream("shop/logs", RingLimits::default());
    let mut answer = endpoint.get(EVENTS, &token).await;
    let grant = Grant { streams: vec!["logs".into()], ..reader().grants[0].clone() };
    endpoint.key("shop/a", &AccessKeySpec { grants: vec![grant], ..reader() });
    tokio::time::sleep(Duration::from_millis(50)).await;
    located.stream.publish(line("after"));
    assert_eq!(answer.named("").await.data["text"], "after");
    let signals = Grant { services: vec![Service::Signal], scopes: vec![Scope::View], ..Grant::default() };
    endpoint.key("shop/a", &AccessKeySpec { grants: vec![signals], ..reader() });
    tokio::time::sleep(Duration::from_millis(50)).await;
    located.stream.publish(line("unseen"));
    located.stream.signal(Signal::new(Level::Info, Event::Added, Time(0), "seen"));
    let event = answer.event().await.unwrap();
    assert_eq!((event.name.as_str(), &event.data["text"]), ("signal", &serde_json::json!("seen")));
}

#[tokio::test]
async fn draining_says_farewell_and_is_clean() {
    let mut endpoint = start(Setup::default()).await;
    let token = endpoint.key("shop/a", &reader());
    endpoint.stream("shop/logs", RingLimits::default());
    let mut answer = endpoint.get(EVENTS, &token).await;
    let mut lines = endpoint.get("/api/v1/streams/shop/logs", &token).await;
    endpoint.services.drain.begin();
    assert!(answer.named("end").await.data["text"].as_str().unwrap().contains("shutting down"));
    assert!(lines.rest().await.contains("shutting down"));
    assert!(answer.event().await.is_none());
    assert_eq!((&mut endpoint.running).await.unwrap(), Drained::Clean);
}

#[tokio::test]
async fn tail_and_since_choose_where_a_stream_without_a_past_of_its_own_begins() {
    let endpoint = start(Setup::default()).await;
    let token = endpoint.key("shop/a", &reader());
    let located = endpoint.stream("shop/logs", RingLimits::default());
    located.stream.publish(lines((0..10).map(|number| number.to_string())));
    for (query, first) in [
        ("fromStart=true", "0"),
        ("tail=3", "7"),
        ("tail=1000", "0"),
        ("since=1970-01-01T00:00:00Z", "0"),
        ("lastEventId=7-4", "5"),
        ("lastEventId=7-start", "0"),
    ] {
        let mut answer = endpoint.get(&format!("{EVENTS}?{query}"), &token).await;
        assert_eq!(answer.named("").await.data["text"], first, "{query}");
    }
}

#[tokio::test]
async fn a_limited_key_gets_its_rate_and_no_more_streams_than_its_own() {
    let endpoint = start(Setup::default()).await;
    let limits = weir::api::KeyLimits { streams: Some(1), records_per_second: Some(100), ..Default::default() };
    let token = endpoint.key("shop/a", &AccessKeySpec { limits: Some(limits), ..reader() });
    let located = endpoint.stream("shop/logs", RingLimits::default());
    for number in 0..1000 {
        located.stream.publish(line(number.to_string()));
    }
    let mut answer = endpoint.get(&format!("{EVENTS}?fromStart=true"), &token).await;
    let refused = endpoint.get(EVENTS, &token).await;
    assert_eq!((refused.status, refused.headers["retry-after"].as_str()), (429, "5"));
    let since = Instant::now();
    for number in 0..300 {
        assert_eq!(answer.named("").await.data["text"], number.to_string());
    }
    assert!(since.elapsed() > Duration::from_millis(900), "{:?}", since.elapsed());
    drop(answer);
    endpoint.until_metric("weir_readers 0").await;
    assert_eq!(endpoint.get(EVENTS, &token).await.status, 200);
}

#[tokio::test]
async fn a_batch_larger_than_a_keys_rate_is_sent_in_pieces_of_it() {
    let endpoint = start(Setup::default()).await;
    let limits = weir::api::KeyLimits { records_per_second: Some(100), ..Default::default() };
    let token = endpoint.key("shop/a", &AccessKeySpec { limits: Some(limits), ..reader() });
    let located = endpoint.stream("shop/logs", RingLimits::default());
    located.stream.publish(lines((0..1000).map(|number| number.to_string())));
    let mut answer = endpoint.get("/api/v1/streams/shop/logs?fromStart=true", &token).await;
    // What a second allows and two deliveries, of a quarter of a second each; then one delivery at a time.
    let mut received = 0;
    for most in [150, 25, 25] {
        let piece = String::from_utf8(answer.chunk().await.unwrap().to_vec()).unwrap();
        let count = piece.lines().count();
        assert!((1..=most).contains(&count), "{count} at once where {most} are allowed");
        assert!(piece.starts_with(r#"{"namespace":"shop""#) && piece.contains(&format!(r#""text":"{received}""#)));
        received += count;
    }
    let used = endpoint.services.keyring.authenticate(&token, Time::now()).unwrap().usage().figures().records;
    assert!(used <= received as u64 + 25, "{used} were charged and {received} came");
}

/// 100,000 events a second is the aim for one reader; this holds the order of magnitude where tests are not optimised.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_events_travel_in_few_chunks() {
    const LINES: usize = 100_000;
    let endpoint = start(Setup::default()).await;
    let token = endpoint.key("shop/a", &reader());
    let located = endpoint.stream("shop/logs", RingLimits { records: 1 << 20, bytes: 1 << 30, age: None });
    for start in (0..LINES).step_by(500) {
        located.stream.publish(lines((start..start + 500).map(|number| format!("{number:0>100}"))));
    }
    let since = Instant::now();
    let mut answer = endpoint.get(&format!("{EVENTS}?fromStart=true"), &token).await;
    let (mut events, mut chunks) = (0, 0);
    while events < LINES {
        let chunk = answer.chunk().await.unwrap();
        events += memchr::memmem::find_iter(&chunk, b"\ndata: ").count();
        chunks += 1;
    }
    let rate = events as f64 / since.elapsed().as_secs_f64();
    eprintln!("{rate:.0} events/s in {chunks} chunks");
    assert!(chunks < LINES / 100, "{chunks}");
    assert!(rate > 10_000.0, "{rate:.0} events/s");
}

/// A past of two lines.
#[derive(Debug)]
struct Past;

impl Backlog for Past {
    fn fetch(&self, from: weir::stream::From) -> BacklogStream {
        assert_eq!(from.lines, Some(2));
        let item = BacklogItem::Records(lines(["p0".into(), "p1".into()]));
        Box::pin(futures::stream::iter([item]))
    }
}

#[tokio::test]
async fn the_past_has_no_ids_and_a_client_cut_right_after_it_gets_it_no_second_time() {
    let endpoint = start(Setup::default()).await;
    let token = endpoint.key("shop/a", &reader());
    let located = endpoint.stream("shop/logs", RingLimits::default());
    located.stream.publish(lines((0..3).map(|number| number.to_string())));
    let with_past = Located { backlog: Some(Arc::new(Past)), ..located.clone() };
    endpoint.services.declared.catalogue().insert(StreamName::new("shop", "logs"), with_past);
    let mut answer = endpoint.get(&format!("{EVENTS}?tail=2"), &token).await;
    for text in ["p0", "p1"] {
        let event = answer.event().await.unwrap();
        assert_eq!((event.id, &event.data["text"]), (None, &serde_json::json!(text)));
    }
    let place = answer.event().await.unwrap();
    assert_eq!((place.id.as_deref(), place.data.is_null()), (Some("7-2"), true));
    drop(answer);
    located.stream.publish(line("3"));
    let (bearer, id) = (format!("Bearer {token}"), place.id.unwrap());
    let headers = [("authorization", bearer.as_str()), ("last-event-id", id.as_str())];
    let mut answer = endpoint.send("GET", &format!("{EVENTS}?tail=2"), &headers, "").await;
    let event = answer.named("").await;
    assert_eq!((event.id.as_deref(), &event.data["text"]), (Some("7-3"), &serde_json::json!("3")));
}
