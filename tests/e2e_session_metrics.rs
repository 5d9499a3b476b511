//! Numbers of pods on the session socket, on a real cluster.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod served;

use serde_json::{Value, json};

use served::{Cluster, Served, Socket, until};

const CPU: &str = "container_cpu_usage_seconds_total";
const MEMORY: &str = "container_memory_working_set_bytes";

async fn burning(name: &str) -> (Cluster, Served, String) {
    let cluster = Cluster::new(name).await;
    cluster.run("burn", "while :; do :; done").await;
    cluster.started("burn").await;
    let weir = Served::new(&cluster).await;
    let key = weir.key("numbers", json!({"grants": [{"services": ["Metrics"], "scopes": ["Cluster"]}]}));
    (cluster, weir, key)
}

/// A channel-4 start of metrics of a namespace's pods.
fn start_of(key: &str, namespace: &str, data: Value) -> Value {
    json!({"action": "start", "flow": "request", "type": "signal", "channel": "metrics", "instance": "",
           "objects": "pods", "accessKey": key, "scope": "stream", "view": "pod", "namespace": namespace,
           "group": "", "pod": "", "container": "", "data": data})
}

fn act(action: &str, instance: &str, data: Value) -> Value {
    json!({"action": action, "flow": "request", "type": "signal", "channel": "metrics", "instance": instance,
           "data": data})
}

/// The next reading of a channel dialect, and the signals before it.
async fn reading(socket: &mut Socket) -> Value {
    socket.until("a reading", |message| message["type"] == "data").await
}

/// The value of one metric of one asset.
fn value(reading: &Value, asset: usize, name: &str) -> Option<f64> {
    let values = reading["assets"][asset]["values"].as_array()?;
    values.iter().find(|value| value["metricName"] == name)?["metricValue"].as_f64()
}

/// The names of a reading's values, in their order.
fn names(reading: &Value) -> Vec<&str> {
    let values = reading["assets"][0]["values"].as_array().unwrap();
    values.iter().map(|value| value["metricName"].as_str().unwrap()).collect()
}

async fn answer(socket: &mut Socket, message: Value) -> Value {
    socket.send(message).await;
    socket.until("the answer", |message| message["flow"] == "response").await
}

async fn released(weir: &Served) {
    until("every worker is released", || async { (weir.services.declared.supervisor().workers() == 0).then_some(()) })
        .await;
}

#[tokio::test]
async fn both_channel_dialects_read_numbers_that_grow() {
    let (cluster, weir, key) = burning("numbers").await;
    for dialect in ["channel-4", "channel-3"] {
        let mut socket = weir.connect().await;
        let mut start = start_of(&key, &cluster.namespace, json!({"mode": "stream", "interval": 1, "metrics": [CPU]}));
        if dialect == "channel-3" {
            start.as_object_mut().unwrap().remove("type");
        }
        let instance = socket.start(start).await;
        let first = reading(&mut socket).await;
        assert_eq!((&first["timestamp"], &first["instance"]), (&json!(0), &json!(instance)), "{dialect}: {first}");
        let second = reading(&mut socket).await;
        assert!(second["timestamp"].as_i64().unwrap() > 1_700_000_000_000, "{dialect}: {second}");
        if dialect == "channel-3" {
            // cAdvisor measures every ten seconds or so: once is enough.
            continue;
        }
        let mut before = (0, 0.0);
        let grown = socket
            .until("CPU time that grows", |message| {
                let Some(now) = value(message, 0, CPU) else { return false };
                let at = message["timestamp"].as_i64().unwrap();
                let grown = before.1 > 0.0 && now > before.1;
                assert!(at == 0 || at > before.0, "{message}");
                before = (at, now);
                grown
            })
            .await;
        assert_eq!(grown["assets"].as_array().unwrap().len(), 1, "{grown}");
        assert_eq!((&grown["namespace"], names(&grown)), (&json!(cluster.namespace), vec![CPU]));
        let stopped = answer(&mut socket, act("stop", &instance, json!({}))).await;
        assert_eq!(stopped["text"], "Metrics instance stopped");
        released(&weir).await;
    }
    weir.stop().await;
}

