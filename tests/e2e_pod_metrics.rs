//! The metrics of pods on a real cluster: declared, and read as lines.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests say what is wrong by panicking")]

mod served;

use std::time::{Duration, Instant};

use futures::StreamExt;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Namespace, Node, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::api::{Api, ListParams, LogParams, PostParams};
use kube::config::AuthInfo;
use serde_json::{Value, json};
use served::{Cluster, PATIENCE, Served, until};
use weir::api::StreamSubscriptionSpec;
use weir::record::Time;
use weir::stream::{RingLimits, StreamName};
use weir::worker::{Job, Sight};

/// Declares a subscription to metrics as its controller would.
fn declare(weir: &Served, name: &str, metrics: Value) -> StreamName {
    let name = StreamName::new(served::OPERATOR, name);
    weir.services.declared.declare(&name, "uid", job(&metrics)).unwrap();
    name
}

fn job(metrics: &Value) -> Job {
    let spec: StreamSubscriptionSpec = serde_json::from_value(json!({"source": {"podMetrics": metrics}})).unwrap();
    Job::new(&spec, RingLimits::default(), Sight::Selected).unwrap()
}

/// A declared stream that is read as lines of JSON.
struct Lines {
    body: std::pin::Pin<Box<dyn futures::Stream<Item = reqwest::Result<bytes::Bytes>> + Send>>,
    rest: Vec<u8>,
    signals: Vec<Value>,
}

impl Lines {
    async fn open(weir: &Served, name: &StreamName) -> Self {
        let key = weir.key("metrics", json!({"grants": [{"services": ["Metrics"], "scopes": ["Cluster"]}]}));
        let url = format!("http://{}/api/v1/streams/{}/{}?fromStart", weir.address, name.namespace, name.name);
        let response = reqwest::Client::new().get(url).bearer_auth(key).send().await.unwrap();
        assert_eq!(response.status(), 200);
        Self { body: Box::pin(response.bytes_stream()), rest: Vec::new(), signals: Vec::new() }
    }

    /// The next line; `None` where the stream is over.
    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let bytes = tokio::time::timeout(PATIENCE, self.body.next()).await.expect("a line within a minute")?;
            self.rest.extend_from_slice(&bytes.unwrap());
        }
    }

    /// The next reading; signals that come before it are kept.
    async fn reading(&mut self) -> Value {
        loop {
            let line = self.next().await.expect("a reading before the end");
            if line.get("signal").is_some() {
                self.signals.push(line["signal"].clone());
            } else {
                return line;
            }
        }
    }

    /// Reads until a reading satisfies.
    async fn reading_with<T>(&mut self, what: &str, wanted: impl FnMut(&Value) -> Option<T>) -> T {
        // cAdvisor measures every 10 to 15 seconds.
        self.reading_within(2 * PATIENCE, what, wanted).await
    }

    /// The same, for what needs more than a few samples.
    async fn reading_within<T>(
        &mut self,
        patience: Duration,
        what: &str,
        mut wanted: impl FnMut(&Value) -> Option<T>,
    ) -> T {
        let begin = Instant::now();
        loop {
            let reading = self.reading().await;
            if let Some(found) = wanted(&reading) {
                return found;
            }
            assert!(begin.elapsed() < patience, "waited in vain for {what}; the last was {reading}");
        }
    }
}

/// The value of a metric of an asset.
fn value(reading: &Value, asset: &str, metric: &str) -> Option<f64> {
    let asset = reading["assets"].as_array()?.iter().find(|one| one["asset"] == asset)?;
    asset["metrics"][metric].as_f64()
}

/// The sum of a metric over all assets; none where one has no value.
fn sum(reading: &Value, metric: &str) -> Option<f64> {
    let assets = reading["assets"].as_array()?;
    (!assets.is_empty()).then(|| assets.iter().map(|asset| asset["metrics"][metric].as_f64()).sum())?
}

