//! An endpoint with all its routes over a real socket, and a client that sees every byte of an answer.

#![allow(dead_code, reason = "each test file uses a part")]

pub mod socket;

use bytes::Bytes;
use http::{Request, Response};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use warp::{Filter as _, Reply as _};
use weir::access::{Authoriser, KeyId, KeyRecord, KeyRing, TicketLimits, Tickets, Token};
use weir::api::{AccessKeySpec, Grant, Scope, Service};
use weir::endpoint::origin::Cors;
use weir::endpoint::routes::routes;
use weir::endpoint::services::{EndpointOptions, ServerInfo, Services};
use weir::endpoint::socket_io::SocketIo;
use weir::endpoint::{Drain, Drained, Limits, Server, health::Readiness};
use weir::record::{Batch, Origin, Time};
use weir::source::Sources;
use weir::source::pods::{FollowHub, HubConfig, IndexScope, PodIndex};
use weir::source::push::{Uploads, UploadsConfig};
use weir::stream::{Catalogue, Gate, LiveStream, Located, RingLimits, StreamName};
use weir::telemetry::{Exposition, Metrics};
use weir::worker::{Declared, Histories, HistoryConfig, Inventory, ObjectOwner, Supervisor, SupervisorConfig};

/// Longer than anything here takes; only a hang reaches it.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub struct Endpoint {
    pub address: SocketAddr,
    pub services: Arc<Services>,
    pub running: JoinHandle<Drained>,
    cancel: CancellationToken,
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.cancel.cancel();
        self.running.abort();
    }
}

#[derive(Default)]
pub struct Setup {
    pub pods: Vec<serde_json::Value>,
    pub owner: Option<Arc<dyn ObjectOwner>>,
    pub options: Option<EndpointOptions>,
    pub without_cluster: bool,
    pub history: HistoryConfig,
    pub uploads: UploadsConfig,
    /// What stands at `/page`, for browsers.
    pub page: Option<&'static str>,
}

/// A client of an API server that lists these pods and then has nothing new to tell.
fn cluster(pods: Vec<serde_json::Value>) -> kube::Client {
    let list =
        serde_json::json!({"apiVersion": "v1", "kind": "PodList", "metadata": {"resourceVersion": "1"}, "items": pods});
    let answer = move |request: Request<kube::client::Body>| {
        let list = list.to_string();
        async move {
            if request.uri().query().is_some_and(|query| query.contains("watch=true")) {
                std::future::pending::<()>().await;
            }
            Ok::<_, std::convert::Infallible>(Response::new(kube::client::Body::from(list.into_bytes())))
        }
    };
    kube::Client::new(tower::service_fn(answer), "default")
}

pub async fn start(setup: Setup) -> Endpoint {
    let (metrics, drain, tracker, cancel) =
        (Metrics::new(), Drain::new(), TaskTracker::new(), CancellationToken::new());
    let client = cluster(setup.pods);
    let index = PodIndex::start(&client, &IndexScope::Cluster, &tracker, &cancel);
    assert!(index.synced(PATIENCE).await);
    let config = HubConfig::default();
    let hub = FollowHub::new(client, index.clone(), config, metrics.clone(), tracker.clone(), cancel.clone());
    let config = SupervisorConfig::default();
    let uploads = Uploads::new(setup.uploads, metrics.clone(), tracker.clone(), cancel.clone()).unwrap();
    let supervisor = Supervisor::new(
        Sources { uploads, ..Sources::of_logs(hub, metrics.clone()) },
        config,
        metrics.clone(),
        tracker.clone(),
        cancel.clone(),
    );
    let histories = Histories::new(setup.history, metrics.clone(), tracker.clone(), cancel.clone());
    let keyring = KeyRing::new();
    let (expiring, stop) = (keyring.clone(), cancel.clone());
    tracker.spawn(async move { expiring.run_expiry(Time::now, |_| {}, stop).await });
    let services = Arc::new(Services {
        authoriser: Authoriser::new(Some("weir-system".to_owned())),
        tickets: Tickets::new(keyring.clone(), TicketLimits::default()),
        keyring,
        declared: Declared::with_histories(supervisor, Arc::new(Catalogue::default()), histories, tracker),
        inventory: (!setup.without_cluster).then(|| Inventory::new(index)),
        owner: setup.owner,
        metrics: metrics.clone(),
        drain: drain.clone(),
        readiness: Readiness::default(),
        info: ServerInfo { namespace: "weir-system".into(), in_cluster: true, cluster_name: "test".into() },
        options: setup.options.unwrap_or_default(),
    });
    let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
    let server = Server::bind(any_port, Limits::default(), None, metrics, drain).await.unwrap();
    let address = server.address();
    let served = match setup.page {
        None => routes(services.clone()),
        Some(page) => {
            let page = warp::path!("page").map(move || warp::reply::html(page).into_response());
            page.or(routes(services.clone())).unify().boxed()
        }
    };
    let served = SocketIo::new(&services, warp::service(served));
    let origins = services.options.allowed_origins.clone();
    let running = tokio::spawn(server.run(Cors::new(served, origins), PATIENCE));
    Endpoint { address, services, running, cancel }
}

