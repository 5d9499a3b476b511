//! What happens to pods, told once: on a real cluster, over the session socket in its dialects and as events of a
//! declared stream.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod served;

use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use kube::api::{EvictParams, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::io::AsyncBufReadExt;
use tokio_util::io::StreamReader;

use served::{Cluster, Served, Socket, until};
use weir::stream::StreamName;
use weir::worker::{Job, Sight};

/// Signals of a namespace in the classic dialect, with more fields.
fn signals(key: &str, namespace: &str, more: Value) -> Value {
    let mut start =
        json!({"type": "signal", "accessKey": key, "scope": "view", "view": "namespace", "namespace": namespace});
    start.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    start
}

/// A pod with a container `main`.
async fn run(cluster: &Cluster, name: &str, script: &str, container: Value, spec: Value) {
    let mut main = json!({"name": "main", "image": "weir.test/busybox:1", "imagePullPolicy": "Never",
        "command": ["sh", "-c", script]});
    main.as_object_mut().unwrap().extend(container.as_object().unwrap().clone());
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"restartPolicy": "Never", "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 0,
                 "containers": [main]}});
    pod["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    cluster.create(pod).await;
}

/// The name of a signal as all dialects tell it.
fn name(message: &Value) -> &str {
    match message["event"].as_str().unwrap_or_default() {
        "other" => message["kind"].as_str().unwrap(),
        event => event,
    }
}

/// Level, name, reason and exit code.
fn brief(message: &Value) -> (String, String, Value, Value) {
    let level = if message["level"].is_string() { &message["level"] } else { &message["type"] };
    (level.as_str().unwrap().into(), name(message).into(), message["reason"].clone(), message["exitCode"].clone())
}

fn told(level: &str, name: &str, reason: Value, code: Value) -> (String, String, Value, Value) {
    (level.into(), name.into(), reason, code)
}

/// The signals until one of this name, that one too.
async fn until_told(socket: &mut Socket, last: &str) -> Vec<Value> {
    let mut told = Vec::new();
    loop {
        let message = socket.next().await.unwrap_or_else(|close| panic!("closed with {close:?} after {told:?}"));
        let done = name(&message) == last;
        told.push(message);
        if done {
            return told;
        }
    }
}

#[tokio::test]
async fn each_crash_of_a_pod_is_told_once() {
    let cluster = Cluster::new("crash").await;
    let weir = Served::new(&cluster).await;
    let key = weir.reader_key();
    let mut socket = weir.connect().await;
    socket.start(signals(&key, &cluster.namespace, json!({"objects": "pods"}))).await;
    run(&cluster, "crash", "sleep 1; exit 3", json!({}), json!({"restartPolicy": "Always"})).await;
    let mut all = Vec::new();
    for _ in 0..2 {
        all.extend(until_told(&mut socket, "restarted").await);
    }
    let texts: Vec<_> = all.iter().map(|message| message["text"].as_str().unwrap()).collect();
    let of = |wanted: &str| all.iter().filter(|message| name(message) == wanted).collect::<Vec<_>>();
    assert_eq!(of("add").len(), 1, "{texts:?}");
    assert_eq!(of("terminated").len(), 2, "{texts:?}");
    let warning = |name| told("warning", name, json!("Error"), json!(3));
    assert!(of("terminated").into_iter().all(|message| brief(message) == warning("terminated")), "{all:?}");
    let restarts: Vec<_> = of("restarted").into_iter().map(|message| (brief(message), &message["count"])).collect();
    assert_eq!(restarts, [(warning("restarted"), &json!(1)), (warning("restarted"), &json!(1))]);
    let waits: Vec<_> = of("waiting").into_iter().map(brief).collect();
    let back_off = told("error", "waiting", json!("CrashLoopBackOff"), Value::Null);
    // The first start again comes at once; each later one after a back-off.
    assert!(!waits.is_empty() && waits.len() <= 2 && waits.iter().all(|wait| *wait == back_off), "{texts:?}");
    weir.stop().await;
}

