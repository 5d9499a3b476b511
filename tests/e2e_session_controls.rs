//! What a client can do with a running instance: hold it, stop it, take it along to another socket.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod served;

use serde_json::{Value, json};

use served::{Cluster, Served, Socket, log_start, numbers, until};

/// Counts without end, some twenty lines a second.
const COUNT: &str = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done";

async fn counting(name: &str) -> (Cluster, Served, String) {
    let cluster = Cluster::new(name).await;
    cluster.run("count", COUNT).await;
    cluster.started("count").await;
    let weir = Served::new(&cluster).await;
    let key = weir.reader_key();
    (cluster, weir, key)
}

/// An action on an instance, in channel-4.
fn act(action: &str, instance: &str) -> Value {
    json!({"action": action, "flow": "request", "type": "signal", "channel": "log", "instance": instance})
}

/// Sends an action and waits for its answer; the lines that came before it are returned too.
async fn ask(socket: &mut Socket, message: Value) -> (Value, Vec<String>) {
    socket.send(message).await;
    let mut lines = Vec::new();
    let answer = socket
        .until("the answer", |message| {
            if message["type"] == "data" {
                lines.extend(message["text"].as_str().unwrap().lines().map(str::to_owned));
            }
            message["flow"] == "response"
        })
        .await;
    (answer, lines)
}

/// The lines up to `least` of them at least, and all of the last message.
async fn lines(socket: &mut Socket, least: usize) -> Vec<String> {
    let mut lines = Vec::new();
    while lines.len() < least {
        let message = socket.next().await.unwrap();
        if message["type"] == "data" {
            lines.extend(message["text"].as_str().unwrap().lines().map(str::to_owned));
        }
    }
    lines
}

/// Waits until nothing is followed upstream any more.
async fn released(weir: &Served) {
    until("every upstream connection is released", || async {
        (weir.hub.follows() == 0 && weir.services.declared.supervisor().workers() == 0).then_some(())
    })
    .await;
    assert_eq!(weir.metric("weir_upstream_follows"), 0.0);
}

/// Waits until the pod has written a line, seen by another instance than the one under test.
async fn written(weir: &Served, cluster: &Cluster, key: &str, line: &str) {
    let mut other = weir.connect().await;
    other.start(log_start(key, &cluster.namespace, "count", json!({"fromStart": true}))).await;
    other.lines_until(|text| text == line).await;
    other.0.close(None).await.unwrap();
}

#[tokio::test]
async fn a_paused_instance_delivers_what_came_meanwhile() {
    let (cluster, weir, key) = counting("pause").await;
    let mut socket = weir.connect().await;
    let instance = socket.start(log_start(&key, &cluster.namespace, "count", json!({"fromStart": true}))).await;
    let mut counted = lines(&mut socket, 5).await;
    let (answer, more) = ask(&mut socket, act("pause", &instance)).await;
    assert_eq!((&answer["action"], &answer["text"]), (&json!("pause"), &json!("Log paused")));
    counted.extend(more);
    written(&weir, &cluster, &key, "100").await;
    let (pong, silence) = ask(&mut socket, act("ping", &instance)).await;
    assert_eq!(pong["text"], "OK");
    assert_eq!(silence, Vec::<String>::new(), "nothing is delivered while paused");
    let (answer, more) = ask(&mut socket, act("continue", &instance)).await;
    assert_eq!((&answer["action"], &answer["text"]), (&json!("continue"), &json!("Log continued")));
    counted.extend(more);
    counted.extend(lines(&mut socket, 130).await);
    assert!(counted.len() > 130);
    assert_eq!(counted, numbers(1, counted.len() as u32));
    weir.stop().await;
}

