//! What a key grants is what its holder sees, and its string is seen by nobody else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod served;

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use served::{Cluster, Served, Socket, log_start};

/// Two namespaces, each with a deployment `cart` and a pod `cart-tools`, of two containers each.
async fn two_towns() -> (Cluster, Cluster, Served) {
    let (one, two) = (Cluster::new("town-one").await, Cluster::new("town-two").await);
    let script = "echo here; sleep 600";
    for town in [&one, &two] {
        let container = |name: &str| {
            json!({"name": name, "image": "weir.test/busybox:1", "imagePullPolicy": "Never",
                   "command": ["sh", "-c", script]})
        };
        let template = json!({"metadata": {"labels": {"app": "cart"}},
            "spec": {"terminationGracePeriodSeconds": 0, "containers": [container("main"), container("side")]}});
        town.create(json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "cart"},
            "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "cart"}}, "template": template}}))
            .await;
        let containers = [("main", script), ("side", script)];
        town.run_pod("cart-tools", json!({}), &containers, "Never").await;
        town.started("cart-tools").await;
        town.running("app=cart", 1).await;
    }
    let weir = Served::over(&[&one, &two]).await;
    (one, two, weir)
}

/// What a start shows, as `namespace/app/container`, until `count` containers have spoken and nothing else is ready.
async fn seen(socket: &mut Socket, message: Value, count: usize) -> BTreeSet<String> {
    socket.start(message).await;
    let mut seen = BTreeSet::new();
    let mut asked = false;
    loop {
        let message = socket.next().await.unwrap();
        if message["action"] == "ping" {
            return seen;
        }
        if message["pod"].is_null() {
            continue;
        }
        let pod = message["pod"].as_str().unwrap();
        let pod = if pod == "cart-tools" { pod } else { "cart" };
        let namespace = message["namespace"].as_str().unwrap().rsplit_once('-').unwrap().0;
        seen.insert(format!("{namespace}/{pod}/{}", message["container"].as_str().unwrap()));
        if seen.len() == count && !std::mem::replace(&mut asked, true) {
            socket.send(json!({"action": "ping"})).await;
        }
    }
}

#[tokio::test]
async fn a_key_shows_only_what_it_grants_whatever_is_asked_for() {
    let (one, two, weir) = two_towns().await;
    let (first, second) = (one.namespace.as_str(), two.namespace.as_str());
    let all = |pods: &[&str], containers: &[&str], towns: &[&str]| -> BTreeSet<String> {
        let each = |town: &&str| {
            let town = (*town).to_owned();
            pods.iter()
                .flat_map(move |pod| {
                    containers.iter().map({
                        let town = town.clone();
                        move |c| format!("{town}/{pod}/{c}")
                    })
                })
                .collect::<Vec<_>>()
        };
        towns.iter().flat_map(each).collect()
    };
    let (pods, containers, towns) = (["cart", "cart-tools"], ["main", "side"], ["town-one", "town-two"]);
    for (index, (grant, expected)) in [
        (json!({}), all(&pods, &containers, &towns)),
        (json!({"namespaces": [first]}), all(&pods, &containers, &towns[..1])),
        (json!({"namespaces": ["town-two-.*"]}), all(&pods, &containers, &towns[1..])),
        (json!({"groups": ["deployment+cart"]}), all(&pods[..1], &containers, &towns)),
        (json!({"containers": ["side"]}), all(&pods, &["side"], &towns)),
        (json!({"pods": ["cart-tools"], "containers": ["main"]}), all(&pods[1..], &["main"], &towns)),
        (
            json!({"namespaces": [second], "groups": ["cart"], "containers": ["main"]}),
            all(&pods[..1], &["main"], &towns[1..]),
        ),
        // Anchored: the name of the group is no prefix.
        (json!({"pods": ["cart-tool."], "namespaces": [first]}), all(&pods[1..], &containers, &towns[..1])),
    ]
    .into_iter()
    .enumerate()
    {
        let spec = json!({"grants": [{"services": ["Log"], "scopes": ["Cluster"], "pods": grant}]});
        let key = weir.key(&format!("key-{index}"), spec);
        let mut socket = weir.connect().await;
        let mut start = log_start(&key, "", "", json!({"fromStart": true}));
        start["view"] = json!("namespace");
        assert_eq!(seen(&mut socket, start, expected.len()).await, expected, "{grant}");
    }
    weir.stop().await;
}

#[tokio::test]
async fn what_lies_outside_a_grant_is_refused_or_not_shown() {
    let (one, two, weir) = two_towns().await;
    let spec = json!({"grants": [{"services": ["Log"], "scopes": ["View"],
        "pods": {"namespaces": [one.namespace], "pods": ["cart"]}}]});
    let key = weir.key("anchored", spec);
    let mut socket = weir.connect().await;
    // `cart` is a pod's whole name, which neither pod has.
    for (namespace, pod) in [(two.namespace.as_str(), ""), (&one.namespace, "cart-tools")] {
        socket.send(log_start(&key, namespace, pod, json!({"fromStart": true}))).await;
        let answer = socket.next().await.unwrap();
        assert!(answer["text"].as_str().unwrap().starts_with("Access denied: "), "{answer}");
    }
    socket.start(log_start(&key, "", "", json!({"fromStart": true}))).await;
    // A signal that everything there is has been looked at: another key sees it, this one does not.
    let wide = weir.reader_key();
    seen(&mut weir.connect().await, log_start(&wide, "", "", json!({"fromStart": true})), 8).await;
    socket.send(json!({"action": "ping"})).await;
    assert_eq!(socket.next().await.unwrap()["action"], "ping");
    weir.stop().await;
}

