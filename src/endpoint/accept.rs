//! The accept loop: caps, timeouts, and one task per connection.
//!
//! It carries any tower service; what the routes do is not its business. HTTP/1.1 only: WebSocket upgrades,
//! endless bodies and the API servers in front of Weir all do best with it.

use super::connection::{Answering, Busy, Peer, Place, Places, Stream, Timeouts, Trailers};
use super::drain::{Drain, Drained};
use super::tls::Tls;
use crate::telemetry::{Metrics, Transport};
use http::{Request, Response, StatusCode};
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tower::{Service, ServiceExt as _};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What one client may cost. Every field is an option of the operator's configuration.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Open connections in all, WebSockets included; 4,096 by default.
    pub connections: usize,
    /// Open connections from one address (one /64 for IPv6); 1,024 by default, as a proxy is one address.
    pub connections_per_source: usize,
    /// From a request's first byte (from the connection, for the first request) to its complete head; 10 s.
    pub head_timeout: Duration,
    /// How long a connection may lie between two requests; 75 s, longer than common load balancers wait.
    pub idle_timeout: Duration,
    /// From the connection to the end of the TLS handshake; 10 s.
    pub handshake_timeout: Duration,
    /// How long a peer may take nothing of what is written to it before it counts as dead; 30 s.
    pub stall_timeout: Duration,
    /// Bytes of a request's head; 16 KiB. More is answered with 431.
    pub head_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            connections_per_source: 1024,
            head_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            handshake_timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(30),
            head_bytes: 16 * 1024,
        }
    }
}

/// Why the endpoint could not start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}; {}", remedy(source))]
    Bind {
        /// The address as configured.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
}

fn remedy(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => "stop the other process, or choose another port",
        std::io::ErrorKind::AddrNotAvailable => "choose an address that this machine has, such as 0.0.0.0",
        std::io::ErrorKind::PermissionDenied => "choose a port above 1023",
        _ => "choose another address",
    }
}

/// The endpoint, bound and not yet accepting.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    shared: Arc<Shared>,
}

/// What every connection needs.
#[derive(Debug)]
struct Shared {
    limits: Limits,
    tls: Option<Tls>,
    places: Arc<Places>,
    refusals: Arc<Semaphore>,
    metrics: Arc<Metrics>,
    drain: Drain,
}

impl Server {
    /// Listens on `address`; nobody is accepted before [`Server::run`].
    ///
    /// # Errors
    /// [`ServerError::Bind`], which names the address and what to do.
    pub async fn bind(
        address: SocketAddr,
        limits: Limits,
        tls: Option<Tls>,
        metrics: Arc<Metrics>,
        drain: Drain,
    ) -> Result<Self, ServerError> {
        /// Clients over a cap that are told so at one time; the rest are dropped without a word.
        const REFUSALS: usize = 64;
        let failed = |source| ServerError::Bind { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        metrics.connections_limit.set(i64::try_from(limits.connections).unwrap_or(i64::MAX));
        let places = Places::new(limits.connections, limits.connections_per_source);
        let refusals = Arc::new(Semaphore::new(REFUSALS));
        let shared = Shared { limits, tls, places, refusals, metrics, drain };
        Ok(Self { listener, address: bound, shared: Arc::new(shared) })
    }

    /// The address that is listened on, with the port that the system chose where 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts until draining begins, then waits up to `grace` for everyone to leave, then aborts the rest.
    ///
    /// Each request carries a [`Peer`] as an extension.
    pub async fn run<S, B>(self, service: S, grace: Duration) -> Drained
    where
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Into<BoxError>,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        let shared = self.shared;
        if let Some(tls) = &shared.tls {
            tls.watch(&shared.drain);
        }
        tracing::info!(address = %self.address, tls = shared.tls.is_some(), "The endpoint accepts connections");
        let accepting = accept_all(self.listener, Arc::clone(&shared), service);
        shared.drain.draining().run_until_cancelled(accepting).await;
        tracing::info!(?grace, "The endpoint accepts no more connections and drains");
        shared.drain.shutdown(grace).await
    }
}

async fn accept_all<S, B>(listener: TcpListener, shared: Arc<Shared>, service: S)
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let mut backoff = Backoff::default();
    let mut connection = 0;
    loop {
        let (socket, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                backoff.wait(&error).await;
                continue;
            }
        };
        backoff = Backoff::default();
        connection += 1;
        if let Err(error) = socket.set_nodelay(true) {
            tracing::debug!(%error, %address, "TCP_NODELAY could not be set");
        }
        let peer = Peer { address, connection };
        match shared.places.take(address.ip()) {
            Some(place) => {
                let task = connection_task(Arc::clone(&shared), socket, peer, place, service.clone());
                shared.drain.spawn(task);
            }
            None => refuse(&shared, socket, peer),
        }
    }
}

/// Waits longer with each failure of `accept` in a row, up to a second.
///
/// A failure that concerns one connection only costs no wait; lack of file descriptors would otherwise spin.
#[derive(Debug, Default)]
struct Backoff(u32);