#[tokio::test]
async fn the_classic_dialect_reads_values_by_position() {
    let (cluster, weir, key) = burning("classic").await;
    let mut socket = weir.connect().await;
    let start = json!({"type": "metrics", "accessKey": key, "scope": "stream", "view": "container",
        "namespace": cluster.namespace, "mode": "stream", "interval": 1, "metrics": [MEMORY, CPU]});
    let instance = socket.start(start).await;
    let mut last = String::new();
    for _ in 0..3 {
        let message = socket.until("numbers", |message| message["type"] == "metrics").await;
        assert_eq!((&message["instance"], &message["metrics"]), (&json!(instance), &json!([MEMORY, CPU])));
        assert_eq!((&message["podName"], &message["container"]), (&json!("burn"), &json!("main")), "{message}");
        assert_eq!(message["value"].as_array().unwrap().len(), 2);
        let time = message["timestamp"].as_str().unwrap().to_owned();
        assert!(time > last && time.starts_with("20"), "{message}");
        last = time;
    }
    weir.stop().await;
}

#[tokio::test]
async fn a_change_takes_effect_at_once_and_a_refused_one_leaves_all_as_it_was() {
    let (cluster, weir, key) = burning("modify").await;
    cluster.run("other", "sleep 600").await;
    cluster.started("other").await;
    let mut socket = weir.connect().await;
    // None of these waits for its interval's end.
    let data = json!({"mode": "stream", "interval": 3600, "aggregate": false, "metrics": [CPU]});
    let instance = socket.start(start_of(&key, &cluster.namespace, data)).await;
    let first = socket.until("both pods", |m| m["type"] == "data" && m["assets"].as_array().unwrap().len() == 2).await;
    assert_eq!(first["instance"], json!(instance));

    for (data, problem) in [
        (json!({"metrics": []}), "The field \"metrics\" is empty"),
        (json!({"metrics": ["x".repeat(254)]}), "at most 253"),
        (json!({"interval": 0}), "\"interval\" is shorter than 1s"),
        (json!({"interval": 1e12}), "\"interval\" is"),
        (json!({"mode": "snapshot"}), "The mode of an instance cannot be modified"),
        (json!({"aggregate": "perhaps"}), "\"aggregate\" must be true or false"),
    ] {
        let refused = answer(&mut socket, act("modify", &instance, data)).await;
        assert_eq!((&refused["action"], &refused["level"]), (&json!("modify"), &json!("error")), "{refused}");
        assert!(refused["text"].as_str().unwrap().contains(problem), "{refused}");
    }
    assert_eq!(weir.services.declared.supervisor().workers(), 1, "the old one runs on, and no other");

    let data = json!({"mode": "stream", "aggregate": true, "metrics": [MEMORY, CPU]});
    let modified = answer(&mut socket, act("modify", &instance, data)).await;
    assert_eq!((&modified["text"], &modified["instance"]), (&json!("Metrics modified"), &json!(instance)));
    let next = socket
        .until("the sum of both", |message| {
            assert_ne!(message["event"], "add", "the client knows its containers: {message}");
            message["type"] == "data" && value(message, 0, MEMORY).is_some()
        })
        .await;
    assert_eq!((&next["instance"], next["assets"].as_array().unwrap().len()), (&json!(instance), 1), "{next}");
    assert_ne!(next["timestamp"], 0, "only the first of an instance tells no time");
    assert_eq!(names(&next)[0], MEMORY, "in the order asked");
    assert_eq!(weir.services.declared.supervisor().workers(), 1, "the old one is released");

    let modified = answer(&mut socket, act("modify", &instance, json!({"interval": 1}))).await;
    assert_eq!(modified["text"], "Metrics modified");
    for _ in 0..3 {
        let next = reading(&mut socket).await;
        assert_eq!(next["assets"].as_array().unwrap().len(), 1, "what was not said stays: {next}");
    }
    weir.stop().await;
}

