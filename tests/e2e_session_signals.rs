//! What happens to streams is told in them: containers that come, go and restart, subscriptions that end.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod served;

use serde_json::{Value, json};

use served::{Cluster, Served, Socket, until};
use weir::stream::StreamName;
use weir::worker::{Job, Sight};

fn signals(key: &str, namespace: &str) -> Value {
    json!({"type": "signal", "accessKey": key, "scope": "view", "view": "namespace", "namespace": namespace})
}

/// The next signal that something comes or goes: its event and what it says.
async fn signal(socket: &mut Socket) -> (String, String) {
    let message = socket.until("an event", |message| message["event"] != "other").await;
    assert!(["info", "warning", "error"].contains(&message["type"].as_str().unwrap()), "{message}");
    (message["event"].as_str().unwrap_or_default().to_owned(), message["text"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn what_is_there_is_told_once_and_then_what_comes_and_goes() {
    let cluster = Cluster::new("signals").await;
    let ns = cluster.namespace.clone();
    for pod in ["one", "two"] {
        cluster.run_pod(pod, json!({}), &[("main", "sleep 600"), ("side", "sleep 600")], "Never").await;
        cluster.started(pod).await;
    }
    let weir = Served::new(&cluster).await;
    let key = weir.reader_key();
    // The first starts the worker, the second finds it at work: both are told the same.
    let mut sockets = Vec::new();
    for _ in 0..2 {
        let mut socket = weir.connect().await;
        socket.start(signals(&key, &ns)).await;
        let mut told = Vec::new();
        for _ in 0..4 {
            let (event, text) = signal(&mut socket).await;
            assert_eq!(event, "add");
            told.push(text);
        }
        told.sort();
        let expected = ["one/main", "one/side", "two/main", "two/side"];
        assert_eq!(told, expected.map(|path| format!("Container ADDED: {ns}/{path}")));
        sockets.push(socket);
    }
    cluster.run("three", "sleep 600").await;
    for socket in &mut sockets {
        assert_eq!(signal(socket).await, ("add".into(), format!("Container ADDED: {ns}/three/main")));
    }
    cluster.delete("three").await;
    for socket in &mut sockets {
        assert_eq!(signal(socket).await, ("delete".into(), format!("Container DELETED: {ns}/three/main")));
    }
    // A pod of the same name is another pod.
    cluster.run("three", "sleep 600").await;
    for socket in &mut sockets {
        assert_eq!(signal(socket).await, ("add".into(), format!("Container ADDED: {ns}/three/main")));
    }
    weir.stop().await;
}

#[tokio::test]
async fn a_pod_that_leaves_a_selection_and_comes_back_is_told_of_each_time() {
    let cluster = Cluster::new("labels").await;
    let ns = cluster.namespace.clone();
    cluster.run_pod("walker", json!({"app": "in"}), &[("main", "sleep 600")], "Never").await;
    cluster.started("walker").await;
    let weir = Served::new(&cluster).await;
    let key = weir.reader_key();
    let mut start = signals(&key, &ns);
    start["labelSelector"] = json!("app=in");
    let mut first = weir.connect().await;
    first.start(start.clone()).await;
    signal(&mut first).await;
    // The second finds the pod in the roster.
    let mut second = weir.connect().await;
    second.start(start).await;
    assert_eq!(signal(&mut second).await.0, "add");
    for (label, event) in [("out", "delete"), ("in", "add"), ("out", "delete"), ("in", "add")] {
        let patch = json!({"metadata": {"labels": {"app": label}}});
        cluster.pods().patch("walker", &Default::default(), &kube::api::Patch::Merge(patch)).await.unwrap();
        for socket in [&mut first, &mut second] {
            assert_eq!(signal(socket).await.0, event, "for {label}");
        }
    }
    weir.stop().await;
}

#[tokio::test]
async fn a_restart_is_told_and_followed() {
    let cluster = Cluster::new("restart").await;
    let weir = Served::new(&cluster).await;
    let key = weir.reader_key();
    let mut socket = weir.connect().await;
    let mut start = signals(&key, &cluster.namespace);
    start["type"] = json!("log");
    socket.start(start).await;
    cluster.run_pod("phoenix", json!({}), &[("main", "echo up; exit 3")], "Always").await;
    let mut told = Vec::new();
    while told.len() < 4 {
        let message = socket.next().await.unwrap();
        match message["type"].as_str().unwrap() {
            "log" => told.push(message["text"].as_str().unwrap().to_owned()),
            "warning" => {
                let text = message["text"].as_str().unwrap();
                assert!(text.starts_with("Container RESTARTED: ") && text.contains("exit code 3"), "{text}");
                assert_eq!((&message["reason"], &message["exitCode"]), (&json!("Error"), &json!(3)), "{message}");
                told.push("restart".into());
            }
            _ => told.push(message["event"].as_str().unwrap().to_owned()),
        }
    }
    assert_eq!(told, ["add", "up", "restart", "up"]);
    weir.stop().await;
}

fn job(weir: &Served, namespace: &str) -> Job {
    let spec = json!({"source": {"podLogs": {"selection": {"namespaces": [namespace], "pods": ["talker"]}}}});
    let spec = serde_json::from_value(spec).unwrap();
    Job::new(&spec, weir.services.declared.supervisor().default_ring(), Sight::Selected).unwrap()
}

#[tokio::test]
async fn a_declared_subscription_is_read_by_its_name_until_it_is_withdrawn() {
    let cluster = Cluster::new("declared").await;
    cluster.run("talker", "i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done").await;
    cluster.started("talker").await;
    let weir = Served::new(&cluster).await;
    let key = weir.reader_key();
    let name = StreamName::new(&cluster.namespace, "chatter");
    weir.services.declared.declare(&name, "uid", job(&weir, &cluster.namespace)).unwrap();
    let full = format!("{}/chatter", cluster.namespace);
    let mut sockets = Vec::new();
    // One reads, one reads in another dialect, one is paused when the end comes.
    for (index, start) in [
        json!({"type": "subscription", "name": full, "accessKey": key, "maxMessages": 10}),
        json!({"type": "signal", "channel": "subscription", "name": full, "accessKey": key}),
        json!({"type": "signal", "channel": "log", "data": {"subscription": full}, "accessKey": key, "scope": "view"}),
    ]
    .into_iter()
    .enumerate()
    {
        let mut socket = weir.connect().await;
        let instance = socket.start(start).await;
        socket.lines_until(|_| true).await;
        if index == 2 {
            socket.send(json!({"action": "pause", "channel": "log", "type": "signal", "instance": instance})).await;
            socket.until("the pause", |message| message["action"] == "pause").await;
        }
        sockets.push((socket, instance));
    }
    weir.services.declared.withdraw(&name, "The subscription was deleted.");
    for (socket, instance) in &mut sockets {
        let is_end = |message: &Value| message["level"] == "warning" || message["type"] == "warning";
        let end = socket.until("the end", is_end).await;
        assert_eq!((&end["text"], &end["instance"]), (&json!("The subscription was deleted."), &json!(instance)));
        socket.send(json!({"action": "stop", "channel": "log", "type": "signal", "instance": instance})).await;
        assert_eq!(socket.next().await.unwrap()["text"], "Instance not found", "it has ended");
    }
    until("all is released", || async { (weir.hub.follows() == 0).then_some(()) }).await;
    let (socket, _) = &mut sockets[0];
    socket.send(json!({"type": "subscription", "name": full, "accessKey": key})).await;
    assert!(socket.next().await.unwrap()["text"].as_str().unwrap().contains("does not stream now"));
    weir.stop().await;
}
