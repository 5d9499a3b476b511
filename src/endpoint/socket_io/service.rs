//! The requests below `/socket.io/`. All others go on to the routes.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use engineioxide::config::EngineIoConfig;
use engineioxide::service::EngineIoService;
use futures::future::BoxFuture;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use tokio::time::timeout;
use tower::{Service, ServiceExt as _};
use warp::reply::{Reply as _, Response};

use super::super::connection::{Peer, source_of};
use super::super::reply::Problem;
use super::super::services::Services;
use super::hall::Hall;
use crate::telemetry::{Category, Route};

/// Where it is served.
const PATH: &str = "/socket.io";

/// Bytes that the engine gathers for one poll: whatever the session's buffer holds. With less it keeps a packet that does
/// not fit for the next poll, and forgets it where the session is upgraded to a WebSocket before that (engineioxide 0.17.9,
/// `peeked_packet`). It bounds by the same number what a client posts, so that is bounded here.
const GATHERED: u64 = u32::MAX as u64;

/// A tower service that serves Socket.IO, and gives every other request to the service within.
#[derive(Clone)]
pub struct SocketIo<S> {
    inner: S,
    /// None where it is switched off.
    served: Option<Arc<Served>>,
}

struct Served {
    engine: EngineIoService<Hall>,
    hall: Arc<Hall>,
    /// How long the body of a request may take.
    patience: Duration,
}

impl<S> SocketIo<S> {
    /// Serves Socket.IO, where the options of `services` say so, in front of `inner`.
    pub fn new(services: &Arc<Services>, inner: S) -> Self {
        let options = &services.options.socket_io;
        let served = options.enabled.then(|| {
            let hall = Hall::new(services);
            let config = EngineIoConfig::builder()
                .req_path(PATH)
                .ping_interval(options.ping_every)
                .ping_timeout(options.ping_timeout)
                .max_buffer_size(options.buffer)
                .max_payload(GATHERED)
                .ws_max_message_size(options.payload_bytes)
                .ws_max_frame_size(options.payload_bytes)
                .build();
            let engine = EngineIoService::with_config(Arc::clone(&hall), config);
            Arc::new(Served { engine, hall, patience: options.stall })
        });
        Self { inner, served }
    }
}

impl<S> Service<Request<Incoming>> for SocketIo<S>
where
    S: Service<Request<Incoming>, Response = Response>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        match &self.served {
            Some(served) if is_below(request.uri().path()) => {
                let served = Arc::clone(served);
                Box::pin(async move { Ok(served.answer(request).await) })
            }
            _ => Box::pin(self.inner.call(request)),
        }
    }
}

impl Served {
    async fn answer(&self, request: Request<Incoming>) -> Response {
        let begun = Instant::now();
        let polled = session(&request).filter(|_| request.method() == Method::GET).map(str::to_owned);
        let response = self.pass_on(request, polled.as_deref()).await;
        // A poll waits for something to tell; that is not the time of an answer.
        let took = if polled.is_some() { Duration::ZERO } else { begun.elapsed() };
        self.hall.services().metrics.answered(Route::SocketIo, response.status(), took);
        response
    }

    async fn pass_on(&self, request: Request<Incoming>, polled: Option<&str>) -> Response {
        if let Err(problem) = self.check(&request) {
            return problem.into_response();
        }
        let (reading, begins) = (request.method() == Method::POST, session(&request).is_none());
        let most = self.hall.options().payload_bytes;
        let too_long = reading && length(&request).is_some_and(|length| length > most as u64);
        let answer = self.engine.clone().oneshot(request.map(|body| Limited::new(body, most)));
        let answer = match reading {
            false => answer.await,
            // Half a request must not hold anything for long.
            true => match timeout(self.patience, answer).await {
                Ok(answer) => answer,
                Err(_) => return Problem::with_status(StatusCode::REQUEST_TIMEOUT, SLOW).into_response(),
            },
        };
        if too_long {
            // The engine read as far as it may, and has ended the session.
            return Problem::with_status(StatusCode::PAYLOAD_TOO_LARGE, LONG).into_response();
        }
        let Ok(answer) = answer;
        let (parts, body) = answer.into_parts();
        // What the engine answers stands in memory, whole.
        let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        if let Some(session) = polled {
            self.hall.answered(session, &body);
        }
        let body = if begins { with_bound(body, most) } else { body.to_vec() };
        let length = HeaderValue::from(body.len());
        let mut response = body.into_response();
        (*response.status_mut(), *response.headers_mut()) = (parts.status, parts.headers);
        let headers = response.headers_mut();
        if headers.contains_key(CONTENT_LENGTH) {
            headers.insert(CONTENT_LENGTH, length);
        }
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }

    /// Refuses pages that may not connect, and new sessions where there are too many.
    fn check(&self, request: &Request<Incoming>) -> Result<(), Problem> {
        let services = self.hall.services();
        services.check_origin(request.headers())?;
        if session(request).is_some() {
            return Ok(());
        }
        if services.drain.draining().is_cancelled() {
            return Err(Problem::new(Category::Unavailable, "Weir is shutting down; connect again in a moment"));
        }
        let admitted = self.hall.sessions().admits(&address(request.extensions()));
        if admitted {
            return Ok(());
        }
        services.metrics.connections_refused.inc();
        Err(Problem::new(Category::Unavailable, "too many Socket.IO sessions are open; try again in seconds"))
    }
}

const SLOW: &str = "the request did not arrive in time";
const LONG: &str = "the request is longer than is allowed; send less at a time";

/// How long a request says it is.
fn length<B>(request: &Request<B>) -> Option<u64> {
    request.headers().get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The first answer of a session, with the bound of what its client may post in place of the engine's own.
fn with_bound(body: Bytes, most: usize) -> Vec<u8> {
    let opened = body.strip_prefix(b"0").and_then(|opened| serde_json::from_slice::<serde_json::Value>(opened).ok());
    let Some(mut opened) = opened else { return body.to_vec() };
    if let Some(bound) = opened.get_mut("maxPayload") {
        *bound = most.into();
    }
    format!("0{opened}").into_bytes()
}

fn is_below(path: &str) -> bool {
    path.strip_prefix(PATH).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The session that a request belongs to, as it says.
fn session(request: &Request<Incoming>) -> Option<&str> {
    request.uri().query()?.split('&').find_map(|pair| pair.strip_prefix("sid="))
}

/// The address that counts for the limits.
pub(super) fn address(extensions: &http::Extensions) -> IpAddr {
    extensions.get::<Peer>().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| source_of(peer.address.ip()))
}

impl<S> std::fmt::Debug for SocketIo<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SocketIo").field("enabled", &self.served.is_some()).finish_non_exhaustive()
    }
}
