//! A server that speaks the Docker Engine API over a unix socket, as its public documentation (API 1.43, "Containers",
//! "System") describes it: `/_ping` with `Api-Version`; the list and the description of containers; logs with
//! `follow`, `since` (in whole seconds, what is no older), `tail` and `timestamps`, in frames of 8 bytes head, or raw
//! where the container has a terminal; events with their filter. A line beyond 16 KiB is stored in parts that share
//! the time of the first, as the engine's copier stores it. Answers are cut where a test wants it.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::json;
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::record::Time;

type Body = BoxBody<Bytes, std::io::Error>;

/// The engine stores lines in parts of this size.
const PART: usize = 16 * 1024;

#[derive(Clone)]
pub struct Message {
    pub time: Time,
    pub writer: u8,
    pub text: Vec<u8>,
}

#[derive(Clone)]
struct Box_ {
    id: String,
    name: String,
    tty: bool,
    running: bool,
    exit_code: i32,
    started: String,
    log: Vec<Message>,
    /// With what its log is refused.
    refusal: Option<u16>,
}

#[derive(Default)]
struct State {
    containers: Vec<Box_>,
    events: Vec<String>,
    /// Changes with everything, to wake those who follow.
    changes: u64,
    asked: Vec<String>,
}

/// The engine.
pub struct Docker {
    state: Mutex<State>,
    change: watch::Sender<u64>,
    cuts: watch::Sender<u64>,
    folder: tempfile::TempDir,
    tasks: TaskTracker,
    listening: Mutex<CancellationToken>,
}

impl Docker {
    pub fn new() -> Arc<Self> {
        let docker = Arc::new(Self {
            state: Mutex::default(),
            change: watch::channel(0).0,
            cuts: watch::channel(0).0,
            folder: tempfile::tempdir().unwrap(),
            tasks: TaskTracker::new(),
            listening: Mutex::default(),
        });
        docker.up();
        docker
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("docker.sock")
    }

    /// Listens, from now on.
    pub fn up(self: &Arc<Self>) {
        let listener = UnixListener::bind(self.socket()).unwrap();
        let token = CancellationToken::new();
        *self.listening.lock() = token.clone();
        let docker = Arc::clone(self);
        let tasks = self.tasks.clone();
        self.tasks.spawn(async move {
            while let Some(Ok((socket, _))) = token.run_until_cancelled(listener.accept()).await {
                let docker = Arc::clone(&docker);
                let token = token.clone();
                tasks.spawn(async move {
                    let answer = service_fn(|request| {
                        let answer = docker.answer(&request);
                        async { Ok::<_, Infallible>(answer) }
                    });
                    let io = TokioIo::new(socket);
                    let served = hyper::server::conn::http1::Builder::new().serve_connection(io, answer);
                    // A cut answer is an error of the connection, and is meant.
                    let _ = token.run_until_cancelled(served).await;
                });
            }
        });
    }

    /// Goes away, with all its connections.
    pub fn down(&self) {
        self.listening.lock().cancel();
        let _ = std::fs::remove_file(self.socket());
    }