/// Log and View on everything in reach.
pub fn reader() -> AccessKeySpec {
    let grant = Grant { services: vec![Service::Log], scopes: vec![Scope::View], ..Grant::default() };
    AccessKeySpec { grants: vec![grant], ..AccessKeySpec::default() }
}

impl Endpoint {
    /// Puts a key into the ring, or changes it, and gives its token.
    pub fn key(&self, id: &str, spec: &AccessKeySpec) -> String {
        self.key_since(id, spec, Time::now())
    }

    /// The same, with the token's age.
    pub fn key_since(&self, id: &str, spec: &AccessKeySpec, since: Time) -> String {
        let (namespace, name) = id.split_once('/').unwrap();
        let token = Token::parse(&format!("token-of-{namespace}-{name}-{}", "x".repeat(32))).unwrap();
        let id = KeyId::new(namespace, name);
        let record = KeyRecord::new(id, format!("uid-{name}"), Time(0), Some(since), spec, token.digest()).unwrap();
        self.services.keyring.upsert(record);
        token.expose().to_owned()
    }

    /// Puts a stream into the catalogue.
    pub fn stream(&self, name: &str, limits: RingLimits) -> Located {
        self.stream_of(Service::Log, name, limits)
    }

    /// Puts a stream of a service into the catalogue.
    pub fn stream_of(&self, service: Service, name: &str, limits: RingLimits) -> Located {
        let (namespace, name) = name.split_once('/').unwrap();
        let stream = Arc::new(LiveStream::new(limits, 7));
        let located = Located { gate: Gate::open(), service, stream, backlog: None };
        self.services.declared.catalogue().insert(StreamName::new(namespace, name), located.clone());
        located
    }

