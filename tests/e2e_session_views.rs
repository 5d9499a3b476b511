//! Every view in every dialect: who is in it, who is not, and the exact shape of each message.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod served;

use std::collections::BTreeSet;

use serde_json::{Value, json};

use served::{Cluster, Served, Socket};

/// A pod template that says its name and then waits.
fn template(app: &str, containers: &[&str]) -> Value {
    let containers: Vec<Value> = containers
        .iter()
        .map(|name| {
            json!({"name": name, "image": "weir.test/busybox:1", "imagePullPolicy": "Never",
                   "command": ["sh", "-c", format!("echo {name} of {app}; sleep 600")]})
        })
        .collect();
    json!({"metadata": {"labels": {"app": app, "tier": "web"}},
           "spec": {"terminationGracePeriodSeconds": 0, "containers": containers}})
}

/// The pods of the town: a Deployment of two, a StatefulSet, two pods of their own.
struct Town {
    cluster: Cluster,
    weir: Served,
    key: String,
    cart: Vec<String>,
}

impl Town {
    async fn new(name: &str) -> Self {
        let cluster = Cluster::new(name).await;
        for (kind, app, replicas, containers) in
            [("Deployment", "cart", 2, &["main"][..]), ("StatefulSet", "store", 1, &["main", "side"][..])]
        {
            let mut object = json!({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": app},
                "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": app}},
                         "template": template(app, containers)}});
            if kind == "StatefulSet" {
                object["spec"]["serviceName"] = json!(app);
            }
            cluster.create(object).await;
        }
        for pod in ["solo-1", "solo-2"] {
            let script = |name: &str| format!("echo {name} of {pod}; sleep 600");
            let containers = [("main", &*script("main")), ("side", &*script("side"))];
            cluster.run_pod(pod, json!({"app": "solo", "number": pod}), &containers, "Never").await;
        }
        let cart = cluster.running("app=cart", 2).await;
        for pod in ["store-0", "solo-1", "solo-2"] {
            cluster.started(pod).await;
        }
        let weir = Served::new(&cluster).await;
        let key = weir.reader_key();
        Self { cluster, weir, key, cart }
    }

    /// All containers, as `pod/container`.
    fn all(&self) -> BTreeSet<String> {
        let fixed = ["store-0/main", "store-0/side", "solo-1/main", "solo-1/side", "solo-2/main", "solo-2/side"];
        self.of_cart().into_iter().chain(fixed.map(str::to_owned)).collect()
    }

    fn of_cart(&self) -> BTreeSet<String> {
        self.cart.iter().map(|pod| format!("{pod}/main")).collect()
    }
}

/// A start in one of the dialects: `fields` is the selection, the log is read from its first line.
fn start(dialect: &str, key: &str, namespace: &str, fields: &Value) -> Value {
    let mut message = json!({"action": "start", "flow": "request", "instance": "", "accessKey": key,
        "scope": "cluster", "namespace": namespace});
    let options = if dialect == "classic" { json!({"maxMessages": 100}) } else { json!({"data": {"fromStart": true}}) };
    let names = match dialect {
        "classic" => json!({"type": "log"}),
        "channel-3" => json!({"channel": "log"}),
        _ => json!({"channel": "log", "type": "signal", "objects": "pods"}),
    };
    for part in [&names, &options, fields] {
        message.as_object_mut().unwrap().extend(part.as_object().unwrap().clone());
    }
    message
}

/// The first line of every container that a start delivers, until `count` of them; each must be its container's own.
async fn sources(socket: &mut Socket, dialect: &str, namespace: &str, count: usize) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    while found.len() < count {
        let message = socket.next().await.unwrap();
        if message["type"] != "log" && message["type"] != "data" {
            continue;
        }
        let pod = if dialect == "classic" { &message["podName"] } else { &message["pod"] };
        let (pod, container) = (pod.as_str().unwrap(), message["container"].as_str().unwrap());
        assert_eq!(message["namespace"], namespace);
        let text = message["text"].as_str().unwrap();
        let app = pod.split_once('-').filter(|_| !pod.starts_with("solo")).map_or(pod, |(app, _)| app);
        let newline = if dialect == "channel-4" { "\n" } else { "" };
        assert_eq!(text, format!("{container} of {app}{newline}"), "{message}");
        assert!(found.insert(format!("{pod}/{container}")), "twice: {message}");
    }
    found
}