    /// Breaks all answers that are on their way.
    pub fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock();
        change(&mut state);
        state.changes += 1;
        let changes = state.changes;
        drop(state);
        self.change.send_replace(changes);
    }

    /// A new container, which runs.
    pub fn run(&self, name: &str, tty: bool) -> String {
        let id = hex::encode(sha(name, self.state.lock().containers.len()));
        let made = id.clone();
        self.change(|state| {
            let name = name.to_owned();
            let started = String::new();
            let (running, exit_code, log, refusal) = (false, 0, Vec::new(), None);
            state.containers.push(Box_ { id: made, name, tty, running, exit_code, started, log, refusal });
        });
        self.start(name);
        id
    }

    fn of(&self, name: &str, change: impl FnOnce(&mut Box_)) {
        self.change(|state| change(state.containers.iter_mut().find(|container| container.name == name).unwrap()));
    }

    pub fn start(&self, name: &str) {
        self.of(name, |container| {
            container.running = true;
            container.started = Time::now().rfc3339();
        });
        self.tell("start", name);
    }

    pub fn stop(&self, name: &str, exit_code: i32) {
        self.of(name, |container| (container.running, container.exit_code) = (false, exit_code));
    }

    pub fn remove(&self, name: &str) {
        self.tell("destroy", name);
        self.change(|state| state.containers.retain(|container| container.name != name));
    }

    pub fn refuse(&self, name: &str, status: Option<u16>) {
        self.of(name, |container| container.refusal = status);
    }

    fn tell(&self, action: &str, name: &str) {
        self.change(|state| {
            let id = state.containers.iter().find(|container| container.name == name).unwrap().id.clone();
            let actor = json!({"ID": id, "Attributes": {"name": name, "image": "demo"}});
            let event = json!({"Type": "container", "Action": action, "Actor": actor, "scope": "local", "time": 1});
            state.events.push(format!("{event}\n"));
        });
    }

    /// A container writes to stdout (1) or stderr (2).
    pub fn write(&self, name: &str, writer: u8, text: &str) {
        self.write_at(name, writer, text, Time::now());
    }

    pub fn write_at(&self, name: &str, writer: u8, text: &str, time: Time) {
        self.of(name, |container| {
            let line = format!("{text}\n");
            for part in line.as_bytes().chunks(PART) {
                container.log.push(Message { time, writer, text: part.to_vec() });
            }
        });
    }

    /// The log loses its oldest messages.
    pub fn rotate(&self, name: &str, keep: usize) {
        self.of(name, |container| {
            let gone = container.log.len().saturating_sub(keep);
            container.log.drain(..gone);
        });
    }

    pub fn asked(&self) -> Vec<String> {
        self.state.lock().asked.clone()
    }

    fn answer(self: &Arc<Self>, request: &Request<Incoming>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        self.state.lock().asked.push(request.uri().to_string());
        if path == "/_ping" {
            let mut answer = full(StatusCode::OK, "OK".to_owned());
            answer.headers_mut().insert("api-version", http::HeaderValue::from_static("1.43"));
            return answer;
        }
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        match parts.as_slice() {
            ["v1.43", "containers", "json"] => self.list(),
            ["v1.43", "containers", id, "json"] => self.inspect(id),
            ["v1.43", "containers", id, "logs"] => self.logs(id, request.uri().query().unwrap_or_default()),
            ["v1.43", "events"] => self.events(),
            _ => refused(404, "page not found"),
        }
    }

    fn list(&self) -> Response<Body> {
        let state = self.state.lock();
        let one = |container: &Box_| {
            let state = if container.running { "running" } else { "exited" };
            json!({"Id": container.id, "Names": [format!("/{}", container.name)], "State": state, "Image": "demo"})
        };
        full(StatusCode::OK, json!(state.containers.iter().map(one).collect::<Vec<_>>()).to_string())
    }

    fn inspect(&self, id: &str) -> Response<Body> {
        let state = self.state.lock();
        let Some(container) = state.containers.iter().find(|container| container.id == id) else {
            return refused(404, "No such container");
        };
        let of_state = json!({"Running": container.running, "ExitCode": container.exit_code, "OOMKilled": false,
            "StartedAt": container.started});
        full(StatusCode::OK, json!({"Id": id, "State": of_state, "Config": {"Tty": container.tty}}).to_string())
    }

    fn logs(self: &Arc<Self>, id: &str, query: &str) -> Response<Body> {
        let option = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        let since = option("since").map_or(i64::MIN, |since| since.parse::<i64>().unwrap() * 1_000_000_000);
        let state = self.state.lock();
        let Some(container) = state.containers.iter().find(|container| container.id == id) else {
            return refused(404, "No such container");
        };
        if let Some(status) = container.refusal {
            return refused(status, "configured logging driver does not support reading");
        }
        let tail = option("tail").map_or(usize::MAX, |tail| tail.parse().unwrap());
        let started = container.started.clone();
        let begin = container.log.len().saturating_sub(tail);
        let follows = option("follow") == Some("true");
        drop(state);
        let (docker, id) = (Arc::clone(self), id.to_owned());
        let changed = self.change.subscribe();
        // A position in the log: this engine never rotates while somebody follows.
        let pieces = futures::stream::unfold((begin, changed, false), move |(at, mut changed, over)| {
            let (docker, id, started) = (Arc::clone(&docker), id.clone(), started.clone());
            async move {
                if over {
                    return None;
                }
                loop {
                    changed.borrow_and_update();
                    let (bytes, end, ended) = {
                        let state = docker.state.lock();
                        let container = state.containers.iter().find(|container| container.id == id)?;
                        let new = container.log.iter().skip(at).filter(|message| message.time.0 >= since);
                        let bytes: Vec<u8> = new.flat_map(|message| framed(message, container.tty)).collect();
                        let ended = !follows || !container.running || container.started != started;
                        (bytes, container.log.len(), ended)
                    };
                    if !bytes.is_empty() {
                        return Some((Bytes::from(bytes), (end.max(at), changed, ended)));
                    }
                    if ended || changed.changed().await.is_err() {
                        return None;
                    }
                }
            }
        });
        self.streamed(pieces)
    }

    fn events(self: &Arc<Self>) -> Response<Body> {
        let begin = self.state.lock().events.len();
        let docker = Arc::clone(self);
        let changed = self.change.subscribe();
        let pieces = futures::stream::unfold((begin, changed), move |(at, mut changed)| {
            let docker = Arc::clone(&docker);
            async move {
                loop {
                    changed.borrow_and_update();
                    let new = docker.state.lock().events[at..].concat();
                    let end = docker.state.lock().events.len();
                    if !new.is_empty() {
                        return Some((Bytes::from(new), (end, changed)));
                    }
                    changed.changed().await.ok()?;
                }
            }
        });
        self.streamed(pieces)
    }

    /// An answer that may be cut; what is cut may be lost from within a piece.
    fn streamed(&self, pieces: impl futures::Stream<Item = Bytes> + Send + Sync + 'static) -> Response<Body> {
        let mut cuts = self.cuts.subscribe();
        cuts.mark_unchanged();
        let cut = async move {
            let _ = cuts.changed().await;
            Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset))
        };
        let whole = pieces.map(Some).chain(futures::stream::iter([None])).map(Ok);
        let all = futures::stream::select(whole, futures::stream::once(cut));
        let all = all.take_while(|piece| std::future::ready(!matches!(piece, Ok(None))));
        let frames = all.map(|piece| piece.map(|bytes| Frame::data(bytes.unwrap_or_default())));
        Response::new(BodyExt::boxed(StreamBody::new(frames)))
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        self.listening.lock().cancel();
    }
}

fn sha(name: &str, number: usize) -> [u8; 32] {
    use sha2::Digest;
    sha2::Sha256::digest(format!("{name}{number}")).into()
}

/// A message as it is sent, with its time.
pub fn framed(message: &Message, tty: bool) -> Vec<u8> {
    let mut text = message.time.rfc3339().into_bytes();
    text.push(b' ');
    text.extend_from_slice(&message.text);
    if tty {
        return text;
    }
    let mut frame = vec![message.writer, 0, 0, 0];
    frame.extend_from_slice(&(text.len() as u32).to_be_bytes());
    frame.append(&mut text);
    frame
}

fn full(status: StatusCode, text: String) -> Response<Body> {
    let body = Full::new(Bytes::from(text)).map_err(|never: Infallible| match never {}).boxed();
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    answer
}

fn refused(status: u16, message: &str) -> Response<Body> {
    full(StatusCode::from_u16(status).unwrap(), json!({"message": message}).to_string())
}

/// The socket is gone with its folder; kept so that tests need not know how it is called.
pub fn nowhere(folder: &Path) -> PathBuf {
    folder.join("nobody.sock")
}
