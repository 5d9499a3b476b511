//! What was written before the start, and what of it is wanted: backlog, times, earlier runs, filters, alerts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod served;

use serde_json::{Value, json};

use served::{Cluster, Served, Socket, log_start, numbers, until};

async fn running(name: &str, script: &str, restart: &str) -> (Cluster, Served, String) {
    let cluster = Cluster::new(name).await;
    cluster.run_pod("writer", json!({}), &[("main", script)], restart).await;
    cluster.started("writer").await;
    let weir = Served::new(&cluster).await;
    let key = weir.reader_key();
    (cluster, weir, key)
}

async fn read(weir: &Served, key: &str, cluster: &Cluster, data: Value, last: &str) -> Vec<String> {
    let mut socket = weir.connect().await;
    socket.start(log_start(key, &cluster.namespace, "writer", data)).await;
    socket.lines_until(|line| line == last).await
}

#[tokio::test]
async fn the_backlog_is_as_long_as_asked_for() {
    let script = "for i in $(seq 1 100); do echo $i; done; sleep 600";
    let (cluster, weir, key) = running("backlog", script, "Never").await;
    assert_eq!(read(&weir, &key, &cluster, json!({"fromStart": true}), "100").await, numbers(1, 100));
    assert_eq!(read(&weir, &key, &cluster, json!({"maxMessages": 100}), "100").await, numbers(1, 100));
    assert_eq!(read(&weir, &key, &cluster, json!({"maxMessages": 7}), "100").await, numbers(94, 100));
    assert_eq!(
        read(&weir, &key, &cluster, json!({"fromStart": true, "maxMessages": 7}), "100").await,
        numbers(94, 100)
    );
    weir.stop().await;
}

#[tokio::test]
async fn a_log_is_read_from_a_time_on_to_the_line() {
    let script = "for i in $(seq 1 60); do echo $i; sleep 0.05; done; sleep 600";
    let (cluster, weir, key) = running("since", script, "Never").await;
    let mut socket = weir.connect().await;
    let data = json!({"fromStart": true, "timestamp": true});
    socket.start(log_start(&key, &cluster.namespace, "writer", data)).await;
    let mut times = Vec::new();
    while times.len() < 60 {
        let message = socket.next().await.unwrap();
        if let (Some(text), Some(time)) = (message["text"].as_str(), message["timestamp"].as_str())
            && message["type"] == "data"
        {
            assert_eq!(text.trim_end(), (times.len() + 1).to_string());
            times.push(chrono::DateTime::parse_from_rfc3339(time).unwrap());
        }
    }
    assert!(times.is_sorted());
    // In the middle of a second, which the API server's own option cannot say.
    let from = times[29].timestamp_millis();
    let first = times.iter().position(|time| time.timestamp_millis() >= from).unwrap() + 1;
    let lines = read(&weir, &key, &cluster, json!({"startTime": from}), "60").await;
    // A time in milliseconds may stand before the line that it was taken from.
    let first = first.min(lines[0].parse().unwrap());
    assert!((29..=30).contains(&first), "{first}");
    assert_eq!(lines, numbers(first as u32, 60));
    weir.stop().await;
}

#[tokio::test]
async fn the_run_before_is_read_by_option_only() {
    // The first run ends with an error; the second waits.
    let script =
        "if [ -e /tmp/x/ran ]; then echo second; sleep 600; fi; mkdir -p /tmp/x; touch /tmp/x/ran; echo first; exit 1";
    let cluster = Cluster::new("previous").await;
    cluster
        .create(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "writer"}, "spec": {
            "restartPolicy": "Always", "terminationGracePeriodSeconds": 0, "automountServiceAccountToken": false,
            "volumes": [{"name": "kept", "emptyDir": {}}],
            "containers": [{"name": "main", "image": "weir.test/busybox:1", "imagePullPolicy": "Never",
                "command": ["sh", "-c", script], "volumeMounts": [{"name": "kept", "mountPath": "/tmp/x"}]}]}}))
        .await;
    until("the second run", || async {
        let pod = cluster.pods().get_opt("writer").await.ok()??;
        let status = pod.status?.container_statuses?.into_iter().next()?;
        (status.restart_count == 1 && status.state?.running.is_some()).then_some(())
    })
    .await;
    let weir = Served::new(&cluster).await;
    let key = weir.reader_key();
    for (previous, expected) in [(false, &["second"][..]), (true, &["first", "second"][..])] {
        let data = json!({"fromStart": true, "previous": previous});
        assert_eq!(read(&weir, &key, &cluster, data, "second").await, expected);
    }
    weir.stop().await;
}

#[tokio::test]
async fn lines_are_filtered_before_they_are_sent() {
    let script = "for i in $(seq 1 30); do echo $i; done; echo end; sleep 600";
    let (cluster, weir, key) = running("filter", script, "Never").await;
    for (data, expected) in [
        (json!({"include": ["^1.$", "end"]}), "10 11 12 13 14 15 16 17 18 19 end"),
        (json!({"exclude": "[0-7,]$"}), "8 9 18 19 28 29 end"),
        (json!({"include": ["^2{1,2}$", "^end"], "exclude": ["^22"]}), "2 end"),
    ] {
        let mut data = data;
        data["fromStart"] = json!(true);
        let lines = read(&weir, &key, &cluster, data, "end").await;
        assert_eq!(lines.join(" "), expected);
    }
    weir.stop().await;
}

/// The next alert of a socket: severity and line.
async fn alert(socket: &mut Socket) -> (String, String) {
    let message = socket.until("an alert", |message| message["type"] == "data").await;
    let text = |field: &str| message[field].as_str().unwrap().trim_end().to_owned();
    assert_eq!(
        (text("channel"), text("msgtype"), text("pod")),
        ("alert".into(), "alertmessage".into(), "talker".into())
    );
    (text("severity"), text("text"))
}

#[tokio::test]
async fn alerts_are_the_matching_lines_from_the_first_word_on() {
    let cluster = Cluster::new("alert").await;
    let weir = Served::new(&cluster).await;
    let key = weir.reader_key();
    let mut socket = weir.connect().await;
    let start = json!({"action": "start", "flow": "request", "type": "signal", "channel": "alert", "objects": "pods",
        "accessKey": key, "scope": "filter", "view": "namespace", "namespace": cluster.namespace,
        "data": {"regexInfo": ["ready"], "regexWarning": ["slow", "late"], "regexError": ["^FATAL", "slow and late"]}});
    let instance = socket.start(start).await;
    cluster.run("talker", "echo FATAL first; echo nothing; echo ready; echo slow; echo slow and late; sleep 600").await;
    for (severity, text) in
        [("error", "FATAL first"), ("info", "ready"), ("warning", "slow"), ("error", "slow and late")]
    {
        assert_eq!(alert(&mut socket).await, (severity.to_owned(), text.to_owned()));
    }
    socket.send(json!({"action": "stop", "type": "signal", "channel": "alert", "instance": instance})).await;
    let answer = socket.until("the answer", |message| message["flow"] == "response").await;
    assert_eq!(answer["text"], "Alert instance stopped");
    weir.stop().await;
}