#[tokio::test]
async fn a_pod_that_runs_out_of_memory_is_told_once_in_signals_and_in_its_log() {
    let cluster = Cluster::new("oom").await;
    let weir = Served::new(&cluster).await;
    let key = weir.reader_key();
    let mut socket = weir.connect().await;
    socket.start(signals(&key, &cluster.namespace, json!({"objects": "pods"}))).await;
    let mut log = weir.connect().await;
    log.start(served::log_start(&key, &cluster.namespace, "greedy", json!({}))).await;
    let limits = json!({"resources": {"limits": {"memory": "16Mi"}}});
    run(&cluster, "greedy", "echo hungry; sleep 1; exec dd if=/dev/zero of=/dev/null bs=200M", limits, json!({})).await;
    let killed = told("error", "oom-killed", json!("OOMKilled"), json!(137));
    let message = log.until("the kill", |message| message["kind"] == "oom-killed").await;
    assert_eq!(brief(&message), killed);
    cluster.delete("greedy").await;
    let all = until_told(&mut socket, "delete").await;
    let ends: Vec<_> = all.iter().map(brief).filter(|(_, name, ..)| name != "add" && name != "ready").collect();
    assert_eq!(ends, [killed, told("info", "delete", json!("OOMKilled"), json!(137))]);
    let deleted = log.until("the deletion", |message| message["event"] == "delete").await;
    assert_eq!((&deleted["reason"], &deleted["exitCode"]), (&json!("OOMKilled"), &json!(137)));
    weir.stop().await;
}

#[tokio::test]
async fn a_deleted_pod_is_told_once_in_every_dialect() {
    let cluster = Cluster::new("deleted").await;
    let weir = Served::new(&cluster).await;
    let key = weir.reader_key();
    cluster.run("idle", "sleep 600").await;
    cluster.started("idle").await;
    let base = json!({"accessKey": key, "scope": "view", "view": "pod", "namespace": cluster.namespace, "pod": "idle",
        "channel": "signal", "objects": "pods"});
    let mut channel4 = base.clone();
    channel4["type"] = json!("signal");
    let classic = signals(&key, &cluster.namespace, json!({"objects": "pods"}));
    let mut sockets = Vec::new();
    for start in [classic, base, channel4] {
        let mut socket = weir.connect().await;
        socket.start(start).await;
        until_told(&mut socket, "add").await;
        sockets.push(socket);
    }
    cluster.delete("idle").await;
    // What comes after it shows that it is not told again.
    cluster.run("idle", "sleep 600").await;
    for socket in &mut sockets {
        let all = until_told(socket, "add").await;
        let gone: Vec<_> = all.iter().filter(|message| name(message) == "delete").collect();
        assert_eq!(gone.len(), 1, "{all:?}");
        assert_eq!(gone[0]["text"], format!("Container DELETED: {}/idle/main", cluster.namespace));
    }
    weir.stop().await;
}

#[tokio::test]
async fn a_pod_that_its_node_evicts_is_told_once_in_signals_and_in_its_log() {
    let cluster = Cluster::new("evicted").await;
    let weir = Served::new(&cluster).await;
    let key = weir.reader_key();
    let mut socket = weir.connect().await;
    socket.start(signals(&key, &cluster.namespace, json!({"objects": "pods"}))).await;
    let mut log = weir.connect().await;
    log.start(served::log_start(&key, &cluster.namespace, "hoarder", json!({}))).await;
    let mounts = json!({"volumeMounts": [{"name": "d", "mountPath": "/d"}]});
    let volumes = json!({"volumes": [{"name": "d", "emptyDir": {"sizeLimit": "1Mi"}}]});
    run(&cluster, "hoarder", "dd if=/dev/zero of=/d/x bs=1M count=8; sleep 600", mounts, volumes).await;
    // Both at once: the kubelet may take more than a minute, and a socket that is not read answers no pings.
    let evicted = log.until("the eviction", |message| message["kind"] == "evicted");
    let (all, message) = tokio::join!(until_told(&mut socket, "evicted"), evicted);
    assert_eq!(brief(all.last().unwrap()), told("error", "evicted", json!("Evicted"), Value::Null));
    assert_eq!((&message["level"], &message["reason"]), (&json!("error"), &json!("Evicted")));
    cluster.delete("hoarder").await;
    let rest = until_told(&mut socket, "delete").await;
    assert_eq!(brief(rest.last().unwrap()).2, "Evicted");
    assert!(rest.iter().all(|message| name(message) != "evicted"), "{rest:?}");
    weir.stop().await;
}