#[tokio::test]
async fn stop_releases_everything_and_a_second_stop_finds_nothing() {
    let (cluster, weir, key) = counting("stop").await;
    let mut socket = weir.connect().await;
    let instance = socket.start(log_start(&key, &cluster.namespace, "count", json!({"fromStart": true}))).await;
    socket.lines_until(|line| line == "5").await;
    assert_eq!((weir.hub.follows(), weir.metric("weir_upstream_follows")), (1, 1.0));
    let (answer, _) = ask(&mut socket, act("stop", &instance)).await;
    let expected = json!({"action": "stop", "flow": "response", "type": "signal", "channel": "log",
        "instance": instance, "level": "info", "text": "Log instance stopped"});
    assert_eq!(answer, expected);
    released(&weir).await;
    let (answer, lines) = ask(&mut socket, act("stop", &instance)).await;
    assert_eq!((&answer["level"], &answer["text"]), (&json!("error"), &json!("Instance not found")));
    assert_eq!(answer["instance"], json!(instance));
    assert_eq!(lines, Vec::<String>::new(), "nothing comes after the stop");
    weir.stop().await;
}

#[tokio::test]
async fn stop_in_the_classic_dialect_answers_in_its_words() {
    let (cluster, weir, key) = counting("stop-classic").await;
    let mut socket = weir.connect().await;
    let start = json!({"type": "log", "accessKey": key, "scope": "view", "view": "pod", "pod": "count",
        "namespace": cluster.namespace});
    let instance = socket.start(start).await;
    socket.lines_until(|_| true).await;
    let stop = json!({"action": "stop", "flow": "request", "type": "log", "instance": instance});
    socket.send(stop.clone()).await;
    let answer = socket.until("the answer", |message| message["flow"] == "response").await;
    assert_eq!((&answer["action"], &answer["instance"]), (&json!("stop"), &json!(instance)));
    released(&weir).await;
    socket.send(stop).await;
    let answer = socket.next().await.unwrap();
    assert_eq!((&answer["type"], &answer["text"]), (&json!("error"), &json!("Instance not found")));
    weir.stop().await;
}

#[tokio::test]
async fn a_closed_and_a_lost_socket_release_everything() {
    let cluster = Cluster::new("release").await;
    cluster.run("count", COUNT).await;
    cluster.started("count").await;
    let options = weir::endpoint::services::EndpointOptions {
        reconnect_within: std::time::Duration::from_millis(200),
        ..Default::default()
    };
    let weir = Served::with(&cluster, options, Default::default(), Default::default()).await;
    let key = weir.reader_key();
    for clean in [true, false] {
        let mut socket = weir.connect().await;
        socket.start(log_start(&key, &cluster.namespace, "count", json!({}))).await;
        socket.lines_until(|_| true).await;
        assert_eq!(weir.hub.follows(), 1);
        if clean {
            socket.0.close(None).await.unwrap();
        }
        drop(socket);
        released(&weir).await;
    }
    weir.stop().await;
}

#[tokio::test]
async fn ping_is_answered_and_modify_is_refused_clearly() {
    let (cluster, weir, key) = counting("ping").await;
    let mut socket = weir.connect().await;
    let (pong, _) = ask(&mut socket, json!({"action": "ping", "flow": "request", "channel": "log"})).await;
    assert_eq!((&pong["action"], &pong["type"], &pong["text"]), (&json!("ping"), &json!("signal"), &json!("OK")));
    let instance = socket.start(log_start(&key, &cluster.namespace, "count", json!({}))).await;
    let (answer, _) = ask(&mut socket, act("modify", &instance)).await;
    assert_eq!((&answer["action"], &answer["level"]), (&json!("modify"), &json!("error")));
    assert!(answer["text"].as_str().unwrap().contains("cannot be modified"), "{answer}");
    socket.lines_until(|_| true).await;
    weir.stop().await;
}

/// Starts, reads some lines, and loses the connection without a close.
async fn lost(weir: &Served, cluster: &Cluster, key: &str) -> (String, String, Vec<String>) {
    let mut socket = weir.connect().await;
    socket.send(log_start(key, &cluster.namespace, "count", json!({"fromStart": true}))).await;
    let accepted = socket.next().await.unwrap();
    let (instance, proof) = (accepted["instance"].as_str().unwrap(), accepted["reconnectKey"].as_str().unwrap());
    // Held, so that no line is on its way when the connection goes.
    let mut counted = lines(&mut socket, 5).await;
    counted.extend(ask(&mut socket, act("pause", instance)).await.1);
    (instance.to_owned(), proof.to_owned(), counted)
}

