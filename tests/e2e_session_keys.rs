//! Who gets in, what they see, and how running streams end when their key does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod served;

use serde_json::{Value, json};
use weir::access::{Digest, KeyId, KeyRecord};
use weir::record::Time;

use served::{Cluster, OPERATOR, Served, Socket, log_start, until};

const COUNT: &str = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done";

/// A grant of all logs and signals.
fn everything() -> Value {
    json!([{"services": ["Log", "Signal"], "scopes": ["Cluster"]}])
}

async fn counting(name: &str) -> (Cluster, Served) {
    let cluster = Cluster::new(name).await;
    cluster.run("count", COUNT).await;
    cluster.started("count").await;
    let weir = Served::new(&cluster).await;
    (cluster, weir)
}

fn classic(key: &str, namespace: &str) -> Value {
    json!({"type": "log", "accessKey": key, "scope": "view", "view": "pod", "namespace": namespace, "pod": "count"})
}

#[tokio::test]
async fn a_bad_key_has_one_clear_error_and_closes_the_classic_socket_only() {
    let cluster = Cluster::new("bad-keys").await;
    let weir = Served::new(&cluster).await;
    let past = weir.key("past", json!({"grants": everything(), "expiresAt": "2020-01-01T00:00:00Z"}));
    let suspended = weir.key("suspended", json!({"grants": everything(), "suspend": true}));
    let unknown = "an-unknown-key-of-a-sufficient-length-0123456789";
    for (key, classic_text, channel_text) in [
        (unknown, "not known here", "Invalid API key"),
        ("", "No access key received", "No access key received"),
        ("hunter2-of-old", "too short", "Invalid API key"),
        (&"x".repeat(5000), "too long", "Invalid API key"),
        (&"schlüssel-".repeat(8), "not printable ASCII", "Invalid API key"),
        (&past, "expired at 2020-01-01T00:00:00Z", "expired at 2020-01-01T00:00:00Z"),
        (&suspended, "is suspended", "is suspended"),
    ] {
        let mut socket = weir.connect().await;
        socket.send(classic(key, &cluster.namespace)).await;
        let answer = socket.next().await.unwrap();
        assert_eq!((&answer["type"], &answer["instance"]), (&json!("error"), &json!("")));
        assert!(answer["text"].as_str().unwrap().contains(classic_text), "{answer}");
        let (code, reason) = socket.next().await.unwrap_err();
        assert_eq!(code, 1008, "{reason}");
        assert!(key.is_empty() || !format!("{answer}{reason}").contains(key), "{answer} {reason}");

        for dialect in [json!({"channel": "log"}), json!({"channel": "log", "type": "signal"})] {
            let mut socket = weir.connect().await;
            let mut message = classic(key, &cluster.namespace);
            message.as_object_mut().unwrap().remove("type");
            message.as_object_mut().unwrap().extend(dialect.as_object().unwrap().clone());
            socket.send(message).await;
            let answer = socket.next().await.unwrap();
            assert_eq!((&answer["level"], &answer["instance"]), (&json!("error"), &json!("")));
            assert!(answer["text"].as_str().unwrap().contains(channel_text), "{answer}");
            assert!(key.is_empty() || !answer.to_string().contains(key), "{answer}");
            socket.send(json!({"action": "ping"})).await;
            assert_eq!(socket.next().await.unwrap()["text"], "OK", "the socket lives on");
        }
    }
    weir.stop().await;
}

#[tokio::test]
async fn a_good_key_that_does_not_grant_it_leaves_the_socket_open_in_every_dialect() {
    let cluster = Cluster::new("not-granted").await;
    let weir = Served::new(&cluster).await;
    let key = weir.key(
        "narrow",
        json!({"grants": [{"services": ["Log"], "scopes": ["Filter"], "pods": {"namespaces": ["elsewhere"]}}]}),
    );
    let mut socket = weir.connect().await;
    for message in [
        classic(&key, &cluster.namespace),
        log_start(&key, &cluster.namespace, "count", json!({})),
        json!({"channel": "signal", "accessKey": key, "scope": "view"}),
    ] {
        socket.send(message).await;
        let answer = socket.next().await.unwrap();
        assert!(
            answer["text"].as_str().unwrap().starts_with("Access denied: the access key does not grant"),
            "{answer}"
        );
    }
    weir.stop().await;
}

