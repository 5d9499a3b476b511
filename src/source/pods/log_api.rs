//! The API server's log endpoint, as bytes: `GET /api/v1/namespaces/{ns}/pods/{pod}/log`.
//!
//! Kube's own log call is not used because it cannot say a `sinceTime` exactly and turns bytes into text.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::FutureExt;
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;

use super::direct::{InPieces, PIECE};
use super::log_client::Long;
use super::parse::LogParser;
use crate::record::{Batch, LineLimit, Origin, Time};
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
    /// What it is counted as.
    pub kind: LogKind,
}

/// What a log is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum LogKind {
    /// What is written from now on.
    Follow,
    /// What was written.
    #[default]
    Past,
    /// Where the log stands, not its lines.
    Probe,
}

impl LogAsk {
    fn kind(self) -> UpstreamKind {
        match self.kind {
            LogKind::Follow => UpstreamKind::Follow,
            LogKind::Probe => UpstreamKind::Probe,
            LogKind::Past => UpstreamKind::Backlog,
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
        let mut request = http::Request::get(log_path(origin, ask)).body(Body::empty())?;
        if ask.follow {
            request.extensions_mut().insert(Long);
        }
        let response = self.client.send(request).await.map_err(LogError::Connection)?;
        let status = response.status().as_u16();
        let whole = if response.extensions().get::<InPieces>().is_some() { PIECE } else { 0 };
        let mut body = LogBody { body: response.into_body(), whole, density: Density::new() };
        if status == 200 {
            return Ok(body);
        }
        Err(LogError::Refused { path: origin.path(), status, message: body.refusal().await })
    }

    /// Asks for lines that are there already; an answer that does not come is an error.
    pub async fn fetch(&self, origin: &Origin, ask: LogAsk) -> Result<LogBody, LogError> {
        tokio::time::timeout(ANSWER, self.open(origin, ask)).await.map_err(|_| LogError::TimedOut(ANSWER))?
    }
}

/// Bytes are gathered into one batch up to about this many when they are there already.
const BATCH_BYTES: usize = 128 * 1024;

/// The bytes of a log as they arrive.
pub(super) struct LogBody {
    body: Body,
    /// A piece of fewer bytes than this was all that had arrived.
    whole: usize,
    density: Density,
}

impl LogBody {
    /// The next bytes; `None` when the server ended the answer in good order. Cancel-safe.
    ///
    /// Where pieces come so densely that each would wake this process up for itself, lets some come together first.
    pub async fn next(&mut self) -> Option<Result<Bytes, LogError>> {
        if self.density.is_dense() {
            tokio::time::sleep(TOGETHER).await;
        }
        self.piece().await
    }

    async fn piece(&mut self) -> Option<Result<Bytes, LogError>> {
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

    /// Hands bytes that have arrived to the parser, with those behind them that are there already: the server sends
    /// pieces as small as a line, and a batch of one line costs as much to deliver as one of a thousand.
    ///
    /// How the answer ended, where it did.
    pub async fn gather(
        &mut self,
        first: Option<Result<Bytes, LogError>>,
        parser: &mut LogParser,
    ) -> Option<Result<(), LogError>> {
        let mut gathered = 0;
        let mut next = Some(first);
        while let Some(piece) = next {
            let bytes = match piece {
                None => return Some(Ok(())),
                Some(Err(error)) => return Some(Err(error)),
                Some(Ok(bytes)) => bytes,
            };
            gathered += bytes.len();
            parser.push(&bytes);
            let more = gathered < BATCH_BYTES && bytes.len() >= self.whole;
            next = if more { self.ready_piece().await } else { None };
        }
        self.density.note(gathered, Instant::now());
        None
    }

    /// The next bytes where they are there already.
    async fn ready_piece(&mut self) -> Option<Option<Result<Bytes, LogError>>> {
        if let Some(piece) = self.piece().now_or_never() {
            return Some(piece);
        }
        // Hyper reads the connection on a task of its own, which hands over a piece at a time: it needs a turn for more.
        tokio::task::yield_now().await;
        self.piece().now_or_never()
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

/// How long dense pieces are let come together: as short as the timer allows, because what the connection holds by
/// then should not fill its receive window. Beside curl, 2 ms cost up to a quarter of the rate, and none costs half as
/// much CPU again.
const TOGETHER: Duration = Duration::from_millis(1);

/// How densely the bytes of an answer come.
///
/// The kubelet flushes every line, so a long log arrives as hundreds of thousands of pieces. Whoever keeps up with them
/// pays a wake-up and a read for each, several times what the line itself costs. A lone burst is not held up: only
/// what has been dense for a while is.
#[derive(Debug)]
struct Density {
    last: Instant,
    dense: u32,
}

impl Density {
    /// Bytes in a millisecond from which on they are dense: four lines, as lines are.
    const DENSE: f64 = 512.0;
    /// How many times in a row they must have been found so.
    const IN_A_ROW: u32 = 8;

    fn new() -> Self {
        Self { last: Instant::now(), dense: 0 }
    }

    /// So many bytes have come since the last time.
    fn note(&mut self, bytes: usize, now: Instant) {
        let millis = now.saturating_duration_since(self.last).as_secs_f64() * 1e3;
        self.last = now;
        self.dense = if bytes as f64 > Self::DENSE * millis { self.dense.saturating_add(1) } else { 0 };
    }

    fn is_dense(&self) -> bool {
        self.dense >= Self::IN_A_ROW
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

    /// The last whole lines of the log, this many.
    pub async fn last_lines(&self, lines: u64, limit: LineLimit) -> Result<Option<Arc<Batch>>, LogError> {
        let mut parser = LogParser::new(Arc::clone(&self.origin), limit);
        let ask = LogAsk { tail: Some(lines), kind: LogKind::Probe, ..LogAsk::default() };
        let mut body = self.fetch(ask).await?;
        while let Some(bytes) = body.next_soon().await {
            parser.push(&bytes?);
        }
        Ok(parser.batch())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether bytes that come like this, so many each time, are dense in the end.
    fn dense_after(times: u32, bytes: usize, every: Duration) -> bool {
        let begin = Instant::now();
        let mut density = Density { last: begin, dense: 0 };
        (1..=times).for_each(|time| density.note(bytes, begin + every * time));
        density.is_dense()
    }

    #[test]
    fn a_long_log_is_dense_and_stays_so_when_its_pieces_come_together() {
        assert!(dense_after(100, 128, Duration::from_micros(20)));
        assert!(dense_after(100, 20_000, TOGETHER));
    }

    #[test]
    fn a_burst_and_a_thousand_lines_a_second_are_not_held_up() {
        assert!(!dense_after(5, 128, Duration::from_micros(20)));
        assert!(!dense_after(1_000, 128, Duration::from_millis(1)));
        assert!(!dense_after(1_000, 256, TOGETHER));
    }
}