fn near(value: f64, expected: f64) -> bool {
    (value - expected).abs() <= expected * 0.1
}

const CPU: &str = "container_cpu_usage_seconds_total";
const OK: &str = r#"weir_scrapes_total{page="cadvisor",outcome="ok"}"#;

#[tokio::test]
async fn a_pod_that_burns_a_known_share_of_a_core_shows_it() {
    let cluster = Cluster::new("burn").await;
    let burner = json!({"name": "main", "image": "weir.test/busybox:1", "imagePullPolicy": "Never",
        "command": ["sh", "-c", "while true; do :; done"], "resources": {"limits": {"cpu": "200m"}}});
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "burner"},
        "spec": {"terminationGracePeriodSeconds": 0, "automountServiceAccountToken": false, "containers": [burner]}});
    cluster.create(pod).await;
    cluster.started("burner").await;
    let weir = Served::new(&cluster).await;
    let rate = format!("{CPU}:rate");
    let metrics = json!([rate, "kwirth_container_cpu_percentage", "kwirth_cluster_container_cpu_percentage"]);
    let selection = json!({"namespaces": [cluster.namespace], "view": "Container"});
    let name = declare(&weir, "cpu", json!({"selection": selection, "interval": "2s", "metrics": metrics}));
    let mut lines = Lines::open(&weir, &name).await;
    let asset = "burner[main]";
    // The first rate may begin before the container did.
    let mut rates = Vec::new();
    let (share, reading) = lines
        .reading_with("a second rate", |reading| {
            let rate = value(reading, asset, &rate)?;
            if rates.last() != Some(&rate) {
                rates.push(rate);
            }
            (rates.len() > 1).then(|| (rate, reading.clone()))
        })
        .await;
    assert!(near(share, 0.2), "{rates:?}");
    // The share of the node's and of the cluster's CPUs, of which there is one node here.
    let cores = node_cores(&cluster).await;
    for metric in ["kwirth_container_cpu_percentage", "kwirth_cluster_container_cpu_percentage"] {
        let percent = value(&reading, asset, metric).unwrap();
        assert!((percent - share / cores * 100.0).abs() < 1e-6, "{metric} {percent} of {cores} cores");
    }
    weir.stop().await;
}

/// The CPUs of all nodes.
async fn node_cores(cluster: &Cluster) -> f64 {
    let nodes: Api<Node> = Api::all(cluster.client.clone());
    let nodes = nodes.list(&ListParams::default()).await.unwrap();
    let cores =
        |node: &Node| -> f64 { node.status.as_ref().unwrap().capacity.as_ref().unwrap()["cpu"].0.parse().unwrap() };
    nodes.iter().map(cores).sum()
}

