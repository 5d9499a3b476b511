//! Weir in this process, against a real cluster, with a client for its session socket.
//!
//! Every test has a namespace of its own that goes when the test does, and its own Weir with its own counters.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{SinkExt, StreamExt};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, PostParams};
use kube::{Client, Config};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use weir::access::{Authoriser, Digest, KeyId, KeyRecord, KeyRing, TicketLimits, Tickets};
use weir::api::AccessKeySpec;
use weir::endpoint::health::Readiness;
use weir::endpoint::services::{EndpointOptions, ServerInfo, Services};
use weir::endpoint::{Drain, Limits, Server, routes};
use weir::record::Time;
use weir::source::pods::metrics::{AddressType, MetricsHub, ScrapeConfig};
use weir::source::pods::{FollowHub, HubConfig, IndexScope, PodIndex, log_client};
use weir::source::push::Uploads;
use weir::source::{Outside, Sources};
use weir::stream::Catalogue;
use weir::telemetry::{Exposition, Metrics};
use weir::worker::{Declared, Inventory, Supervisor, SupervisorConfig};

/// The longest that anything may take here before the test fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The namespace whose keys reach everything, in these tests.
pub const OPERATOR: &str = "weir-system";

/// A cluster with a namespace for one test.
pub struct Cluster {
    pub client: Client,
    pub config: Config,
    pub namespace: String,
}

impl Cluster {
    /// Connects, and makes a namespace. Fails the test where there is no cluster: nothing is skipped.
    pub async fn new(name: &str) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let problem = "these tests need a cluster: export KUBECONFIG=$(hack/cluster kubeconfig)";
        assert!(std::env::var_os("KUBECONFIG").is_some(), "{problem}");
        let mut config = Config::infer().await.expect(problem);
        config.default_retry = false;
        let client = Client::try_from(config.clone()).expect(problem);
        let unique = format!("{name}-{:x}", Time::now().millis() & 0xff_ffff);
        let object = json!({"metadata": {"name": unique}});
        let namespaces: Api<Namespace> = Api::all(client.clone());
        namespaces.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.expect(problem);
        let cluster = Self { client, config, namespace: unique };
        cluster.wait_for_service_account().await;
        cluster
    }

    /// Pods are refused until the namespace's service account is there.
    async fn wait_for_service_account(&self) {
        use k8s_openapi::api::core::v1::ServiceAccount;
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), &self.namespace);
        until("the namespace has its service account", || async { accounts.get_opt("default").await.ok()?.map(drop) })
            .await;
    }

    pub fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// A pod with one container `main` that runs a shell script.
    pub async fn run(&self, name: &str, script: &str) {
        self.run_pod(name, json!({}), &[("main", script)], "Never").await;
    }

    /// A pod with any containers.
    pub async fn run_pod(&self, name: &str, labels: Value, containers: &[(&str, &str)], restart: &str) {
        let containers: Vec<Value> = containers
            .iter()
            .map(|(name, script)| {
                json!({"name": name, "image": "weir.test/busybox:1", "imagePullPolicy": "Never",
                       "command": ["sh", "-c", script]})
            })
            .collect();
        let pod = json!({"metadata": {"name": name, "labels": labels},
            "spec": {"restartPolicy": restart, "automountServiceAccountToken": false,
                     "terminationGracePeriodSeconds": 0, "containers": containers}});
        create(&self.pods(), &serde_json::from_value(pod).unwrap()).await;
    }

    /// Makes an object of any kind in the namespace.
    pub async fn create(&self, object: Value) {
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        let kind = object.types.clone().unwrap();
        let (group, version) = kind.api_version.split_once('/').unwrap_or(("", &kind.api_version));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &kind.kind));
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &self.namespace, &resource);
        create(&api, &object).await;
    }

    /// Waits until `count` pods with these labels run, and names them, sorted.
    pub async fn running(&self, labels: &str, count: usize) -> Vec<String> {
        until("the pods run", || async {
            let pods = self.pods().list(&ListParams::default().labels(labels)).await.ok()?;
            let runs = |pod: &Pod| pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running");
            let mut names: Vec<_> =
                pods.iter().filter(|pod| runs(pod)).filter_map(|pod| pod.metadata.name.clone()).collect();
            names.sort();
            (names.len() == count).then_some(names)
        })
        .await
    }

    /// Waits until every container of a pod has started (or has run already).
    pub async fn started(&self, name: &str) {
        until("the pod has started", || async {
            let pod = self.pods().get_opt(name).await.ok()??;
            let statuses = pod.status?.container_statuses?;
            let started = |state: &k8s_openapi::api::core::v1::ContainerState| {
                state.running.is_some() || state.terminated.is_some()
            };
            statuses.iter().all(|status| status.state.as_ref().is_some_and(started)).then_some(())
        })
        .await;
    }

    pub async fn delete(&self, pod: &str) {
        self.pods().delete(pod, &DeleteParams::default().grace_period(0)).await.unwrap();
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let (client, name) = (self.client.clone(), self.namespace.clone());
        // Beside a runtime that may be ending: a thread of its own waits for the request.
        let delete = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let Ok(mut config) = Config::infer().await else { return };
                config.connect_timeout = Some(Duration::from_secs(5));
                let Ok(client) = Client::try_from(config) else { return };
                let namespaces: Api<Namespace> = Api::all(client);
                let _ = namespaces.delete(&name, &DeleteParams::default()).await;
            });
        };
        drop(client);
        let _ = std::thread::spawn(delete).join();
    }
}