fn set(items: &[&str]) -> BTreeSet<String> {
    items.iter().map(|item| (*item).to_owned()).collect()
}

#[tokio::test]
async fn every_view_selects_the_same_in_every_dialect() {
    let town = Town::new("views").await;
    let store = set(&["store-0/main", "store-0/side"]);
    let solo = set(&["solo-1/main", "solo-1/side", "solo-2/main", "solo-2/side"]);
    let one = town.cart[0].as_str();
    let cases = [
        ("the cluster", json!({"view": "cluster", "namespace": ""}), town.all()),
        ("a namespace", json!({"view": "namespace"}), town.all()),
        ("a namespace by pattern", json!({"view": "namespace", "namespace": "views-.*,other"}), town.all()),
        ("a deployment", json!({"view": "group", "group": "deployment+cart"}), town.of_cart()),
        ("a deployment in capitals", json!({"view": "group", "group": "Deployment+cart"}), town.of_cart()),
        ("a group of any type", json!({"view": "group", "group": "cart"}), town.of_cart()),
        ("a group by its older name", json!({"view": "group", "set": "deployment+cart"}), town.of_cart()),
        ("its replica set", json!({"view": "group", "group": "replica+cart-.*"}), town.of_cart()),
        ("a stateful set", json!({"view": "group", "group": "statefulset+store"}), store.clone()),
        ("a stateful set, in short", json!({"view": "group", "group": "stateful+store"}), store.clone()),
        ("two groups", json!({"view": "group", "group": "cart,stateful+store"}), &town.of_cart() | &store),
        ("a pod", json!({"view": "pod", "pod": one}), set(&[&format!("{one}/main")])),
        ("a pod, without a view", json!({"view": "", "pod": one}), set(&[&format!("{one}/main")])),
        (
            "a list of pods",
            json!({"view": "pod", "pod": "solo-1, store-0"}),
            &set(&["solo-1/main", "solo-1/side"]) | &store,
        ),
        ("pods by pattern", json!({"view": "pod", "pod": "solo-\\d"}), solo.clone()),
        (
            "a pattern that is anchored",
            json!({"view": "pod", "pod": "olo-.|solo-1"}),
            set(&["solo-1/main", "solo-1/side"]),
        ),
        ("a container", json!({"view": "container", "pod": "solo-1", "container": "side"}), set(&["solo-1/side"])),
        ("containers", json!({"view": "container", "pod": "solo-.*", "container": "main,side"}), solo.clone()),
        ("a container of a pod", json!({"view": "container", "container": "solo-2+side"}), set(&["solo-2/side"])),
        (
            "containers of pods",
            json!({"view": "container", "container": "solo-1+main,store-.*+side"}),
            set(&["solo-1/main", "store-0/side"]),
        ),
        (
            "pods with a label",
            json!({"view": "namespace", "labelSelector": "number=solo-1"}),
            set(&["solo-1/main", "solo-1/side"]),
        ),
        ("pods with two labels", json!({"view": "namespace", "labelSelector": "tier=web,app==store"}), store),
    ];
    for dialect in ["classic", "channel-3", "channel-4"] {
        for (what, fields, expected) in &cases {
            let mut socket = town.weir.connect().await;
            let instance = socket.start(start(dialect, &town.key, &town.cluster.namespace, fields)).await;
            let found = sources(&mut socket, dialect, &town.cluster.namespace, expected.len()).await;
            assert_eq!(&found, expected, "{what} in {dialect}");
            // Nothing else comes: all that there is was ready with the first.
            socket.send(json!({"action": "stop", "channel": "log", "type": "signal", "instance": instance})).await;
            let rest = socket.until("the stop", |message| message["type"] != "info" && message["event"] != "add").await;
            assert_eq!(rest["action"], "stop", "{what} in {dialect} also gave {rest}");
        }
    }
    town.weir.stop().await;
}

/// A pod with one container that says one word, and a start that reads it.
async fn one_line(name: &str) -> (Cluster, Served, String) {
    let cluster = Cluster::new(name).await;
    cluster.run("talker", "echo word; sleep 600").await;
    cluster.started("talker").await;
    let weir = Served::new(&cluster).await;
    let key = weir.reader_key();
    (cluster, weir, key)
}

