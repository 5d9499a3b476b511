//! Nodes whose kubelets answer what a test wants, over real TLS connections, and an API server that knows them and their
//! pods.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
// What a test spawns ends with its runtime.
#![allow(clippy::disallowed_methods)]

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use kube::client::Body;
use kube::{Client, Config};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use weir::source::pods::metrics::{MetricsHub, ScrapeConfig};
use weir::source::pods::{IndexScope, PodIndex};
use weir::telemetry::{Exposition, Metrics};

/// What a kubelet answers to a page's path; `None` is 404.
pub type Page = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// How a kubelet behaves.
#[derive(Clone)]
pub enum Kubelet {
    /// As it should.
    Gives(Page),
    /// Refuses with a status.
    Refuses(u16),
    /// Takes this token and no other.
    Knows(&'static str, Page),
    /// Sends without an end.
    Endless,
    /// Takes the request and says nothing.
    Silent,
    /// Ends in the middle of its page.
    Breaks,
}

impl Kubelet {
    /// Gives one page as cAdvisor's and no other.
    pub fn gives(cadvisor: impl Fn() -> String + Send + Sync + 'static) -> Self {
        Self::Gives(Arc::new(move |path| (path == "/metrics/cadvisor").then(&cadvisor)))
    }
}

/// A node.
pub struct Node {
    pub name: &'static str,
    pub port: u16,
    behaves: Arc<Mutex<Kubelet>>,
    asked: Arc<AtomicUsize>,
}

impl Node {
    pub fn behave(&self, kubelet: Kubelet) {
        *self.behaves.lock() = kubelet;
    }

    /// How many requests its kubelet has had.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// A cluster of such nodes.
pub struct FakeCluster {
    pub nodes: Vec<Node>,
    pub hub: Arc<MetricsHub>,
    pub metrics: Arc<Metrics>,
    pub token: tempfile::NamedTempFile,
    pub cancel: CancellationToken,
    tracker: TaskTracker,
}

impl FakeCluster {
    /// Each pod is a node, a name and its containers; they are in the namespace `shop`.
    pub async fn new(
        nodes: Vec<(&'static str, Kubelet)>,
        pods: &[(&str, &str, &[&str])],
        options: impl FnOnce(&mut ScrapeConfig),
    ) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let pair = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let certificate = pair.cert.der().to_vec();
        let mut running = Vec::new();
        for (name, kubelet) in nodes {
            running.push(serve(name, kubelet, &certificate, &pair.signing_key.serialize_der()).await);
        }
        let token = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(token.path(), "first").unwrap();
        let mut config = Config::new("http://127.0.0.1:1".parse().unwrap());
        config.root_cert = Some(vec![certificate]);
        config.auth_info.token_file = Some(token.path().to_str().unwrap().to_owned());
        let client = api_server(&running, pods);
        let (tracker, cancel, metrics) = (TaskTracker::new(), CancellationToken::new(), Metrics::new());
        let index = PodIndex::start(&client, &IndexScope::Cluster, &tracker, &cancel);
        let mut scrapes = ScrapeConfig { timeout: Duration::from_secs(1), ..ScrapeConfig::default() };
        options(&mut scrapes);
        let counters = Arc::clone(&metrics);
        let hub = MetricsHub::new(config, client, index, scrapes, counters, tracker.clone(), cancel.clone()).unwrap();
        Self { nodes: running, hub, metrics, token, cancel, tracker }
    }

    /// The value of one of Weir's own metrics.
    pub fn metric(&self, name: &str) -> Option<f64> {
        let text = self.metrics.encode(Exposition::Prometheus);
        let line = text.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')))?;
        Some(line.rsplit(' ').next()?.parse().unwrap())
    }

    /// Ends everything and waits for it.
    pub async fn stop(self) {
        self.cancel.cancel();
        self.tracker.close();
        tokio::time::timeout(Duration::from_secs(10), self.tracker.wait()).await.expect("every task ends");
    }
}

async fn serve(name: &'static str, kubelet: Kubelet, certificate: &[u8], key: &[u8]) -> Node {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let chain = vec![CertificateDer::from(certificate.to_vec())];
    let key = PrivatePkcs8KeyDer::from(key.to_vec()).into();
    let tls = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let (behaves, asked) = (Arc::new(Mutex::new(kubelet)), Arc::new(AtomicUsize::new(0)));
    let node = Node { name, port, behaves: Arc::clone(&behaves), asked: Arc::clone(&asked) };
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let (acceptor, behaves, asked) = (acceptor.clone(), Arc::clone(&behaves), Arc::clone(&asked));
            tokio::spawn(async move {
                // A client may not like the certificate.
                let Ok(mut stream) = acceptor.accept(tcp).await else { return };
                while let Some(head) = request_head(&mut stream).await {
                    asked.fetch_add(1, Ordering::SeqCst);
                    let kubelet = behaves.lock().clone();
                    if answer(&mut stream, &head, kubelet).await.is_none() {
                        return;
                    }
                }
            });
        }
    });
    node
}

