//! The sources `http`, `webSocket` and `tcp`: lines and events from other machines.
//!
//! | file | what it does |
//! |---|---|
//! | `hosts` | which hosts the operator allows, and which addresses are never reached |
//! | `network` | names to addresses, addresses to connections, within that |
//! | `life` | connect, read, end, wait, again; and what is told of it |
//! | `feed` | from bytes to records in the stream |
//! | `http`, `sse` | HTTP: lines, server-sent events, long polling |
//! | `websocket` | WebSocket |
//! | `tcp`, `listen`, `framing` | TCP: to a server, and from senders |
//!
//! None of these has a past: what was sent while nobody was connected is gone, save where a server of events gives it
//! again after `Last-Event-ID`.

mod error;
mod framing;
mod headers;
mod hosts;
mod http;
mod life;
mod listen;
mod members;
mod network;
pub mod sse;
mod tcp;
mod websocket;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use reqwest::Url;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use error::RemoteError;
pub use network::{Lookup, Network, SystemLookup};

use self::headers::Headers;
use self::http::Http;
use self::life::Link;
use self::listen::Listen;
use self::members::Members;
use self::network::at;
use self::tcp::Tcp;
use self::websocket::WebSocket;
use super::{BuildError, Outside, Sieve, Source};
use crate::api::FilterSpec;
use crate::api::host;
use crate::api::source::{HeaderSpec, HttpMode, HttpSource, TcpSource, WebSocketSource};
use crate::record::{LineLimit, Origin};
use crate::stream::{Backlog, LiveStream, StreamName};
use crate::telemetry::Metrics;

/// What a spec asks for.
#[derive(Clone, Copy, Debug)]
pub enum RemoteSpec<'a> {
    /// A stream read over HTTP.
    Http(&'a HttpSource),
    /// A stream read over a WebSocket.
    WebSocket(&'a WebSocketSource),
    /// A stream of lines over TCP.
    Tcp(&'a TcpSource),
}

/// Where a source goes, and what it speaks there.
#[derive(Clone, Debug)]
enum Way {
    Http(Url, HttpMode),
    WebSocket(Url),
    Tcp { host: String, port: u16, tls: bool },
    Listen { host: String, port: u16, idle: Duration },
}

/// A remote end whose records are published for as long as it is wanted.
pub struct Remote {
    way: Way,
    origin: Arc<Origin>,
    delay: Duration,
    headers: Vec<HeaderSpec>,
    namespace: Option<String>,
    outside: Outside,
    network: Arc<Network>,
    sieve: Arc<Sieve>,
    members: Arc<Members>,
    listed: watch::Sender<bool>,
}

impl Remote {
    /// A source that has not begun yet. `stream` is the declared stream that it is for, where it is for one.
    ///
    /// # Errors
    /// Where the operator does not allow the host or the address, or the spec cannot be read.
    pub fn new(
        spec: RemoteSpec<'_>,
        filter: &FilterSpec,
        outside: &Outside,
        stream: Option<&StreamName>,
    ) -> Result<Arc<Self>, BuildError> {
        let network = Arc::new(Network::new(outside.policy.hosts.clone()));
        Self::over(network, spec, filter, outside, stream)
    }

    /// The same, over another network than the system's.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn over(
        network: Arc<Network>,
        spec: RemoteSpec<'_>,
        filter: &FilterSpec,
        outside: &Outside,
        stream: Option<&StreamName>,
    ) -> Result<Arc<Self>, BuildError> {
        let (way, delay, limit, headers) = match spec {
            RemoteSpec::Http(spec) => {
                let way = Way::Http(url(&spec.url, &["http", "https"])?, spec.mode);
                (way, &spec.reconnect_delay, spec.max_line_bytes, &spec.headers[..])
            }
            RemoteSpec::WebSocket(spec) => {
                let way = Way::WebSocket(url(&spec.url, &["ws", "wss"])?);
                (way, &spec.reconnect_delay, spec.max_line_bytes, &spec.headers[..])
            }
            RemoteSpec::Tcp(spec) => (Way::tcp(spec)?, &spec.reconnect_delay, spec.max_line_bytes, &[][..]),
        };
        way.check(&network, outside)?;
        Ok(Arc::new(Self {
            origin: Arc::new(way.origin()),
            way,
            delay: delay.parse()?,
            headers: headers.to_vec(),
            namespace: stream.map(|name| name.namespace.clone()),
            outside: outside.clone(),
            network,
            sieve: Arc::new(Sieve::new(filter, LineLimit(limit as usize), &outside.metrics)?),
            members: Members::new(),
            listed: watch::channel(false).0,
        }))
    }

    fn metrics(&self) -> &Arc<Metrics> {
        &self.outside.metrics
    }

    fn link(&self, stream: Arc<LiveStream>) -> Link {
        let parts = (Arc::clone(&self.sieve), Arc::clone(self.metrics()), Arc::clone(&self.members));
        Link::new(stream, Arc::clone(&self.origin), parts, self.delay)
    }

    async fn live(&self, link: Link) {
        let headers = Headers {
            specs: self.headers.clone(),
            namespace: self.namespace.clone(),
            secrets: Arc::clone(&self.outside.secrets),
        };
        let network = Arc::clone(&self.network);
        match self.way.clone() {
            Way::Http(url, mode) => life::live(Http::new(url, mode, headers, network), link).await,
            Way::WebSocket(url) => life::live(WebSocket::new(url, headers, network), link).await,
            Way::Tcp { host, port, tls } => life::live(Tcp { host, port, tls, network }, link).await,
            Way::Listen { host, port, idle } => life::live(Listen::new(host, port, idle), link).await,
        }
    }
}

impl Source for Remote {
    fn run(self: Arc<Self>, stream: Arc<LiveStream>, cancel: CancellationToken) -> BoxFuture<'static, ()> {
        async move {
            self.listed.send_replace(true);
            if cancel.run_until_cancelled(self.live(self.link(stream))).await.is_some() {
                // There will be no more; the source stays for those who read what there was.
                cancel.cancelled().await;
            }
        }
        .boxed()
    }

    fn past(self: Arc<Self>) -> Option<Arc<dyn Backlog>> {
        None
    }

    fn targets(&self) -> watch::Receiver<usize> {
        self.members.up()
    }

    fn listed(&self) -> watch::Receiver<bool> {
        self.listed.subscribe()
    }

    fn roster(&self) -> Vec<Arc<Origin>> {
        self.members.roster()
    }
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The address may hold secrets in its query.
        f.debug_struct("Remote").field("origin", &self.origin).finish_non_exhaustive()
    }
}

