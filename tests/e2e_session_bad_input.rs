//! What no client should send, over a real socket: one answer each, and the socket lives on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod served;

use futures::SinkExt;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use served::{Cluster, Served, Socket};

/// The one answer to what was sent: whatever else was answered stands before the pong and fails.
async fn the_answer(socket: &mut Socket, message: Message) -> Value {
    socket.0.send(message).await.unwrap();
    let answer = socket.next().await.unwrap();
    socket.send(json!({"action": "ping", "channel": "log", "type": "signal", "instance": "after"})).await;
    let pong = socket.next().await.unwrap();
    assert_eq!((&pong["action"], &pong["text"], &pong["instance"]), (&json!("ping"), &json!("OK"), &json!("after")));
    answer
}

/// A channel-4 start with one field changed.
fn start(key: &str, field: &str, value: Value) -> Value {
    let mut message = served::log_start(key, "nowhere", "nothing", json!({}));
    message[field] = value;
    message
}

#[tokio::test]
async fn every_malformed_message_has_one_answer_and_the_socket_lives_on() {
    let cluster = Cluster::new("malformed").await;
    let weir = Served::new(&cluster).await;
    let key = weir.reader_key();
    let mut socket = weir.connect().await;
    let option = |field: &str, value: Value| start(&key, "data", json!({ field: value })).to_string();
    let with = |field: &str, value: Value| start(&key, field, value).to_string();
    let long = "x".repeat(40);
    for (message, expected) in [
        (String::new(), "not JSON"),
        ("hello".into(), "not JSON"),
        ("{\"action\":\"start\"".into(), "not JSON"),
        ("[{\"action\":\"start\"}]".into(), "not a JSON object"),
        ("null".into(), "not a JSON object"),
        ("{".repeat(30_000), "not JSON"),
        ("{}".into(), "No access key received"),
        (json!({"accessKey": key}).to_string(), "Unknown channel \"\""),
        (json!({"channel": "weather", "type": "signal", "accessKey": key}).to_string(), "Unknown channel \"weather\""),
        (json!({"channel": long, "type": "signal", "accessKey": key}).to_string(), "Unknown channel"),
        (json!({"channel": "ops", "type": "signal", "accessKey": key}).to_string(), "does not operate workloads"),
        (
            json!({"channel": "metrics", "type": "signal", "accessKey": key}).to_string(),
            "no scope was asked for: metrics",
        ),
        (with("type", json!("banana")), "Unknown type \"banana\""),
        (with("action", json!("dance")), "Unknown action \"dance\""),
        (with("action", json!(5)), "\"action\" must be a string"),
        (with("flow", json!("response")), "\"flow\""),
        (with("accessKey", json!({"id": "x"})), "\"accessKey\" must be a string"),
        (with("namespace", json!(5)), "\"namespace\""),
        (with("namespace", json!("a,".repeat(300))), "more than 256 items"),
        (with("namespace", json!("(")), "not a regular expression"),
        (with("pod", json!("*")), "not a regular expression"),
        (with("pod", json!("a{1000}{1000}{1000}")), "too big"),
        (with("container", json!("[")), "not a regular expression"),
        (with("group", json!("robot+x")), "not a type of group"),
        (with("view", json!("bird")), "view is not known"),
        (with("scope", json!("")), "no scope was asked for"),
        (with("scope", json!("root")), "scope is not known"),
        (with("objects", json!("nodes")), "pods or events"),
        (with("labelSelector", json!("app in (a)")), "label selector"),
        (with("data", json!([])), "\"data\" must be an object"),
        (option("maxMessages", json!(-1)), "\"maxMessages\""),
        (option("maxMessages", json!("x")), "\"maxMessages\""),
        (option("startTime", json!("now")), "\"startTime\""),
        (option("timestamp", json!("yes")), "\"timestamp\""),
        (option("include", json!(["("])), "filter does not compile"),
        (option("exclude", json!(["a{1000}{1000}{1000}"])), "filter does not compile"),
        (
            json!({"channel": "alert", "type": "signal", "accessKey": key, "scope": "view"}).to_string(),
            "needs patterns",
        ),
        (
            json!({"channel": "alert", "type": "signal", "accessKey": key, "scope": "view",
                   "data": {"regexError": ["("]}})
            .to_string(),
            "pattern of the alert",
        ),
        (json!({"type": "subscription", "scope": "view", "accessKey": key}).to_string(), "by its name"),
        (json!({"type": "subscription", "name": "x", "accessKey": key}).to_string(), "namespace/name"),
        (json!({"type": "subscription", "name": "a/b", "accessKey": key}).to_string(), "does not stream now"),
        (json!({"type": "weather", "accessKey": key}).to_string(), "Unknown type \"weather\""),
        (json!({"type": "log", "accessKey": key}).to_string(), "no scope was asked for"),
        (json!({"action": "stop", "type": "log", "instance": "none"}).to_string(), "Instance not found"),
        (json!({"action": "reconnect", "channel": "log", "instance": "none"}).to_string(), "Instance not found"),
    ] {
        let answer = the_answer(&mut socket, Message::text(message.clone())).await;
        let text = answer["text"].as_str().unwrap_or_default();
        let shown: String = message.chars().take(200).collect();
        assert!(text.contains(expected), "{shown} was answered with {answer}");
        assert!(answer["level"] == "error" || answer["type"] == "error", "{answer}");
        assert!(!answer.to_string().contains(&key), "{answer}");
    }
    assert_eq!(weir.services.declared.supervisor().workers(), 0);
    weir.stop().await;
}