/// Reads until the stream is cut: the text of the last signal, and the close.
async fn cut(socket: &mut Socket) -> (String, (u16, String)) {
    let mut last = String::new();
    loop {
        match socket.next().await {
            Ok(message) if message["level"] == "error" || message["type"] == "error" => {
                last = message["text"].as_str().unwrap().to_owned();
            }
            Ok(message) => assert_eq!(last, "", "nothing comes after the signal, but {message} did"),
            Err(close) => return (last, close),
        }
    }
}

#[tokio::test]
async fn a_key_that_ends_cuts_its_streams_at_once_and_says_why() {
    let (cluster, weir) = counting("ends").await;
    let grants = everything();
    type Change = fn(&Served, &Value);
    let changes: [(&str, Change, &str); 3] = [
        (
            "suspended",
            |weir, grants| drop(weir.key("ends", json!({"grants": grants, "suspend": true}))),
            "is suspended",
        ),
        ("deleted", |weir, _| drop(weir.keyring.remove(OPERATOR, "ends")), "was deleted"),
        (
            "rotated",
            |weir, grants| {
                let spec = serde_json::from_value(json!({ "grants": grants })).unwrap();
                let digest = Digest::of_presented("another-token-of-a-sufficient-length-0123").unwrap();
                let id = KeyId::new(OPERATOR, "ends");
                weir.keyring.upsert(KeyRecord::new(id, "uid", Time::now(), None, &spec, digest).unwrap());
            },
            "was rotated",
        ),
    ];
    for (what, change, reason) in changes {
        for dialect in ["classic", "channel-4"] {
            weir.keyring.remove(OPERATOR, "ends");
            let key = weir.key("ends", json!({ "grants": grants }));
            let mut socket = weir.connect().await;
            socket
                .start(match dialect {
                    "classic" => classic(&key, &cluster.namespace),
                    _ => log_start(&key, &cluster.namespace, "count", json!({})),
                })
                .await;
            socket.lines_until(|_| true).await;
            change(&weir, &grants);
            let (text, (code, close)) = cut(&mut socket).await;
            assert!(text.contains(reason), "{what}: {text}");
            assert_eq!(code, 1008, "{what}: {close}");
            assert!(!format!("{text}{close}").contains(&key));
        }
    }
    until("all is released", || async { (weir.hub.follows() == 0).then_some(()) }).await;
    weir.stop().await;
}

#[tokio::test]
async fn a_key_expires_on_a_running_stream() {
    let (cluster, weir) = counting("expiry").await;
    let at = chrono::Utc::now() + chrono::TimeDelta::seconds(2);
    let key = weir.key("brief", json!({"grants": everything(), "expiresAt": at.to_rfc3339()}));
    let mut socket = weir.connect().await;
    socket.start(log_start(&key, &cluster.namespace, "count", json!({}))).await;
    socket.lines_until(|_| true).await;
    let (text, (code, _)) = cut(&mut socket).await;
    assert!(text.contains("expired at"), "{text}");
    assert_eq!(code, 1008);
    assert!(chrono::Utc::now() >= at);
    weir.stop().await;
}

#[tokio::test]
async fn a_paused_stream_is_cut_as_well() {
    let (cluster, weir) = counting("paused-cut").await;
    let key = weir.key("held", json!({ "grants": everything() }));
    let mut socket = weir.connect().await;
    let instance = socket.start(log_start(&key, &cluster.namespace, "count", json!({}))).await;
    socket.send(json!({"action": "pause", "channel": "log", "type": "signal", "instance": instance})).await;
    socket.until("the pause", |message| message["action"] == "pause").await;
    weir.keyring.remove(OPERATOR, "held");
    let (text, (code, _)) = cut(&mut socket).await;
    assert!(text.contains("was deleted"), "{text}");
    assert_eq!(code, 1008);
    weir.stop().await;
}

