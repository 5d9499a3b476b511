//! The client for logs: Kube's own, but for how it holds its connections.

use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body_util::Either;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use kube::client::{Body, ConfigExt};
use kube::{Client, Config};
use tokio::net::TcpStream;
use tower::{BoxError, Service, ServiceBuilder, ServiceExt};

use super::direct::{self, DirectBody};

/// Marks a request whose answer is long: it gets a connection of its own, which is read in large pieces and closed with
/// the answer. Clients other than [`log_client`]'s take no notice of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Long;

/// A client for the logs of this cluster, which sends a request at once.
///
/// Kube leaves Nagle's algorithm on. On a connection that takes up an earlier TLS session, the request is the second
/// small write in a row: it is held back until the server has acknowledged the first, 40 ms later (RFC 896, and the
/// delayed acknowledgement of RFC 1122). Every follow needs a connection of its own, so every first line would wait.
///
/// Nothing is repeated here that fails: a follow knows better what it has read.
///
/// # Errors
/// The configuration cannot be used: its certificates, its key, or how it authenticates.
pub fn log_client(mut config: Config) -> kube::Result<Client> {
    if config.proxy_url.is_some() {
        config.default_retry = false;
        return Client::try_from(config);
    }
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(config.connect_timeout);
    let tls = config.rustls_https_connector_with_connector(tcp)?;
    let pooled = legacy::Builder::new(TokioExecutor::new()).build(tls.clone());
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .service(Transport { pooled, connector: tls });
    Ok(Client::new(service.map_err(BoxError::from), config.default_namespace))
}

/// How requests reach the API server: over connections that are kept, but for those that are marked [`Long`].
#[derive(Clone)]
struct Transport {
    pooled: legacy::Client<HttpsConnector<HttpConnector>, Body>,
    connector: HttpsConnector<HttpConnector>,
}

type Stream = TokioIo<MaybeHttpsStream<TokioIo<TcpStream>>>;
type Answer = Response<Either<Incoming, DirectBody<Stream>>>;

impl Service<Request<Body>> for Transport {
    type Response = Answer;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Answer, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if request.extensions().get::<Long>().is_none() {
            let answer = self.pooled.request(request);
            return async move { Ok(answer.await?.map(Either::Left)) }.boxed();
        }
        let connecting = self.connector.clone().oneshot(request.uri().clone());
        async move {
            let io = TokioIo::new(connecting.await?);
            let answer = direct::send(io, &request.map(|_| ())).await?;
            Ok(answer.map(Either::Right))
        }
        .boxed()
    }
}