#[tokio::test]
async fn a_snapshot_is_one_reading_and_releases_everything() {
    let (cluster, weir, _) = burning("snapshot").await;
    let key = weir.key("once", json!({"grants": [{"services": ["Metrics"], "scopes": ["Snapshot"]}]}));
    let mut socket = weir.connect().await;
    let mut start = start_of(&key, &cluster.namespace, json!({"mode": "snapshot", "metrics": [MEMORY]}));
    let refused = answer(&mut socket, start.clone()).await;
    assert!(refused["text"].as_str().unwrap().contains("the scope `stream` of the service `metrics`"), "{refused}");
    start["scope"] = json!("snapshot");
    let mut streaming = start.clone();
    streaming["data"]["mode"] = json!("stream");
    let refused = answer(&mut socket, streaming).await;
    assert!(refused["text"].as_str().unwrap().starts_with("The scope snapshot reads numbers once"), "{refused}");
    let instance = socket.start(start).await;
    let (mut readings, mut over) = (0, Value::Null);
    while over.is_null() {
        let message = socket.next().await.unwrap();
        assert_eq!(message["instance"], json!(instance));
        readings += usize::from(message["type"] == "data");
        if message["text"] == "The snapshot is complete; the instance ends with it." {
            over = message;
        }
    }
    assert_eq!((readings, &over["level"]), (1, &json!("info")));
    released(&weir).await;
    let stopped = answer(&mut socket, act("stop", &instance, json!({}))).await;
    assert_eq!(stopped["text"], "Instance not found");
    weir.stop().await;
}

#[tokio::test]
async fn two_clients_that_want_the_same_share_one_scrape_and_the_second_has_it_at_once() {
    let (cluster, weir, key) = burning("share").await;
    let other = weir.key("twin", json!({"grants": [{"services": ["Metrics"], "scopes": ["Stream"]}]}));
    let data = json!({"mode": "stream", "interval": 3600, "metrics": [CPU, MEMORY]});
    let mut sockets = Vec::new();
    let mut values = Vec::new();
    for key in [&key, &other] {
        let mut socket = weir.connect().await;
        socket.start(start_of(key, &cluster.namespace, data.clone())).await;
        values.push(reading(&mut socket).await["assets"].clone());
        sockets.push(socket);
    }
    assert_eq!(values[0], values[1], "the same reading");
    assert_eq!(weir.services.declared.supervisor().workers(), 1);
    assert_eq!(weir.metric("weir_scrapes_total{page=\"cadvisor\",outcome=\"ok\"}"), 1.0);
    drop(sockets);
    weir.stop().await;
}

#[tokio::test]
async fn a_pod_that_comes_later_joins_the_readings() {
    let (cluster, weir, key) = burning("join").await;
    let mut socket = weir.connect().await;
    let data = json!({"mode": "stream", "interval": 1, "metrics": [CPU]});
    socket.start(start_of(&key, &cluster.namespace, data)).await;
    assert_eq!(reading(&mut socket).await["assets"].as_array().unwrap().len(), 1);
    cluster.run("late", "while :; do :; done").await;
    let added = socket.until("the signal", |message| message["event"] == "add" && message["pod"] == "late").await;
    assert_eq!(added["text"], format!("Container ADDED: {}/late/main", cluster.namespace));
    socket.until("both", |m| m["type"] == "data" && m["assets"].as_array().unwrap().len() == 2).await;
    cluster.delete("late").await;
    socket.until("its end", |message| message["event"] == "delete" && message["pod"] == "late").await;
    socket.until("one again", |m| m["type"] == "data" && m["assets"].as_array().unwrap().len() == 1).await;
    weir.stop().await;
}