#[tokio::test]
async fn a_pod_that_sends_shows_the_megabits_that_its_own_interface_counts() {
    /// So many samples are looked at.
    const SAMPLES: usize = 4;
    let cluster = Cluster::new("send").await;
    // It says nothing itself, and does not close its side either, at which the sender would end.
    cluster.run("sink", "while true; do sleep 3600 | nc -l -p 9000 >/dev/null; done").await;
    cluster.started("sink").await;
    let sink =
        until("the sink has an address", || async { cluster.pods().get("sink").await.unwrap().status?.pod_ip }).await;
    // About a megabit in a second; how much it was, and when, is what the pod says itself.
    let script = format!(
        "while true; do dd if=/dev/zero bs=125000 count=1 2>/dev/null; sleep 1; done | nc {sink} 9000 & \
         while true; do echo $(cut -d' ' -f1 /proc/uptime) $(grep eth0: /proc/net/dev | tr -s ' ' | sed 's/^ //' | cut -d' ' -f10); \
         sleep 1; done"
    );
    cluster.run("sender", &script).await;
    cluster.started("sender").await;
    let weir = Served::new(&cluster).await;
    let metrics = json!(["kwirth_container_transmit_mbps", "kwirth_container_receive_mbps"]);
    let selection = json!({"namespaces": [cluster.namespace]});
    let name = declare(&weir, "net", json!({"selection": selection, "interval": "2s", "metrics": metrics}));
    let mut lines = Lines::open(&weir, &name).await;
    // A sample spans some ten seconds, so one burst more or less in it is a tenth: the mean of several tells the rate.
    let (mut sent, mut received) = (Vec::new(), Vec::new());
    let note = |rates: &mut Vec<f64>, rate: Option<f64>| {
        if let Some(rate) = rate.filter(|rate| rates.last() != Some(rate)) {
            rates.push(rate);
        }
    };
    lines
        .reading_within(4 * PATIENCE, "several rates of both", |reading| {
            note(&mut sent, value(reading, "sender", "kwirth_container_transmit_mbps"));
            note(&mut received, value(reading, "sink", "kwirth_container_receive_mbps"));
            (sent.len() >= SAMPLES && received.len() >= SAMPLES).then_some(())
        })
        .await;
    let log = cluster.pods().logs("sender", &LogParams { tail_lines: Some(60), ..LogParams::default() }).await.unwrap();
    let counted = |line: &str| -> Option<(f64, f64)> {
        let (seconds, bytes) = line.split_once(' ')?;
        Some((seconds.parse().ok()?, bytes.parse().ok()?))
    };
    let counted: Vec<_> = log.lines().filter_map(counted).collect();
    let (first, last) = (counted[0], counted[counted.len() - 1]);
    let megabits = (last.1 - first.1) * 8.0 / 1e6 / (last.0 - first.0);
    let mean = |rates: &[f64]| rates.iter().sum::<f64>() / rates.len() as f64;
    let rate = mean(&sent);
    assert!(near(rate, megabits) && near(rate, 1.05), "{rate} Mbit/s here, {megabits} by the pod, of {sent:?}");
    let rate = mean(&received);
    assert!(near(rate, megabits), "{rate} Mbit/s received of {megabits}, of {received:?}");
    weir.stop().await;
}

#[tokio::test]
async fn the_sum_over_containers_is_the_group_and_all_streams_share_one_scrape() {
    let cluster = Cluster::new("sums").await;
    let container = |name: &str| {
        json!({"name": name, "image": "weir.test/busybox:1", "imagePullPolicy": "Never",
               "command": ["sh", "-c", "sleep 3600"]})
    };
    let template = json!({"metadata": {"labels": {"app": "web"}}, "spec": {"terminationGracePeriodSeconds": 0,
        "automountServiceAccountToken": false, "containers": [container("main"), container("side")]}});
    cluster
        .create(json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
            "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": template}}))
        .await;
    cluster.running("app=web", 2).await;
    let weir = Served::new(&cluster).await;
    // It does not change while a container runs, so that scrapes need not be the same ones.
    let metric = "container_start_time_seconds";
    let ask = |view: &str, aggregate: bool| {
        let selection = json!({"namespaces": [cluster.namespace], "view": view});
        json!({"selection": selection, "interval": "2s", "metrics": [metric], "aggregate": aggregate})
    };
    let names = [
        declare(&weir, "containers", ask("Container", false)),
        declare(&weir, "groups", ask("Group", false)),
        declare(&weir, "everything", ask("Pod", true)),
    ];
    let mut readers = Vec::new();
    for name in &names {
        // Two clients each.
        readers.push(Lines::open(&weir, name).await);
        readers.push(Lines::open(&weir, name).await);
    }
    let mut sums = Vec::new();
    for reader in &mut readers {
        let found = |reading: &Value| {
            let all = reading["assets"].as_array()?.len();
            [1, 4].contains(&all).then(|| sum(reading, metric))?
        };
        sums.push(reader.reading_with("a sum over all containers", found).await);
    }
    // Four containers: 4 × the seconds since 1970.
    let begun = sums[0] / 4.0;
    assert!((Time::now().millis() as f64 / 1e3 - begun) < 300.0, "{sums:?}");
    assert!(sums.iter().all(|sum| (sum - sums[0]).abs() < 1.0), "{sums:?}");

    // From here on: as many scrapes as there were rounds, however many streams and readers.
    let (before, mut rounds) = (weir.metric(OK), 0);
    let begin = Instant::now();
    while rounds < 4 {
        readers[0].reading().await;
        rounds += 1;
    }
    let scraped = weir.metric(OK) - before;
    assert!(scraped <= f64::from(rounds) + 1.0, "{scraped} scrapes for {rounds} rounds in {:?}", begin.elapsed());
    assert_eq!(weir.services.declared.supervisor().workers(), 3);
    weir.stop().await;
}