/// Takes a field out of a message that is different every time, and checks that it is a time.
fn take_time(message: &mut Value) {
    let time = message.as_object_mut().unwrap().remove("timestamp").expect("a timestamp");
    let time = time.as_str().unwrap();
    assert!(time.ends_with('Z') && chrono::DateTime::parse_from_rfc3339(time).is_ok(), "{time}");
}

#[tokio::test]
async fn every_message_has_exactly_the_fields_of_its_dialect() {
    let (cluster, weir, key) = one_line("shapes").await;
    let ns = cluster.namespace.as_str();
    for timed in [false, true] {
        for dialect in ["classic", "channel-3", "channel-4"] {
            let mut request = start(dialect, &key, ns, &json!({"view": "pod", "pod": "talker"}));
            match dialect {
                "classic" => request["timestamp"] = json!(timed),
                _ => request["data"]["timestamp"] = json!(timed),
            }
            let mut socket = weir.connect().await;
            socket.send(request.clone()).await;
            let mut accepted = socket.next().await.unwrap();
            let instance = accepted["instance"].as_str().unwrap().to_owned();
            assert!(uuid::Uuid::parse_str(&instance).is_ok(), "{instance}");
            let mut expected = match dialect {
                "classic" => request,
                _ => {
                    let proof = accepted.as_object_mut().unwrap().remove("reconnectKey").expect("a reconnect key");
                    assert!(proof.as_str().unwrap().len() >= 32);
                    json!({"action": "start", "type": "signal", "channel": "log", "level": "info",
                           "text": "Instance Config accepted"})
                }
            };
            expected["flow"] = json!("response");
            expected["instance"] = json!(instance);
            if dialect == "classic" {
                expected["accessKey"] = json!("");
            }
            assert_eq!(accepted, expected, "{dialect}");

            // The signal and the line, in whatever order: the past has no place among the signals.
            let (one, two) = (socket.next().await.unwrap(), socket.next().await.unwrap());
            let (mut signal, mut log) = if one["event"] == "add" { (one, two) } else { (two, one) };
            take_time(&mut signal);
            let text = format!("Container ADDED: {ns}/talker/main");
            let expected = match dialect {
                "classic" => json!({"type": "info", "instance": instance, "event": "add", "text": text,
                                    "namespace": ns, "podName": "talker", "container": "main"}),
                _ => json!({"action": "none", "flow": "unsolicited", "type": "signal", "channel": "log",
                            "instance": instance, "level": "info", "event": "add", "text": text,
                            "namespace": ns, "pod": "talker", "container": "main"}),
            };
            assert_eq!(signal, expected, "{dialect}");

            if timed {
                take_time(&mut log);
            }
            let expected = match dialect {
                "classic" => json!({"type": "log", "namespace": ns, "podName": "talker", "container": "main",
                                    "instance": instance, "text": "word"}),
                "channel-3" => json!({"channel": "log", "type": "data", "instance": instance, "namespace": ns,
                                      "pod": "talker", "container": "main", "text": "word"}),
                _ => json!({"action": "none", "flow": "unsolicited", "type": "data", "channel": "log",
                            "instance": instance, "msgtype": "logmessage", "namespace": ns, "pod": "talker",
                            "container": "main", "text": "word\n"}),
            };
            assert_eq!(log, expected, "{dialect}");
        }
    }
    weir.stop().await;
}

#[tokio::test]
async fn the_published_sample_of_the_classic_dialect_works() {
    let (cluster, weir, key) = one_line("sample").await;
    let mut socket = weir.connect_to("/").await;
    // Neither action nor flow, and `set` for `group`.
    socket
        .send(json!({"accessKey": key, "type": "log", "scope": "view", "view": "pod", "namespace": cluster.namespace,
                     "set": "", "pod": "talker", "container": "", "timestamp": false, "previous": false,
                     "maxMessages": 10}))
        .await;
    let accepted = socket.next().await.unwrap();
    assert_eq!((&accepted["flow"], &accepted["accessKey"]), (&json!("response"), &json!("")));
    assert_eq!(socket.lines_until(|line| line == "word").await, ["word"]);
    weir.stop().await;
}