#[tokio::test]
async fn a_key_outside_the_operators_namespace_reaches_its_own_only() {
    let (one, two, weir) = two_towns().await;
    let spec = json!({"grants": [{"services": ["Log"], "scopes": ["Cluster"]}]});
    let key = weir.key_in(&one.namespace, "tenant", spec);
    let mut socket = weir.connect().await;
    let found = seen(&mut socket, log_start(&key, "", "", json!({"fromStart": true})), 4).await;
    assert!(found.iter().all(|item| item.starts_with("town-one/")), "{found:?}");
    socket.send(log_start(&key, &two.namespace, "", json!({}))).await;
    let answer = socket.until("the answer", |message| message["flow"] == "response").await;
    assert!(answer["text"].as_str().unwrap().starts_with("Access denied: "), "{answer}");
    weir.stop().await;
}

/// A client whose upgrade carries the key.
async fn upgraded(weir: &Served, header: &'static str, value: &str) -> (Socket, Option<String>) {
    let mut request = format!("ws://{}/ws", weir.address).into_client_request().unwrap();
    request.headers_mut().insert(header, value.parse().unwrap());
    let (socket, response) = tokio_tungstenite::connect_async(request).await.unwrap();
    let chosen = response.headers().get("sec-websocket-protocol").map(|value| value.to_str().unwrap().to_owned());
    (Socket(socket), chosen)
}

#[tokio::test]
async fn a_key_may_come_with_the_upgrade() {
    let cluster = Cluster::new("upgrade-key").await;
    cluster.run("talker", "echo word; sleep 600").await;
    cluster.started("talker").await;
    let weir = Served::new(&cluster).await;
    let key = weir.reader_key();
    for (header, value) in
        [("authorization", format!("Bearer {key}")), ("sec-websocket-protocol", format!("weir, bearer.{key}"))]
    {
        let (mut socket, chosen) = upgraded(&weir, header, &value).await;
        assert!(!chosen.unwrap_or_default().contains(&key));
        let mut start = log_start("", &cluster.namespace, "talker", json!({"fromStart": true}));
        start.as_object_mut().unwrap().remove("accessKey");
        socket.start(start).await;
        assert_eq!(socket.lines_until(|_| true).await, ["word"], "{header}");
    }
    let mut request = format!("ws://{}/ws", weir.address).into_client_request().unwrap();
    request.headers_mut().insert("authorization", "Bearer an-unknown-key-of-a-sufficient-length".parse().unwrap());
    let refused = tokio_tungstenite::connect_async(request).await.unwrap_err();
    assert!(refused.to_string().contains("401"), "{refused}");
    weir.stop().await;
}

/// Everything that is logged, at every level.
#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

// The runtime has one thread, so the subscriber of this thread hears all of Weir.
#[tokio::test(flavor = "current_thread")]
async fn a_key_is_never_logged_and_never_sent_back() {
    let captured = Captured::default();
    let writer = captured.clone();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || writer.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let cluster = Cluster::new("secret").await;
    cluster.run("talker", "while :; do echo word; sleep 0.05; done").await;
    cluster.started("talker").await;
    let weir = Served::new(&cluster).await;
    let key = weir.reader_key();
    let wrong = "wrong_key_0123456789_0123456789_0123456789";
    let mut told = String::new();
    for secret in [&*key, wrong] {
        let (mut by_header, _) = match secret == key {
            true => upgraded(&weir, "authorization", &format!("Bearer {key}")).await,
            false => (weir.connect().await, None),
        };
        let mut proof = String::new();
        for mut message in [
            log_start(secret, &cluster.namespace, "talker", json!({})),
            json!({"channel": "log", "accessKey": secret, "scope": "view", "pod": "talker"}),
            json!({"action": "stop", "channel": "log", "type": "signal", "instance": "none", "accessKey": secret}),
            json!({"action": "reconnect", "channel": "log", "instance": "none", "accessKey": secret}),
            json!({"action": "dance", "channel": "log", "accessKey": secret}),
            json!({"type": "log", "accessKey": secret, "scope": "view", "pod": "talker", "token": secret}),
        ] {
            message["namespace"] = json!(cluster.namespace);
            by_header.send(message).await;
            let answer = by_header
                .until("an answer", |message| message["flow"] == "response" || message["type"] == "error")
                .await;
            if let Some(key) = answer["reconnectKey"].as_str() {
                key.clone_into(&mut proof);
            }
            told.push_str(&answer.to_string());
        }
        if secret == key {
            weir.keyring.remove(served::OPERATOR, "reader");
            told.push_str(&by_header.until("the cut", |message| message["level"] == "error").await.to_string());
            assert!(!proof.is_empty());
        }
        let logged = String::from_utf8_lossy(&captured.0.lock()).into_owned();
        assert!(proof.is_empty() || !logged.contains(&proof), "a reconnect key is logged");
    }
    weir.stop().await;
    let logged = String::from_utf8_lossy(&captured.0.lock()).into_owned();
    assert!(logged.contains("its key changed"), "the log was captured:\n{logged}");
    for secret in [&*key, wrong] {
        // The client of this test logs what it sends; Weir's own words are those of its crate and of kube and hyper.
        for line in logged.lines().filter(|line| !line.contains("tungstenite")) {
            assert!(!line.contains(secret), "{line}");
        }
        assert!(!told.contains(secret), "{told}");
    }
}
