//! Socket.IO over real sockets: who is let in, lines without a double or a gap, limits, the protocol's own rules.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::disallowed_methods, reason = "a test's own runtime ends its tasks")]

mod rest;
mod socket_io;

use std::time::Duration;

use rstest::rstest;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use weir::api::{AccessKeySpec, Grant, Service};
use weir::endpoint::services::EndpointOptions;
use weir::endpoint::socket_io::SocketIoOptions;
use weir::record::{Event, Level, Signal, Time};
use weir::stream::{RingLimits, StreamName};
use weir::worker::{Job, Sight};

use rest::{Endpoint, Setup, line, lines, reader, start};
use socket_io::{Client, Way};

const LOGS: &str = "/logs/shop.logs";

async fn with(socket_io: SocketIoOptions) -> Endpoint {
    let options = EndpointOptions { socket_io, ..EndpointOptions::default() };
    start(Setup { options: Some(options), ..Setup::default() }).await
}

async fn endpoint() -> Endpoint {
    start(Setup::default()).await
}

fn ring(records: u64) -> RingLimits {
    RingLimits { records, ..RingLimits::default() }
}

#[rstest]
#[tokio::test]
async fn a_key_decides_who_is_let_into_which_namespace(#[values(Way::WebSocket, Way::Polling)] way: Way) {
    let endpoint = endpoint().await;
    endpoint.stream("shop/logs", ring(10));
    endpoint.stream_of(Service::Metrics, "shop/usage", ring(10));
    let good = endpoint.key("shop/good", &reader());
    let expired = AccessKeySpec { ttl: Some("1s".into()), ..reader() };
    let expired = endpoint.key_since("shop/expired", &expired, Time(0));
    let suspended = endpoint.key("shop/suspended", &AccessKeySpec { suspend: true, ..reader() });
    let narrow = Grant { streams: vec!["other".into()], ..reader().grants[0].clone() };
    let narrow = endpoint.key("shop/narrow", &AccessKeySpec { grants: vec![narrow], ..reader() });
    let foreign = endpoint.key("bank/foreign", &reader());
    let table = [
        (LOGS, json!({}), "Unauthorized"),
        (LOGS, json!({"token": null}), "Unauthorized"),
        (LOGS, json!({"token": 7}), "Unauthorized"),
        (LOGS, json!({"token": "x".repeat(40)}), "Invalid Token"),
        (LOGS, json!({"token": "short"}), "Invalid Token"),
        (LOGS, json!({"token": expired}), "Invalid Token"),
        (LOGS, json!({"token": suspended}), "Invalid Token"),
        (LOGS, json!({"token": narrow}), "No Access"),
        (LOGS, json!({"token": foreign}), "No Access"),
        ("/logs/bank.logs", json!({"token": good}), "No Access"),
        ("/logs/shop.none", json!({"token": good}), "Invalid namespace"),
        ("/logs/shop.usage", json!({"token": good}), "Invalid namespace"),
        ("/logs/no-such-uid", json!({"token": good}), "Invalid namespace"),
        ("/logs/shop.logs/cart-0+web", json!({"token": good}), "Invalid namespace"),
        ("/subscription-commands", json!({"token": good}), "No Access"),
        ("/lab-commands", json!({}), "Unauthorized"),
        ("/status-messages", json!({"token": "x".repeat(40)}), "Invalid Token"),
        ("/nothing", json!({"token": good}), "Invalid namespace"),
        (LOGS, json!({"token": good, "since": "yesterday"}), "Invalid Since"),
    ];
    let mut client = Client::open(&endpoint, way).await;
    for (namespace, auth, expected) in table {
        let answer = client.ask_in(namespace, auth).await;
        assert!(answer.starts_with(&format!("4{namespace},{{\"message\":\"{expected}")), "{namespace}: {answer}");
    }
    client.say("40").await;
    assert_eq!(client.hear().await, r#"4{"message":"Invalid namespace"}"#, "the root is no namespace here");
    for namespace in [LOGS, "/status-messages", "/subscription-updates", "/lab-updates"] {
        client.say(&format!("40{namespace},{}", json!({"token": good}))).await;
        let answer = client.hear().await;
        assert!(answer.starts_with(&format!("0{namespace},")), "{answer}");
        if namespace == LOGS {
            assert_eq!(client.event(LOGS).await, ("backlog".into(), vec![json!([])]), "also when it is empty");
        }
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_come_once_each_across_reconnections_while_others_are_written(
    #[values(Way::WebSocket, Way::Polling)] way: Way,
) {
    const ALL: usize = 20_000;
    let endpoint = endpoint().await;
    let located = endpoint.stream("shop/logs", RingLimits::default());
    let key = endpoint.key("shop/a", &reader());
    let stream = located.stream.clone();
    let writer = tokio::spawn(async move {
        for batch in 0..ALL / 50 {
            stream.publish(lines((0..50).map(|n| format!("line {}", batch * 50 + n))));
            tokio::task::yield_now().await;
        }
    });
    // From the first line on, however much was written before the client came.
    let (mut seen, mut since, mut connections) = (Vec::with_capacity(ALL), json!("7-start"), 0);
    while seen.len() < ALL {
        connections += 1;
        let mut client = Client::open(&endpoint, way).await;
        client.enter(LOGS, json!({"token": key, "ids": true, "since": since})).await;
        let (name, parts) = client.event(LOGS).await;
        assert_eq!(name, "backlog");
        seen.extend(parts[0].as_array().unwrap().iter().map(|line| line.as_str().unwrap().to_owned()));
        since = parts[1].clone();
        let until = ALL.min(ALL * connections / 6);
        while seen.len() < until {
            let (name, parts) = client.event(LOGS).await;
            assert_eq!(name, "data", "{parts:?}");
            seen.push(parts[0].as_str().unwrap().to_owned());
            since = parts[1].clone();
        }
    }
    writer.await.unwrap();
    let expected: Vec<_> = (0..ALL).map(|n| format!("line {n}")).collect();
    assert!(seen == expected, "{} lines, {connections} connections", seen.len());
}

#[tokio::test]
async fn a_backlog_is_bounded_and_what_is_above_comes_as_data() {
    let endpoint = with(SocketIoOptions { backlog_lines: 3, ..SocketIoOptions::default() }).await;
    let located = endpoint.stream("shop/logs", RingLimits::default());
    let key = endpoint.key("shop/a", &reader());
    located.stream.publish(lines((0..10).map(|n| n.to_string())));
    let mut newest = Client::open(&endpoint, Way::WebSocket).await;
    newest.enter(LOGS, json!({"token": key})).await;
    assert_eq!(newest.event(LOGS).await, ("backlog".into(), vec![json!(["7", "8", "9"])]));
    for since in [json!(1), json!("7-1")] {
        let mut client = Client::open(&endpoint, Way::WebSocket).await;
        client.enter(LOGS, json!({"token": key, "since": since, "ids": true})).await;
        assert_eq!(client.event(LOGS).await, ("backlog".into(), vec![json!(["2", "3", "4"]), json!("7-4")]));
        for n in 5..10 {
            let id = format!("7-{n}");
            assert_eq!(client.event(LOGS).await, ("data".into(), vec![json!(n.to_string()), json!(id)]));
        }
    }
    let mut by_time = Client::open(&endpoint, Way::WebSocket).await;
    by_time.enter(LOGS, json!({"token": key, "since": "1970-01-01T00:00:02Z"})).await;
    assert_eq!(by_time.event(LOGS).await, ("backlog".into(), vec![json!([])]), "all lines are of the first second");
    located.stream.publish(line("ä \"quoted\"\u{1e}\u{7}"));
    assert_eq!(by_time.event(LOGS).await, ("data".into(), vec![json!("ä \"quoted\"\u{1e}\u{7}")]));
}

#[rstest]
#[tokio::test]
async fn a_slow_client_is_told_how_much_it_missed_and_holds_no_more_than_its_buffer(
    #[values(Way::WebSocket, Way::Polling)] way: Way,
) {
    const LINES: usize = 20_000;
    // Long enough to fill what the system keeps of a connection.
    let text = |n: usize| format!("{n} {}", "x".repeat(1000));
    let endpoint = endpoint().await;
    let located = endpoint.stream("shop/logs", ring(100));
    let key = endpoint.key("shop/a", &reader());
    let mut client = Client::open(&endpoint, way).await;
    client.enter(LOGS, json!({"token": key})).await;
    assert_eq!(client.event(LOGS).await.0, "backlog");
    for n in 0..LINES {
        located.stream.publish(line(text(n)));
        if n % 10 == 0 {
            tokio::task::yield_now().await;
        }
    }
    let (mut got, mut missed, mut last) = (0, 0, None);
    while got + missed < LINES {
        let (name, parts) = client.event(LOGS).await;
        if name == "signal" {
            assert_eq!(parts[0]["event"], "gap");
            missed += parts[0]["text"].as_str().unwrap().split(' ').next().unwrap().parse::<usize>().unwrap();
        } else {
            let number: usize = parts[0].as_str().unwrap().split(' ').next().unwrap().parse().unwrap();
            assert!(last.is_none_or(|last| number > last), "{number} after {last:?}");
            (got, last) = (got + 1, Some(number));
        }
    }
    assert_eq!(got + missed, LINES);
    assert!(missed > 0, "the ring holds 100 lines, and the client took nothing while {LINES} were written");
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pings_find_a_place_however_busy_the_stream_is(#[values(Way::WebSocket, Way::Polling)] way: Way) {
    let options = SocketIoOptions { ping_every: Duration::from_millis(20), ..SocketIoOptions::default() };
    let endpoint = with(options).await;
    let stream = endpoint.stream("shop/logs", ring(1000)).stream;
    let key = endpoint.key("shop/a", &reader());
    let mut client = Client::open(&endpoint, way).await;
    client.enter(LOGS, json!({"token": key})).await;
    assert_eq!(client.event(LOGS).await.0, "backlog");
    // Faster than anybody reads, so that the session's buffer is always as full as data may make it.
    let writer = tokio::spawn(async move {
        loop {
            stream.publish(lines((0..100).map(|n| n.to_string())));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    while client.pings < 10 {
        let (name, _) = client.event(LOGS).await;
        assert!(name == "data" || name == "signal", "{name}");
    }
    writer.abort();
}

/// `python-engineio` takes 16 packets of one answer, and gives a session up that has more.
#[rstest]
#[case::by_default(SocketIoOptions::default(), 16)]
#[case::as_many_as_are_allowed(SocketIoOptions { poll_packets: 64, ..SocketIoOptions::default() }, 64)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poll_is_answered_with_no_more_packets_than_its_client_takes(
    #[case] options: SocketIoOptions,
    #[case] most: usize,
) {
    const LINES: usize = 5000;
    let endpoint = with(SocketIoOptions { ping_every: Duration::from_millis(20), ..options }).await;
    let stream = endpoint.stream("shop/logs", RingLimits::default()).stream;
    let key = endpoint.key("shop/a", &reader());
    let mut client = Client::open(&endpoint, Way::Polling).await;
    client.enter(LOGS, json!({"token": key})).await;
    assert_eq!(client.event(LOGS).await.0, "backlog");
    let writer = tokio::spawn(async move {
        for first in (0..LINES).step_by(100) {
            stream.publish(lines((first..first + 100).map(|n| n.to_string())));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        std::future::pending::<()>().await;
    });
    for number in 0..LINES {
        assert_eq!(client.event(LOGS).await, ("data".into(), vec![json!(number.to_string())]));
    }
    writer.abort();
    assert!((most / 2..=most).contains(&client.longest), "{} packets in one answer", client.longest);
}

#[tokio::test]
async fn every_end_is_told() {
    let endpoint = endpoint().await;
    let located = endpoint.stream("shop/logs", ring(10));
    let key = endpoint.key("shop/a", &reader());
    let mut client = Client::open(&endpoint, Way::WebSocket).await;
    client.enter(LOGS, json!({"token": key})).await;
    assert_eq!(client.event(LOGS).await.0, "backlog");
    client.enter("/status-messages", json!({"token": key})).await;
    located.gate.close("The subscription was suspended.");
    assert_eq!(client.event(LOGS).await, ("end".into(), vec![json!({"text": "The subscription was suspended."})]));
    assert_eq!(client.hear().await, format!("1{LOGS},"));
    endpoint.key("shop/a", &AccessKeySpec { suspend: true, ..reader() });
    let (name, parts) = client.event("/status-messages").await;
    assert_eq!(name, "end");
    assert!(parts[0]["text"].as_str().unwrap().contains("suspended"), "{parts:?}");
    assert_eq!(client.hear().await, "1/status-messages,");
    let other = endpoint.key("shop/b", &reader());
    client.enter("/status-messages", json!({"token": other})).await;
    endpoint.services.drain.begin();
    let (name, parts) = client.event("/status-messages").await;
    assert_eq!((name.as_str(), &parts[0]["text"]), ("end", &json!("Weir is shutting down; connect again.")));
    assert_eq!(client.hear_or_end().await, None, "the session is closed, so that the client connects again");
}

#[tokio::test]
async fn a_key_that_changes_goes_on_where_it_still_grants_and_is_put_out_where_not() {
    let endpoint = endpoint().await;
    let located = endpoint.stream("shop/logs", ring(10));
    let key = endpoint.key("shop/a", &reader());
    let mut client = Client::open(&endpoint, Way::WebSocket).await;
    client.enter(LOGS, json!({"token": key})).await;
    assert_eq!(client.event(LOGS).await.0, "backlog");
    let named = |name: &str| Grant { streams: vec![name.into()], ..reader().grants[0].clone() };
    endpoint.key("shop/a", &AccessKeySpec { grants: vec![named("logs")], ..reader() });
    located.stream.publish(line("still"));
    assert_eq!(client.event(LOGS).await, ("data".into(), vec![json!("still")]));
    endpoint.key("shop/a", &AccessKeySpec { grants: vec![named("other")], ..reader() });
    assert_eq!(client.event(LOGS).await.0, "end");
    assert_eq!(client.hear().await, format!("1{LOGS},"));
}

#[tokio::test]
async fn a_backlog_that_waits_when_a_session_is_upgraded_comes_all_the_same() {
    let endpoint = endpoint().await;
    let located = endpoint.stream("shop/logs", RingLimits::default());
    let key = endpoint.key("shop/a", &reader());
    located.stream.publish(lines((0..2_000).map(|n| format!("line {n} {}", "x".repeat(100)))));
    let mut client = Client::open(&endpoint, Way::Polling).await;
    client.say(&format!("40{LOGS},{}", json!({ "token": key }))).await;
    // Both the answer and the backlog wait for the poll, and are more than a client may post.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(client.hear().await.starts_with(&format!("0{LOGS},")));
    client.upgrade().await;
    let (name, parts) = client.event(LOGS).await;
    assert_eq!((name.as_str(), parts[0].as_array().unwrap().len()), ("backlog", 2_000));
    located.stream.publish(line("behind"));
    assert_eq!(client.event(LOGS).await, ("data".into(), vec![json!("behind")]));
}

#[tokio::test]
async fn limits_hold() {
    let options = SocketIoOptions {
        namespaces_per_socket: 2,
        sockets: 3,
        sockets_per_key: 3,
        payload_bytes: 2048,
        stall: Duration::from_millis(300),
        ..SocketIoOptions::default()
    };
    let endpoint = with(options).await;
    let key = endpoint.key("shop/a", &reader());
    let auth = || json!({ "token": key });
    let mut first = Client::open(&endpoint, Way::WebSocket).await;
    first.enter("/status-messages", auth()).await;
    first.enter("/lab-updates", auth()).await;
    let answer = first.ask_in("/subscription-updates", auth()).await;
    assert!(answer.contains("Too Many Namespaces"), "{answer}");
    let mut second = Client::open(&endpoint, Way::Polling).await;
    second.enter("/status-messages", auth()).await;
    let answer = second.ask_in("/lab-updates", auth()).await;
    assert!(answer.contains("Too Many Sockets"), "{answer}");
    let handshake = "/socket.io/?EIO=4&transport=polling";
    let third = Client::open(&endpoint, Way::WebSocket).await;
    assert_eq!(endpoint.send("GET", handshake, &[], "").await.status, 503);
    drop(third);
    endpoint.until_metric(r#"weir_connections{transport="socket_io"} 2"#).await;
    let mut third = Client::open(&endpoint, Way::Polling).await;
    // Too much at once ends the session; half of a request is not waited for.
    assert_eq!(endpoint.send("POST", &third.path(), &[], &"x".repeat(4096)).await.status, 413);
    third.ended().await;
    first.say(&format!("42/status-messages,[\"data\",\"{}\"]", "x".repeat(4096))).await;
    first.ended().await;
    let mut half = TcpStream::connect(endpoint.address).await.unwrap();
    let head = format!("POST {} HTTP/1.1\r\nhost: weir\r\ncontent-length: 100\r\n\r\n40/sta", second.path());
    half.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 12];
    half.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, b"HTTP/1.1 408");
    endpoint.until_metric(r#"weir_connections{transport="socket_io"} 1"#).await;
}

#[tokio::test]
async fn a_keys_own_limits_count_each_namespace() {
    let endpoint = endpoint().await;
    endpoint.stream("shop/logs", ring(10));
    let limits = Some(serde_json::from_value(json!({"connections": 2, "streams": 0})).unwrap());
    let key = endpoint.key("shop/a", &AccessKeySpec { limits, ..reader() });
    let mut client = Client::open(&endpoint, Way::WebSocket).await;
    let answer = client.ask_in(LOGS, json!({"token": key})).await;
    assert!(answer.contains("limits.streams"), "{answer}");
    client.enter("/status-messages", json!({"token": key})).await;
    client.enter("/lab-updates", json!({"token": key})).await;
    let answer = client.ask_in("/subscription-updates", json!({"token": key})).await;
    assert!(answer.contains("limits.connections"), "{answer}");
    client.say("41/lab-updates,").await;
    client.enter("/subscription-updates", json!({"token": key})).await;
}

#[rstest]
#[case::no_query("GET", "/socket.io/", 400)]
#[case::old_protocol("GET", "/socket.io/?EIO=3&transport=polling", 400)]
#[case::no_transport("GET", "/socket.io/?EIO=4", 400)]
#[case::unknown_transport("GET", "/socket.io/?EIO=4&transport=carrier-pigeon", 400)]
#[case::unknown_session("GET", "/socket.io/?EIO=4&transport=polling&sid=AAAAAAAAAAAAAAHs", 400)]
#[case::no_session("GET", "/socket.io/?EIO=4&transport=polling&sid=%00", 400)]
#[case::post_without_session("POST", "/socket.io/?EIO=4&transport=polling", 400)]
#[case::other_method("PUT", "/socket.io/?EIO=4&transport=polling", 400)]
#[case::websocket_without_upgrade("GET", "/socket.io/?EIO=4&transport=websocket", 400)]
#[case::beside("GET", "/socket.iox/?EIO=4&transport=polling", 404)]
#[tokio::test]
async fn a_request_that_is_no_engine_io_is_refused(#[case] method: &str, #[case] path: &str, #[case] status: u16) {
    assert_eq!(endpoint().await.send(method, path, &[], "").await.status, status);
}

#[rstest]
#[case::not_a_message("9")]
#[case::open_by_the_client("0{}")]
#[case::unknown_type("49")]
#[case::event_without_payload("42")]
#[case::half_an_event(r#"42/status-messages,["data""#)]
#[case::no_list(r#"42/status-messages,{"a":1}"#)]
#[case::auth_is_no_object(r#"40/status-messages,["token"]"#)]
#[case::connect_error_by_the_client(r#"44{"message":"x"}"#)]
#[case::binary_event_without_count(r#"45["data"]"#)]
#[case::too_many_attachments(r#"459999-["data"]"#)]
#[case::text_where_a_frame_is_due("451-/lab-updates,[\"data\",{\"_placeholder\":true,\"num\":0}]\u{1e}42[\"x\"]")]
#[tokio::test]
async fn a_malformed_packet_ends_the_session(#[case] packets: &str, #[values(Way::WebSocket, Way::Polling)] way: Way) {
    let endpoint = endpoint().await;
    let key = endpoint.key("shop/a", &reader());
    let mut client = Client::open(&endpoint, way).await;
    client.enter("/status-messages", json!({"token": key})).await;
    match way {
        Way::WebSocket => {
            for packet in packets.split('\u{1e}') {
                client.say(packet).await;
            }
        }
        // A payload may be refused as a whole.
        Way::Polling => drop(endpoint.send("POST", &client.path(), &[], packets).await),
    }
    if way == Way::Polling && (packets == "9" || packets.starts_with("0{")) {
        // The engine refuses the request and lets the session go on only where it can be read at all.
        return;
    }
    client.ended().await;
    endpoint.until_metric(r#"weir_connections{transport="socket_io"} 0"#).await;
}

#[tokio::test]
async fn a_binary_frame_that_nobody_waits_for_ends_the_session() {
    let endpoint = endpoint().await;
    let mut client = Client::open(&endpoint, Way::WebSocket).await;
    client.say_bytes(b"\x04data").await;
    client.ended().await;
}

#[tokio::test]
async fn a_session_says_what_it_keeps_to_and_ends_without_pongs_or_namespaces() {
    let usual = endpoint().await;
    let client = Client::open(&usual, Way::Polling).await;
    let opened = &client.opened;
    assert_eq!((&opened["pingInterval"], &opened["pingTimeout"]), (&json!(25_000), &json!(20_000)));
    assert_eq!((&opened["maxPayload"], &opened["upgrades"]), (&json!(100_000), &json!(["websocket"])));
    let short = Duration::from_millis(100);
    let endpoint = with(SocketIoOptions { ping_every: short, ping_timeout: short, ..SocketIoOptions::default() }).await;
    let key = endpoint.key("shop/a", &reader());
    let mut silent = Client::open(&endpoint, Way::WebSocket).await;
    silent.answers = false;
    silent.enter("/status-messages", json!({"token": key})).await;
    silent.ended().await;
    let endpoint = with(SocketIoOptions { outside: short, ..SocketIoOptions::default() }).await;
    let mut lost = Client::open(&endpoint, Way::WebSocket).await;
    lost.ended().await;
}

#[tokio::test]
async fn a_session_goes_on_over_websocket_after_polling() {
    let endpoint = endpoint().await;
    let located = endpoint.stream("shop/logs", ring(10));
    let key = endpoint.key("shop/a", &reader());
    let mut client = Client::open(&endpoint, Way::Polling).await;
    client.enter(LOGS, json!({"token": key})).await;
    assert_eq!(client.event(LOGS).await.0, "backlog");
    client.upgrade().await;
    located.stream.publish(line("over the other way"));
    assert_eq!(client.event(LOGS).await, ("data".into(), vec![json!("over the other way")]));
    assert_eq!(endpoint.get(&client.path(), &key).await.status, 400, "it is polled no more");
}

#[tokio::test]
async fn pages_connect_where_they_are_listed_and_nothing_is_served_where_it_is_switched_off() {
    let options = EndpointOptions { allowed_origins: vec!["https://a.example".into()], ..EndpointOptions::default() };
    let endpoint = start(Setup { options: Some(options), ..Setup::default() }).await;
    let path = "/socket.io/?EIO=4&transport=polling";
    let listed = endpoint.send("GET", path, &[("origin", "https://a.example")], "").await;
    assert_eq!((listed.status, listed.headers["access-control-allow-origin"].as_str()), (200, "https://a.example"));
    let preflight = [("origin", "https://a.example"), ("access-control-request-method", "POST")];
    assert_eq!(endpoint.send("OPTIONS", path, &preflight, "").await.status, 204);
    let other = endpoint.send("GET", path, &[("origin", "https://b.example")], "").await;
    assert_eq!((other.status, other.headers.contains_key("access-control-allow-origin")), (403, false));
    let off = with(SocketIoOptions { enabled: false, ..SocketIoOptions::default() }).await;
    assert_eq!(off.send("GET", path, &[], "").await.status, 404);
}

#[tokio::test]
async fn payloads_are_wrapped_where_that_is_asked_for() {
    let endpoint = with(SocketIoOptions { envelope: true, ..SocketIoOptions::default() }).await;
    let located = endpoint.stream("shop/logs", ring(10));
    let key = endpoint.key("shop/a", &reader());
    let mut client = Client::open(&endpoint, Way::WebSocket).await;
    client.enter(LOGS, json!({"token": key})).await;
    assert_eq!(client.event(LOGS).await, ("backlog".into(), vec![json!({"payload": []})]));
    located.stream.publish(line("x"));
    assert_eq!(client.event(LOGS).await, ("data".into(), vec![json!({"payload": "x"})]));
}

/// Declares a subscription with this UID.
fn declare(endpoint: &Endpoint, namespace: &str, name: &str) -> StreamName {
    let spec = serde_json::from_value(json!({"source": {"podLogs": {"selection": {}}}})).unwrap();
    let job = Job::new(&spec, RingLimits { records: 10, bytes: 1000, age: None }, Sight::Selected).unwrap();
    let (stream, uid) = (StreamName::new(namespace, name), format!("uid-{namespace}-{name}"));
    endpoint.services.declared.note(&stream, &uid, &spec);
    endpoint.services.declared.declare(&stream, &uid, job).unwrap();
    stream
}

#[tokio::test]
async fn status_messages_come_from_signals_and_conditions_that_the_key_may_see() {
    use weir::api::condition::{Status, reason};
    let endpoint = endpoint().await;
    let (seen, hidden) = (declare(&endpoint, "shop", "logs"), declare(&endpoint, "bank", "logs"));
    let key = endpoint.key("shop/a", &reader());
    let mut client = Client::open(&endpoint, Way::WebSocket).await;
    client.enter("/status-messages", json!({"token": key})).await;
    let declared = &endpoint.services.declared;
    for stream in [&hidden, &seen] {
        let signal = Signal::new(Level::Warning, Event::Reconnecting, Time(1_000_000_000), "The connection was lost.");
        declared.catalogue().locate(stream).unwrap().stream.signal(signal);
    }
    let message = status(&mut client, "reconnecting: ").await;
    assert_eq!((&message["content"], &message["severity"]), (&json!("The connection was lost."), &json!(2)));
    assert_eq!(message["timestamp"], "1970-01-01T00:00:01.000Z");
    assert_eq!(message["logContent"], "reconnecting: The connection was lost.");
    assert_eq!(message["id"].as_str().unwrap().len(), 36);
    for stream in [&hidden, &seen] {
        let standing = weir::worker::Standing {
            ready: Status::False,
            stalled: true,
            reason: reason::INVALID,
            message: "spec.source is empty".into(),
        };
        declared.tell(stream, &format!("uid-{}-logs", stream.namespace), standing);
    }
    let message = status(&mut client, "Ready=").await;
    assert_eq!(message["severity"], 3);
    assert_eq!(message["logContent"], "Ready=False (Invalid): spec.source is empty");
}

/// The next status message that begins like this; the subscription may tell others of its pods. All are of one source.
async fn status(client: &mut Client, beginning: &str) -> Value {
    loop {
        let message = client.named("/status-messages", "data").await.remove(0);
        assert_eq!(message["source"], "shop/logs");
        if message["logContent"].as_str().unwrap().starts_with(beginning) {
            return message;
        }
    }
}

#[tokio::test]
async fn updates_name_the_one_subscription_that_changed_or_say_that_several_did() {
    let endpoint = endpoint().await;
    let key = endpoint.key("shop/a", &reader());
    let mut client = Client::open(&endpoint, Way::WebSocket).await;
    client.enter("/lab-updates", json!({"token": key})).await;
    declare(&endpoint, "bank", "logs");
    let stream = declare(&endpoint, "shop", "logs");
    let mut told: Vec<Value> = client.named("/lab-updates", "data").await;
    assert_eq!(told.remove(0), "uid-shop-logs");
    assert_eq!(endpoint.json("/api/v1/subscriptions/uid-shop-logs", &key).await["name"], "logs");
    declare(&endpoint, "shop", "other");
    endpoint.services.declared.delete(&stream, "The subscription was deleted.");
    // What the first one finds in its pods may have been told by itself before.
    loop {
        let told = client.named("/lab-updates", "data").await;
        if told[0] == "" {
            break;
        }
    }
    assert_eq!(endpoint.get("/api/v1/subscriptions/uid-shop-logs", &key).await.status, 404);
}

#[tokio::test]
async fn log_namespaces_come_and_go_with_their_subscription() {
    let endpoint = endpoint().await;
    let key = endpoint.key("shop/a", &reader());
    let mut client = Client::open(&endpoint, Way::WebSocket).await;
    let namespace = "/logs/uid-shop-logs";
    let answer = client.ask_in(namespace, json!({"token": key})).await;
    assert!(answer.contains("Invalid namespace"), "{answer}");
    let stream = declare(&endpoint, "shop", "logs");
    client.enter(namespace, json!({"token": key})).await;
    assert_eq!(client.event(namespace).await.0, "backlog");
    endpoint.services.declared.withdraw(&stream, "The subscription was suspended.");
    assert_eq!(client.named(namespace, "end").await, [json!({"text": "The subscription was suspended."})]);
    assert_eq!(client.hear().await, format!("1{namespace},"));
    let answer = client.ask_in(namespace, json!({"token": key})).await;
    assert!(answer.contains("Invalid namespace"), "{answer}");
}
