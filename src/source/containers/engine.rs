//! The API of a Docker Engine, as much of it as following logs needs: each request on a connection of its own, each
//! answer within bounds.
//!
//! General clients hold a frame of a log, or a line of a terminal, in memory until its end, and an end may never come.
//! Here the answers' bytes are handed on as they arrive.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use crate::record::{Time, cut_text};
use crate::source::pods::direct::{self, DirectBody, DirectError};
use crate::telemetry::Category;

/// How long the engine may take to answer what it can answer at once.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest list of containers, in bytes: some thousands of them.
const LIST_BYTES: usize = 16 * 1024 * 1024;
/// The longest description of one container, in bytes.
const INSPECT_BYTES: usize = 4 * 1024 * 1024;
/// The longest event, in bytes.
const EVENT_BYTES: usize = 256 * 1024;
/// The longest message of the engine that is repeated, in bytes.
const MESSAGE_BYTES: usize = 300;
/// The longest id of a container, in bytes; Docker's have 64.
const ID_BYTES: usize = 128;
/// What is listened for: `{"type":["container"],"event":["start","destroy","remove","rename"]}`. Podman says remove.
const EVENTS: &str = "%7B%22type%22%3A%5B%22container%22%5D%2C%22event%22%3A%5B%22start%22%2C%22destroy%22%2C%22remove%22%2C%22rename%22%5D%7D";

/// Why the engine did not answer as it should.
#[derive(Debug, thiserror::Error)]
pub(super) enum EngineError {
    /// Nobody listens, or may not be asked.
    #[error("the Docker Engine cannot be reached: {0}; check that it runs and that its socket may be opened")]
    Connect(io::Error),
    /// The connection broke, or spoke no HTTP.
    #[error("the connection to the Docker Engine failed: {0}")]
    Broken(#[from] DirectError),
    /// Nothing came in time.
    #[error("the Docker Engine did not answer within 10 s")]
    Timeout,
    /// An answer that says no.
    #[error("the Docker Engine answered {status}: {message}")]
    Refused {
        /// The status.
        status: StatusCode,
        /// What it says, cut to a bounded length.
        message: String,
    },
    /// An answer that cannot be understood.
    #[error("the answer of the Docker Engine cannot be understood: {0}")]
    Answer(&'static str),
}

impl EngineError {
    pub fn category(&self) -> Category {
        match self {
            Self::Refused { status, .. } if status.is_client_error() => Category::Invalid,
            _ => Category::Unavailable,
        }
    }

    /// Whether the engine is there, and says no or what cannot be understood.
    pub fn is_its_answer(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::Answer(_))
    }

    /// Whether there is no such container.
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if *status == StatusCode::NOT_FOUND)
    }
}

/// A container in the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    pub id: String,
    pub name: String,
}

/// A container, as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Inspected {
    pub running: bool,
    pub exit_code: i32,
    pub oom_killed: bool,
    /// When this run, or the last, began: as it is written, to tell one run from the next.
    pub started: String,
    /// Whether the log is of a terminal: one writer and no frames.
    pub tty: bool,
}

impl Inspected {
    /// Whether it was ever started: one that was not says year 1.
    pub fn has_run(&self) -> bool {
        !self.started.is_empty() && !self.started.starts_with("0001-")
    }
}

/// Something that happened to a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub action: String,
    pub id: String,
    pub name: String,
}

/// What is asked of a log.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LogAsk {
    pub follow: bool,
    pub since: Option<Time>,
    pub tail: Option<u64>,
}

/// A Docker Engine.
#[derive(Debug)]
pub(super) struct Engine {
    socket: PathBuf,
    /// How paths begin: `/v1.43`, as the engine says of itself.
    prefix: Mutex<String>,
}

impl Engine {
    pub fn new(socket: PathBuf) -> Self {
        Self { socket, prefix: Mutex::default() }
    }