/// Makes an object. Servers before 1.24 ask to try again while the namespace's service account has no token yet.
async fn create<K>(api: &Api<K>, object: &K)
where
    K: Clone + std::fmt::Debug + serde::Serialize + serde::de::DeserializeOwned,
{
    until("the object is made", || async {
        match api.create(&PostParams::default(), object).await {
            Ok(_) => Some(()),
            Err(kube::Error::Api(status)) if status.reason == "ServerTimeout" => None,
            Err(error) => panic!("{error}"),
        }
    })
    .await;
}

/// Tries until it succeeds.
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut attempt: impl FnMut() -> F) -> T {
    let begin = Instant::now();
    loop {
        if let Some(value) = attempt().await {
            return value;
        }
        assert!(begin.elapsed() < PATIENCE, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Weir, serving in this process.
pub struct Served {
    pub services: Arc<Services>,
    pub hub: Arc<FollowHub>,
    pub keyring: Arc<KeyRing>,
    pub address: std::net::SocketAddr,
    tracker: TaskTracker,
    cancel: CancellationToken,
}

impl Served {
    /// Starts Weir with everything at its default.
    pub async fn new(cluster: &Cluster) -> Self {
        Self::with(cluster, EndpointOptions::default(), HubConfig::default(), SupervisorConfig::default()).await
    }

    /// Starts Weir over the namespaces of several tests' clusters.
    pub async fn over(clusters: &[&Cluster]) -> Self {
        let namespaces = clusters.iter().map(|cluster| cluster.namespace.clone()).collect();
        let (options, hub, workers) = Default::default();
        Self::start(clusters[0], namespaces, options, hub, workers).await
    }

    /// Starts Weir with options of the test's own.
    pub async fn with(cluster: &Cluster, options: EndpointOptions, hub: HubConfig, workers: SupervisorConfig) -> Self {
        Self::start(cluster, vec![cluster.namespace.clone()], options, hub, workers).await
    }

    async fn start(
        cluster: &Cluster,
        namespaces: Vec<String>,
        options: EndpointOptions,
        hub: HubConfig,
        workers: SupervisorConfig,
    ) -> Self {
        let (tracker, cancel) = (TaskTracker::new(), CancellationToken::new());
        let (metrics, drain) = (Metrics::new(), Drain::new());
        let scope = IndexScope::Namespaces(namespaces);
        let index = PodIndex::start(&cluster.client, &scope, &tracker, &cancel);
        let logs = log_client(cluster.config.clone()).expect("a usable configuration");
        let hub = FollowHub::new(logs, Arc::clone(&index), hub, Arc::clone(&metrics), tracker.clone(), cancel.clone());
        let sources = Sources {
            pods: Some(Arc::clone(&hub)),
            metrics: Some(scrapes(cluster, &index, &metrics, &tracker, &cancel)),
            outside: Outside::closed(Arc::clone(&metrics)),
            uploads: Uploads::closed(Arc::clone(&metrics)),
        };
        let supervisor = Supervisor::new(sources, workers, Arc::clone(&metrics), tracker.clone(), cancel.clone());
        let declared = Declared::new(supervisor, Arc::new(Catalogue::default()), tracker.clone());
        let keyring = KeyRing::new();
        let expiry = Arc::clone(&keyring);
        let expiry_cancel = cancel.clone();
        tracker.spawn(async move { expiry.run_expiry(Time::now, |_| (), expiry_cancel).await });
        let services = Arc::new(Services {
            keyring: Arc::clone(&keyring),
            authoriser: Authoriser::new(Some(OPERATOR.into())),
            tickets: Tickets::new(Arc::clone(&keyring), TicketLimits::default()),
            declared,
            inventory: Some(Inventory::new(index)),
            owner: None,
            metrics: Arc::clone(&metrics),
            drain: drain.clone(),
            readiness: Readiness::default(),
            info: ServerInfo::default(),
            options,
        });
        let address = "127.0.0.1:0".parse().unwrap();
        let server = Server::bind(address, Limits::default(), None, metrics, drain).await.unwrap();
        let address = server.address();
        let routes = warp::service(routes::routes(Arc::clone(&services)));
        let routes = weir::endpoint::socket_io::SocketIo::new(&services, routes);
        tracker.spawn(async move {
            let _ = server.run(routes, Duration::from_secs(5)).await;
        });
        Self { services, hub, keyring, address, tracker, cancel }
    }

    /// What can be asked of metrics.
    pub fn scrapes(&self) -> Arc<MetricsHub> {
        self.services.declared.supervisor().sources().metrics.clone().unwrap()
    }

    /// Makes a key in the operator's namespace and returns its token. The spec is as in an AccessKey.
    pub fn key(&self, name: &str, spec: Value) -> String {
        self.key_in(OPERATOR, name, spec)
    }

    /// Makes, or replaces, a key in a namespace.
    pub fn key_in(&self, namespace: &str, name: &str, spec: Value) -> String {
        let token = format!("weir_test_{namespace}_{name}_0123456789abcdef0123456789abcdef");
        let spec: AccessKeySpec = serde_json::from_value(spec).unwrap();
        let digest = Digest::of_presented(&token).unwrap();
        let record = KeyRecord::new(KeyId::new(namespace, name), "uid", Time::now(), None, &spec, digest).unwrap();
        self.keyring.upsert(record);
        token
    }

    /// A key that may read all logs and signals.
    pub fn reader_key(&self) -> String {
        self.key("reader", json!({"grants": [{"services": ["Log", "Signal"], "scopes": ["Cluster"]}]}))
    }

    pub async fn connect(&self) -> Socket {
        self.connect_to("/ws").await
    }

    pub async fn connect_to(&self, path: &str) -> Socket {
        let (socket, _) = tokio_tungstenite::connect_async(format!("ws://{}{path}", self.address)).await.unwrap();
        Socket(socket)
    }

    /// The value of one of Weir's own metrics, by its name and labels as `/metrics` writes them.
    pub fn metric(&self, name: &str) -> f64 {
        let text = self.services.metrics.encode(Exposition::Prometheus);
        let line = text.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')));
        line.unwrap_or_else(|| panic!("no metric {name} in\n{text}")).rsplit(' ').next().unwrap().parse().unwrap()
    }

    /// Stops everything and waits for it.
    pub async fn stop(self) {
        self.services.drain.begin();
        self.cancel.cancel();
        self.tracker.close();
        timeout(PATIENCE, self.tracker.wait()).await.expect("every task ends when it is told to");
    }
}

/// The way to the nodes. The kubelet of a test's cluster may listen on its host's own address alone.
fn scrapes(
    cluster: &Cluster,
    index: &Arc<PodIndex>,
    metrics: &Arc<Metrics>,
    tracker: &TaskTracker,
    cancel: &CancellationToken,
) -> Arc<MetricsHub> {
    let options = ScrapeConfig { addresses: vec![AddressType::Hostname], ..ScrapeConfig::default() };
    let (client, index, metrics) = (cluster.client.clone(), Arc::clone(index), Arc::clone(metrics));
    MetricsHub::new(cluster.config.clone(), client, index, options, metrics, tracker.clone(), cancel.clone()).unwrap()
}

/// A client of the session socket.
pub struct Socket(pub WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    pub async fn send(&mut self, message: Value) {
        self.send_text(&message.to_string()).await;
    }

    pub async fn send_text(&mut self, text: &str) {
        self.0.send(Message::text(text)).await.unwrap();
    }

    /// The next message; the close frame's code and reason where the server closes.
    pub async fn next(&mut self) -> Result<Value, (u16, String)> {
        loop {
            match timeout(PATIENCE, self.0.next()).await.expect("a message within a minute") {
                Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Close(frame))) => {
                    return Err(frame.map(|f| (u16::from(f.code), f.reason.to_string())).unwrap_or_default());
                }
                Some(Ok(_)) => {}
                other => panic!("the socket broke: {other:?}"),
            }
        }
    }

    /// Skips messages until one that `wanted` accepts.
    pub async fn until(&mut self, what: &str, mut wanted: impl FnMut(&Value) -> bool) -> Value {
        let begin = Instant::now();
        loop {
            let message = self.next().await.unwrap_or_else(|close| panic!("closed with {close:?} before {what}"));
            if wanted(&message) {
                return message;
            }
            assert!(begin.elapsed() < PATIENCE, "waited in vain for {what}; the last was {message}");
        }
    }

    /// Starts something and returns the instance.
    pub async fn start(&mut self, message: Value) -> String {
        self.send(message).await;
        let answer =
            self.until("the answer", |message| message["flow"] == "response" || message["type"] == "error").await;
        assert_eq!(answer["flow"], "response", "{answer}");
        assert_ne!(answer["level"], "error", "{answer}");
        answer["instance"].as_str().unwrap().to_owned()
    }

    /// The lines of log messages until one that `last` accepts, that one too.
    pub async fn lines_until(&mut self, mut last: impl FnMut(&str) -> bool) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let message =
                self.next().await.unwrap_or_else(|close| panic!("closed with {close:?} after {} lines", lines.len()));
            let is_log = message["type"] == "log" || (message["type"] == "data");
            let Some(text) = message["text"].as_str().filter(|_| is_log) else { continue };
            for line in text.strip_suffix('\n').unwrap_or(text).split('\n') {
                lines.push(line.to_owned());
                if last(line) {
                    return lines;
                }
            }
        }
    }
}

/// A channel-4 start of a log.
pub fn log_start(key: &str, namespace: &str, pod: &str, data: Value) -> Value {
    json!({"action": "start", "flow": "request", "type": "signal", "channel": "log", "instance": "", "objects": "pods",
           "accessKey": key, "scope": "view", "view": "pod", "namespace": namespace, "group": "", "pod": pod,
           "container": "", "data": data})
}

/// The numbers from `first` to `last`, as a pod writes them that counts.
pub fn numbers(first: u32, last: u32) -> Vec<String> {
    (first..=last).map(|number| number.to_string()).collect()
}