/// Servers before 1.26 delete the pod and say no more; later ones give it a condition first.
#[tokio::test]
async fn a_pod_that_is_evicted_by_request_is_told_once() {
    let cluster = Cluster::new("sent-off").await;
    let weir = Served::new(&cluster).await;
    let key = weir.reader_key();
    let mut socket = weir.connect().await;
    socket.start(signals(&key, &cluster.namespace, json!({"objects": "pods"}))).await;
    for pod in ["guest", "marked"] {
        cluster.run(pod, "sleep 600").await;
        until_told(&mut socket, "ready").await;
    }
    cluster.pods().evict("guest", &EvictParams::default()).await.unwrap();
    let all = until_told(&mut socket, "delete").await;
    assert_eq!(all.iter().filter(|message| name(message) == "delete").count(), 1);
    // The condition as newer servers write it.
    let condition = json!({"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting"});
    let patch = Patch::Strategic(json!({"status": {"conditions": [condition]}}));
    cluster.pods().patch_status("marked", &PatchParams::default(), &patch).await.unwrap();
    let all = until_told(&mut socket, "evicted").await;
    assert_eq!(brief(all.last().unwrap()).2, "EvictionByEvictionAPI");
    weir.stop().await;
}

#[tokio::test]
async fn a_probe_tells_when_a_container_is_ready_and_when_not() {
    let cluster = Cluster::new("probe").await;
    let weir = Served::new(&cluster).await;
    let key = weir.reader_key();
    let mut socket = weir.connect().await;
    socket.start(signals(&key, &cluster.namespace, json!({"objects": "pods"}))).await;
    let probe = json!({"readinessProbe": {"exec": {"command": ["test", "-e", "/tmp/ready"]}, "periodSeconds": 1,
        "failureThreshold": 1}});
    let script =
        "mkdir -p /tmp; sleep 2; touch /tmp/ready; sleep 4; rm /tmp/ready; sleep 4; touch /tmp/ready; sleep 600";
    run(&cluster, "moody", script, probe, json!({})).await;
    let mut all = until_told(&mut socket, "not-ready").await;
    all.extend(until_told(&mut socket, "ready").await);
    let all: Vec<_> = all.iter().map(brief).map(|(level, name, ..)| (level, name)).collect();
    let expected = [("info", "add"), ("info", "ready"), ("warning", "not-ready"), ("info", "ready")];
    assert_eq!(all, expected.map(|(level, name)| (level.to_owned(), name.to_owned())));
    weir.stop().await;
}

#[tokio::test]
async fn an_image_that_is_not_there_is_told() {
    let cluster = Cluster::new("image").await;
    let weir = Served::new(&cluster).await;
    let key = weir.reader_key();
    let mut socket = weir.connect().await;
    socket.start(signals(&key, &cluster.namespace, json!({"levels": "error", "objects": "pods"}))).await;
    run(&cluster, "vain", "true", json!({"image": "weir.test/nothing:1"}), json!({})).await;
    let message = socket.next().await.unwrap();
    assert_eq!(brief(&message), told("error", "waiting", json!("ErrImageNeverPull"), Value::Null));
    weir.stop().await;
}