#[tokio::test]
async fn the_first_reading_comes_at_once_and_pods_join_and_leave() {
    let cluster = Cluster::new("join").await;
    cluster.run("first", "sleep 3600").await;
    cluster.started("first").await;
    let weir = Served::new(&cluster).await;
    weir.scrapes().catalogue().await;
    let memory = "container_memory_working_set_bytes";
    let ask = |interval: &str| {
        let selection = json!({"namespaces": [cluster.namespace]});
        json!({"selection": selection, "interval": interval, "metrics": [memory, "container_no_such_metric"]})
    };
    let begin = Instant::now();
    let hourly = declare(&weir, "hourly", ask("1h"));
    let reading = Lines::open(&weir, &hourly).await.reading().await;
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    assert_eq!(reading["assets"][0]["asset"], "first", "{reading}");

    let name = declare(&weir, "often", ask("2s"));
    let mut lines = Lines::open(&weir, &name).await;
    let names = |reading: &Value| -> Vec<String> {
        let assets = reading["assets"].as_array().unwrap().iter();
        assets.map(|asset| asset["asset"].as_str().unwrap().to_owned()).collect()
    };
    lines.reading_with("the first pod's value", |reading| value(reading, "first", memory)).await;
    cluster.run("second", "sleep 3600").await;
    lines.reading_with("the second pod's value", |reading| value(reading, "second", memory)).await;
    cluster.delete("first").await;
    lines.reading_with("the second pod alone", |reading| (names(reading) == ["second"]).then_some(())).await;
    let text = |event: &str| -> Vec<&str> {
        let of = lines.signals.iter().filter(|signal| signal["event"] == event);
        of.map(|signal| signal["text"].as_str().unwrap()).collect()
    };
    let path = |pod: &str| format!("{}/{pod}/main", cluster.namespace);
    assert_eq!(text("added"), ["first", "second"].map(|pod| format!("Container ADDED: {}", path(pod))));
    assert_eq!(text("deleted"), [format!("Container DELETED: {}", path("first"))]);
    let unknown = text("source-error");
    assert!(unknown.iter().any(|text| text.contains("container_no_such_metric")), "{unknown:?}");
    assert_eq!(*weir.services.declared.supervisor().ensure(job(&ask("2s"))).unwrap().targets().borrow(), 1);
    weir.stop().await;
}

#[tokio::test]
async fn a_snapshot_is_one_reading_with_its_rates_and_the_end() {
    let cluster = Cluster::new("snapshot").await;
    cluster.run("pod", "while true; do :; done").await;
    cluster.started("pod").await;
    let weir = Served::new(&cluster).await;
    let rate = format!("{CPU}:rate");
    let selection = json!({"namespaces": [cluster.namespace]});
    let ask = json!({"selection": selection, "mode": "Snapshot", "metrics": [rate]});
    let name = declare(&weir, "snapshot", ask);
    let mut lines = Lines::open(&weir, &name).await;
    let reading = lines.reading().await;
    assert!(value(&reading, "pod", &rate).is_some(), "{reading}");
    let end = lines.next().await.unwrap();
    assert_eq!(end["end"]["text"], "The snapshot is complete.");
    assert_eq!(lines.next().await, None);
    weir.stop().await;
}