#[tokio::test]
async fn what_a_changed_key_still_grants_goes_on_and_the_rest_is_cut() {
    let (cluster, weir) = counting("changed").await;
    let ns = cluster.namespace.clone();
    let logs = |names: &[&str]| json!({"services": ["Log"], "scopes": ["View"], "pods": {"namespaces": names}});
    let key = weir.key("changes", json!({"grants": [logs(&[&ns, "other"])]}));
    let mut socket = weir.connect().await;
    let instance = socket.start(log_start(&key, &ns, "count", json!({}))).await;
    socket.lines_until(|_| true).await;
    // More of something else, and a limit: what runs is not disturbed.
    let signals = json!({"services": ["Signal"], "scopes": ["View"]});
    weir.key("changes", json!({"grants": [logs(&[&ns, "other"]), signals], "limits": {"streams": 9}}));
    let mut lines = 0;
    socket
        .until("ten more lines", |message| {
            assert_ne!(message["level"], "error", "{message}");
            lines += usize::from(message["type"] == "data");
            lines > 10
        })
        .await;
    for (names, reason) in [(&[&*ns][..], "has changed; start again"), (&["other"], "does not grant")] {
        weir.key("changes", json!({"grants": [logs(names)]}));
        let signal = socket.until("the cut", |message| message["level"] == "error").await;
        assert!(signal["text"].as_str().unwrap().contains(reason), "{signal}");
        if names[0] == ns {
            assert_eq!(signal["instance"], json!(instance));
            // The socket is open, and what is granted now can be had on it.
            socket.start(log_start(&key, &ns, "count", json!({}))).await;
            socket.lines_until(|_| true).await;
        }
    }
    weir.stop().await;
}

#[tokio::test]
async fn connections_and_streams_are_limited_and_given_back() {
    let (cluster, weir) = counting("limits").await;
    let limits = json!({"connections": 2, "streams": 3});
    let key = weir.key("limited", json!({"grants": everything(), "limits": limits}));
    let start = log_start(&key, &cluster.namespace, "count", json!({}));
    let (mut first, mut second) = (weir.connect().await, weir.connect().await);
    let stopped = first.start(start.clone()).await;
    first.start(start.clone()).await;
    second.start(start.clone()).await;
    let refused = |text: &str, message: &Value| {
        assert_eq!(message["level"], "error");
        assert!(message["text"].as_str().unwrap().contains(text), "{message}");
    };
    second.send(start.clone()).await;
    refused("3 streams running", &second.until("a refusal", |message| message["flow"] == "response").await);
    let mut third = weir.connect().await;
    third.send(start.clone()).await;
    refused("2 connections open", &third.next().await.unwrap());
    first.send(json!({"action": "stop", "channel": "log", "type": "signal", "instance": stopped})).await;
    first.until("the stop", |message| message["action"] == "stop").await;
    second.start(start.clone()).await;
    second.0.close(None).await.unwrap();
    let third = tokio::sync::Mutex::new(third);
    until("the connection is given back", || async {
        let mut third = third.lock().await;
        third.send(start.clone()).await;
        let answer = third.until("an answer", |message| message["flow"] == "response").await;
        (answer["level"] != "error").then_some(())
    })
    .await;
    weir.stop().await;
}

#[tokio::test]
async fn a_refused_start_holds_no_connection_of_its_key() {
    let (cluster, weir) = counting("refused-start").await;
    let key = weir.key("single", json!({"grants": everything(), "limits": {"connections": 1}}));
    let mut refused = weir.connect().await;
    refused.send(log_start(&key, &cluster.namespace, "(", json!({}))).await;
    assert_eq!(refused.next().await.unwrap()["level"], "error");
    weir.connect().await.start(log_start(&key, &cluster.namespace, "count", json!({}))).await;
    weir.stop().await;
}

#[tokio::test]
async fn a_rate_is_never_exceeded_by_more_than_a_second_ahead() {
    let cluster = Cluster::new("rate").await;
    cluster.run("many", "for i in $(seq 1 5000); do echo $i; done; sleep 600").await;
    cluster.started("many").await;
    let weir = Served::new(&cluster).await;
    let rate = 200;
    let key = weir.key("slow", json!({"grants": everything(), "limits": {"recordsPerSecond": rate}}));
    let mut socket = weir.connect().await;
    let begin = std::time::Instant::now();
    socket.start(log_start(&key, &cluster.namespace, "many", json!({"fromStart": true}))).await;
    let mut lines = 0;
    while lines < 4 * rate {
        let message = socket.next().await.unwrap();
        if message["type"] == "data" {
            lines += message["text"].as_str().unwrap().lines().count();
            // However slow this machine is, no more may come: a second's worth ahead, and one piece of a second's worth.
            let most = (begin.elapsed().as_secs_f64() + 2.0) * rate as f64;
            assert!(lines as f64 <= most + 1.0, "{lines} lines after {:?}", begin.elapsed());
        }
    }
    weir.stop().await;
}
