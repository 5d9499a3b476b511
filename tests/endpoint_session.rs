//! The session socket over declared streams, without a cluster.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::disallowed_methods, reason = "a test's own runtime ends its tasks")]

mod rest;

use std::sync::Arc;

use futures::StreamExt as _;
use serde_json::json;
use weir::record::{Batch, Line, Origin, Time};
use weir::stream::{Backlog, BacklogItem, BacklogStream, From, Located, RingLimits, Start, StreamName};

use rest::socket::{Socket, request, start_of};
use rest::{Setup, reader, start};

const COUNT: u32 = 60_000;

/// Numbered lines of one container, five to a millisecond.
fn numbered(numbers: std::ops::Range<u32>) -> Arc<Batch> {
    let origin =
        Origin { namespace: "shop".into(), pod: "cart-0".into(), container: "web".into(), ..Origin::default() };
    let (mut data, mut table) = (Vec::new(), Vec::new());
    for number in numbers {
        let start = data.len();
        data.extend_from_slice(number.to_string().as_bytes());
        table.push(Line::new(start..data.len(), Time(i64::from(number) * 200_000), false));
    }
    Arc::new(Batch::new(Arc::new(origin), data.into(), table))
}

/// What the node keeps: all of it.
#[derive(Debug)]
struct Kept;

impl Backlog for Kept {
    fn fetch(&self, from: From) -> BacklogStream {
        let first = match from.start {
            Start::At(time) => u32::try_from(time.0.max(0) / 200_000).unwrap(),
            _ => 0,
        };
        let starts: Vec<u32> = (first..COUNT).step_by(500).collect();
        let piece = |start: u32| BacklogItem::Records(numbered(start..COUNT.min(start + 500)));
        futures::stream::iter(starts.into_iter().map(piece)).boxed()
    }
}

/// The number and the time, in milliseconds, of the next line.
async fn line(socket: &mut Socket) -> (u32, i64) {
    loop {
        let message = socket.hear().await;
        if message["type"] == "data" {
            let time: jiff::Timestamp = message["timestamp"].as_str().unwrap().parse().unwrap();
            return (message["text"].as_str().unwrap().trim_end().parse().unwrap(), time.as_millisecond());
        }
    }
}

#[rstest::rstest]
#[tokio::test]
async fn what_was_on_its_way_when_the_connection_was_lost_comes_again(#[values(false, true)] kept: bool) {
    let endpoint = start(Setup::default()).await;
    let key = endpoint.key("shop/a", &reader());
    let located = endpoint.stream("shop/logs", RingLimits::default());
    if kept {
        let located = Located { backlog: Some(Arc::new(Kept)), ..located.clone() };
        endpoint.services.declared.catalogue().insert(StreamName::new("shop", "logs"), located);
    }
    let mut socket = Socket::open(&endpoint).await;
    let accepted = socket.ask(start_of("log", "shop/logs", &key, json!({"timestamp": true}))).await;
    for number in (0..COUNT).step_by(500) {
        located.stream.publish(numbered(number..COUNT.min(number + 500)));
    }
    let (mut received, mut last) = (0, 0);
    while received < 777 {
        let (number, time) = line(&mut socket).await;
        assert_eq!(number, received);
        (received, last) = (number + 1, time);
    }
    // Wherever the server is by now, the client has not heard what lies between.
    drop(socket);

    let mut socket = Socket::open(&endpoint).await;
    let answer = socket.reconnect(&accepted, json!({"startTime": last})).await;
    assert_eq!((&answer["text"], &answer["startTime"]), (&json!("Reconnected"), &json!(last)));
    // From the first line of that millisecond on, each once.
    for expected in u32::try_from(last).unwrap() * 5..COUNT {
        let (number, time) = line(&mut socket).await;
        assert_eq!(number, expected);
        assert!(time >= last);
    }
    endpoint.until_metric("weir_dropped_records_total{reason=\"reader_behind\"} 0").await;
}

#[tokio::test]
async fn without_a_time_an_instance_goes_on_behind_what_was_sent_and_says_no_time() {
    let endpoint = start(Setup::default()).await;
    let key = endpoint.key("shop/a", &reader());
    let located = endpoint.stream("shop/logs", RingLimits::default());
    let mut socket = Socket::open(&endpoint).await;
    let accepted = socket.ask(start_of("log", "shop/logs", &key, json!({"timestamp": true}))).await;
    located.stream.publish(numbered(0..3));
    for expected in 0..3 {
        assert_eq!(line(&mut socket).await.0, expected);
    }
    drop(socket);
    let mut socket = Socket::open(&endpoint).await;
    let answer = socket.reconnect(&accepted, json!({})).await;
    assert!(answer.get("startTime").is_none(), "{answer}");
    located.stream.publish(numbered(3..4));
    assert_eq!(line(&mut socket).await.0, 3);
}

#[tokio::test]
async fn an_instance_is_counted_as_a_reader_with_what_it_missed() {
    let endpoint = start(Setup::default()).await;
    let key = endpoint.key("shop/a", &reader());
    let located = endpoint.stream("shop/logs", RingLimits { records: 10, ..RingLimits::default() });
    let mut socket = Socket::open(&endpoint).await;
    let accepted = socket.ask(start_of("log", "shop/logs", &key, json!({"timestamp": true}))).await;
    endpoint.until_metric("weir_readers 1").await;
    let paused = socket.ask(request("pause", "log", &accepted["instance"])).await;
    assert_eq!(paused["text"], "Log paused");
    (0..100).for_each(|number| located.stream.publish(numbered(number..number + 1)));
    socket.say(request("continue", "log", &accepted["instance"])).await;
    assert_eq!(line(&mut socket).await.0, 90);
    endpoint.until_metric("weir_gaps_total 1").await;
    endpoint.until_metric("weir_dropped_records_total{reason=\"reader_behind\"} 90").await;
    socket.ask(request("stop", "log", &accepted["instance"])).await;
    endpoint.until_metric("weir_readers 0").await;
}