    pub async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        send(self.address, method, path, headers, body).await
    }

    pub async fn get(&self, path: &str, token: &str) -> Answer {
        self.send("GET", path, &[("authorization", &format!("Bearer {token}"))], "").await
    }

    pub async fn json(&self, path: &str, token: &str) -> serde_json::Value {
        let mut answer = self.get(path, token).await;
        let body = answer.rest().await;
        assert_eq!(answer.status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    /// Waits until a line of the metrics says this.
    pub async fn until_metric(&self, line: &str) {
        let seen = async {
            while !self.services.metrics.encode(Exposition::Prometheus).lines().any(|found| found == line) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, seen).await.unwrap_or_else(|_| panic!("never came: {line}"));
    }
}

/// Asks whoever listens there.
pub async fn send(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let mut request = format!("{method} {path} HTTP/1.1\r\nhost: weir\r\nconnection: close\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() {
        request.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    socket.write_all(format!("{request}\r\n{body}").as_bytes()).await.unwrap();
    Answer::read(socket).await
}

/// An answer whose body may never end.
pub struct Answer {
    pub status: u16,
    pub headers: HashMap<String, String>,
    socket: BufReader<TcpStream>,
    buffer: Vec<u8>,
}

impl Answer {
    async fn read(socket: TcpStream) -> Self {
        let mut socket = BufReader::with_capacity(256 * 1024, socket);
        let mut line = String::new();
        socket.read_line(&mut line).await.unwrap();
        let status = line.split(' ').nth(1).unwrap_or_else(|| panic!("no status: {line:?}")).parse().unwrap();
        let mut headers = HashMap::new();
        loop {
            let mut line = String::new();
            socket.read_line(&mut line).await.unwrap();
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            headers.insert(name.to_ascii_lowercase(), value.to_owned());
        }
        Self { status, headers, socket, buffer: Vec::new() }
    }

    /// The next chunk of the body; `None` after the last.
    pub async fn chunk(&mut self) -> Option<Bytes> {
        let next = async {
            if let Some(length) = self.headers.remove("content-length") {
                let mut body = vec![0; length.parse().unwrap()];
                self.socket.read_exact(&mut body).await.unwrap();
                return Some(Bytes::from(body));
            }
            if self.headers.get("transfer-encoding").is_none_or(|encoding| encoding != "chunked") {
                return None;
            }
            let mut size = String::new();
            self.socket.read_line(&mut size).await.unwrap();
            let size = usize::from_str_radix(size.trim_end(), 16).ok()?;
            let mut chunk = vec![0; size + 2];
            self.socket.read_exact(&mut chunk).await.unwrap();
            chunk.truncate(size);
            (size > 0).then(|| Bytes::from(chunk))
        };
        tokio::time::timeout(PATIENCE, next).await.expect("the answer stands still")
    }

    /// The body up to the next occurrence of `end`, which is taken off; `None` where the body ends before.
    pub async fn piece(&mut self, end: &str) -> Option<String> {
        loop {
            if let Some(at) = memchr::memmem::find(&self.buffer, end.as_bytes()) {
                let piece = String::from_utf8(self.buffer.drain(..at).collect()).unwrap();
                self.buffer.drain(..end.len());
                return Some(piece);
            }
            let chunk = self.chunk().await?;
            self.buffer.extend_from_slice(&chunk);
        }
    }

    /// The next server-sent event that is one: with data.
    pub async fn event(&mut self) -> Option<Event> {
        loop {
            let text = self.piece("\n\n").await?;
            let mut event = Event::default();
            for line in text.lines() {
                match line.split_once(": ") {
                    Some(("id", value)) => event.id = Some(value.to_owned()),
                    Some(("event", value)) => event.name = value.to_owned(),
                    Some(("data", value)) => event.data = serde_json::from_str(value).unwrap(),
                    _ => {}
                }
            }
            if !event.data.is_null() || event.id.is_some() {
                return Some(event);
            }
        }
    }

    /// The next event of this name; the empty name is that of records.
    pub async fn named(&mut self, name: &str) -> Event {
        loop {
            let event = self.event().await.unwrap_or_else(|| panic!("ended before an event `{name}`"));
            if event.name == name && !event.data.is_null() {
                return event;
            }
        }
    }

    /// The rest of the body.
    pub async fn rest(&mut self) -> String {
        let mut body = std::mem::take(&mut self.buffer);
        while let Some(chunk) = self.chunk().await {
            body.extend_from_slice(&chunk);
        }
        String::from_utf8(body).unwrap()
    }
}

#[derive(Debug, Default)]
pub struct Event {
    pub id: Option<String>,
    pub name: String,
    pub data: serde_json::Value,
}

/// A batch of lines of one container.
pub fn lines(texts: impl IntoIterator<Item = String>) -> Arc<Batch> {
    let origin = Arc::new(Origin {
        namespace: "shop".into(),
        pod: "cart-1".into(),
        container: "main".into(),
        ..Origin::default()
    });
    let (mut data, mut lines) = (Vec::new(), Vec::new());
    for text in texts {
        let start = data.len();
        data.extend_from_slice(text.as_bytes());
        lines.push(weir::record::Line::new(start..data.len(), Time(1_000_000_000), false));
    }
    Arc::new(Batch::new(origin, data.into(), lines))
}

pub fn line(text: impl Into<String>) -> Arc<Batch> {
    lines([text.into()])
}