/// Reconnects as soon as the server has noticed that the old connection is gone.
async fn reconnect(socket: &mut Socket, instance: &str, field: &str, proof: &str) -> Value {
    let mut message = act("reconnect", instance);
    message[field] = json!(proof);
    let socket = tokio::sync::Mutex::new(socket);
    until("the instance waits", || async {
        let (answer, _) = ask(*socket.lock().await, message.clone()).await;
        (answer["level"] != "error").then_some(answer)
    })
    .await
}

#[tokio::test]
async fn a_lost_instance_goes_on_where_it_was_on_another_socket() {
    let (cluster, weir, key) = counting("reconnect").await;
    for field in ["reconnectKey", "accessKey"] {
        let (instance, proof, mut counted) = lost(&weir, &cluster, &key).await;
        let proof = if field == "accessKey" { &key } else { &proof };
        let mut socket = weir.connect().await;
        let answer = reconnect(&mut socket, &instance, field, proof).await;
        assert_eq!((&answer["action"], &answer["instance"]), (&json!("reconnect"), &json!(instance)));
        counted.extend(ask(&mut socket, act("continue", &instance)).await.1);
        counted.extend(lines(&mut socket, 40).await);
        assert_eq!(counted, numbers(1, counted.len() as u32), "with {field}");
    }
    weir.stop().await;
}