    /// Asks which version of the API it speaks. All that is used here has been the same since 1.24.
    pub async fn greet(&self) -> Result<(), EngineError> {
        let answer = in_time(self.send("/_ping".to_owned())).await?;
        let version = answer.headers().get("api-version").and_then(|version| version.to_str().ok()).unwrap_or_default();
        let number = |part: &str| !part.is_empty() && part.len() < 5 && part.bytes().all(|b| b.is_ascii_digit());
        let valid = version.split_once('.').is_some_and(|(major, minor)| number(major) && number(minor));
        // One that does not say it knows paths without a version.
        *self.prefix.lock() = if valid { format!("/v{version}") } else { String::new() };
        Ok(())
    }

    /// All containers, those that do not run as well.
    pub async fn list(&self) -> Result<Vec<Listed>, EngineError> {
        let summaries: Vec<Summary> = self.json("/containers/json?all=true", LIST_BYTES).await?;
        Ok(summaries.into_iter().filter_map(Summary::listed).collect())
    }

    /// One container.
    pub async fn inspect(&self, id: &str) -> Result<Inspected, EngineError> {
        let container: Container = self.json(&format!("/containers/{id}/json"), INSPECT_BYTES).await?;
        let (state, config) = (container.state, container.config);
        Ok(Inspected {
            running: state.running,
            exit_code: i32::try_from(state.exit_code).unwrap_or(-1),
            oom_killed: state.oom_killed,
            started: state.started_at,
            tty: config.tty,
        })
    }

    /// What happens to containers from now on.
    pub async fn events(&self) -> Result<Events, EngineError> {
        let answer = in_time(self.ask(&format!("/events?filters={EVENTS}"))).await?;
        Ok(Events { body: answer.into_body(), read: Vec::new() })
    }

    /// A container's log, both of its writers, each line with its time. There is no bound for how long it may take to begin: some
    /// engines answer with the first line.
    pub async fn log(&self, id: &str, ask: LogAsk) -> Result<DirectBody<UnixStream>, EngineError> {
        let mut path = format!("/containers/{id}/logs?stdout=true&stderr=true&timestamps=true");
        if ask.follow {
            path.push_str("&follow=true");
        }
        if let Some(since) = ask.since {
            path.push_str(&format!("&since={}", since.0.div_euclid(1_000_000_000).max(0)));
        }
        if let Some(tail) = ask.tail {
            path.push_str(&format!("&tail={tail}"));
        }
        Ok(self.ask(&path).await?.into_body())
    }

    async fn json<T: DeserializeOwned>(&self, path: &str, most: usize) -> Result<T, EngineError> {
        let text = in_time(async { read_all(self.ask(path).await?.into_body(), most).await }).await?;
        serde_json::from_slice(&text).map_err(|_| EngineError::Answer("it is not the JSON that was asked for"))
    }

    /// Sends a request; an answer other than 200 is an error.
    async fn ask(&self, path: &str) -> Result<Response<DirectBody<UnixStream>>, EngineError> {
        #[derive(Deserialize)]
        struct Message {
            message: String,
        }
        let prefix = self.prefix.lock().clone();
        let answer = self.send(format!("{prefix}{path}")).await?;
        let status = answer.status();
        if status == StatusCode::OK {
            return Ok(answer);
        }
        let text = in_time(read_all(answer.into_body(), EVENT_BYTES)).await.unwrap_or_default();
        let mut message = serde_json::from_slice(&text).map_or_else(|_| String::new(), |text: Message| text.message);
        cut_text(&mut message, MESSAGE_BYTES);
        Err(EngineError::Refused { status, message })
    }

    async fn send(&self, path: String) -> Result<Response<DirectBody<UnixStream>>, EngineError> {
        let socket = tokio::time::timeout(PATIENCE, UnixStream::connect(&self.socket)).await;
        let socket = socket.map_err(|_| EngineError::Timeout)?.map_err(EngineError::Connect)?;
        let request = Request::get(path).header(http::header::HOST, "docker").body(());
        let request = request.map_err(|_| EngineError::Answer("a path that cannot be asked for"))?;
        Ok(direct::send(socket, &request).await?)
    }
}

