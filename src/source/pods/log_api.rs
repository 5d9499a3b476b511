//! The API server's log endpoint, as bytes: `GET /api/v1/namespaces/{ns}/pods/{pod}/log`.
//!
//! Kube's own log call is not used because it cannot say a `sinceTime` exactly and turns bytes into text.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;

use crate::record::{Origin, Time};
use crate::telemetry::{Category, Metrics, Outcome, UpstreamKind, UpstreamLabels};

/// What is asked of a container's log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LogAsk {
    pub follow: bool,
    pub previous: bool,
    /// Only lines at or after this whole second.
    pub since: Option<Time>,
    /// Only this many lines from the end.
    pub tail: Option<u64>,
    /// A question about where the log stands, not for its lines: counted as such.
    pub probe: bool,
}

impl LogAsk {
    fn kind(self) -> UpstreamKind {
        match self {
            Self { follow: true, .. } => UpstreamKind::Follow,
            Self { probe: true, .. } => UpstreamKind::Probe,
            _ => UpstreamKind::Backlog,
        }
    }
}

/// Why a log could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The API server refused: its reason is in the text.
    #[error("the API server refused the log of {path}: {message} (HTTP {status})")]
    Refused {
        /// namespace/pod/container
        path: String,
        /// HTTP status
        status: u16,
        /// The server's own words.
        message: String,
    },
    /// The API server could not be reached, or the connection broke.
    #[error("the connection to the API server broke: {0}")]
    Connection(#[source] kube::Error),
    /// The API server sent nothing for too long.
    #[error("the API server did not answer within {0:?}")]
    TimedOut(Duration),
    /// The request could not be made.
    #[error("the request could not be built: {0}")]
    Request(#[from] http::Error),
}

impl LogError {
    /// Whom the error concerns.
    pub fn category(&self) -> Category {
        match self {
            Self::Refused { status: 401 | 403, .. } => Category::Denied,
            Self::Refused { status: 400 | 404, .. } => Category::Invalid,
            Self::Refused { .. } | Self::Connection(_) | Self::TimedOut(_) => Category::Unavailable,
            Self::Request(_) => Category::Internal,
        }
    }

    fn outcome(&self) -> Outcome {
        match self {
            Self::Refused { status: 401 | 403, .. } => Outcome::Denied,
            Self::Refused { status: 404 | 410, .. } => Outcome::Gone,
            Self::Refused { status: 429 | 503, .. } => Outcome::Busy,
            Self::TimedOut(_) => Outcome::Timeout,
            _ => Outcome::Error,
        }
    }
}

/// How long an answer that is not a follow may take to begin, and between two pieces of it.
const ANSWER: Duration = Duration::from_secs(15);

/// Reads logs through the API server.
#[derive(Clone)]
pub(super) struct LogApi {
    client: Client,
    metrics: Arc<Metrics>,
}

impl LogApi {
    pub fn new(client: Client, metrics: Arc<Metrics>) -> Self {
        Self { client, metrics }
    }

    /// Asks for a log. With `follow`, waits for the first byte for as long as the container is silent.
    pub async fn open(&self, origin: &Origin, ask: LogAsk) -> Result<LogBody, LogError> {
        let answer = self.request(origin, ask).await;
        let outcome = answer.as_ref().map_or_else(LogError::outcome, |_| Outcome::Ok);
        self.metrics.upstream_requests.get_or_create(&UpstreamLabels { kind: ask.kind(), outcome }).inc();
        answer
    }

    async fn request(&self, origin: &Origin, ask: LogAsk) -> Result<LogBody, LogError> {
        let request = http::Request::get(log_path(origin, ask)).body(Body::empty())?;
        let response = self.client.send(request).await.map_err(LogError::Connection)?;
        let status = response.status().as_u16();
        let mut body = LogBody { body: response.into_body() };
        if status == 200 {
            return Ok(body);
        }
        Err(LogError::Refused { path: origin.path(), status, message: body.refusal().await })
    }

    /// Asks for a log that is not followed; an answer that does not come is an error.
    pub async fn fetch(&self, origin: &Origin, ask: LogAsk) -> Result<LogBody, LogError> {
        debug_assert!(!ask.follow);
        tokio::time::timeout(ANSWER, self.open(origin, ask)).await.map_err(|_| LogError::TimedOut(ANSWER))?
    }
}

/// The bytes of a log as they arrive.
pub(super) struct LogBody {
    body: Body,
}

impl LogBody {
    /// The next bytes; `None` when the server ended the answer in good order. Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<Bytes, LogError>> {
        loop {
            match self.body.frame().await? {
                Ok(frame) => match frame.into_data() {
                    Ok(data) if !data.is_empty() => return Some(Ok(data)),
                    _ => {}
                },
                Err(error) => return Some(Err(LogError::Connection(error))),
            }
        }
    }

    /// The next bytes of an answer that is not followed.
    pub async fn next_soon(&mut self) -> Option<Result<Bytes, LogError>> {
        tokio::time::timeout(ANSWER, self.next()).await.unwrap_or(Some(Err(LogError::TimedOut(ANSWER))))
    }

    /// What the server says in a refusal: a Kubernetes Status, or a bounded piece of whatever it is.
    async fn refusal(&mut self) -> String {
        let mut text = Vec::new();
        while let Some(Ok(bytes)) = self.next_soon().await {
            text.extend_from_slice(&bytes);
            if text.len() > 4096 {
                break;
            }
        }
        let status: Option<serde_json::Value> = serde_json::from_slice(&text).ok();
        match status.as_ref().and_then(|status| status["message"].as_str()) {
            Some(message) => message.to_owned(),
            None => String::from_utf8_lossy(&text[..text.len().min(256)]).into_owned(),
        }
    }
}

fn log_path(origin: &Origin, ask: LogAsk) -> String {
    // Namespaces, pods and containers are DNS labels: nothing in them needs escaping.
    let mut path = format!(
        "/api/v1/namespaces/{}/pods/{}/log?container={}&timestamps=true",
        origin.namespace, origin.pod, origin.container
    );
    if ask.follow {
        path.push_str("&follow=true");
    }
    if ask.previous {
        path.push_str("&previous=true");
    }
    if let Some(tail) = ask.tail {
        path.push_str(&format!("&tailLines={tail}"));
    }
    if let Some(since) = ask.since {
        let second = since.to_chrono().format("%Y-%m-%dT%H:%M:%SZ");
        path.push_str(&format!("&sinceTime={second}"));
    }
    path
}

/// An origin together with the way to its log.
#[derive(Clone)]
pub(super) struct ContainerLog {
    pub api: LogApi,
    pub origin: Arc<Origin>,
}

impl ContainerLog {
    pub async fn open(&self, ask: LogAsk) -> Result<LogBody, LogError> {
        self.api.open(&self.origin, ask).await
    }

    pub async fn fetch(&self, ask: LogAsk) -> Result<LogBody, LogError> {
        self.api.fetch(&self.origin, ask).await
    }
}