#[tokio::test]
async fn numbers_end_with_their_key_and_never_show_what_it_does_not_grant() {
    let (cluster, weir, _) = burning("grants").await;
    cluster.run("hidden", "while :; do :; done").await;
    cluster.started("hidden").await;
    let spec = json!({"grants": [{"services": ["Metrics"], "scopes": ["Stream"], "pods": {"pods": ["burn"]}}]});
    let key = weir.key("narrow", spec);
    let mut socket = weir.connect().await;
    let data = json!({"mode": "stream", "interval": 1, "metrics": [CPU]});
    socket.start(start_of(&key, &cluster.namespace, data)).await;
    for _ in 0..3 {
        let reading = reading(&mut socket).await;
        assert!(!reading.to_string().contains("hidden"), "{reading}");
    }
    weir.keyring.remove(served::OPERATOR, "narrow");
    let cut = socket.until("the cut", |message| message["level"] == "error").await;
    assert!(cut["text"].as_str().unwrap().contains("deleted"), "{cut}");
    let (code, reason) = socket.next().await.unwrap_err();
    assert_eq!(code, 1008, "{reason}");
    released(&weir).await;
    weir.stop().await;
}

#[tokio::test]
async fn a_start_that_makes_no_sense_is_told_what_is_wrong() {
    let (cluster, weir, key) = burning("bad").await;
    let mut socket = weir.connect().await;
    let names: Vec<String> = (0..257).map(|n| format!("metric_{n}")).collect();
    for (data, problem) in [
        (json!({}), "The field \"metrics\" is empty"),
        (json!({"metrics": []}), "The field \"metrics\" is empty"),
        (json!({"metrics": [""]}), "\"metrics[0]\""),
        (json!({"metrics": ["x".repeat(254)]}), "\"metrics[0]\""),
        (json!({"metrics": ["no metric"]}), "\"metrics[0]\" is not the name of a metric"),
        (json!({"metrics": ["kwirth_luck_percentage"]}), "\"metrics[0]\" is none of the metrics that Weir derives"),
        (json!({"metrics": names}), "\"metrics\" has more than 256 items"),
        (json!({"metrics": 5}), "\"metrics\""),
        (json!({"metrics": [CPU], "interval": 0}), "\"interval\" is shorter than 1s"),
        (json!({"metrics": [CPU], "interval": 3601}), "\"interval\" is longer than 1h"),
        (json!({"metrics": [CPU], "interval": u64::MAX}), "\"interval\""),
        (json!({"metrics": [CPU], "interval": -1}), "\"interval\" must be a whole number"),
        (json!({"metrics": [CPU], "mode": "film"}), "The mode is not known: snapshot or stream."),
    ] {
        let refused = answer(&mut socket, start_of(&key, &cluster.namespace, data.clone())).await;
        assert_eq!((&refused["level"], &refused["instance"]), (&json!("error"), &json!("")), "{data}: {refused}");
        assert!(refused["text"].as_str().unwrap().contains(problem), "{data}: {refused}");
    }
    assert_eq!(weir.services.declared.supervisor().workers(), 0);

    // What nodes have given is known once one was scraped.
    let url = format!("http://{}/metrics/list", weir.address);
    let list: Value = reqwest::Client::new().get(&url).bearer_auth(&key).send().await.unwrap().json().await.unwrap();
    let all = list.as_array().unwrap_or_else(|| panic!("no list: {list}"));
    let of = |name: &str| all.iter().find(|one| one["metric"] == name);
    let cpu = of(CPU).unwrap_or_else(|| panic!("{CPU} is not among {list}"));
    assert_eq!(cpu["type"], "counter");
    assert!(!cpu["help"].as_str().unwrap().is_empty() && of("kwirth_container_cpu_percentage").is_some());
    let data = json!({"metrics": ["container_luck_total", "container_fortune_bytes"]});
    let refused = answer(&mut socket, start_of(&key, &cluster.namespace, data)).await;
    assert_eq!(refused["level"], "error");
    assert!(refused["text"].as_str().unwrap().contains("container_luck_total, container_fortune_bytes"), "{refused}");

    let lines = weir.key("lines", json!({"grants": [{"services": ["Log"], "scopes": ["Cluster"]}]}));
    assert_eq!(reqwest::Client::new().get(&url).bearer_auth(lines).send().await.unwrap().status(), 403);
    assert_eq!(reqwest::Client::new().get(&url).send().await.unwrap().status(), 401);
    weir.stop().await;
}