pub(super) async fn in_time<T>(answer: impl Future<Output = Result<T, EngineError>>) -> Result<T, EngineError> {
    tokio::time::timeout(PATIENCE, answer).await.unwrap_or(Err(EngineError::Timeout))
}

async fn read_all(mut body: DirectBody<UnixStream>, most: usize) -> Result<Vec<u8>, EngineError> {
    let mut all = Vec::new();
    while let Some(bytes) = next_bytes(&mut body).await? {
        if all.len() + bytes.len() > most {
            return Err(EngineError::Answer("it is beyond all bounds"));
        }
        all.extend_from_slice(&bytes);
    }
    Ok(all)
}

/// What has arrived of an answer; none at its end.
pub(super) async fn next_bytes(body: &mut DirectBody<UnixStream>) -> Result<Option<Bytes>, EngineError> {
    loop {
        match body.frame().await {
            None => return Ok(None),
            Some(frame) => {
                if let Ok(bytes) = frame?.into_data() {
                    return Ok(Some(bytes));
                }
            }
        }
    }
}

/// Events as they come, one JSON object after another.
pub(super) struct Events {
    body: DirectBody<UnixStream>,
    read: Vec<u8>,
}

impl Events {
    /// The next event; none where the engine ended the answer. Cancel-safe.
    pub async fn next(&mut self) -> Result<Option<Event>, EngineError> {
        loop {
            let mut objects = serde_json::Deserializer::from_slice(&self.read).into_iter::<Happened>();
            let next = objects.next();
            let end = objects.byte_offset();
            match next {
                Some(Ok(happened)) => {
                    self.read.drain(..end);
                    if let Some(event) = happened.event() {
                        return Ok(Some(event));
                    }
                    continue;
                }
                Some(Err(error)) if !error.is_eof() => return Err(EngineError::Answer("an event is no JSON")),
                Some(Err(_)) | None => {}
            }
            if self.read.len() > EVENT_BYTES {
                return Err(EngineError::Answer("an event is beyond all bounds"));
            }
            match next_bytes(&mut self.body).await? {
                Some(bytes) => self.read.extend_from_slice(&bytes),
                None => return Ok(None),
            }
        }
    }
}

fn is_id(id: &str) -> bool {
    !id.is_empty() && id.len() <= ID_BYTES && id.bytes().all(|b| b.is_ascii_alphanumeric())
}

/// `GET /containers/json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Summary {
    #[serde(default)]
    id: String,
    #[serde(default)]
    names: Vec<String>,
}

impl Summary {
    fn listed(self) -> Option<Listed> {
        // Names of links hold a second slash.
        let own = |name: &String| Some(name.strip_prefix('/').unwrap_or(name).to_owned());
        let name = self.names.iter().filter_map(own).find(|name| !name.is_empty() && !name.contains('/'))?;
        is_id(&self.id).then_some(Listed { id: self.id, name })
    }
}

/// `GET /containers/{id}/json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Container {
    state: ContainerState,
    config: ContainerConfig,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ContainerState {
    #[serde(default)]
    running: bool,
    #[serde(default)]
    exit_code: i64,
    #[serde(default, rename = "OOMKilled")]
    oom_killed: bool,
    #[serde(default)]
    started_at: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ContainerConfig {
    #[serde(default)]
    tty: bool,
}

/// `GET /events`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Happened {
    #[serde(default)]
    action: String,
    #[serde(default)]
    actor: Actor,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Actor {
    #[serde(default, rename = "ID")]
    id: String,
    #[serde(default)]
    attributes: Attributes,
}

#[derive(Default, Deserialize)]
struct Attributes {
    #[serde(default)]
    name: String,
}

impl Happened {
    fn event(self) -> Option<Event> {
        let Actor { id, attributes } = self.actor;
        let name = attributes.name.strip_prefix('/').map(str::to_owned).unwrap_or(attributes.name);
        is_id(&id).then_some(Event { action: self.action, id, name })
    }
}