impl Backoff {
    async fn wait(&mut self, error: &std::io::Error) {
        use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
        if matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted) {
            return;
        }
        if self.0 == 0 {
            tracing::error!(%error, "No connection can be accepted; raise the limit of open files if this lasts");
        }
        self.0 = (self.0 + 1).min(8);
        sleep(Duration::from_millis(4 << self.0)).await;
    }
}

/// One connection from its first byte to its end, or to its upgrade.
async fn connection_task<S, B>(shared: Arc<Shared>, socket: TcpStream, peer: Peer, place: Place, service: S)
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let counted = shared.metrics.connected(Transport::Http);
    let keep = (place, counted, shared.drain.tracker().token());
    let busy = Busy::default();
    let timeouts = Timeouts { head: shared.limits.head_timeout, stall: shared.limits.stall_timeout };
    let drain = shared.drain.clone();
    match &shared.tls {
        None => {
            let stream = Stream::new(socket, busy.clone(), timeouts, drain, keep);
            serve(&shared, stream, busy, peer, service).await;
        }
        Some(tls) => {
            if let Some(socket) = handshake(&shared, tls, socket, peer).await {
                let stream = Stream::new(socket, busy.clone(), timeouts, drain, keep);
                serve(&shared, stream, busy, peer, service).await;
            }
        }
    }
}

async fn handshake(
    shared: &Shared,
    tls: &Tls,
    socket: TcpStream,
    peer: Peer,
) -> Option<tokio_rustls::server::TlsStream<TcpStream>> {
    let shaken = timeout(shared.limits.handshake_timeout, tls.acceptor().accept(socket));
    let failure = match shared.drain.draining().run_until_cancelled(shaken).await? {
        Ok(Ok(socket)) => return Some(socket),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "it took too long".to_owned(),
    };
    shared.metrics.tls_handshake_failures.inc();
    tracing::debug!(peer = %peer.address, failure, "A TLS handshake failed");
    None
}

async fn serve<T, S, B>(shared: &Shared, stream: Stream<T>, busy: Busy, peer: Peer, service: S)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let service = service_fn(move |mut request: Request<Incoming>| {
        let guard = busy.enter();
        request.extensions_mut().insert(peer);
        let answer = service.clone().oneshot(request);
        async move {
            let mut response = answer.await.map_err(std::io::Error::other)?;
            let trailers = response.extensions_mut().remove::<Trailers>();
            let guard = match response.status() {
                StatusCode::SWITCHING_PROTOCOLS => {
                    guard.upgraded();
                    None
                }
                _ => Some(guard),
            };
            Ok::<_, std::io::Error>(response.map(|body| Answering { body: Box::pin(body), guard, trailers }))
        }
    });
    let connection = builder(&shared.limits).serve_connection(TokioIo::new(stream), service).with_upgrades();
    tokio::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = shared.drain.draining().cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(peer = %peer.address, connection = peer.connection, %error, "A connection ended with an error");
    }
}

fn builder(limits: &Limits) -> http1::Builder {
    /// What is read of a body, and queued of an answer, at a time: hyper begins with 8 KiB, and takes more where more comes.
    const BUFFER: usize = 64 * 1024;
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.idle_timeout.max(limits.head_timeout))
        .max_buf_size(limits.head_bytes.max(BUFFER))
        .max_header_size(limits.head_bytes);
    builder
}

/// Tells a client over the cap to come back later, quickly and at a bounded cost.
fn refuse(shared: &Arc<Shared>, socket: TcpStream, peer: Peer) {
    shared.metrics.connections_refused.inc();
    let Ok(permit) = Arc::clone(&shared.refusals).try_acquire_owned() else {
        return;
    };
    tracing::debug!(peer = %peer.address, "A connection over the cap was turned away");
    let shared_too = Arc::clone(shared);
    shared.drain.spawn(async move {
        const PATIENCE: Duration = Duration::from_secs(2);
        let told = async {
            match &shared_too.tls {
                None => tell_busy(socket).await,
                Some(tls) => tell_busy(tls.acceptor().accept(socket).await?).await,
            }
        };
        if let Ok(Err(error)) = timeout(PATIENCE, told).await {
            tracing::trace!(%error, "A client over the cap did not hear why");
        }
        drop(permit);
    });
}

/// Writes the answer, then reads what the client had sent: closing over unread bytes would reset the
/// connection and the answer with it.
async fn tell_busy<T: AsyncRead + AsyncWrite + Unpin>(mut socket: T) -> std::io::Result<()> {
    const ANSWER: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n\
        retry-after: 5\r\ncontent-length: 63\r\nconnection: close\r\n\r\n\
        {\"error\":\"too many connections are open; try again in seconds\"}";
    const MOST: u64 = 64 * 1024;
    socket.write_all(ANSWER).await?;
    socket.shutdown().await?;
    tokio::io::copy(&mut socket.take(MOST), &mut tokio::io::sink()).await?;
    Ok(())
}