/// What the chart gives for `metrics.scrape: Kubelet`, and no more.
#[tokio::test]
async fn the_right_to_read_metrics_of_nodes_is_enough_and_a_lack_of_it_is_told() {
    let mut cluster = Cluster::new("rights").await;
    cluster.run("pod", "sleep 3600").await;
    cluster.started("pod").await;
    for (account, resources) in [("metrics", json!(["nodes/metrics"])), ("bare", json!([]))] {
        let token = account_with(&cluster, account, resources).await;
        cluster.config.auth_info = AuthInfo { token: Some(token.into()), ..AuthInfo::default() };
        let weir = Served::new(&cluster).await;
        let metric = "container_start_time_seconds";
        let ask = json!({"selection": {"namespaces": [cluster.namespace]}, "interval": "2s", "metrics": [metric]});
        let name = declare(&weir, account, ask);
        let mut lines = Lines::open(&weir, &name).await;
        if account == "metrics" {
            lines.reading_with("a value", |reading| value(reading, "pod", metric)).await;
        } else {
            assert_eq!(value(&lines.reading().await, "pod", metric), None);
            let told = lines.signals.iter().find(|signal| signal["event"] == "source-error").unwrap();
            assert!(told["text"].as_str().unwrap().contains("it refuses Weir (403)"), "{told}");
        }
        weir.stop().await;
    }
}

/// The token of a new service account that may get these resources of nodes. All of it goes with the namespace.
async fn account_with(cluster: &Cluster, name: &str, resources: Value) -> String {
    let namespaces: Api<Namespace> = Api::all(cluster.client.clone());
    let owner = namespaces.get(&cluster.namespace).await.unwrap();
    let metadata = json!({"name": format!("{}-{name}", cluster.namespace), "ownerReferences": [
        {"apiVersion": "v1", "kind": "Namespace", "name": cluster.namespace, "uid": owner.metadata.uid}]});
    cluster.create(json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}})).await;
    if resources.as_array().is_some_and(|resources| !resources.is_empty()) {
        let rules = json!([{"apiGroups": [""], "resources": resources, "verbs": ["get"]}]);
        let role: ClusterRole = serde_json::from_value(json!({"metadata": metadata, "rules": rules})).unwrap();
        let subjects = json!([{"kind": "ServiceAccount", "name": name, "namespace": cluster.namespace}]);
        let of = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": metadata["name"]});
        let binding = json!({"metadata": metadata, "roleRef": of, "subjects": subjects});
        let binding: ClusterRoleBinding = serde_json::from_value(binding).unwrap();
        let (roles, bindings) = (Api::all(cluster.client.clone()), Api::all(cluster.client.clone()));
        roles.create(&PostParams::default(), &role).await.unwrap();
        bindings.create(&PostParams::default(), &binding).await.unwrap();
    }
    let accounts: Api<ServiceAccount> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let request = TokenRequest { spec: TokenRequestSpec::default(), ..TokenRequest::default() };
    let answer = accounts.create_token_request(name, &PostParams::default(), &request).await.unwrap();
    answer.status.unwrap().token
}

/// The kubelet's own port, through the API server.
#[tokio::test]
async fn the_api_servers_proxy_is_another_way_to_the_same() {
    let cluster = Cluster::new("proxy").await;
    cluster.run("pod", "sleep 3600").await;
    cluster.started("pod").await;
    let weir = Served::new(&cluster).await;
    let metric = "container_start_time_seconds";
    let ask = |scrape: &str| json!({"selection": {"namespaces": [cluster.namespace]}, "interval": "2s", "metrics": [metric], "scrape": scrape});
    let mut values = Vec::new();
    for scrape in ["Kubelet", "Proxy"] {
        let name = declare(&weir, &scrape.to_lowercase(), ask(scrape));
        let mut lines = Lines::open(&weir, &name).await;
        values.push(lines.reading_with("a value", |reading| value(reading, "pod", metric)).await);
    }
    assert_eq!(values[0], values[1]);
    weir.stop().await;
}