#[tokio::test]
async fn kubernetes_events_are_told_once_and_again_when_they_happen_again() {
    let cluster = Cluster::new("events").await;
    let ns = cluster.namespace.clone();
    let event = |name: &str, count: u32, second: &str| {
        json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": name}, "type": "Warning", "reason": "Hiccup",
            "message": "It hiccuped.", "count": count, "lastTimestamp": second,
            "involvedObject": {"kind": "Pod", "namespace": ns, "name": "idle"}})
    };
    cluster.run("idle", "sleep 600").await;
    cluster.started("idle").await;
    cluster.create(event("old", 1, "2026-01-01T00:00:00Z")).await;
    let weir = Served::new(&cluster).await;
    let key = weir.reader_key();
    // Of the log's channel, of the signals' own, and with a filter.
    let mut log = served::log_start(&key, &ns, "idle", json!({}));
    log["objects"] = json!("events");
    let channel = json!({"accessKey": key, "scope": "view", "view": "namespace", "namespace": ns, "channel": "signal",
        "objects": "events", "data": {"reasons": ["Hic.*"], "types": ["Warning"]}});
    let mut sockets = Vec::new();
    for start in [log, channel, signals(&key, &ns, json!({"objects": "events", "levels": "warning"}))] {
        let mut socket = weir.connect().await;
        socket.start(start).await;
        sockets.push(socket);
    }
    let watches = || async { weir.hub.index().watches_events().then_some(()) };
    until("Events are watched", watches).await;
    // The watch has listed what there is once it tells of this.
    cluster.create(event("new", 1, "2099-01-01T00:00:00Z")).await;
    let hiccup = |message: &Value| message["reason"] == "Hiccup";
    for socket in &mut sockets {
        let message = socket.until("the Event", hiccup).await;
        assert_eq!(brief(&message), told("warning", "kubernetes-event", json!("Hiccup"), Value::Null));
        assert_eq!(message["regarding"], json!({"kind": "Pod", "namespace": ns, "name": "idle"}));
        assert_eq!((&message["count"], &message["text"]), (&json!(1), &json!(format!("Pod {ns}/idle: It hiccuped."))));
    }
    let events: kube::Api<k8s_openapi::api::core::v1::Event> = kube::Api::namespaced(cluster.client.clone(), &ns);
    let change = async |change: Value| {
        events.patch("new", &PatchParams::default(), &Patch::Merge(change)).await.unwrap();
    };
    change(json!({"metadata": {"labels": {"a": "b"}}})).await;
    change(json!({"count": 5})).await;
    change(json!({"metadata": {"labels": {"a": "c"}}})).await;
    change(json!({"series": {"count": 6, "lastObservedTime": "2099-01-01T00:00:01.000000Z"}})).await;
    cluster.create(event("last", 1, "2099-01-01T00:00:02Z")).await;
    for socket in &mut sockets {
        let mut counts = Vec::new();
        for _ in 0..3 {
            counts.push(socket.until("the Event again", hiccup).await["count"].clone());
        }
        assert_eq!(counts, [5, 6, 1]);
    }
    // Whoever closes in good order holds nothing any longer.
    for mut socket in sockets {
        socket.0.close(None).await.unwrap();
    }
    until("Events are not watched", || async { (!weir.hub.index().watches_events()).then_some(()) }).await;
    weir.stop().await;
}

#[tokio::test]
async fn the_events_of_pods_and_of_what_owns_them_come_from_the_cluster() {
    let cluster = Cluster::new("owners").await;
    let weir = Served::new(&cluster).await;
    let key = weir.reader_key();
    let mut socket = weir.connect().await;
    socket.start(signals(&key, &cluster.namespace, json!({"group": "deployment+nowhere"}))).await;
    let labels = json!({"app": "nowhere"});
    let container = json!({"name": "main", "image": "weir.test/busybox:1", "imagePullPolicy": "Never"});
    let spec = json!({"nodeSelector": {"no": "where"}, "automountServiceAccountToken": false,
        "containers": [container]});
    cluster
        .create(json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "nowhere"},
            "spec": {"replicas": 1, "selector": {"matchLabels": labels},
                     "template": {"metadata": {"labels": labels}, "spec": spec}}}))
        .await;
    cluster.run("other", "sleep 600").await;
    let mut wanted = vec![("Pod", "FailedScheduling"), ("ReplicaSet", "SuccessfulCreate")];
    wanted.push(("Deployment", "ScalingReplicaSet"));
    let mut all = Vec::new();
    while !wanted.is_empty() {
        let message = socket.next().await.unwrap();
        wanted.retain(|(kind, reason)| message["regarding"]["kind"] != *kind || message["reason"] != *reason);
        all.push(message);
    }
    assert!(all.iter().all(|message| message["podName"] != "other" && message["regarding"]["name"] != "other"));
    assert_eq!(all.iter().filter(|message| message["reason"] == "SuccessfulCreate").count(), 1, "{all:?}");
    weir.stop().await;
}