#[tokio::test]
async fn the_socket_is_served_on_every_path_that_clients_use() {
    let (cluster, weir, key) = one_line("paths").await;
    for path in ["/", "/ws", "/ws/", "/kwirth", "/kwirth/"] {
        let mut socket = weir.connect_to(path).await;
        let fields = json!({"view": "pod", "pod": "talker"});
        socket.start(start("channel-4", &key, &cluster.namespace, &fields)).await;
        assert_eq!(socket.lines_until(|_| true).await, ["word"], "{path}");
    }
    weir.stop().await;
}

#[tokio::test]
async fn init_containers_are_read_by_option_only() {
    let cluster = Cluster::new("init").await;
    let container = |name: &str, script: &str| json!({"name": name, "image": "weir.test/busybox:1", "imagePullPolicy": "Never", "command": ["sh", "-c", script]});
    cluster
        .create(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "built"},
            "spec": {"restartPolicy": "Never", "terminationGracePeriodSeconds": 0,
                     "initContainers": [container("prepare", "echo prepared")],
                     "containers": [container("main", "echo ready; sleep 600")]}}))
        .await;
    cluster.started("built").await;
    let weir = Served::new(&cluster).await;
    let key = weir.reader_key();
    for dialect in ["classic", "channel-4"] {
        for (with, expected) in [(false, &["ready"][..]), (true, &["prepared", "ready"][..])] {
            let mut request = start(dialect, &key, &cluster.namespace, &json!({"view": "pod", "pod": "built"}));
            match dialect {
                "classic" => request["initContainers"] = json!(with),
                _ => request["data"]["initContainers"] = json!(with),
            }
            let mut socket = weir.connect().await;
            socket.start(request).await;
            let mut lines = Vec::new();
            while lines.len() < expected.len() {
                lines.extend(socket.lines_until(|_| true).await);
            }
            lines.sort();
            assert_eq!(lines, expected, "{dialect}, asked for: {with}");
        }
    }
    weir.stop().await;
}

/// Adds an ephemeral container, as `kubectl debug` does.
async fn debug(cluster: &Cluster, pod: &str, name: &str, script: &str) {
    let path = format!("/api/v1/namespaces/{}/pods/{pod}/ephemeralcontainers", cluster.namespace);
    let container = json!({"name": name, "image": "weir.test/busybox:1", "imagePullPolicy": "Never",
        "command": ["sh", "-c", script], "terminationMessagePolicy": "File"});
    let get = http::Request::get(&path).body(Vec::new()).unwrap();
    let mut object: Value = cluster.client.request(get).await.unwrap();
    // Servers before 1.22 have a kind of its own for this.
    let place = if object["kind"] == "Pod" { &mut object["spec"] } else { &mut object };
    place["ephemeralContainers"] = json!([container]);
    let put = http::Request::put(&path).header("content-type", "application/json");
    let put = put.body(object.to_string().into_bytes()).unwrap();
    let _: Value = cluster.client.request(put).await.unwrap();
}

#[tokio::test]
async fn ephemeral_containers_are_read_by_option_only() {
    let (cluster, weir, key) = one_line("ephemeral").await;
    let mut sockets = Vec::new();
    for with in [false, true] {
        let mut socket = weir.connect().await;
        let mut request = start("channel-4", &key, &cluster.namespace, &json!({"view": "pod", "pod": "talker"}));
        request["data"]["ephemeralContainers"] = json!(with);
        socket.start(request).await;
        assert_eq!(socket.lines_until(|_| true).await, ["word"]);
        sockets.push(socket);
    }
    debug(&cluster, "talker", "visitor", "echo hello; sleep 600").await;
    let mut with = sockets.pop().unwrap();
    let message = with.until("the visitor", |message| message["type"] == "data").await;
    assert_eq!((&message["container"], &message["text"]), (&json!("visitor"), &json!("hello\n")));
    let mut without = sockets.pop().unwrap();
    without.send(json!({"action": "ping"})).await;
    without
        .until("the pong", |message| {
            assert_ne!(message["container"], "visitor");
            message["action"] == "ping"
        })
        .await;
    weir.stop().await;
}