#[tokio::test]
async fn what_was_on_its_way_to_a_lost_socket_comes_again_from_the_time_of_the_last_line() {
    let cluster = Cluster::new("rewind").await;
    cluster.run("count", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); echo $i; done; sleep 600").await;
    cluster.started("count").await;
    let weir = Served::new(&cluster).await;
    let key = weir.reader_key();
    let mut socket = weir.connect().await;
    let data = json!({"fromStart": true, "timestamp": true});
    socket.send(log_start(&key, &cluster.namespace, "count", data)).await;
    let accepted = socket.until("the answer", |message| message["flow"] == "response").await;
    let millis = |message: &Value| {
        let time: jiff::Timestamp = message["timestamp"].as_str().unwrap().parse().unwrap();
        time.as_millisecond()
    };
    let number = |message: &Value| message["text"].as_str().unwrap().trim_end().parse::<u32>().unwrap();
    let is_data = |message: &Value| message["type"] == "data";
    let last = socket.until("line 2000", |message| is_data(message) && number(message) == 2000).await;
    drop(socket);

    let mut socket = weir.connect().await;
    let mut message = act("reconnect", accepted["instance"].as_str().unwrap());
    message["reconnectKey"] = accepted["reconnectKey"].clone();
    message["data"] = json!({"startTime": millis(&last)});
    let answer = loop {
        let (answer, _) = ask(&mut socket, message.clone()).await;
        if answer["level"] != "error" {
            break answer;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    assert_eq!(answer["startTime"], json!(millis(&last)));
    let mut next = None;
    while next != Some(20_001) {
        let line = socket.until("a line", is_data).await;
        assert!(millis(&line) >= millis(&last), "older than was asked for: {line}");
        assert!(next.map_or(number(&line) <= 2001, |next| number(&line) == next), "{next:?}: {line}");
        next = Some(number(&line) + 1);
    }
    weir.stop().await;
}

#[tokio::test]
async fn a_lost_instance_is_given_to_nobody_else() {
    let (cluster, weir, key) = counting("imposter").await;
    let other = weir.key("other", json!({"grants": [{"services": ["Log"], "scopes": ["Cluster"]}]}));
    let (instance, proof, _) = lost(&weir, &cluster, &key).await;
    let mut socket = weir.connect().await;
    for (field, wrong) in
        [("reconnectKey", "wrong"), ("accessKey", &*other), ("accessKey", ""), ("reconnectKey", &*instance)]
    {
        let mut message = act("reconnect", &instance);
        message[field] = json!(wrong);
        let (answer, _) = ask(&mut socket, message).await;
        assert_eq!(answer["level"], "error");
        assert!(answer["text"].as_str().unwrap().starts_with("Instance not found"), "{answer}");
    }
    reconnect(&mut socket, &instance, "reconnectKey", &proof).await;
    let (answer, _) = ask(&mut weir.connect().await, {
        let mut message = act("reconnect", &instance);
        message["reconnectKey"] = json!(proof);
        message
    })
    .await;
    assert_eq!(answer["level"], "error", "it is taken");
    weir.stop().await;
}

#[tokio::test]
async fn after_a_clean_close_nothing_waits() {
    let (cluster, weir, key) = counting("clean").await;
    let mut socket = weir.connect().await;
    socket.send(log_start(&key, &cluster.namespace, "count", json!({}))).await;
    let accepted = socket.next().await.unwrap();
    socket.lines_until(|_| true).await;
    socket.0.close(None).await.unwrap();
    released(&weir).await;
    let mut message = act("reconnect", accepted["instance"].as_str().unwrap());
    message["reconnectKey"] = accepted["reconnectKey"].clone();
    let (answer, _) = ask(&mut weir.connect().await, message).await;
    assert!(answer["text"].as_str().unwrap().starts_with("Instance not found"), "{answer}");
    weir.stop().await;
}

#[tokio::test]
async fn coming_back_counts_under_the_limits_of_the_key() {
    let (cluster, weir, _) = counting("back-limits").await;
    let grants = json!([{"services": ["Log"], "scopes": ["Cluster"]}]);
    let key = weir.key("one", json!({"grants": grants, "limits": {"connections": 1}}));
    let (instance, proof, _) = lost(&weir, &cluster, &key).await;
    let mut first = weir.connect().await;
    reconnect(&mut first, &instance, "reconnectKey", &proof).await;
    let mut second = weir.connect().await;
    second.send(log_start(&key, &cluster.namespace, "count", json!({}))).await;
    let answer = second.next().await.unwrap();
    assert!(answer["text"].as_str().unwrap().contains("1 connections open, its limit"), "{answer}");
    weir.stop().await;
}

#[tokio::test]
async fn several_instances_on_one_socket_are_independent() {
    let (cluster, weir, key) = counting("several").await;
    cluster.run("other", "for i in $(seq 1 20); do echo other $i; done; sleep 600").await;
    cluster.started("other").await;
    let mut socket = weir.connect().await;
    let ns = &cluster.namespace;
    let count = socket.start(log_start(&key, ns, "count", json!({"fromStart": true}))).await;
    let mut classic = json!({"type": "log", "accessKey": key, "scope": "view", "pod": "other", "maxMessages": 20});
    classic["namespace"] = json!(ns);
    socket.send(classic).await;
    let (mut counted, mut others, mut other) = (Vec::new(), Vec::new(), String::new());
    while counted.len() < 60 || others.len() < 20 {
        let message = socket.next().await.unwrap();
        if message["flow"] == "response" {
            other = message["instance"].as_str().unwrap().to_owned();
        } else if message["type"] == "log" {
            assert_eq!((&message["instance"], &message["podName"]), (&json!(other), &json!("other")));
            others.push(message["text"].as_str().unwrap().to_owned());
        } else if message["type"] == "data" {
            assert_eq!((&message["instance"], &message["pod"]), (&json!(count), &json!("count")));
            counted.extend(message["text"].as_str().unwrap().lines().map(str::to_owned));
        }
    }
    assert_eq!(counted, numbers(1, counted.len() as u32));
    assert_eq!(others, (1..=20).map(|n| format!("other {n}")).collect::<Vec<_>>());
    let (answer, _) = ask(&mut socket, act("stop", &count)).await;
    assert_eq!(answer["text"], "Log instance stopped");
    until("one follow is left", || async { (weir.hub.follows() == 1).then_some(()) }).await;
    weir.stop().await;
}