async fn request_head(stream: &mut TlsStream<TcpStream>) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}

/// Answers; `None` where nothing more may come on this connection.
async fn answer(stream: &mut TlsStream<TcpStream>, head: &str, kubelet: Kubelet) -> Option<()> {
    let path = head.split(' ').nth(1)?;
    let with = |page: Page| page(path).map_or_else(|| refusal(404), |page| whole(&page));
    let text = match kubelet {
        Kubelet::Gives(page) => with(page),
        Kubelet::Refuses(status) => refusal(status),
        Kubelet::Knows(token, page) => {
            let known = head.to_lowercase().contains(&format!("authorization: bearer {token}\r\n"));
            if known { with(page) } else { refusal(401) }
        }
        Kubelet::Silent => {
            tokio::time::sleep(Duration::from_secs(3600)).await;
            return None;
        }
        Kubelet::Breaks => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\ncontainer_threads 1\n").await;
            return None;
        }
        Kubelet::Endless => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n").await.ok()?;
            let lines = "container_threads{container=\"a\",namespace=\"n\",pod=\"p\"} 1\n".repeat(1000);
            while stream.write_all(lines.as_bytes()).await.is_ok() {}
            return None;
        }
    };
    stream.write_all(text.as_bytes()).await.ok()
}

fn whole(page: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain; version=0.0.4\r\ncontent-length: {}\r\n\r\n{page}",
        page.len()
    )
}

fn refusal(status: u16) -> String {
    format!("HTTP/1.1 {status} No\r\ncontent-length: 0\r\n\r\n")
}

/// Lists nodes and pods, and never says that anything changes.
fn api_server(nodes: &[Node], pods: &[(&str, &str, &[&str])]) -> Client {
    let node = |node: &Node| {
        json!({"metadata": {"name": node.name, "uid": node.name, "resourceVersion": "1"}, "spec": {"unschedulable": true},
            "status": {"addresses": [{"type": "Hostname", "address": "nowhere.invalid"},
                                     {"type": "InternalIP", "address": "127.0.0.1"}],
                       "daemonEndpoints": {"kubeletEndpoint": {"Port": node.port}},
                       "capacity": {"cpu": "4", "memory": "8Gi"}}})
    };
    let pod = |(node, name, containers): &(&str, &str, &[&str])| {
        let spec: Vec<Value> = containers.iter().map(|name| json!({"name": name, "image": "i"})).collect();
        let status = |name: &&str| {
            json!({"name": name, "containerID": format!("containerd://{name}"), "image": "i", "imageID": "i", "ready": true,
                   "restartCount": 0, "state": {"running": {}}})
        };
        let statuses: Vec<Value> = containers.iter().map(status).collect();
        json!({"metadata": {"name": name, "namespace": "shop", "uid": format!("uid-{name}"), "resourceVersion": "1"},
            "spec": {"nodeName": node, "containers": spec}, "status": {"containerStatuses": statuses}})
    };
    let list = |kind: &str, items: Vec<Value>| {
        let list = json!({"apiVersion": "v1", "kind": kind, "metadata": {"resourceVersion": "1"}, "items": items});
        Bytes::from(list.to_string())
    };
    let nodes = list("NodeList", nodes.iter().map(node).collect());
    let pods = list("PodList", pods.iter().map(pod).collect());
    let service = tower::service_fn(move |request: Request<Body>| {
        let (nodes, pods) = (nodes.clone(), pods.clone());
        async move {
            let watches = request.uri().query().is_some_and(|query| query.contains("watch=true"));
            let body: BoxBody<Bytes, Infallible> = match request.uri().path() {
                _ if watches => StreamBody::new(stream::pending::<Result<Frame<Bytes>, Infallible>>()).boxed(),
                "/api/v1/nodes" => Full::new(nodes).boxed(),
                "/api/v1/pods" => Full::new(pods).boxed(),
                other => panic!("asked for {other}"),
            };
            Ok::<_, Infallible>(Response::new(body))
        }
    });
    Client::new(service, "default")
}