#[tokio::test]
async fn a_binary_message_is_refused_and_the_socket_lives_on() {
    let cluster = Cluster::new("binary").await;
    let weir = Served::new(&cluster).await;
    let mut socket = weir.connect().await;
    for bytes in [vec![], vec![0xff; 100], json!({"action": "ping"}).to_string().into_bytes()] {
        let answer = the_answer(&mut socket, Message::binary(bytes)).await;
        assert_eq!(answer["level"], "error");
        assert!(answer["text"].as_str().unwrap().contains("Binary"), "{answer}");
    }
    weir.stop().await;
}

#[tokio::test]
async fn a_message_over_the_limit_closes_the_socket_with_1009() {
    let cluster = Cluster::new("oversize").await;
    let weir = Served::new(&cluster).await;
    let mut socket = weir.connect().await;
    let limit = weir.services.options.socket.message_bytes;
    let fits = format!("{{\"action\":\"ping\",\"pad\":\"{}\"}}", "x".repeat(limit - 100));
    assert_eq!(the_answer(&mut socket, Message::text(fits)).await["text"], "OK");
    // The connection may be reset while the rest of the message is still being written.
    let _ = socket.0.send(Message::text("x".repeat(limit + 1))).await;
    let (code, reason) = socket.next().await.unwrap_err();
    assert_eq!(code, 1009);
    assert!(reason.contains("too big"), "{reason}");
    weir.stop().await;
}

#[tokio::test]
async fn a_bad_message_leaves_running_instances_alone() {
    let cluster = Cluster::new("bystander").await;
    let weir = Served::new(&cluster).await;
    cluster.run("count", "i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done").await;
    cluster.started("count").await;
    let key = weir.reader_key();
    let mut socket = weir.connect().await;
    socket.start(served::log_start(&key, &cluster.namespace, "count", json!({"fromStart": true}))).await;
    for text in ["", "{}", "[]", "{\"type\":5}"] {
        socket.send_text(text).await;
    }
    let lines = socket.lines_until(|line| line == "60").await;
    assert_eq!(lines, served::numbers(1, 60));
    weir.stop().await;
}

#[tokio::test]
async fn numbers_beyond_all_reason_mean_everything() {
    let cluster = Cluster::new("huge").await;
    let weir = Served::new(&cluster).await;
    cluster.run("count", "for i in $(seq 1 30); do echo $i; done; sleep 600").await;
    cluster.started("count").await;
    let key = weir.reader_key();
    for most in [json!(u64::MAX), json!(1e300), json!(i64::MAX)] {
        let mut socket = weir.connect().await;
        let data = json!({ "maxMessages": most });
        socket.start(served::log_start(&key, &cluster.namespace, "count", data)).await;
        assert_eq!(socket.lines_until(|line| line == "30").await, served::numbers(1, 30));
    }
    weir.stop().await;
}