impl Way {
    fn tcp(spec: &TcpSource) -> Result<Self, BuildError> {
        let wrong = || BuildError::Address(format!("{} is not `host:port`", spec.address));
        let (host, port) = host::split(&spec.address).ok_or_else(wrong)?;
        let port = port.and_then(|port| port.parse().ok()).filter(|port| *port > 0).ok_or_else(wrong)?;
        let host = host.to_owned();
        if !spec.listen {
            return Ok(Self::Tcp { host, port, tls: spec.tls });
        }
        Ok(Self::Listen { host, port, idle: spec.idle_timeout.parse()? })
    }

    /// Whether the operator allows it, as far as can be said before names are resolved.
    fn check(&self, network: &Network, outside: &Outside) -> Result<(), BuildError> {
        match self {
            Self::Listen { host, port, .. } if outside.policy.listen.listens(host, *port) => Ok(()),
            Self::Listen { host, port, .. } => Err(BuildError::NotAllowed(format!(
                "{} is not among the addresses that the operator allows to listen on; ask for it to be added to \
                 --outside-listen",
                at(host, *port)
            ))),
            Self::Http(..) | Self::WebSocket(_) | Self::Tcp { .. } => {
                let (host, port) = self.place();
                network.check(host, port).map_err(|error| BuildError::NotAllowed(error.to_string()))
            }
        }
    }

    fn place(&self) -> (&str, u16) {
        match self {
            Self::Http(url, _) | Self::WebSocket(url) => {
                (url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or_default())
            }
            Self::Tcp { host, port, .. } | Self::Listen { host, port, .. } => (host, *port),
        }
    }

    /// Who the records are from: host and port, and the path; never the query, which may hold a secret.
    fn origin(&self) -> Origin {
        let (host, port) = self.place();
        let container = match self {
            Self::Http(url, _) | Self::WebSocket(url) => url.path().to_owned(),
            Self::Tcp { tls: true, .. } => "tls".to_owned(),
            Self::Tcp { .. } => "tcp".to_owned(),
            Self::Listen { .. } => "listen".to_owned(),
        };
        Origin { pod: at(host, port), container, ..Origin::default() }
    }
}

fn url(text: &str, schemes: &[&str]) -> Result<Url, BuildError> {
    // The text is not repeated: it may hold a secret.
    let url = Url::parse(text).map_err(|error| BuildError::Address(error.to_string()))?;
    let plain = url.username().is_empty() && url.password().is_none();
    if schemes.contains(&url.scheme()) && url.host_str().is_some_and(|host| !host.is_empty()) && plain {
        return Ok(url);
    }
    let schemes = schemes.join("://` or `");
    Err(BuildError::Address(format!("begin it with `{schemes}://` and a host, without user and password")))
}