#[tokio::test]
async fn a_key_sees_the_signals_of_its_own_containers_only() {
    let cluster = Cluster::new("granted").await;
    let ns = cluster.namespace.clone();
    let weir = Served::new(&cluster).await;
    let grant = json!({"grants": [{"services": ["Signal"], "scopes": ["View"], "pods": {"containers": ["main"]}}]});
    let key = weir.key("main-only", grant);
    let mut socket = weir.connect().await;
    socket.start(signals(&key, &ns, json!({}))).await;
    cluster.run_pod("two", json!({}), &[("main", "sleep 3; exit 1"), ("side", "exit 2")], "Never").await;
    let all = until_told(&mut socket, "terminated").await;
    assert!(all.iter().all(|message| !message.to_string().contains("side")), "{all:?}");
    assert_eq!(all.last().unwrap()["exitCode"], 1);
    // Neither the log's channel nor a log's Events are granted.
    for objects in ["pods", "events"] {
        let mut log = served::log_start(&key, &ns, "two", json!({}));
        log["objects"] = json!(objects);
        socket.send(log).await;
        let refusal = socket.until("the refusal", |message| message["flow"] == "response").await;
        assert!(refusal["text"].as_str().unwrap().starts_with("Access denied"), "{refusal}");
    }
    weir.stop().await;
}

#[tokio::test]
async fn a_declared_subscription_tells_signals_as_events_of_the_stream() {
    let cluster = Cluster::new("declared").await;
    let ns = cluster.namespace.clone();
    let weir = Served::new(&cluster).await;
    let key = weir.reader_key();
    let spec = json!({"source": {"podSignals": {"selection": {"namespaces": [ns]}, "levels": ["Warning", "Error"]}}});
    let spec = serde_json::from_value(spec).unwrap();
    let job = Job::new(&spec, weir.services.declared.supervisor().default_ring(), Sight::Selected).unwrap();
    weir.services.declared.declare(&StreamName::new(&ns, "trouble"), "uid", job).unwrap();

    let url = format!("http://{}/api/v1/streams/{ns}/trouble/events", weir.address);
    let response = reqwest::Client::new().get(url).bearer_auth(&key).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let bytes = response.bytes_stream().map_err(std::io::Error::other);
    let lines = StreamReader::new(bytes).lines();
    let mut lines = std::pin::pin!(futures::stream::try_unfold(lines, async |mut lines| {
        Ok::<_, std::io::Error>(lines.next_line().await?.map(|line| (line, lines)))
    }));
    let mut socket = weir.connect().await;
    let by_name = json!({"channel": "signal", "subscription": format!("{ns}/trouble"), "accessKey": key});
    socket.start(by_name).await;

    run(&cluster, "crash", "exit 4", json!({}), json!({})).await;
    let wanted = told("warning", "terminated", json!("Error"), json!(4));
    let mut told_in_events = Vec::new();
    while told_in_events.is_empty() {
        let line = tokio::time::timeout(Duration::from_secs(60), lines.next()).await.unwrap().unwrap().unwrap();
        let Some(data) = line.strip_prefix("data: ") else { continue };
        let signal: Value = serde_json::from_str(data).unwrap();
        assert_ne!(signal["level"], "info", "{signal}");
        if signal["event"] == "terminated" {
            told_in_events.push((signal["reason"].clone(), signal["exitCode"].clone()));
        }
    }
    assert_eq!(told_in_events, [(json!("Error"), json!(4))]);
    let message = socket.until("the end", |message| message["kind"] == "terminated").await;
    assert_eq!(brief(&message), wanted);
    weir.stop().await;
}
